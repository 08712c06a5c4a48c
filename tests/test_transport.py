"""The signed transport: what is on the wire, and what comes of every kind of answer."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.parsers import JSONParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline import ARN, item
from wire import KEY, OPERATIONS, SECRET, Server, at, call, http, serving

from ddbrelay.aws import transport as wire
from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.session import Aws
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import NoAnswerError, Transport, WireError
from ddbrelay.config import Settings
from ddbrelay.flow.capture import Fault, IteratorType, StreamFault

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
    ours = wire._refusal(400, body)
    assert (ours.status, ours.code or "") == (400, theirs["Code"] or "HTTP 400")
    assert ours.message == theirs["Message"]


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


WHOLE = http(200, b'{"Entries": []}')


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
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(NoAnswerError, match="Cannot connect"):
            call(Aws(Settings(local=True, endpoint_url=url)))


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(wire, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NoAnswerError, match="Timeout"):
            call(Aws(Settings(local=True, endpoint_url=url)))


def test_a_compressed_answer_is_unpacked(server: Server) -> None:
    body = b'{"Records": []}' * 100
    server.answer = http(200, gzip.compress(body), "Content-Encoding: gzip")
    assert call(at(server)) == body


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"Entries": 1}', b'{"Entries":["\xff"]}', b"[]"]
)
def test_an_answer_that_is_not_of_aws_is_tried_again(server: Server, body: bytes) -> None:
    server.answer = http(200, body)

    async def main() -> None:
        async with Transport(at(server)) as transport:
            stream = await AwsStream.open(transport, ARN)
            asked: list[Callable[[], Any]] = [
                stream.shards,
                lambda: stream.iterator("s", IteratorType.LATEST),
                *([lambda: stream.records("i")] if b"Entries" not in body else []),
            ]
            for ask in asked:
                with pytest.raises(StreamFault) as raised:
                    await ask()
                assert raised.value.fault is Fault.TRANSIENT
            receipt = await (await AwsBus.open(transport, "b")).send([item()])
            assert [reason for _, reason in receipt.retry] == ["an incomplete answer"]

    asyncio.run(main())
