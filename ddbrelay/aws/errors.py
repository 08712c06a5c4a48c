"""One translator from the SDK's errors to ours, used by every call to AWS.

Codes are those of botocore's service models for DynamoDB, DynamoDB Streams, EventBridge and SQS,
and the ones common to all services:
https://docs.aws.amazon.com/awssupport/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from socket import gaierror
from typing import TypeVar
from urllib.parse import urlsplit

from botocore import exceptions as boto

from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.secrecy import scrubbed
from ddbrelay.text import first_line

_E = TypeVar("_E", bound=BaseException)

NO_CREDENTIALS_HINT = (
    "--profile NAME, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --local for the embedded AWS"
)
CREDENTIALS_HINT = "sign in again, correct what gives the credentials, or choose another --profile"
CERTIFICATE_HINT = "AWS_CA_BUNDLE=FILE names the authorities of your own proxy or endpoint"
PROXY_HINT = "check HTTPS_PROXY and NO_PROXY"
FOREIGN_HINT = (
    "a proxy or a firewall may answer in AWS's place: check HTTPS_PROXY, NO_PROXY and "
    "--endpoint-url"
)
NETWORK_HINT = "check the network, the region, the proxy and --endpoint-url"
_CLOCK_HINT = "the clock of this machine may be wrong: compare `date -u` with another clock"

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "NotAuthorized",
        "OptInRequired",
        "UnauthorizedOperation",
    }
)
SKEWED = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""What AWS answers when the time of a signature is more than five minutes off, among other things.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
"""
BAD_CREDENTIALS = SKEWED | frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "TokenRefreshRequired",
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


_ALSO_WRONG_KEYS = frozenset({"InvalidSignatureException", "SignatureDoesNotMatch"})
"""Codes that a wrong secret key has too; then the message tells which it is."""
_BY_TIME = ("Signature expired", "Signature not yet current")
_OF_CREDENTIALS = frozenset(
    {"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetRoleCredentials"}
)
"""Calls that botocore makes for credentials in the middle of another call."""


def from_code(code: str, message: str, doing: str) -> AwsRefused:
    """Our error for a code that AWS answered with; `doing` is such as "describe the table"."""
    # Before anything is cut: half a token would not be known as one.
    line = first_line(scrubbed(message))
    hint = FOREIGN_HINT if code.startswith("HTTP ") else None
    if line.startswith("<"):
        line, hint = "an answer in HTML, so not from AWS itself", FOREIGN_HINT
    if code in BAD_CREDENTIALS:
        by_time = code in SKEWED - _ALSO_WRONG_KEYS or line.startswith(_BY_TIME)
        return AwsRefused(
            f"AWS refused the credentials, to {doing}: {code}: {line}",
            _CLOCK_HINT
            if by_time
            else "aws sts get-caller-identity shows who you are; refresh or choose another "
            "--profile",
            code=code,
        )
    if code in DENIED:
        return AwsRefused(
            f"not allowed to {doing}: {line}",
            "add the permission, or choose another --profile",
            code=code,
        )
    words = f"{code}: {line}" if line else code
    return AwsRefused(f"cannot {doing}: {words}", hint, code=code)


