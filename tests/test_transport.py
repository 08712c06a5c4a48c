"""The signed transport: what is on the wire, and what comes of every kind of answer."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.parsers import JSONParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline import ARN, item
from wire import (
    KEY,
    OPERATIONS,
    SECRET,
    Request,
    Server,
    at,
    call,
    calls,
    http,
    remote,
    serving,
)

from ddbrelay.aws import transport as wire
from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.errors import SKEWED
from ddbrelay.aws.refusals import refusal_of
from ddbrelay.aws.session import Aws
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import ForeignError, NoAnswerError, Transport, WireError
from ddbrelay.config import Settings
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Fault, IteratorType, StreamFault
from ddbrelay.flow.retrying import RetryBudget

WITHOUT_FIXTURE_CHECK = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def signature_is_right(
    request: tuple[str, str, dict[str, str], bytes], secret: str, region: str, service: str
) -> bool:
    """What AWS does with a request, written down from its page on Signature Version 4.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    method, target, headers, body = request
    parts = dict(re.findall(r"(\w+)=([^,\s]+)", headers["authorization"]))
    scope = parts["Credential"].split("/", 1)[1]
    signed = parts["SignedHeaders"].split(";")
    assert scope == f"{headers['x-amz-date'][:8]}/{region}/{service}/aws4_request"
    assert {"host", "x-amz-date"} <= set(signed)
    path, _, query = target.partition("?")
    canonical = "\n".join(
        [
            method,
            path,
            query,
            *(f"{name}:{' '.join(headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == parts["Signature"]


def test_the_judge_of_signatures_agrees_with_boto3(server: Server, account: None) -> None:
    streams = boto3.client("dynamodbstreams", region_name="eu-west-1", endpoint_url=server.url)
    streams.list_streams()
    (request,) = server.requests
    assert signature_is_right(request, SECRET, "eu-west-1", "dynamodb")
    assert not signature_is_right(request, "x" * 40, "eu-west-1", "dynamodb")
    assert not signature_is_right(
        (*request[:3], request[3] + b" "), SECRET, "eu-west-1", "dynamodb"
    )


@pytest.mark.slow
@WITHOUT_FIXTURE_CHECK
@given(
    operation=st.sampled_from(sorted(OPERATIONS)),
    body=st.binary(max_size=3000),
    region=st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"]),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    token=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
)
def test_every_request_is_signed_as_aws_asks(
    server: Server, operation: str, body: bytes, region: str, secret: str, token: str | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        if token is not None:
            patch.setenv("AWS_SESSION_TOKEN", token)
        call(Aws(Settings(region=region, endpoint_url=server.url)), operation, body)
    request = server.requests[-1]
    _, target, headers, sent = request
    service = "events" if operation == "PutEvents" else "dynamodb"
    assert signature_is_right(request, secret, region, service)
    assert (target, sent) == ("/", body)
    assert headers.get("x-amz-security-token") == token
    assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={KEY}/")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_target_and_content_type_are_those_of_boto3(
    server: Server, account: None, operation: str
) -> None:
    name, parameters = OPERATIONS[operation]
    client = boto3.client(name, region_name="eu-west-1", endpoint_url=server.url)
    method = next(m for m, o in client.meta.method_to_api_mapping.items() if o == operation)
    getattr(client, method)(**parameters)
    call(Aws(Settings(region="eu-west-1", endpoint_url=server.url)), operation)
    theirs, ours = server.requests
    for header in ("x-amz-target", "content-type"):
        assert ours[2][header] == theirs[2][header]
    assert ours[:2] == theirs[:2]


def test_what_stands_in_netrc_is_not_sent(
    server: Server, account: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login someone password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    call(Aws(Settings(region="eu-west-1", endpoint_url=server.url)))
    assert signature_is_right(server.requests[0], SECRET, "eu-west-1", "events")


CODES = st.sampled_from(
    [
        "ResourceNotFoundException",
        "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
        "aws.x#ThrottlingException:http://internal.amazon.com/coral/com.amazon.coral.service/",
        "ValidationException:http://internal.amazon.com/a#b",
    ]
) | st.text(min_size=1)


@WITHOUT_FIXTURE_CHECK
@given(code=CODES, message=st.text(), key=st.sampled_from(["message", "Message"]))
def test_error_codes_are_read_as_botocore_reads_them(code: str, message: str, key: str) -> None:
    body = json.dumps({"__type": code, key: message}).encode()
    theirs = JSONParser().parse({"status_code": 400, "headers": {}, "body": body}, None)["Error"]
    ours = refusal_of(400, body)
    assert (ours.status, ours.code or "") == (400, theirs["Code"] or "HTTP 400")
    if theirs["Code"]:
        assert ours.message == theirs["Message"]
    else:
        # Without a code it is not AWS that answers, and all of the answer is shown.
        assert isinstance(ours, ForeignError)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"[]",
        b"null",
        b'{"__type": 3}',
        b'{"__type":"\xff"}',
        b"{}",
    ],
)
def test_an_error_without_a_code_has_its_status(server: Server, body: bytes) -> None:
    server.answer = http(502, body, "Content-Type: text/html")
    with pytest.raises(WireError) as raised:
        call(at(server))
    assert (raised.value.status, raised.value.code) == (502, "HTTP 502")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: Server, status: int) -> None:
    server.answer = http(status, b"", f"Location: {server.url}/elsewhere")
    with pytest.raises(WireError, match=f"HTTP {status}"):
        call(at(server))
    assert len(server.requests) == 1


FOREIGN = {
    "a firewall": (
        *(403, b"<html><title>Blocked</title>by <b>policy</b></html>", "text/html"),
        "Blocked by policy",
    ),
    "a bad request": (400, b"", "text/plain", ""),
    "an unknown path": (404, b"no such route\nat all", "text/plain", "no such route at all"),
    "a proxy": (407, b'{"message": "who are you?"}', "application/json", "who are you?"),
    "a sign-in page": (302, b"", "text/html", ""),
    "a small request that is too large": (413, b"<h1>Too large</h1>", "text/html", "Too large"),
    "a portal": (200, b"<html>Welcome", "text/html; charset=utf-8", "Welcome"),
}


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        *(pytest.param(one, "a firewall", marks=pytest.mark.slow) for one in OPERATIONS),
        *(("PutEvents", kind) for kind in FOREIGN),
    ],
)
def test_what_is_not_aws_may_answer_for_a_minute_and_then_ends_the_run_with_its_words(
    server: Server, operation: str, kind: str
) -> None:
    status, body, media_type, words = FOREIGN[kind]
    server.answer = http(status, body, f"Content-Type: {media_type}", "Location: /elsewhere")
    clock = 1000.0

    async def main() -> None:
        nonlocal clock
        async with Transport(at(server), clock=lambda: clock) as transport:
            name, parameters = OPERATIONS[operation]
            service = await transport.service(name)
            await service.resolve(operation, **parameters)
            with pytest.raises(ForeignError, match=f"HTTP {status}"):
                await service.call(operation, b"{}", bytes)
            for pause in (40.0, 19.0):
                clock += pause
                with pytest.raises(ForeignError):
                    await service.call(operation, b"{}", bytes)
            answer, server.answer = server.answer, http(200, b"{}")
            await service.call(operation, b"{}", bytes)
            server.answer = answer
            clock += 2.0
            with pytest.raises(ForeignError):
                await service.call(operation, b"{}", bytes)
            clock += 30.0
            with pytest.raises(ForeignError):
                await service.call(operation, b"{}", bytes)
            clock += 30.0
            with pytest.raises(AwsRefused) as refused:
                await service.call(operation, b"{}", bytes)
        said = ", ".join(part for part in (media_type.partition(";")[0], words) if part)
        assert refused.value.message == (
            f"127.0.0.1 does not answer {operation} as AWS does: HTTP {status}: {said}"
        )
        assert "HTTPS_PROXY" in str(refused.value.hint)
        assert refused.value.exit_code == 5

    asyncio.run(main())


