"""An event that no request can hold -> a small event that says where its detail lies (claim check).

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html advises it: the detail
goes to S3, the event carries the way there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.flow.mapping import Event

KEY = "claimCheck"
"""The one name in the detail of an event whose real detail lies in S3."""
MAX_OBJECT_KEY = 1024
"""Bytes of an object's key in S3."""
_CHUNK = 64 * 1024
_EVENT_ID = 128
_DIGITS = 16
_SUFFIX = ".json"
_ADDRESS = re.compile(r"s3://([^/]+)(?:/(.*))?", re.DOTALL)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Claim:
    """A detail, or another JSON text, that goes to S3 before what refers to it is sent."""

    bucket: str
    key: str
    body: bytes
    sha256: str

    @property
    def reference(self) -> Reference:
        """What is sent in its stead."""
        return Reference(self.bucket, self.key, len(self.body), self.sha256)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a detail lies, how many bytes it has, and their SHA-256 in hexadecimal digits."""

    bucket: str
    key: str
    size: int
    sha256: str

    @property
    def url(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    def as_object(self) -> dict[str, Any]:
        """What stands behind `claimCheck`."""
        return {
            "bucket": self.bucket,
            "key": self.key,
            "size": self.size,
            "sha256": self.sha256,
        }


def place_of(address: str) -> tuple[str, str]:
    """The bucket, and what every key there begins with, of `s3://bucket/prefix`.

    ValueError for an address that is none, or under which no object can be found again.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not _BUCKET.fullmatch(match[1]):
        raise ValueError(f"{address!r} is not an address such as s3://bucket/prefix")
    folder = (match[2] or "").strip("/")
    prefix = f"{folder}/" if folder else ""
    longest = MAX_OBJECT_KEY - _EVENT_ID - len("-") - _DIGITS - len(_SUFFIX)
    if len(prefix.encode()) > longest:
        raise ValueError(f"the prefix of {address[:80]!r}… is longer than {longest} bytes")
    if not _plain(folder):
        raise ValueError(f"{address!r} has a part that is only dots, which no path may have")
    return match[1], prefix


def offload(event: Event, address: str, event_id: str) -> tuple[Event, Claim]:
    """The event with a reference as its detail, and what must be in S3 before it is sent.

    `address` is `s3://bucket/prefix`, `event_id` the stable id of the record. The same event always
    goes to the same object, and no two details ever to one. All but the detail stays as it is, so
    it is small wherever the resources are. ValueError for an address that `place_of` refuses.
    """
    claim = claim_for(event.detail, address, event_id)
    detail = msgspec.json.encode({KEY: claim.reference.as_object()})
    return msgspec.structs.replace(event, detail=detail), claim


def claim_for(body: bytes, address: str, event_id: str) -> Claim:
    """The object of a JSON text under `address`, named after its record and its content."""
    bucket, prefix = place_of(address)
    digest = hashlib.sha256(body).hexdigest()
    stem = _UNSAFE.sub("-", event_id)[:_EVENT_ID]
    return Claim(bucket, f"{prefix}{stem}-{digest[:_DIGITS]}{_SUFFIX}", body, digest)


def claim_of(detail: Any) -> Reference | None:
    """The reference that a decoded detail is, None for a detail of any other form.

    Nothing but the exact form counts: an event of somebody else may have a field of that name.
    """
    if not isinstance(detail, dict) or detail.keys() != {KEY}:
        return None
    claim = detail[KEY]
    if not isinstance(claim, dict) or claim.keys() != {"bucket", "key", "size", "sha256"}:
        return None
    bucket, key, size, sha256 = (claim[name] for name in ("bucket", "key", "size", "sha256"))
    if not (isinstance(bucket, str) and _BUCKET.fullmatch(bucket)):
        return None
    if not (isinstance(key, str) and _is_key(key)):
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        return None
    return Reference(bucket, key, size, sha256)


def restore(envelope: str, detail: bytes) -> str:
    """An event as EventBridge delivers it, a JSON object, with this detail; every digit is kept.

    ValueError when the envelope or the detail is not a JSON object.
    """
    try:
        parts = msgspec.json.decode(envelope, type=dict[str, msgspec.Raw])
        msgspec.json.decode(detail, type=dict[str, msgspec.Raw])
        parts["detail"] = msgspec.Raw(detail)
        return msgspec.json.encode(parts).decode()
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a JSON object: {error}") from None


def billed_chunks(size: int) -> int:
    """As how many events an entry of so many bytes is billed: each 64 KB begun counts as one.

    https://aws.amazon.com/eventbridge/pricing/ says it of the payload and leaves open whether more
    than the detail belongs to that; `Event.size` makes the estimate the higher of the two.
    """
    return max(1, -(-size // _CHUNK))


def _is_key(key: str) -> bool:
    try:
        return 1 <= len(key.encode()) <= MAX_OBJECT_KEY and _plain(key)
    except UnicodeEncodeError:
        return False


def _plain(path: str) -> bool:
    # HTTP clients take such parts out of a path, and the request then goes to another object.
    return not any(part in {".", ".."} for part in path.split("/"))
