"""Every refusal that AWS's models name is one that ddbrelay knows an answer to."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as boto
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from pipeline import ARN, item

from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.errors import BAD_CREDENTIALS, DENIED, THROTTLED, from_code, translate
from ddbrelay.aws.refusals import refusal_of
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import NoAnswerError, WireError
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.flow.capture import Fault, IteratorType, StreamFault
from ddbrelay.flow.sink import FINAL_CODES, RETRYABLE_CODES, EntryResult, receipt_of, retry_delay

FAULTS = {
    "ExpiredIteratorException": Fault.EXPIRED,
    "InternalServerError": Fault.TRANSIENT,
    "LimitExceededException": Fault.THROTTLED,
    "ResourceNotFoundException": Fault.NOT_FOUND,
    "TrimmedDataAccessException": Fault.TRIMMED,
}
STREAM_OPERATIONS = ("DescribeStream", "GetShardIterator", "GetRecords")


def errors_of(service: str, operation: str) -> set[str]:
    """The error shapes that botocore's model names for a call."""
    model = botocore.session.get_session().get_service_model(service)
    return {shape.name for shape in model.operation_model(operation).error_shapes}


class Refusing:
    """A service all of whose calls fail in the same way."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    async def call(self, operation: str, body: bytes, decode: object) -> bytes:
        self.calls += 1
        raise self.error


def ask(operation: str, error: Exception) -> None:
    stream = AwsStream(Refusing(error), ARN)  # type: ignore[arg-type]
    call = {
        "DescribeStream": lambda: stream.shards(),
        "GetShardIterator": lambda: stream.iterator("s", IteratorType.TRIM_HORIZON),
        "GetRecords": lambda: stream.records("i"),
    }[operation]
    asyncio.run(call())


@pytest.mark.parametrize("code", ["ThrottlingException", "ExpiredIteratorException"])
def test_of_a_message_of_many_lines_a_fault_says_the_first(code: str) -> None:
    said = f"\nit was {'x' * 500}\nThe canonical string should have been\n'POST\n"
    with pytest.raises(StreamFault) as raised:
        ask("GetRecords", WireError(400, code, said))
    assert str(raised.value) == f"{code}: {said.strip()[:300]}"
    with pytest.raises(StreamFault, match=f"^{code}$"):
        ask("GetRecords", WireError(400, code, ""))


def status_of(code: str) -> int:
    return 500 if "Internal" in code else 400


@pytest.mark.parametrize("operation", STREAM_OPERATIONS)
def test_each_error_of_a_stream_call_is_a_fault_that_the_reader_answers(operation: str) -> None:
    for code in errors_of("dynamodbstreams", operation):
        with pytest.raises(StreamFault) as raised:
            ask(operation, WireError(status_of(code), code, "said AWS"))
        assert raised.value.fault is FAULTS[code], code


@pytest.mark.parametrize("operation", STREAM_OPERATIONS)
def test_a_stream_call_without_an_answer_is_tried_again(operation: str) -> None:
    with pytest.raises(StreamFault) as raised:
        ask(operation, NoAnswerError("gone"))
    assert raised.value.fault is Fault.NO_ANSWER


@pytest.mark.parametrize("operation", STREAM_OPERATIONS)
@pytest.mark.parametrize("code", sorted(DENIED | BAD_CREDENTIALS))
def test_a_stream_that_we_may_not_read_ends_the_run(operation: str, code: str) -> None:
    with pytest.raises(AwsRefused) as raised:
        ask(operation, WireError(400, code, "said AWS"))
    assert raised.value.code == code


def test_each_error_of_a_call_to_the_bus_is_known() -> None:
    assert errors_of("events", "PutEvents") == {"InternalException"}
    bus = AwsBus(Refusing(WireError(500, "InternalException", "")), "b")  # type: ignore[arg-type]
    receipt = asyncio.run(bus.send([item()]))
    assert [reason for _, reason in receipt.retry] == ["InternalException"]
    assert errors_of("events", "DescribeEventBus") <= {
        "InternalException",
        "ResourceNotFoundException",
    }
    assert errors_of("dynamodb", "DescribeTable") <= {
        "InternalServerError",
        "ResourceNotFoundException",
    }


def test_each_code_of_an_entry_that_the_model_documents_is_final_or_retried() -> None:
    model = botocore.session.get_session().get_service_model("events")
    documentation = model.shape_for("PutEventsResultEntry").members["ErrorCode"].documentation
    documented = set(re.findall(r"<code>(\w+)", documentation))
    assert documented
    assert documented - FINAL_CODES - RETRYABLE_CODES == set()
    for code in documented | FINAL_CODES:
        one = item()
        receipt = receipt_of([one], [EntryResult(None, code, "said AWS")])
        assert bool(receipt.rejected) is (code in FINAL_CODES)
        assert bool(receipt.retry) is (code not in FINAL_CODES)


def test_what_botocore_tries_again_is_tried_again() -> None:
    codes = ThrottledRetryableChecker._THROTTLED_ERROR_CODES
    codes = [*codes, *TransientRetryableChecker._TRANSIENT_ERROR_CODES]
    assert set(codes) <= THROTTLED
    statuses = TransientRetryableChecker._TRANSIENT_STATUS_CODES
    answers = [(400, code) for code in codes] + [(s, f"HTTP {s}") for s in [*statuses, 408, 429]]
    for status, code in answers:
        error = WireError(status, code, "")
        bus = AwsBus(Refusing(error), "b")  # type: ignore[arg-type]
        assert len(asyncio.run(bus.send([item("a"), item("b")])).retry) == 2
        for operation in STREAM_OPERATIONS:
            with pytest.raises(StreamFault) as raised:
                ask(operation, error)
            assert raised.value.fault in {Fault.THROTTLED, Fault.TRANSIENT}


@pytest.mark.parametrize("status", [302, 400, 403, 404, 407, 413])
def test_an_answer_that_is_not_of_aws_is_transient(status: int) -> None:
    error = refusal_of(status, b"<html>Blocked</html>", "text/html")
    bus = AwsBus(Refusing(error), "b")  # type: ignore[arg-type]
    receipt = asyncio.run(bus.send([item()]))
    assert [reason for _, reason in receipt.unknown] == [f"HTTP {status}: text/html, Blocked"]
    for operation in STREAM_OPERATIONS:
        with pytest.raises(StreamFault, match=f"HTTP {status}: text/html, Blocked") as raised:
            ask(operation, error)
        assert raised.value.fault is Fault.TRANSIENT


def test_a_client_error_of_a_proxy_has_a_hint_about_it() -> None:
    for error in (client_error("403", "<html>Blocked"), client_error("HTTP 403", "")):
        assert "HTTPS_PROXY" in str(translate(error, "describe the table").hint)


@pytest.mark.parametrize(
    "error", [WireError(413, "HTTP 413", ""), WireError(400, "ValidationException", "no")]
)
def test_a_refused_request_is_taken_apart_to_find_the_entry(error: WireError) -> None:
    service = Refusing(error)
    items = [item("a"), item("b")]
    for one in items:
        one.size = 400_000
    receipt = asyncio.run(AwsBus(service, "b").send(items))  # type: ignore[arg-type]
    assert len(receipt.rejected) == 2
    assert service.calls == 3


def client_error(code: str, message: str = "said AWS") -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": code, "Message": message}}, "DescribeTable")


BOTO_ERRORS: list[tuple[Exception, type[DdbrelayError], str]] = [
    (boto.NoCredentialsError(), AwsRefused, "no AWS credentials"),
    (boto.PartialCredentialsError(provider="env", cred_var="x"), AwsRefused, "credentials"),
    (
        boto.CredentialRetrievalError(provider="process", error_msg="exit 1\ntrace"),
        AwsRefused,
        "credentials",
    ),
    (boto.SSOTokenLoadError(error_msg="run aws sso login"), AwsRefused, "aws sso login"),
    (boto.UnauthorizedSSOTokenError(), AwsRefused, "aws sso login"),
    (boto.TokenRetrievalError(provider="sso", error_msg="expired"), AwsRefused, "expired"),
    (boto.NoRegionError(), ConfigError, "no AWS region"),
    (boto.ProfileNotFound(profile="x"), ConfigError, "(x) could not be found"),
    (boto.ConfigParseError(path="/x"), ConfigError, "/x"),
    (boto.InvalidRegionError(region_name="a b"), ConfigError, "a b"),
    (boto.ParamValidationError(report="too short"), ConfigError, "too short"),
    (boto.EndpointConnectionError(endpoint_url="http://x"), AwsRefused, "http://x"),
    (boto.ConnectTimeoutError(endpoint_url="http://x"), AwsRefused, "no answer"),
    (boto.ReadTimeoutError(endpoint_url="http://x"), AwsRefused, "no answer"),
    (boto.ConnectionClosedError(endpoint_url="http://x"), AwsRefused, "no answer"),
    (boto.SSLError(endpoint_url="http://x", error="bad certificate"), AwsRefused, "certificate"),
    (boto.ProxyConnectionError(proxy_url="http://p", error="refused"), AwsRefused, "http://p"),
    (client_error("ExpiredTokenException"), AwsRefused, "refused the credentials"),
    (client_error("AccessDenied"), AwsRefused, "not allowed to describe the table"),
    (client_error("Whatever", "one\ntwo"), AwsRefused, "Whatever: one"),
    (client_error("Whatever", ""), AwsRefused, "Whatever"),
]


@pytest.mark.parametrize(("error", "family", "says"), BOTO_ERRORS)
def test_what_botocore_raises_becomes_one_line(
    error: Exception, family: type[DdbrelayError], says: str
) -> None:
    ours = translate(error, "describe the table")
    assert isinstance(ours, family)
    assert says in ours.message
    assert "\n" not in ours.message


def test_a_message_of_aws_is_cut_to_one_line_of_a_bearable_length() -> None:
    error: Any = from_code("X", "<html>\n" + "y" * 10_000, "try")
    assert error.message == "cannot try: X: an answer in HTML, so not from AWS itself"
    assert len(from_code("X", "y" * 10_000, "try").message) < 400


def test_pauses_between_tries_grow_up_to_a_ceiling() -> None:
    rng = random.Random(1)
    ceilings = [max(retry_delay(n, rng) for _ in range(200)) for n in (1, 4, 40, 4000)]
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] <= 20