BLOCKED = http(403, b"<h1>Blocked</h1>", "Content-Type: text/html")
BUSY = http(502, b"<h1>Bad gateway</h1>", "Content-Type: text/html")
DENIED = http(400, b'{"__type": "AccessDeniedException"}')


@pytest.mark.parametrize("between", [b"", BUSY, None], ids=["no answer", "a status", "nothing"])
def test_a_foreign_answer_long_after_another_begins_a_new_minute(
    server: Server, between: bytes | None
) -> None:
    clock = 1000.0

    async def main() -> None:
        nonlocal clock
        async with Transport(at(server), clock=lambda: clock) as transport:
            service = await transport.service("events")
            await service.resolve("PutEvents", **OPERATIONS["PutEvents"][1])
            for answer in (BLOCKED, between, between, BLOCKED):
                if answer is not None:
                    server.answer = answer
                    with pytest.raises((ForeignError, NoAnswerError, WireError)):
                        await service.call("PutEvents", b"{}", bytes)
                clock += 20.0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("between", "ends"), [(BUSY, True), (DENIED, False)], ids=["a status", "an answer of AWS"]
)
def test_a_status_alone_does_not_end_a_fault_that_an_answer_of_aws_ends(
    server: Server, between: bytes, ends: bool
) -> None:
    clock = 1000.0

    async def main() -> None:
        nonlocal clock
        async with Transport(at(server), clock=lambda: clock) as transport:
            service = await transport.service("events")
            await service.resolve("PutEvents", **OPERATIONS["PutEvents"][1])
            for answer in (BLOCKED, between, BLOCKED, between):
                server.answer = answer
                with pytest.raises(WireError):
                    await service.call("PutEvents", b"{}", bytes)
                clock += 15.0
            server.answer = BLOCKED
            with pytest.raises(AwsRefused if ends else ForeignError):
                await service.call("PutEvents", b"{}", bytes)

    asyncio.run(main())


