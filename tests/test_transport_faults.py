"""What goes wrong on the way to AWS is one clear line, by boto3 and by our own transport."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.httpsession import get_cert_path
from conftest import Cli
from pipeline import ARN, clear_error, running
from wire import (
    KEY,
    OPERATIONS,
    SECRET,
    Request,
    Server,
    call,
    certified,
    http,
    operation_of,
    proxying,
    remote,
    serving,
)

from ddbrelay.aws.errors import (
    BAD_CREDENTIALS,
    DENIED,
    SKEWED,
    THROTTLED,
    from_code,
    translate,
)
from ddbrelay.aws.session import Aws
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.table import check_bus
from ddbrelay.aws.transport import NoAnswerError
from ddbrelay.config import Settings
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.flow.capture import Fault, StreamFault

NOBODY = "http://127.0.0.1:1"
FOREIGN_BUS = "arn:aws:events:us-east-1:222222222222:event-bus/x"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """Of localhost, and the file of its authority, which nobody trusts unasked."""
    return certified(tmp_path, "localhost")


@pytest.fixture
def secure(certificate: tuple[ssl.SSLContext, Path]) -> Iterator[Server]:
    with serving(certificate[0], "localhost") as server:
        yield server


def no_answer(url: str) -> NoAnswerError:
    with pytest.raises(NoAnswerError) as raised:
        call(remote(url))
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_the_authorities_of_the_environment_are_trusted(
    account: None,
    secure: Server,
    certificate: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, str(certificate[1]))
    assert call(remote(secure.url)) == b"{}"


@pytest.mark.usefixtures("account")
def test_a_certificate_of_an_unknown_authority_is_named(secure: Server) -> None:
    error = no_answer(secure.url)
    assert error.kind == "certificate"
    assert str(error).startswith(
        f"the certificate of localhost:{secure.port} is not accepted: self-signed certificate"
    )


@pytest.mark.usefixtures("account")
def test_a_certificate_of_another_name_is_named(
    secure: Server, certificate: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[1]))
    error = no_answer(secure.url.replace("localhost", "127.0.0.1"))
    assert error.kind == "certificate"
    assert str(error).startswith(f"the certificate of 127.0.0.1:{secure.port} does not match: ")
    assert "not valid for '127.0.0.1'" in str(error)


@pytest.mark.usefixtures("account")
def test_a_server_without_tls_is_named(server: Server) -> None:
    error = no_answer(server.url.replace("http:", "https:"))
    assert (error.kind, str(error).partition(": ")[0]) == (
        "certificate",
        f"no TLS connection to 127.0.0.1:{server.port}",
    )


@pytest.mark.usefixtures("account")
def test_a_name_that_nobody_knows_is_named() -> None:
    error = no_answer("https://nowhere.invalid")
    assert error.kind == "name"
    assert str(error).startswith("the name nowhere.invalid cannot be resolved: ")


@pytest.mark.usefixtures("account")
def test_a_proxy_that_is_not_there_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:secret@127.0.0.1:1")
    error = no_answer("https://far.invalid")
    assert error.kind == "proxy"
    assert str(error).startswith("no connection through the proxy http://127.0.0.1:1: ")


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_lets_nothing_through_is_named(
    secure: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with proxying(secure.port) as proxy:
        proxy.status = status
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = no_answer("https://far.invalid")
    assert error.kind == "proxy"
    assert str(error) == (
        f"the proxy {proxy.url} lets nothing through to far.invalid: {status} Whatever"
    )


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_tls_goes_through_a_tunnel_of_the_proxy(
    secure: Server,
    certificate: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[1]))
    with proxying(secure.port) as proxy:
        address = proxy.url.removeprefix("http://")
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}someone:secret@{address}")
        assert call(remote("https://localhost")) == b"{}"
    assert proxy.asked == [
        ("localhost:443", f"Basic {b64encode(b'someone:secret').decode()}"),
    ]
    assert [operation_of(request) for request in secure.requests] == ["PutEvents"]
    assert "proxy-authorization" not in secure.requests[0][2]


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_without_authorities_is_a_mistake_in_the_environment(
    account: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    content: str | None,
) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(ConfigError, match=r"the certificate authorities in .* cannot be used: ."):
        remote("https://far.invalid")


def test_without_a_file_of_authorities_those_of_boto3_are_trusted(
    account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    theirs = ssl.create_default_context(cafile=get_cert_path(True))
    assert remote(NOBODY).tls().get_ca_certs() == theirs.get_ca_certs()


class Unreachable:
    """A service that gave some answers before it became unreachable."""

    def __init__(self, host: str, error: Exception, answers: int) -> None:
        self.host, self.error, self.answers = host, error, answers

    def url(self, operation: str) -> str:
        return f"https://{self.host}/"

    async def call(self, operation: str, body: bytes, decode: Callable[[bytes], Any]) -> Any:
        if not self.answers:
            raise self.error
        self.answers -= 1
        return decode(b'{"StreamDescription": {"Shards": []}}')


@pytest.mark.parametrize("kind", ["certificate", "name", "proxy"])
def test_a_stream_that_cannot_be_reached_at_all_ends_the_run(kind: str) -> None:
    service = Unreachable(
        "1.streams-ddb.eu-west-1.amazonaws.com",
        NoAnswerError("no way", kind),  # type: ignore[arg-type]
        0,
    )
    with pytest.raises(AwsRefused, match=r"no answer from AWS, to list the shards.*: no way") as no:
        asyncio.run(AwsStream(service, ARN).shards())  # type: ignore[arg-type]
    assert "AWS_ACCOUNT_ID_ENDPOINT_MODE=disabled" in str(no.value.hint)


@pytest.mark.parametrize(
    ("kind", "answers"),
    [("certificate", 1), ("name", 1), ("proxy", 1), ("connect", 0), ("timeout", 0), ("broken", 0)],
)
def test_a_stream_that_was_reached_before_is_tried_again(kind: str, answers: int) -> None:
    async def main() -> None:
        service = Unreachable("h", NoAnswerError("no way", kind), answers)  # type: ignore[arg-type]
        stream = AwsStream(service, ARN)  # type: ignore[arg-type]
        for _ in range(answers):
            await stream.shards()
        with pytest.raises(StreamFault, match="no way") as raised:
            await stream.shards()
        assert raised.value.fault is Fault.NO_ANSWER

    asyncio.run(main())


def test_each_error_in_the_models_of_our_calls_has_an_answer() -> None:
    known = {
        "ExpiredIteratorException",
        "InternalException",
        "InternalServerError",
        "ResourceNotFoundException",
        "TrimmedDataAccessException",
    } | THROTTLED
    session = botocore.session.get_session()
    for operation, (service, _) in OPERATIONS.items():
        model = session.get_service_model(service).operation_model(operation)
        assert {shape.name for shape in model.error_shapes} <= known, operation


COMMON = {
    "AccessDeniedException": DENIED,
    "ExpiredTokenException": BAD_CREDENTIALS,
    "IncompleteSignature": BAD_CREDENTIALS,
    "InvalidClientTokenId": BAD_CREDENTIALS,
    "MissingAuthenticationToken": BAD_CREDENTIALS,
    "NotAuthorized": DENIED,
    "OptInRequired": DENIED,
    "RequestExpired": BAD_CREDENTIALS,
    "RequestTimeoutException": THROTTLED,
    "ThrottlingException": THROTTLED,
    "UnrecognizedClientException": BAD_CREDENTIALS,
}
"""Errors of all services; the rest is a fault of AWS's own (5xx) or of the request."""


