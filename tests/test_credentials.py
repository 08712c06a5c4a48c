"""Credentials of every kind, and what a refresh may and may not stop."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore import credentials as boto
from botocore.exceptions import CredentialRetrievalError
from botocore.utils import InstanceMetadataFetcher
from wire import OPERATIONS, Request, Server, http, key_of, remote, serving

from ddbrelay.aws import credentials as module
from ddbrelay.aws.credentials import Credentials
from ddbrelay.aws.session import Aws
from ddbrelay.aws.transport import Transport
from ddbrelay.config import Settings
from ddbrelay.errors import AwsRefused, ConfigError

START = 1_800_000_000.0
MINUTE = 60.0


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def moment(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.now, datetime.UTC)


class Provider:
    """botocore's temporary credentials, of one hour each; `held` and `broken` as on a bad day."""

    def __init__(self, clock: Clock, lifetime: float = 60 * MINUTE) -> None:
        self.clock, self.lifetime = clock, lifetime
        self.made = 0
        self.threads: set[int] = set()
        self.free = threading.Event()
        self.free.set()
        self.broken = False
        made = self._make()
        self.source = boto.RefreshableCredentials(
            made["access_key"],
            made["secret_key"],
            made["token"],
            datetime.datetime.fromisoformat(made["expiry_time"]),
            self.make,
            "test",
            time_fetcher=clock.moment,
        )

    def make(self) -> dict[str, str]:
        self.threads.add(threading.get_ident())
        assert self.free.wait(20), "the loop stood still"
        if self.broken:
            raise CredentialRetrievalError(provider="test", error_msg="gone\nfor lunch")
        return self._make()

    def _make(self) -> dict[str, str]:
        self.made += 1
        ends = datetime.datetime.fromtimestamp(self.clock.now + self.lifetime, datetime.UTC)
        return {
            "access_key": f"key{self.made}",
            "secret_key": "s",
            "token": "t",
            "expiry_time": ends.isoformat(),
        }


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> Provider:
    return Provider(clock)


async def key(credentials: Credentials, clock: Clock) -> str:
    """The access key that a call at this time is signed with."""
    return ((credentials.valid(clock.now)) or await credentials.renewed()).access_key


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until threads have brought it about."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never came about")


async def settled(credentials: Credentials) -> None:
    await until(lambda: credentials._refreshing is None or credentials._refreshing.done())


def test_static_credentials_are_asked_for_once(clock: Clock) -> None:
    loads: list[int] = []

    def load() -> boto.Credentials:
        loads.append(threading.get_ident())
        return boto.Credentials("static", "s")

    async def main() -> None:
        credentials = Credentials(load, clock)
        first = await credentials.renewed()
        for _ in range(5):
            clock.now += 60 * MINUTE
            assert credentials.valid(clock.now) is not None
            assert await key(credentials, clock) == "static"
        assert first.access_key == "static"

    asyncio.run(main())
    assert len(loads) == 1
    assert loads[0] != threading.get_ident()


def test_between_two_looks_the_same_object_is_given_so_that_a_signer_knows_it_again(
    clock: Clock, provider: Provider
) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        first = await credentials.renewed()
        for _ in range(20):
            clock.now += MINUTE
            assert credentials.valid(clock.now) is first

    asyncio.run(main())
    assert provider.made == 1


def test_calls_go_on_with_the_old_ones_while_new_ones_are_fetched(
    clock: Clock, provider: Provider
) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        assert await key(credentials, clock) == "key1"
        clock.now += 50 * MINUTE
        provider.free.clear()
        turns = 0
        for _ in range(200):
            assert await key(credentials, clock) == "key1"
            clock.now += 1
            await asyncio.sleep(0)
            turns += 1
        await until(lambda: bool(provider.threads))
        provider.free.set()
        await settled(credentials)
        clock.now += 1
        assert await key(credentials, clock) == "key2"
        assert turns == 200

    asyncio.run(main())
    assert provider.made == 2
    assert threading.get_ident() not in provider.threads