def test_of_a_page_of_a_firewall_a_line_is_shown_without_its_markup() -> None:
    page = b"<html><style>p { color: red }</style>\n<p>\x1b[31mBlocked</p> by " + b"x" * 5000
    refusal = refusal_of(403, page, "text/html; charset=utf-8")
    assert isinstance(refusal, ForeignError)
    assert refusal.message.startswith("text/html, \N{REPLACEMENT CHARACTER}[31mBlocked by xxx")
    assert len(refusal.message) < 140


@pytest.mark.parametrize(
    ("status", "sent"), [(500, 0), (503, 0), (408, 0), (429, 0), (413, 512 * 1024)]
)
def test_what_aws_itself_answers_without_a_code_is_not_foreign(status: int, sent: int) -> None:
    refusal = refusal_of(status, b"<html>busy", "text/html", sent)
    assert not isinstance(refusal, ForeignError)
    assert refusal.code == f"HTTP {status}"


WHOLE = http(200, b'{"Entries": []}')


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        WHOLE[:10],
        WHOLE[:30],
        WHOLE[:-1],
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        http(200, b"not gzip", "Content-Encoding: gzip"),
    ],
)
def test_half_an_answer_is_none(server: Server, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(NoAnswerError):
        call(at(server))


def test_a_port_that_nobody_listens_on_is_no_answer() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(NoAnswerError) as raised:
            call(Aws(Settings(local=True, endpoint_url=f"http://127.0.0.1:{port}")))
    assert str(raised.value).startswith(f"no connection to 127.0.0.1:{port}: ")
    assert raised.value.kind == "connect"


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(NoAnswerError) as raised:
            call(Aws(Settings(local=True, endpoint_url=f"http://127.0.0.1:{port}")))
    assert str(raised.value) == f"timed out: no answer from 127.0.0.1:{port} within 0.2 s"
    assert raised.value.kind == "timeout"


def test_connections_are_kept_and_used_again(server: Server) -> None:
    server.keep_alive = True
    calls(at(server), "PutEvents", *[b"{}"] * 20)
    assert len(set(server.peers)) == 1


def hangs_up_on(server: Server, *unlucky: int) -> None:
    """Leave the requests of these numbers without an answer, and close their connections."""
    server.keep_alive = True
    server.respond = lambda request: (
        b"" if len(server.requests) in unlucky else http(200, b"{%d}" % len(server.requests))
    )


def test_what_broke_on_a_connection_that_had_served_is_sent_again_at_once(server: Server) -> None:
    hangs_up_on(server, 3, 6)
    said = calls(at(server), "PutEvents", *[b"%d" % n for n in range(5)])
    assert said == [b"{1}", b"{2}", b"{4}", b"{5}", b"{7}"]
    assert [request[3] for request in server.requests] == [b"0", b"1", b"2", b"2", b"3", b"4", b"4"]
    assert len(set(server.peers)) == 3


def test_what_broke_on_a_new_connection_is_left_to_the_caller(server: Server) -> None:
    hangs_up_on(server, 1)
    with pytest.raises(NoAnswerError, match="closed the connection before it answered"):
        call(at(server))
    assert len(server.requests) == 1


def test_it_is_sent_again_only_once(server: Server) -> None:
    hangs_up_on(server, 2, 3)
    with pytest.raises(NoAnswerError):
        calls(at(server), "PutEvents", b"{}", b"{}")
    assert len(server.requests) == 3


def test_without_budget_nothing_is_sent_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryBudget, "CAPACITY", RetryBudget.RETRY - 1)
    hangs_up_on(server, 2)
    with pytest.raises(NoAnswerError):
        calls(at(server), "PutEvents", b"{}", b"{}")
    assert len(server.requests) == 2