def translate(error: Exception, doing: str) -> DdbrelayError:
    """Our error for one of botocore's, raised while `doing` something ("list the shards")."""
    if isinstance(error, boto.ClientError):
        if error.operation_name in _OF_CREDENTIALS:
            return credentials_refused(error)
        body = error.response.get("Error", {})
        return from_code(str(body.get("Code", "Unknown")), str(body.get("Message", "")), doing)
    said = _line(error)
    if isinstance(error, boto.NoCredentialsError):
        return AwsRefused("no AWS credentials were found", NO_CREDENTIALS_HINT)
    if isinstance(error, boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return credentials_refused(error)
    if isinstance(error, boto.NoRegionError):
        return ConfigError("no AWS region is configured", "--region eu-west-1, or AWS_REGION")
    if isinstance(error, boto.ProfileNotFound | boto.ConfigNotFound | boto.ConfigParseError):
        return ConfigError(said, "aws configure list-profiles shows the profiles")
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        what, hint = _on_the_way(error)
        return AwsRefused(f"no answer from AWS, to {doing}: {what}", hint)
    if isinstance(error, boto.ParamValidationError | ValueError):
        return ConfigError(f"cannot {doing}: {said}")
    return AwsRefused(f"cannot {doing}: {said}")


def credentials_refused(error: Exception) -> DdbrelayError:
    """Our error for whatever a provider of credentials raises: any library, any program."""
    if isinstance(error, DdbrelayError):
        return error
    if isinstance(error, boto.ProfileNotFound | boto.ConfigNotFound | boto.ConfigParseError):
        return translate(error, "find the AWS credentials")
    if isinstance(error, boto.ClientError):
        body, operation = error.response.get("Error", {}), error.operation_name
        said = f"{operation}: {body.get('Code', 'Unknown')}: {body.get('Message', '')}"
        return AwsRefused(
            f"the AWS credentials cannot be used: {_on_one_line(said)[:500]}",
            CREDENTIALS_HINT,
            code=code_of(error),
        )
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        what, hint = _on_the_way(error)
        return AwsRefused(f"the AWS credentials cannot be had: {what}", hint)
    if isinstance(error, boto.InvalidConfigError):
        return ConfigError(_line(error), "correct the profile in ~/.aws/config")
    return AwsRefused(f"the AWS credentials cannot be used: {_line(error)}", CREDENTIALS_HINT)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise our error for whatever botocore raises inside; everything else passes through."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError) as error:
        raise translate(error, doing) from error


def without_frames(error: _E) -> _E:
    """The same error, and what is behind it, without the frames of their tracebacks.

    aiohttp and botocore keep errors where their own tracebacks lead: in variables of frames, which
    hold the bodies of requests and answers as well. Such a cycle lasts until the next collection of
    garbage, and these are rare while the relay runs.
    """
    behind: BaseException | None = error
    while behind is not None and behind.__traceback__ is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__
    return error


def certificate_words(host: str, error: ssl.SSLCertVerificationError) -> str:
    """Why a certificate was not accepted."""
    said = error.verify_message.rstrip(".")
    if error.verify_code in _OTHER_NAME:
        return f"the certificate of {host} does not match: {said}"
    return f"the certificate of {host} is not accepted: {said}"


_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([\w ,]+)")
_OTHER_NAME = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""


def _on_the_way(error: boto.BotoCoreError) -> tuple[str, str]:
    """Why there was no answer, and what to do."""
    address = urlsplit(str(error.kwargs.get("endpoint_url", "")))
    host = address.netloc.rpartition("@")[2]
    if (certificate := _within(error, ssl.SSLCertVerificationError)) is not None:
        return certificate_words(host, certificate), CERTIFICATE_HINT
    if isinstance(error, boto.SSLError):
        said = _on_one_line(str(error.kwargs.get("error", "")))[:300]
        if "doesn't match" in said:
            # urllib3 compares the names itself.
            return f"the certificate of {host} does not match: {said}", CERTIFICATE_HINT
        return f"no TLS connection to {host}: {said}", CERTIFICATE_HINT
    if isinstance(error, boto.ProxyConnectionError):
        said = _on_one_line(str(error.kwargs.get("error", "")))[:300]
        # urllib3 keeps the system's error only within its words.
        system = _SYSTEM_ERROR.search(said)
        words = f"no connection through the proxy {error.kwargs['proxy_url']}"
        return f"{words}: {system[1] if system else said}", PROXY_HINT
    if _within(error, gaierror) is not None:
        return f"the name {address.hostname} cannot be resolved", NETWORK_HINT
    return _line(error), NETWORK_HINT


def _within(error: object, kind: type[_E], depth: int = 6) -> _E | None:
    """The error of a kind that another one wraps: botocore and urllib3 keep it in many places."""
    if isinstance(error, kind):
        return error
    if not isinstance(error, BaseException) or not depth:
        return None
    inner = [error.__cause__, error.__context__, getattr(error, "reason", None), *error.args]
    inner.append((getattr(error, "kwargs", None) or {}).get("error"))
    for one in inner:
        if (found := _within(one, kind, depth - 1)) is not None:
            return found
    return None


def _line(error: Exception) -> str:
    return _on_one_line(str(error))[:500] or type(error).__name__


def _on_one_line(text: str) -> str:
    return scrubbed(" ".join(text.split()))