def test_when_the_old_ones_have_ended_all_calls_wait_for_one_refresh_and_the_loop_goes_on(
    clock: Clock, provider: Provider
) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        await credentials.renewed()
        clock.now += 61 * MINUTE
        provider.free.clear()
        waiting = [asyncio.create_task(key(credentials, clock)) for _ in range(50)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        provider.free.set()
        assert set(await asyncio.gather(*waiting)) == {"key2"}

    asyncio.run(main())
    assert provider.made == 2


def test_one_caller_that_gives_up_does_not_take_the_refresh_from_the_others(
    clock: Clock, provider: Provider
) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        await credentials.renewed()
        clock.now += 61 * MINUTE
        provider.free.clear()
        first, second = (asyncio.create_task(key(credentials, clock)) for _ in range(2))
        await until(lambda: bool(provider.threads))
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        provider.free.set()
        assert await second == "key2"

    asyncio.run(main())


def test_a_refresh_that_fails_while_the_old_ones_are_valid_is_tried_again_later_and_later(
    clock: Clock, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="ddbrelay")
    tries: list[float] = []

    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        await credentials.renewed()
        clock.now += 46 * MINUTE
        provider.broken = True
        # botocore's own limit, from which on it raises, lies in the middle of this time.
        while clock.now < START + 59 * MINUTE:
            assert await key(credentials, clock) == "key1"
            await settled(credentials)
            if provider.threads:
                tries.append(clock.now)
                provider.threads.clear()
            clock.now += 0.5
        provider.broken = False
        clock.now += MINUTE - 1
        await key(credentials, clock)
        await settled(credentials)
        clock.now += 1
        assert await key(credentials, clock) == "key2"

    asyncio.run(main())
    pauses = [after - before for before, after in pairwise(tries)]
    assert max(pauses[:3]) < 15
    assert min(pauses[8:]) >= 30
    assert max(pauses) <= 62
    said = [record.getMessage() for record in caplog.records if record.name.startswith("ddbrelay")]
    assert len(said) == len(tries)
    for line in said:
        assert "the AWS credentials cannot be used" in line
        assert "gone for lunch; those in use are still valid, next try in" in line
        assert "\n" not in line


def test_when_they_have_ended_and_there_are_no_new_ones_every_call_is_refused_in_one_line(
    clock: Clock, provider: Provider
) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        await credentials.renewed()
        clock.now += 61 * MINUTE
        provider.broken = True
        calls = [key(credentials, clock) for _ in range(3)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, AwsRefused)
            assert "gone for lunch" in outcome.message
            assert "\n" not in outcome.message
            assert outcome.hint is not None
        provider.broken = False
        assert await key(credentials, clock) == "key2"

    asyncio.run(main())


def test_what_is_still_expired_after_a_refresh_is_refused(clock: Clock, provider: Provider) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        await credentials.renewed()
        clock.now += 61 * MINUTE
        provider.lifetime = -1
        with pytest.raises(AwsRefused, match="still expired"):
            await key(credentials, clock)

    asyncio.run(main())


def test_what_another_user_of_the_session_refreshed_is_taken_over(
    clock: Clock, provider: Provider
) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        await credentials.renewed()
        clock.now += 46 * MINUTE
        await asyncio.to_thread(provider.source.get_frozen_credentials)
        assert await key(credentials, clock) == "key2"
        clock.now += 20 * MINUTE
        assert await key(credentials, clock) == "key2"

    asyncio.run(main())
    assert provider.made == 2


def test_credentials_that_are_fetched_at_first_use_are_not_fetched_in_the_loop(
    clock: Clock,
) -> None:
    made = Provider(clock)
    source = boto.DeferredRefreshableCredentials(made.make, "test", time_fetcher=clock.moment)

    async def main() -> None:
        credentials = Credentials(lambda: source, clock)
        assert credentials.valid(clock.now) is None
        assert await key(credentials, clock) == "key2"
        assert await key(credentials, clock) == "key2"

    asyncio.run(main())
    assert threading.get_ident() not in made.threads


@pytest.mark.parametrize(
    "error",
    [
        CredentialRetrievalError(provider="p", error_msg="no\nsuch role"),
        FileNotFoundError(2, "No such file", "helper"),
        RuntimeError(""),
        KeyError("AccessKeyId"),
    ],
)
def test_whatever_a_provider_raises_is_one_line(clock: Clock, error: Exception) -> None:
    def load() -> Any:
        raise error

    async def main() -> None:
        with pytest.raises(AwsRefused, match=r"the AWS credentials cannot be used: .+") as raised:
            await Credentials(load, clock).renewed()
        assert "\n" not in raised.value.message

    asyncio.run(main())


def test_a_refresh_that_hangs_does_not_hold_up_the_end(clock: Clock, provider: Provider) -> None:
    async def main() -> None:
        credentials = Credentials(lambda: provider.source, clock)
        await credentials.renewed()
        clock.now += 50 * MINUTE
        provider.free.clear()
        await key(credentials, clock)
        await until(lambda: bool(provider.threads))
        credentials.close()

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 10
    provider.free.set()


class Issuer:
    """Gives credentials as each of AWS's services for it does, a new key each time."""

    def __init__(self) -> None:
        self.issued = 0
        self.lifetime = 3600.0
        self.asked: list[str] = []

    def __call__(self, request: Request) -> bytes:
        method, path, headers, body = request
        if "x-amz-target" in headers:
            return http(200, b"{}")
        if path.endswith("/security-credentials/"):
            return http(200, b"a-role")
        if path.endswith("/api/token"):
            return http(200, b"a-token")
        self.issued += 1
        ends = time.time() + self.lifetime
        when = datetime.datetime.fromtimestamp(ends, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        parts = {"SecretAccessKey": "s", "Expiration": when}
        if method == "POST" and b"AssumeRole" in body:
            action = dict(pair.split(b"=") for pair in body.split(b"&"))[b"Action"].decode()
            self.asked.append(action)
            parts |= {"AccessKeyId": f"key{self.issued}", "SessionToken": "t"}
            inner = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
            return http(
                200,
                f"<{action}Response><{action}Result><Credentials>{inner}</Credentials>"
                f"</{action}Result></{action}Response>".encode(),
            )
        if path.startswith("/federation/credentials"):
            self.asked.append("GetRoleCredentials")
            said = {
                "accessKeyId": f"key{self.issued}",
                "secretAccessKey": "s",
                "sessionToken": "t",
                "expiration": int(ends * 1000),
            }
            return http(200, json.dumps({"roleCredentials": said}).encode())
        self.asked.append(path)
        parts |= {"AccessKeyId": f"key{self.issued}", "Token": "t", "Code": "Success"}
        parts |= {"LastUpdated": when, "Type": "AWS-HMAC"}
        return http(200, json.dumps(parts).encode())


@pytest.fixture
def issuer() -> Iterator[tuple[Issuer, Server]]:
    issuer = Issuer()
    with serving() as server:
        server.respond, server.keep_alive = issuer, True
        yield issuer, server


def _files(directory: Path, patch: pytest.MonkeyPatch, text: str) -> None:
    (directory / "config").write_text(text)
    patch.setenv("AWS_CONFIG_FILE", str(directory / "config"))


def _static(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", "key0")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "s")


def _profile(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    _files(
        directory,
        patch,
        "[default]\naws_access_key_id = key0\naws_secret_access_key = s\naws_session_token = t\n",
    )


def _container(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/container")


def _instance(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("AWS_EC2_METADATA_DISABLED")
    patch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
    patch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "20")


def _role(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL_STS", url)
    _files(
        directory,
        patch,
        "[default]\nrole_arn = arn:aws:iam::444455556666:role/relay\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = key0\naws_secret_access_key = s\n",
    )


def _web_identity(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    (directory / "token").write_text("a-web-token")
    patch.setenv("AWS_ENDPOINT_URL_STS", url)
    patch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(directory / "token"))
    patch.setenv("AWS_ROLE_ARN", "arn:aws:iam::444455556666:role/relay")


def _sso(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    start = "https://example.awsapps.com/start"
    name = hashlib.sha1(start.encode()).hexdigest()
    token = {"accessToken": "a", "expiresAt": "2999-01-01T00:00:00Z", "startUrl": start}
    (directory / f"{name}.json").write_text(json.dumps(token))
    patch.setattr(boto.SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(directory))
    patch.setenv("AWS_ENDPOINT_URL_SSO", url)
    _files(
        directory,
        patch,
        f"[default]\nsso_start_url = {start}\nsso_region = eu-west-1\n"
        "sso_account_id = 444455556666\nsso_role_name = relay\n",
    )


PROCESS = """\
import json, sys, urllib.request
said = json.load(urllib.request.urlopen(sys.argv[1]))
print(json.dumps({"Version": 1, "AccessKeyId": said["AccessKeyId"], "SecretAccessKey": "s",
                  "SessionToken": "t", "Expiration": said["Expiration"]}))
"""


def _process(url: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    (directory / "helper.py").write_text(PROCESS)
    helper = f"{sys.executable} {directory / 'helper.py'} {url}/process"
    _files(directory, patch, f"[default]\ncredential_process = {helper}\n")


TEMPORARY = {
    "container": (_container, "/container"),
    "instance": (_instance, "/latest/meta-data/iam/security-credentials/a-role"),
    "process": (_process, "/process"),
    "role": (_role, "AssumeRole"),
    "sso": (_sso, "GetRoleCredentials"),
    "web identity": (_web_identity, "AssumeRoleWithWebIdentity"),
}
SetUp = Callable[[str, Path, pytest.MonkeyPatch], None]


def send(server: Server, until_signed_with: Callable[[str], bool]) -> list[str]:
    """Send until a request is signed with the wanted key; the keys of all requests."""

    async def main() -> None:
        async with Transport(remote(server.url)) as transport:
            service = await transport.service("events")
            await service.resolve("PutEvents", **OPERATIONS["PutEvents"][1])
            async with asyncio.timeout(20):
                while True:
                    await service.call("PutEvents", b"{}", bytes)
                    if until_signed_with(keys()[-1]):
                        return

    def keys() -> list[str]:
        return [key_of(r) for r in server.requests if "x-amz-target" in r[2]]

    asyncio.run(main())
    return keys()


@pytest.mark.parametrize("set_up", [_static, _profile])
def test_lasting_credentials_sign(
    issuer: tuple[Issuer, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_up: SetUp
) -> None:
    set_up(issuer[1].url, tmp_path, monkeypatch)
    assert send(issuer[1], lambda key: True) == ["key0"]
    assert issuer[0].issued == 0


@pytest.mark.parametrize("kind", sorted(TEMPORARY))
def test_temporary_credentials_of_each_kind_sign_and_are_fetched_once(
    issuer: tuple[Issuer, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    set_up, asked = TEMPORARY[kind]
    set_up(issuer[1].url, tmp_path, monkeypatch)
    assert send(issuer[1], lambda key: len(issuer[1].requests) > 5) != []
    assert issuer[0].asked == [asked]
    assert {key_of(r) for r in issuer[1].requests if "x-amz-target" in r[2]} == {"key1"}
    sent = [r[2] for r in issuer[1].requests if "x-amz-target" in r[2]]
    assert {headers["x-amz-security-token"] for headers in sent} == {"t"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(TEMPORARY))
def test_temporary_credentials_of_each_kind_are_renewed_while_calls_go_on(
    issuer: tuple[Issuer, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    set_up, asked = TEMPORARY[kind]
    set_up(issuer[1].url, tmp_path, monkeypatch)
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(module, "_BACK_OFF_BASE", 0.01)
    # botocore adds 12 to 20 minutes by chance to what an instance gives for less.
    monkeypatch.setattr(InstanceMetadataFetcher, "_evaluate_expiration", lambda self, found: None)
    issuer[0].lifetime = 8 * MINUTE

    used: set[str] = set()

    def renewed(key: str) -> bool:
        used.add(key)
        issuer[0].lifetime = 3600.0
        return len(used) == 2

    keys = send(issuer[1], renewed)
    assert keys == sorted(keys)
    assert len(set(keys)) == 2
    assert set(issuer[0].asked) == {asked}


def test_a_profile_with_a_role_and_no_source_is_a_mistake_in_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _files(
        tmp_path,
        monkeypatch,
        "[default]\nrole_arn = arn:aws:iam::444455556666:role/r\nsource_profile = nobody\n",
    )
    with pytest.raises(ConfigError, match="nobody"):
        Aws(Settings(region="eu-west-1")).client("events")