def test_half_an_answer_on_a_connection_that_had_served_is_not_asked_for_again(
    server: Server,
) -> None:
    server.keep_alive = True

    def respond(request: Request) -> bytes:
        server.keep_alive = len(server.requests) == 1
        return WHOLE if server.keep_alive else WHOLE[:-1]

    server.respond = respond
    with pytest.raises(NoAnswerError, match="cut short"):
        calls(at(server), "PutEvents", b"{}", b"{}")
    assert len(server.requests) == 2


def test_a_server_that_closes_every_connection_without_a_word_is_answered_by_new_ones(
    server: Server,
) -> None:
    calls(at(server), "PutEvents", *[b"{}"] * 30)
    assert len(set(server.peers)) == 30


def test_a_connection_that_closed_before_anything_was_sent_costs_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, closed = Transport.post, list(range(5))

    async def closing(self: Transport, *request: Any) -> Any:
        if closed:
            closed.pop()
            raise NoAnswerError("closed", idle=True, unsent=True)
        return await post(self, *request)

    monkeypatch.setattr(Transport, "post", closing)
    monkeypatch.setattr(RetryBudget, "take", lambda self: False)
    call(at(server))
    assert len(server.requests) == 1


def test_a_budget_is_spent_on_retries_and_filled_by_success() -> None:
    budget = RetryBudget()
    assert [budget.take() for _ in range(101)] == [True] * 100 + [False]
    for _ in range(9):
        budget.succeeded()
    assert not budget.take(RetryBudget.TIMEOUT)
    assert budget.take()
    assert budget.left == 4
    for _ in range(1000):
        budget.succeeded()
    assert budget.left == RetryBudget.CAPACITY