@pytest.mark.parametrize("code", sorted(COMMON))
def test_an_error_that_all_services_share_has_one_answer(code: str) -> None:
    assert code in COMMON[code]
    assert sum(code in group for group in (DENIED, BAD_CREDENTIALS, THROTTLED)) == 1


@pytest.mark.parametrize("code", sorted(SKEWED | {"ExpiredTokenException"}))
def test_a_refusal_for_the_time_says_to_look_at_the_clock(code: str) -> None:
    late = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"
    wrong = "The request signature we calculated does not match the signature you provided."
    always = {"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
    assert "clock" in str(from_code(code, late, "try").hint)
    assert ("clock" in str(from_code(code, wrong, "try").hint)) is (code in always)


def in_the_middle(operation: str) -> boto.ClientError:
    body = {"Error": {"Code": "AccessDenied", "Message": "not\nyou"}}
    return boto.ClientError(body, operation)  # type: ignore[arg-type]


@pytest.mark.parametrize("operation", ["AssumeRole", "AssumeRoleWithWebIdentity"])
def test_a_role_that_may_not_be_assumed_is_told_from_the_call_that_needed_it(
    operation: str,
) -> None:
    ours = translate(in_the_middle(operation), "describe the table")
    assert ours.message == f"the AWS credentials cannot be used: {operation}: AccessDenied: not you"
    assert translate(in_the_middle("DescribeTable"), "describe the table").message.startswith(
        "not allowed to describe the table"
    )


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("code", sorted(DENIED))
def test_a_bus_in_another_account_need_not_be_described(server: Server, code: str) -> None:
    server.answer = http(400, json.dumps({"__type": code, "message": "no"}).encode())
    check_bus(remote(server.url), FOREIGN_BUS)
    assert json.loads(server.requests[0][3]) == {"Name": FOREIGN_BUS}


@pytest.mark.usefixtures("account")
def test_a_bus_that_is_not_there_is_refused_by_name_and_by_arn(server: Server) -> None:
    said = {"__type": "ResourceNotFoundException", "message": "no"}
    server.answer = http(400, json.dumps(said).encode())
    for bus, hint in ((FOREIGN_BUS, "in the ARN"), ("users-bus", "provision --bus users-bus")):
        with pytest.raises(AwsRefused, match=f'bus "{bus}" does not exist') as raised:
            check_bus(remote(server.url), bus)
        assert hint in str(raised.value.hint)


def refused_at_the_start(url: str) -> DdbrelayError:
    """What the first call of a command, which is boto3's, ends with."""
    from ddbrelay.aws.table import stream_of

    aws = Aws(Settings(region="eu-west-1", endpoint_url=url))
    with pytest.MonkeyPatch.context() as patch:
        # Four tries of something that cannot succeed.
        patch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
        with pytest.raises(DdbrelayError) as raised:
            stream_of(aws, "users")
    assert "\n" not in raised.value.message
    return raised.value


@pytest.mark.slow
@pytest.mark.usefixtures("account")
def test_the_first_call_names_the_fault_as_the_later_ones_do(
    secure: Server, certificate: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    doing = 'no answer from AWS, to describe the table "users": '
    unknown = refused_at_the_start(secure.url)
    assert unknown.message.startswith(
        f"{doing}the certificate of localhost:{secure.port} is not accepted: self-signed"
    )
    assert "AWS_CA_BUNDLE" in str(unknown.hint)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[1]))
    other = refused_at_the_start(secure.url.replace("localhost", "127.0.0.1"))
    assert other.message.startswith(f"{doing}the certificate of 127.0.0.1:{secure.port} does not")
    name = refused_at_the_start("https://nowhere.invalid")
    assert name.message == f"{doing}the name nowhere.invalid cannot be resolved"
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:secret@127.0.0.1:1")
    proxy = refused_at_the_start("https://far.invalid")
    assert proxy.message.startswith(f"{doing}no connection through the proxy http://")
    assert "secret" not in proxy.message
    assert "HTTPS_PROXY" in str(proxy.hint)


