"""Request -> Receipt: what the bus took, what to send again and when, what it will never take.

Codes: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ddbrelay.flow.packing import Item

FINAL_CODES = frozenset(
    {
        "AccessDeniedException",
        "InvalidAccountIdException",
        "InvalidArgument",
        "MalformedDetail",
        "NotAuthorizedForDetailTypeException",
        "NotAuthorizedForSourceException",
        "RedactionFailure",
    }
)
"""Codes of an entry that sending again cannot mend."""
THROTTLED_CODES = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Codes of an entry that was refused because there are too many of them."""
RETRYABLE_CODES = THROTTLED_CODES | {
    "InternalException",
    "InternalFailure",
    "InternalServerError",
    "InternalServiceException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
}
"""Codes of an entry that may be taken the next time, tried again for as long as it takes."""
DENIED_CODES = frozenset({"AccessDeniedException", "InvalidAccountIdException"})
"""Final codes that say nothing about the event: the bus takes none from us."""


@dataclass(slots=True)
class Receipt:
    """What became of each item of a request; every item stands in exactly one of the lists."""

    accepted: list[tuple[Item, str]] = field(default_factory=list)
    """With the id that the bus gave the event."""
    retry: list[tuple[Item, str]] = field(default_factory=list)
    """With the code, or what went wrong on the way."""
    unknown: list[tuple[Item, str]] = field(default_factory=list)
    """Refused for a reason that may pass or stay, with it: tried again, but not for ever."""
    rejected: list[tuple[Item, str]] = field(default_factory=list)
    """With the reason."""
    crowded: bool = False
    """The endpoint is not up to so many requests: it throttled, failed, or did not answer."""
    held: str | None = None
    """Why no request can succeed before something outside is mended; all items are in `retry`."""


class Sink(Protocol):
    """Where events go.

    One call is one request; calls may run at the same time, for different item keys. An answer that
    was lost counts as `retry`: the bus may then have the event twice, never not at all. Nothing is
    retried inside, and nothing is buffered: what `send` returned is final. A DdbrelayError means
    that the run cannot go on (credentials, permissions); nothing was accepted.
    """

    async def send(self, items: Sequence[Item]) -> Receipt:
        """Send at most ten items, together below 1 MB."""


class EntryResult(msgspec.Struct, frozen=True, gc=False):
    """One entry of the answer of PutEvents: an event id, or an error code and its message."""

    event_id: str | None = msgspec.field(name="EventId", default=None)
    code: str | None = msgspec.field(name="ErrorCode", default=None)
    message: str | None = msgspec.field(name="ErrorMessage", default=None)


def receipt_of(items: Sequence[Item], results: Sequence[EntryResult]) -> Receipt:
    """Pair the items of a request with the results, which stand in the same order."""
    receipt = Receipt()
    for item, result in zip(items, results, strict=True):
        if result.event_id is not None and result.code is None:
            receipt.accepted.append((item, result.event_id))
        elif result.code in FINAL_CODES:
            receipt.rejected.append((item, _reason(result)))
        elif result.code is None or result.code in RETRYABLE_CODES:
            receipt.retry.append((item, _reason(result)))
            receipt.crowded = receipt.crowded or result.code in THROTTLED_CODES
        else:
            receipt.unknown.append((item, _reason(result)))
    return receipt


def _reason(result: EntryResult) -> str:
    """The code and AWS's words for it, on one line."""
    words = " ".join((result.message or "").split())
    return f"{result.code or 'no result'}: {words}" if words else result.code or "no result"


def retry_delay(attempt: int, rng: random.Random, base: float = 0.1, cap: float = 20.0) -> float:
    """Seconds before the next try after `attempt` failures: exponential with full jitter.

    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
    """
    return rng.uniform(0.0, min(cap, base * 2.0 ** min(attempt, 30)))