class Judge:
    """A server that looks at the time of signatures, as AWS does, and whose own clock differs."""

    def __init__(self, server: Server, ahead: float, code: str, *, date: bool = True) -> None:
        self.ahead, self.code, self.date = ahead, code, date
        self.verdicts: list[bool] = []
        server.respond, server.keep_alive = self, True

    def __call__(self, request: Request) -> bytes:
        now = datetime.now(UTC) + timedelta(seconds=self.ahead)
        signed = datetime.strptime(request[2]["x-amz-date"], "%Y%m%dT%H%M%S%z")
        right = abs((now - signed).total_seconds()) < 300
        right = right and signature_is_right(request, SECRET, "eu-west-1", "events")
        self.verdicts.append(right)
        dates = [f"Date: {format_datetime(now, usegmt=True)}"] if self.date else []
        body = {} if right else {"__type": self.code, "message": "Signature expired"}
        return http(200 if right else 400, json.dumps(body).encode(), *dates)


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [-7200.0, -301.0, 301.0, 86400.0])
@pytest.mark.parametrize("code", sorted(SKEWED))
def test_a_wrong_clock_is_corrected_by_the_first_answer(
    server: Server, account: None, ahead: float, code: str
) -> None:
    judge = Judge(server, ahead, code)
    calls(remote(server.url), "PutEvents", b"1", b"2", b"3")
    assert judge.verdicts == [False, True, True, True]


@pytest.mark.parametrize(
    ("ahead", "date", "secret"), [(7200.0, False, SECRET), (7200.0, True, "x"), (0.0, True, "x")]
)
def test_a_refusal_that_another_time_does_not_mend_comes_through(
    server: Server, monkeypatch: pytest.MonkeyPatch, ahead: float, date: bool, secret: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    judge = Judge(server, ahead, "InvalidSignatureException", date=date)
    with pytest.raises(WireError, match="InvalidSignatureException"):
        call(remote(server.url))
    assert judge.verdicts == [False] * (2 if ahead and date else 1)


def test_a_clock_that_is_set_right_in_the_middle_is_followed(server: Server, account: None) -> None:
    judge = Judge(server, 7200.0, "RequestTimeTooSkewed")
    off = [0.0]

    async def main() -> None:
        async with Transport(remote(server.url), lambda: time.time() + off[0]) as transport:
            service = await transport.service("events")
            await service.resolve("PutEvents", **OPERATIONS["PutEvents"][1])
            await service.call("PutEvents", b"{}", bytes)
            off[0] = 7200.0
            await service.call("PutEvents", b"{}", bytes)

    asyncio.run(main())
    assert judge.verdicts == [False, True, False, True]


def test_calls_that_meet_a_wrong_clock_together_are_each_signed_again_once(
    server: Server, account: None
) -> None:
    judge = Judge(server, -3600.0, "InvalidSignatureException")

    async def main() -> None:
        async with Transport(remote(server.url)) as transport:
            service = await transport.service("events")
            await service.resolve("PutEvents", **OPERATIONS["PutEvents"][1])
            await asyncio.gather(*(service.call("PutEvents", b"{}", bytes) for _ in range(10)))

    asyncio.run(main())
    assert len(judge.verdicts) <= 20
    assert sum(judge.verdicts) == 10


def test_a_compressed_answer_is_unpacked(server: Server) -> None:
    body = b'{"Records": []}' * 100
    server.answer = http(200, gzip.compress(body), "Content-Encoding: gzip")
    assert call(at(server)) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"Entries": 1}',
        b'{"Entries":["\xff"]}',
        b"[]",
        b"{}",
        b'{"message": "no upstream"}',
        b'{"NextShardIterator": "n", "ShardIterator": null, "StreamDescription": {}}',
    ],
)
def test_an_answer_that_lacks_what_its_operation_always_returns_is_tried_again(
    server: Server, body: bytes
) -> None:
    server.answer = http(200, body)

    async def main() -> None:
        async with Transport(at(server)) as transport:
            stream = await AwsStream.open(transport, ARN)
            asked: list[Callable[[], Any]] = [
                stream.shards,
                lambda: stream.iterator("s", IteratorType.LATEST),
                lambda: stream.records("i"),
            ]
            for ask in asked:
                with pytest.raises(StreamFault) as raised:
                    await ask()
                assert raised.value.fault is Fault.TRANSIENT
            receipt = await (await AwsBus.open(transport, "b")).send([item()])
            ((_, reason),) = receipt.unknown
            assert reason.startswith("HTTP 200")

    asyncio.run(main())