def table(request: Request) -> bytes:
    """A table with a stream that has one open shard and no records."""
    operation = operation_of(request)
    region_arn = ARN.replace("eu-west-1", "us-east-1")
    answers: dict[str, object] = {
        "DescribeTable": {
            "Table": {
                "TableArn": region_arn.partition("/stream/")[0],
                "LatestStreamArn": region_arn,
                "StreamSpecification": {
                    "StreamEnabled": True,
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                },
            }
        },
        "DescribeStream": {
            "StreamDescription": {
                "StreamArn": region_arn,
                "StreamStatus": "ENABLED",
                "Shards": [
                    {
                        "ShardId": "shardId-00000000000000000000-00000000",
                        "SequenceNumberRange": {"StartingSequenceNumber": "1" * 21},
                    }
                ],
            }
        },
        "GetShardIterator": {"ShardIterator": f"{region_arn}|1|a"},
        "GetRecords": {"Records": [], "NextShardIterator": f"{region_arn}|1|b"},
    }
    return http(200, json.dumps(answers[operation]).encode())


@pytest.fixture
def shell(bare_cli: Cli, server: Server) -> Cli:
    """The command line with an account, whose endpoints are a server here."""
    server.respond = table
    bare_cli.environment |= {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
    }
    return bare_cli


TAIL = ("tail", "--table", "users", "--timeout", "20s")


