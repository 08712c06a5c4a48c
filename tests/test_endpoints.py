"""Where the transport sends its calls: as boto3 does, and under --local nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from multidict import CIMultiDict
from pipeline import ARN
from wire import KEY, OPERATIONS, SECRET, Server, at, call, remote, serving

from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.session import Aws
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import NoAnswerError, Route, Transport
from ddbrelay.config import Settings
from ddbrelay.errors import ConfigError


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def resolved(aws: Aws) -> dict[str, str]:
    """Where each operation of the hot path would go; nothing is sent."""

    async def main() -> dict[str, str]:
        async with Transport(aws) as transport:
            stream = await AwsStream.open(transport, ARN)
            bus = await AwsBus.open(transport, "users-bus")
            services = dict.fromkeys(OPERATIONS, stream._service) | {"PutEvents": bus._service}
            return {operation: service.url(operation) for operation, service in services.items()}

    return asyncio.run(main())


def resolved_by_boto3(region: str) -> dict[str, str]:
    """Where boto3 itself sends the same calls, stopped at the last moment."""
    urls: dict[str, str] = {}
    session = boto3.Session(region_name=region)

    class Stopped(Exception):
        pass

    for operation, (name, parameters) in OPERATIONS.items():
        client: Any = session.client(name)  # type: ignore[call-overload]

        def stop(request: Any, operation: str = operation, **_: Any) -> None:
            urls[operation] = request.url
            raise Stopped

        client.meta.events.register("before-send", stop)
        method = next(m for m, o in client.meta.method_to_api_mapping.items() if o == operation)
        with pytest.raises(Stopped):
            getattr(client, method)(**parameters)
    return urls


IN_PROFILE = """\
[default]
{settings}
[services here]
dynamodb_streams =
  endpoint_url = http://127.0.0.1:5/streams
eventbridge =
  endpoint_url = http://127.0.0.1:6
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "region",
    [
        "eu-west-1",
        pytest.param("us-gov-west-1", marks=pytest.mark.slow),
        pytest.param("cn-north-1", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({}, ""),
        ({"AWS_ACCOUNT_ID": "111122223333"}, ""),
        ({"AWS_ACCOUNT_ID": "111122223333", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled"}, ""),
        ({"AWS_ACCOUNT_ID": "111122223333", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required"}, ""),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, ""),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, ""),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_ACCOUNT_ID": "111122223333"}, ""),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, ""),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1/a/path"}, ""),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "1"},
            "",
        ),
        (
            {
                "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": "http://127.0.0.1:2",
                "AWS_ENDPOINT_URL_EVENTBRIDGE": "http://127.0.0.1:3",
            },
            "",
        ),
        ({}, "services = here"),
        ({"AWS_ENDPOINT_URL_EVENTBRIDGE": "http://127.0.0.1:3"}, "services = here"),
        ({}, "endpoint_url = http://127.0.0.1:4"),
        ({}, "use_fips_endpoint = true"),
        ({}, "use_dualstack_endpoint = true"),
        ({}, "account_id_endpoint_mode = disabled"),
    ],
)
def test_each_call_goes_where_boto3_would_send_it_and_asking_sends_nothing(
    account: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    region: str,
    environment: dict[str, str],
    settings: str,
) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        pytest.fail(f"a connection to {address}")

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config").write_text(IN_PROFILE.format(settings=settings))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    ours = resolved(Aws(Settings(region=region)))
    assert ours == resolved_by_boto3(region)
    if region == "eu-west-1" and environment == {"AWS_ACCOUNT_ID": "111122223333"}:
        owner = "https://444455556666.streams-ddb.eu-west-1.amazonaws.com/"
        assert [ours[name] for name in ("DescribeStream", "GetRecords")] == [owner, owner]


def test_a_proxy_is_used_on_the_way_to_aws_and_not_to_an_emulator(
    server: Server, account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "near.invalid")
    call(Aws(Settings(region="eu-west-1", endpoint_url="http://far.invalid")))
    assert server.requests[0][1] == "http://far.invalid/"
    with pytest.raises(NoAnswerError):
        call(Aws(Settings(region="eu-west-1", endpoint_url="http://near.invalid")))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    call(at(server))
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("socks5://127.0.0.1:1080", "socks5"),
        ("http://:3128", ":3128"),
        ("http://someone:secret@127.0.0.1:none", "127.0.0.1:none"),
    ],
)
def test_a_proxy_that_is_none_is_a_mistake_in_the_environment(
    account: None, monkeypatch: pytest.MonkeyPatch, proxy: str, shown: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match="is no address of http or https") as raised:
        call(remote("http://far.invalid"))
    assert shown in raised.value.message
    assert "secret" not in raised.value.message
    assert "HTTPS_PROXY" in str(raised.value.hint)


def test_what_stands_before_the_host_of_an_endpoint_is_not_sent(
    server: Server, account: None
) -> None:
    call(remote(server.url.replace("//", "//someone:secret@")))
    headers = server.requests[0][2]
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 ")


def test_under_local_no_other_host_is_ever_asked(server: Server) -> None:
    async def main() -> None:
        async with Transport(at(server)) as transport:
            for url in ("http://example.com/", "http://127.0.0.1@example.com/", "http://[::2]/"):
                with pytest.raises(ConfigError, match="--local must not reach"):
                    await transport.post(Route.to(url, proxies=False), b"{}", CIMultiDict())

    asyncio.run(main())
    assert server.requests == []
