"""Claim checks in S3: written before their events are published, and read by who receives these.

S3: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html and API_GetObject.html.
Encryption and expiry of the objects are the bucket's own settings.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from botocore import exceptions as boto

from ddbrelay.aws.errors import THROTTLED, code_of, translate, translated, without_frames
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.flow.offloading import Claim, Reference, place_of
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import Receipt, Sink

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

    from ddbrelay.aws.session import Aws

AT_ONCE = 8
"""Objects written at the same time, at most."""
MAX_FETCHED = 64 * 1024 * 1024
"""Bytes of a detail that `fetch` reads; the largest item of DynamoDB makes a few million."""
_PATIENCE = 5
"""Seconds without a byte; a thread that waits longer would hold up the end of a stopped run."""
_AGAIN = THROTTLED | {
    "BadDigest",
    "OperationAborted",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_MISSING = frozenset({"404", "NoSuchBucket"})
_DENIED = "403"


class NotWrittenError(Exception):
    """S3 did not take an object, or did not say so; it may a little later."""


class ClaimWriter(Protocol):
    """Where details go."""

    async def write(self, claim: Claim) -> None:
        """Return once the object is durable, whole.

        Raises NotWrittenError when that may succeed a little later, DdbrelayError when it cannot.
        """


class ClaimChecks:
    """A `ClaimWriter`: objects under `s3://bucket/prefix`, eight at once.

    S3 checks each against its SHA-256, and nothing is retried inside. Raises ConfigError for an
    address under which nothing can be kept, and what `Aws.client` does.
    """

    def __init__(self, aws: Aws, address: str) -> None:
        try:
            self._bucket, _ = place_of(address)
        except ValueError as error:
            raise ConfigError(str(error), "--claim-check s3://bucket/prefix") from None
        # Not the session's own: the engine paces the retries, and waits for no stalled bucket.
        self._client: S3Client = aws.new_client(
            "s3",
            connect_timeout=_PATIENCE,
            read_timeout=_PATIENCE,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=AT_ONCE,
        )
        self._where = aws.where
        # A slow bucket must not take the threads that the loop needs for other things.
        self._threads = ThreadPoolExecutor(AT_ONCE, "ddbrelay-claims")

    async def check(self, trouble: Callable[[str], None]) -> None:
        """Ask whether the bucket is there (s3:ListBucket); AwsRefused when it is not, or no answer.

        `trouble` hears of an answer that says nothing of writing: who may not ask may still write.
        """
        loop = asyncio.get_running_loop()
        if doubt := await loop.run_in_executor(self._threads, self._head):
            trouble(doubt)

    async def write(self, claim: Claim) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._put, claim)

    def _head(self) -> str | None:
        """What is doubtful of the bucket, None when it is there."""
        doing = f'look at bucket "{self._bucket}" for claim checks (s3:ListBucket)'
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except boto.ClientError as error:
            code, status = code_of(error), _status(error)
            if code in _MISSING:
                raise self._missing(code) from error
            if code != _DENIED and code not in _AGAIN and status < 500:
                raise translate(error, doing) from error
            said = "not allowed" if code == _DENIED else f"S3 answers {code}"
            return f"cannot {doing}: {said}; going on, writing may succeed"
        except boto.BotoCoreError as error:
            raise translate(error, doing) from error
        return None

    def _put(self, claim: Claim) -> None:
        doing = f'write a claim check to bucket "{claim.bucket}" (s3:PutObject)'
        try:
            self._client.put_object(
                Bucket=claim.bucket,
                Key=claim.key,
                Body=claim.body,
                ContentType="application/json",
                ChecksumSHA256=base64.b64encode(bytes.fromhex(claim.sha256)).decode(),
            )
        except boto.ClientError as error:
            code = code_of(error)
            if code in _MISSING:
                raise self._missing(code) from error
            if code in _AGAIN or _status(error) >= 500:
                raise NotWrittenError(f"S3 answers {code}, to {doing}") from without_frames(error)
            raise translate(error, doing) from error
        except boto.SSLError as error:
            # A certificate that does not match today does not match a second later.
            raise translate(error, doing) from error
        except (boto.HTTPClientError, boto.ConnectionError) as error:
            raise NotWrittenError(translate(error, doing).message) from without_frames(error)
        except boto.BotoCoreError as error:
            raise translate(error, doing) from error

    def _missing(self, code: str | None) -> AwsRefused:
        return AwsRefused(
            f'bucket "{self._bucket}" for claim checks does not exist ({self._where})',
            f"aws s3 mb s3://{self._bucket}, or another --claim-check",
            code=code,
        )


class ClaimingSink:
    """A `Sink` before another one: no event goes on before the object that it refers to is durable.

    An item whose object could not be written stands in `retry`, the others of its request go on. An
    object that was written is not written again when its event is. `puts` counts those written.
    """

    def __init__(self, inner: Sink, claims: ClaimWriter) -> None:
        self._inner, self._claims = inner, claims
        self._written: set[str] = set()
        self.puts = 0

    async def send(self, items: Sequence[Item]) -> Receipt:
        failed = await self._write(items)
        ready = [item for number, item in enumerate(items) if number not in failed]
        receipt = await self._inner.send(ready) if ready else Receipt()
        receipt.retry += [(items[number], said) for number, said in failed.items()]
        if self._written:
            settled = (item for item, _ in (*receipt.accepted, *receipt.rejected))
            self._written.difference_update(item.claim.key for item in settled if item.claim)
        return receipt

    async def _write(self, items: Sequence[Item]) -> dict[int, str]:
        """Why items cannot go on yet, by their place in the request."""
        waiting = [
            (number, item.claim)
            for number, item in enumerate(items)
            if item.claim is not None and item.claim.key not in self._written
        ]
        if not waiting:
            return {}
        ends = await asyncio.gather(
            *(self._claims.write(claim) for _, claim in waiting), return_exceptions=True
        )
        failed: dict[int, str] = {}
        refused: BaseException | None = None
        for (number, claim), end in zip(waiting, ends, strict=True):
            if end is None:
                self._written.add(claim.key)
                self.puts += 1
            elif isinstance(end, NotWrittenError):
                failed[number] = str(end)
            else:
                refused = refused or end
        if refused is not None:
            raise refused
        return failed


def fetch(aws: Aws, reference: Reference) -> bytes:
    """The detail that a reference stands for, of the size and the SHA-256 that it says.

    Raises AwsRefused when S3 does not give it, DdbrelayError when it is not what was written.
    """
    if reference.size > MAX_FETCHED:
        raise DdbrelayError(
            f"{reference.url} would be {reference.size:,} bytes, more than {MAX_FETCHED:,}"
        )
    with translated(f"read the claim check {reference.url} (s3:GetObject)"):
        answer = aws.client("s3").get_object(Bucket=reference.bucket, Key=reference.key)
        body = answer["Body"]
        try:
            found = int(answer["ContentLength"])
            content: bytes = body.read() if found == reference.size else b""
        finally:
            body.close()
    if found != reference.size:
        raise DdbrelayError(
            f"{reference.url} has {found:,} bytes, the event says {reference.size:,}"
        )
    if hashlib.sha256(content).hexdigest() != reference.sha256:
        raise DdbrelayError(f"{reference.url} has another SHA-256 than the event says")
    return content


def _status(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