@pytest.mark.slow
def test_without_a_fault_the_run_lasts_as_long_as_asked(shell: Cli) -> None:
    shell.ok("tail", "--table", "users", "--timeout", "1s")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("UnrecognizedClientException", "AWS refused the credentials, to describe the table"),
        ("ExpiredTokenException", "AWS refused the credentials, to describe the table"),
        ("InvalidSignatureException", "AWS refused the credentials, to describe the table"),
        ("AccessDeniedException", "not allowed to describe the table"),
    ],
)
def test_a_refusal_of_the_first_call_is_one_line(
    shell: Cli, server: Server, code: str, says: str
) -> None:
    server.respond = lambda request: http(
        400, json.dumps({"__type": f"com.amazonaws#{code}", "message": "said AWS"}).encode()
    )
    clear_error(shell.run(*TAIL), 5, f"error: {says}", "said AWS", "--profile")


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["DescribeStream", "GetShardIterator", "GetRecords"])
@pytest.mark.parametrize("code", ["ExpiredTokenException", "AccessDeniedException"])
def test_a_refusal_in_the_middle_is_one_line(
    shell: Cli, server: Server, operation: str, code: str
) -> None:
    said = http(400, json.dumps({"__type": code, "message": "said AWS"}).encode())
    server.respond = lambda request: said if operation_of(request) == operation else table(request)
    clear_error(shell.run(*TAIL), 5, "error: ", "said AWS", "--profile")


@pytest.mark.slow
def test_a_proxy_that_is_not_there_ends_the_command(shell: Cli) -> None:
    del shell.environment["AWS_ENDPOINT_URL"]
    shell.environment["HTTPS_PROXY"] = NOBODY
    clear_error(
        shell.run(*TAIL), 5, f"no connection through the proxy {NOBODY}: Connection refused", "NO_P"
    )


@pytest.mark.slow
def test_a_certificate_that_does_not_match_ends_the_command(shell: Cli, secure: Server) -> None:
    shell.environment["AWS_ENDPOINT_URL"] = secure.url
    clear_error(shell.run(*TAIL), 5, "the certificate of localhost:", "AWS_CA_BUNDLE=FILE")


@pytest.mark.slow
def test_a_stream_with_a_certificate_that_does_not_match_ends_the_command(
    shell: Cli, secure: Server
) -> None:
    shell.environment["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = secure.url
    clear_error(shell.run(*TAIL), 5, "to list the shards of the stream: the certificate", "_CA_")


@pytest.mark.slow
def test_a_name_that_nobody_knows_ends_the_command(shell: Cli) -> None:
    shell.environment["AWS_ENDPOINT_URL"] = "https://nowhere.invalid"
    clear_error(shell.run(*TAIL), 5, "the name nowhere.invalid cannot be resolved", "network")


@pytest.mark.slow
def test_a_file_of_authorities_that_is_missing_ends_the_command(shell: Cli) -> None:
    shell.environment["AWS_CA_BUNDLE"] = "/nowhere.pem"
    said = "the certificate authorities in /nowhere.pem cannot be used: No such file"
    clear_error(shell.run(*TAIL), 2, said, "AWS_CA_BUNDLE=FILE")


@pytest.mark.slow
def test_a_bus_in_another_account_that_may_not_be_described_is_published_to(
    shell: Cli, server: Server
) -> None:
    record = {
        "eventID": "e1",
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_800_000_000,
            "Keys": {"id": {"S": "a"}},
            "NewImage": {"id": {"S": "a"}},
            "SequenceNumber": "1" * 21,
        },
    }
    sent: list[str] = []

    def respond(request: Request) -> bytes:
        operation = operation_of(request)
        if operation == "DescribeEventBus":
            said = {"__type": "AccessDeniedException", "message": "not yours"}
            return http(400, json.dumps(said).encode())
        if operation == "PutEvents":
            entries = json.loads(request[3])["Entries"]
            sent.extend(entry["EventBusName"] for entry in entries)
            results = {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in entries]}
            return http(200, json.dumps(results).encode())
        if operation == "GetRecords" and not sent:
            return http(200, json.dumps({"Records": [record], "NextShardIterator": "i"}).encode())
        return table(request)

    server.respond = respond
    done = shell.ok(*TAIL, "--forward", "--bus", FOREIGN_BUS, "--max-records", "1")
    assert sent == [FOREIGN_BUS]
    assert "Relayed 1 event" in done.stderr


