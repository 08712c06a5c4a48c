"""One translator from the SDK's errors to ours, used by every call to AWS.

Codes are those of botocore's service models for DynamoDB, DynamoDB Streams, EventBridge and SQS,
and the ones common to all services:
https://docs.aws.amazon.com/awssupport/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto

from ddbrelay.aws.session import NO_CREDENTIALS_HINT
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "NotAuthorized",
        "UnauthorizedOperation",
    }
)
BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "HTTP 408",
        "HTTP 429",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Codes after which the same call may succeed a little later, as botocore has them, and what a
proxy answers where AWS would."""


def code_of(error: Exception) -> str | None:
    """AWS's error code of a boto3 exception, None where it carries none."""
    if isinstance(error, boto.ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or None
    return None


def from_code(code: str, message: str, doing: str) -> AwsRefused:
    """Our error for a code that AWS answered with; `doing` is such as "describe the table"."""
    first_line = (message.strip().splitlines() or [""])[0][:300]
    if first_line.startswith("<"):
        first_line = "an answer in HTML, so not from AWS itself"
    if code in BAD_CREDENTIALS:
        return AwsRefused(
            f"AWS refused the credentials, to {doing}: {code}: {first_line}",
            "aws sts get-caller-identity shows who you are; refresh or choose another --profile",
            code=code,
        )
    if code in DENIED:
        return AwsRefused(
            f"not allowed to {doing}: {first_line}",
            "add the permission, or choose another --profile",
            code=code,
        )
    return AwsRefused(f"cannot {doing}: {code}: {first_line}", code=code)


def translate(error: Exception, doing: str) -> DdbrelayError:
    """Our error for one of botocore's, raised while `doing` something ("list the shards")."""
    if isinstance(error, boto.ClientError):
        body = error.response.get("Error", {})
        return from_code(str(body.get("Code", "Unknown")), str(body.get("Message", "")), doing)
    said = " ".join(str(error).split())[:500]
    if isinstance(error, boto.NoCredentialsError):
        return AwsRefused("no AWS credentials were found", NO_CREDENTIALS_HINT)
    if isinstance(error, boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return AwsRefused(f"the AWS credentials cannot be used: {said}", NO_CREDENTIALS_HINT)
    if isinstance(error, boto.NoRegionError):
        return ConfigError("no AWS region is configured", "--region eu-west-1 or AWS_REGION")
    if isinstance(error, boto.ProfileNotFound | boto.ConfigNotFound | boto.ConfigParseError):
        return ConfigError(said, "aws configure list-profiles shows the profiles")
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return AwsRefused(
            f"no answer from AWS, to {doing}: {said}",
            "check the network, the region, the proxy and --endpoint-url",
        )
    if isinstance(error, boto.ParamValidationError | ValueError):
        return ConfigError(f"cannot {doing}: {said}")
    return AwsRefused(f"cannot {doing}: {said}")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise our error for whatever botocore raises inside; everything else passes through."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError) as error:
        raise translate(error, doing) from error
