"""Asking AWS without waiting long, and what it means when there is no answer.

A call that is refused is an answer too: it becomes a finding, and the other checks go on.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from ddbrelay.aws.errors import BAD_CREDENTIALS, CREDENTIALS_HINT, DENIED, THROTTLED, translate
from ddbrelay.aws.session import Aws
from ddbrelay.aws.transport import epoch_of_date
from ddbrelay.checkup.findings import NO_DETAILS, Area, Finding, Level
from ddbrelay.errors import AwsRefused, DdbrelayError

if TYPE_CHECKING:
    from ddbrelay.config import Settings

T = TypeVar("T")
_UNKNOWN_CALL = frozenset(
    {
        "404",
        "405",
        "501",
        "InvalidAction",
        "NotImplemented",
        "UnknownOperation",
        "UnknownOperationException",
        "UnsupportedOperation",
        "UnsupportedOperationException",
    }
)
"""What endpoints answer that do not know a call."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a question came to: a value, or why there is none."""

    value: T | None = None
    refusal: DdbrelayError | None = None

    @property
    def code(self) -> str | None:
        """AWS's error code, where it gave one."""
        return self.refusal.code if isinstance(self.refusal, AwsRefused) else None

    @property
    def denied(self) -> bool:
        """Whether a permission is missing."""
        return self.code in DENIED

    @property
    def bad_credentials(self) -> bool:
        """Whether AWS does not accept who asks."""
        return self.code in BAD_CREDENTIALS


def asked(question: Callable[[], T], doing: str) -> Answer[T]:
    """The answer, whatever AWS says: none of the questions may stop the others.

    `doing` is such as "list the rules", for what comes back unreadable.
    """
    try:
        return Answer(question())
    except DdbrelayError as refusal:
        return Answer(refusal=refusal)
    except (BotoCoreError, ClientError) as error:
        return Answer(refusal=translate(error, doing))
    except (LookupError, ResponseParserError, TypeError, ValueError) as error:
        # Emulators leave out fields that AWS always gives, and answer in HTML.
        said = f"{doing}: the answer is not one of AWS's ({type(error).__name__})"
        return Answer(refusal=AwsRefused(said))


def refused(
    area: Area, check: str, answer: Answer[Any], *, emulated: bool, needed: bool = False
) -> Finding:
    """The finding for a question that was refused.

    `needed`: the relay makes this call itself, and would be refused too, whoever answers. An
    endpoint that is `emulated` may not know another call, or break over it, and that says nothing
    about AWS.
    """
    refusal = answer.refusal
    assert refusal is not None
    if answer.bad_credentials:
        # A hint of several words that begins as a command is none.
        hint = CREDENTIALS_HINT if (refusal.hint or "").startswith("aws ") else refusal.hint
        return area.error(check, refusal.message, "no call to AWS succeeds", hint)
    if answer.code in THROTTLED:
        return area.note(check, refusal.message, "AWS is asked too often just now: try again")
    if needed:
        return area.error(check, refusal.message, "the relay makes the same call", refusal.hint)
    if answer.code in _UNKNOWN_CALL or (emulated and not answer.denied):
        return area.note(check, f"{NO_DETAILS}: {refusal.message}")
    level = Level.NOTE if answer.denied else Level.WARNING
    why = "this could not be looked at; the relay itself does not need it"
    return Finding(area.name, check, level, refusal.message, why, refusal.hint)


@dataclass
class Clock:
    """How far the clock of this machine is from that of AWS, by the Date of its answers."""

    now: Callable[[], float] = time.time
    differences: list[float] = field(default_factory=list)

    def heard(self, http_response: Any, **_: Any) -> None:
        """An answer came, of whatever status; for botocore's event `after-call`."""
        date = getattr(http_response, "headers", {}).get("date")
        if (at := epoch_of_date(date)) is not None:
            self.differences.append(self.now() - at)

    @property
    def ahead(self) -> float | None:
        """Seconds by which this machine is ahead; the answer that came fastest tells best."""
        return min(self.differences, key=abs) if self.differences else None


class QuickAws(Aws):
    """Clients that give up within seconds, may be asked for in threads, and tell the time."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.clock = Clock()
        self._making = threading.Lock()

    def client(self, service: str) -> Any:
        # Sessions of boto3 are not thread-safe, its clients are.
        with self._making:
            if service not in self._clients:
                client = self.new_client(
                    service,
                    connect_timeout=3,
                    read_timeout=10,
                    retries={"mode": "standard", "total_max_attempts": 2},
                )
                client.meta.events.register("after-call", self.clock.heard)
                self._clients[service] = client
            return self._clients[service]

    def apart(self) -> QuickAws:
        """The same with clients of its own: two transports must not share one while they open."""
        other = copy.copy(self)
        other._clients = {}
        return other