def credentials_from(shell: Cli, program: str, tmp_path: Path) -> None:
    """Let a program give the credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del shell.environment[name]
    (tmp_path / "helper.py").write_text(program)
    helper = f"{sys.executable} {tmp_path / 'helper.py'}"
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {helper}\n")
    shell.environment["AWS_CONFIG_FILE"] = str(tmp_path / "config")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; sys.exit('sign in first')", "sign in first"),
        ("print('no JSON')", "the AWS credentials cannot be used"),
        ("print('{}')", "the AWS credentials cannot be used"),
    ],
)
def test_a_program_that_gives_no_credentials_ends_the_command(
    shell: Cli, tmp_path: Path, program: str, says: str
) -> None:
    credentials_from(shell, program, tmp_path)
    clear_error(shell.run(*TAIL), 5, "error: the AWS credentials cannot be used", says, "profile")


@pytest.mark.slow
def test_a_program_that_is_missing_ends_the_command(shell: Cli, tmp_path: Path) -> None:
    credentials_from(shell, "", tmp_path)
    (tmp_path / "config").write_text("[default]\ncredential_process = /nowhere/helper\n")
    clear_error(shell.run(*TAIL), 5, "the AWS credentials cannot be used", "/nowhere/helper")


TEMPORARY = """\
import datetime, json, pathlib, sys
if pathlib.Path(__file__).with_name("over").exists():
    sys.exit("the session is over")
ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)
print(json.dumps({"Version": 1, "AccessKeyId": "k", "SecretAccessKey": "s", "SessionToken": "t",
                  "Expiration": ends.isoformat()}))
"""


@pytest.mark.slow
def test_credentials_that_end_and_cannot_be_renewed_end_the_run(
    shell: Cli, server: Server, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    credentials_from(shell, TEMPORARY, tmp_path)
    with running(shell, "tail", "--table", "users", "--timeout", "60s") as tail:
        wait_until(lambda: any(operation_of(r) == "GetRecords" for r in server.requests))
        (tmp_path / "over").touch()
        code, words = tail.wait(40)
    assert code == 5
    error, hint = words.splitlines()[-2:]
    assert error.startswith("error: the AWS credentials cannot be used: ")
    assert "the session is over" in error
    assert hint.startswith("  hint: sign in again")
    assert "Traceback" not in words


@pytest.mark.slow
def test_credentials_that_are_renewed_do_not_stop_the_run(
    shell: Cli, server: Server, tmp_path: Path
) -> None:
    credentials_from(shell, TEMPORARY, tmp_path)
    with running(shell, "tail", "--table", "users", "--timeout", "8s") as tail:
        code, words = tail.wait(40)
    assert code == 0
    assert words.splitlines()[-1].startswith(("Saw 0 changes", "next: "))
    assert "Traceback" not in words


@pytest.mark.slow
@pytest.mark.parametrize("words", [("status",), ("provision",), ("tail", "--until-idle", "1s")])
def test_a_good_answer_that_is_none_of_aws_is_told_as_such(
    bare_cli: Cli, words: tuple[str, ...]
) -> None:
    bare_cli.environment |= {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }
    with serving() as server:
        server.answer = http(
            200, b"<html>Please sign in</html>", "Content-Type: application/x-amz-json-1.0"
        )
        done = bare_cli.run(*words, "--table", "users", "--endpoint-url", server.url)
    clear_error(done, 5, "it is not AWS's", "--endpoint-url")


@pytest.mark.parametrize(
    "body",
    [
        *(b"{}", b'{"message": "no upstream"}', b'{"Table": {"Tab', b"null", b'"x"', b"[]", b"5"),
        b'{"Table": 5, "Streams": 5, "Name": null, "QueueUrl": null}',
        b'{"Table": ["x"], "Streams": ["x"]}',
        b'{"Table": {}}',
    ],
)
@pytest.mark.parametrize(
    ("service", "call", "parameters"),
    [
        ("dynamodb", "describe_table", {"TableName": "users"}),
        ("dynamodbstreams", "list_streams", {}),
        ("events", "describe_event_bus", {"Name": "users-bus"}),
        ("sqs", "get_queue_url", {"QueueName": "letters"}),
    ],
)
def test_a_success_without_what_boto3s_call_always_returns_is_a_refusal_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    service: str,
    call: str,
    parameters: dict[str, str],
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with serving() as server:
        server.answer = http(200, body, "Content-Type: application/x-amz-json-1.0")
        with pytest.raises(AwsRefused, match="it is not AWS's") as refused:
            getattr(remote(server.url).client(service), call)(**parameters)
    assert "proxy" in str(refused.value.hint)


@pytest.mark.parametrize("body", [b"null", b'"x"', b"[]", b"5"])
@pytest.mark.parametrize("status", [400, 503])
def test_a_failure_that_is_no_object_is_known_by_its_status(
    monkeypatch: pytest.MonkeyPatch, body: bytes, status: int
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with serving() as server:
        server.answer = http(status, body, "Content-Type: application/x-amz-json-1.0")
        client = remote(server.url).new_client("dynamodb", retries={"total_max_attempts": 1})
        with pytest.raises(ClientError) as failed:
            client.describe_table(TableName="users")
    assert failed.value.response["Error"]["Code"] == str(status)
