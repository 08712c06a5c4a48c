"""What a check found, and what it was asked about."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ddbrelay.infra.plan import VIEW_TYPES
from ddbrelay.logs import without_password

if TYPE_CHECKING:
    from ddbrelay.checkup.table import Table
    from ddbrelay.config import Config, Settings

NO_DETAILS = "cannot be checked here"
"""Begins what is said of a call that an endpoint does not know, as emulators do not know all."""


class Level(Enum):
    """How bad a finding is: OK is as it should be, NOTE is worth knowing, ERROR stops the relay."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    `what` is one line without a full stop, `why` says what comes of it, `mend` is the command to
    type, or words where there is none.
    """

    area: str
    check: str
    level: Level
    what: str
    why: str | None = None
    mend: str | None = None


@dataclass(frozen=True)
class Area:
    """Makes the findings of one area."""

    name: str

    def ok(self, check: str, what: str) -> Finding:
        """All is as it should be."""
        return Finding(self.name, check, Level.OK, what)

    def note(
        self, check: str, what: str, why: str | None = None, mend: str | None = None
    ) -> Finding:
        """Worth knowing, and no fault."""
        return Finding(self.name, check, Level.NOTE, what, why, mend)

    def warning(self, check: str, what: str, why: str, mend: str | None = None) -> Finding:
        """The relay works, and something is not as somebody meant it."""
        return Finding(self.name, check, Level.WARNING, what, why, mend)

    def error(self, check: str, what: str, why: str, mend: str | None = None) -> Finding:
        """The relay does not start, does not deliver, or loses records."""
        return Finding(self.name, check, Level.ERROR, what, why, mend)


@dataclass(frozen=True)
class Subject:
    """What the doctor looks at: one configuration of one table.

    `again` makes a command of ours as it must be typed to work in the same place, `now` is the time
    of the look in epoch seconds. `region` and `endpoint_url` are those in force, `local` says that
    it is the embedded AWS, `emulated` that the calls go to some address on this machine. `seen` is
    the table, None where there is none or it was not looked at yet.
    """

    config: Config
    table: str
    again: Callable[[str], str]
    now: float
    region: str
    endpoint_url: str | None = None
    local: bool = False
    emulated: bool = False
    seen: Table | None = None

    @property
    def settings(self) -> Settings:
        return self.config.settings

    @property
    def bus(self) -> str:
        """The bus of the run."""
        return self.settings.bus_name or f"{self.table}-bus"

    def aws_cli(self, words: str) -> str:
        """A command of the AWS CLI that works in the same place."""
        # What settings do not name, the AWS CLI finds as we did; --local is known to us alone.
        region = self.settings.region or (self.region if self.local else None)
        address = None if self.endpoint_url is None else without_password(self.endpoint_url)
        given = [("--profile", None if self.local else self.settings.profile)]
        given += [("--region", region), ("--endpoint-url", address)]
        options = [part for name, value in given if value for part in (name, value)]
        return " ".join(["aws", *map(shlex.quote, options), words])

    def create_queue(self, name: str) -> str:
        """The command that makes a queue; a FIFO queue wants its name and the attribute."""
        fifo = " --attributes FifoQueue=true" if name.endswith(".fifo") else ""
        return self.aws_cli(f"sqs create-queue --queue-name {shlex.quote(name)}{fifo}")

    def provision(self, *, view_type: str | None = None, apply: bool = False) -> str:
        """The command that sets up what stands around the table, and corrects what differs.

        A table that is there is left as it is but for its stream: what provision would want
        otherwise of its keys and of the stream's view type is said.
        """
        words = ["provision"]
        if self.seen is not None:
            words += self.seen.key_flags
            has = self.seen.view_type if self.seen.enabled else None
            view_type = view_type or (None if has == VIEW_TYPES[0] else has)
        if view_type is not None:
            words += ["--view-type", view_type]
        # Whatever differs beside what is missing, provision would refuse all of it.
        if apply or self.seen is not None:
            words.append("--apply-changes")
        return self.again(shlex.join(words))


def counts(findings: Iterable[Finding]) -> dict[Level, int]:
    """How many findings there are of each level."""
    found = Counter(finding.level for finding in findings)
    return {level: found[level] for level in Level}


def kilobytes(size: int) -> str:
    """`812 bytes`, `64 KB`, `1.3 MB`."""
    if size < 1024:
        return f"{size} bytes"
    if size < 1024 * 1024:
        return f"{size / 1024:.0f} KB" if size >= 10 * 1024 else f"{size / 1024:.1f} KB"
    return f"{size / 1024 / 1024:.1f} MB"


def hours(seconds: float) -> str:
    """`12 min`, `5.5 h`, `3 days`."""
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
