"""The archive of a relay's events.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreateArchive.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import AwsRefused
from ddbrelay.infra.calls import ALREADY_EXISTS, NOT_FOUND, attempt, call, wait_for
from ddbrelay.infra.names import archive_name
from ddbrelay.infra.plan import Found, Place, Wanted

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws


class Archive:
    """The archive of the relay's events. It takes no tags: its description marks it as ours."""

    kind = "archive"

    def __init__(self, aws: Aws, wanted: Wanted) -> None:
        self.name = archive_name(wanted.table)
        self._wanted = wanted
        self._events = aws.client("events")

    def planned(self) -> str:
        """What a new one gets."""
        return f"events kept {_days(self._wanted.archive_days)}"

    def inspect(self) -> Found | None:
        """The archive as it is; names of archives are unique in account and region."""
        archive = self._describe()
        if archive is None:
            return None
        arn = str(archive["ArchiveArn"])
        source = str(archive["EventSourceArn"])
        differences = []
        days = int(archive.get("RetentionDays") or 0)
        if days != self._wanted.archive_days:
            differences.append(
                f"events kept {_days(days)}, wanted {_days(self._wanted.archive_days)}"
            )
        pattern = json.loads(archive.get("EventPattern") or "null")
        if pattern != self._wanted.pattern:
            differences.append(
                f"pattern {json.dumps(pattern)}, wanted {json.dumps(self._wanted.pattern)}"
            )
        bus = Place.of(arn).bus(self._wanted.bus)
        return Found(
            arn=arn,
            detail=f"events kept {_days(days)}",
            differences=tuple(differences),
            fixed=() if source == bus else (f"archives {source}, wanted {bus}",),
            advice="an archive stays with its bus: delete it, or leave out --archive-days",
        )

    def create(self, place: Place | None) -> bool:
        """Create it; False when it already exists."""
        assert place is not None
        made = attempt(
            self._events,
            "create_archive",
            f"create the archive {self.name}",
            ALREADY_EXISTS,
            ArchiveName=self.name,
            EventSourceArn=place.bus(self._wanted.bus),
            Description=archive_mark(self._wanted.table),
            EventPattern=json.dumps(self._wanted.pattern),
            RetentionDays=self._wanted.archive_days,
        )
        return made is not None

    def change(self, found: Found, timeout: float) -> str:
        """Set retention and pattern; what was done."""
        archive = wait_for(self._describe, f"the archive {self.name}", timeout)
        description = archive.get("Description")
        call(
            self._events,
            "update_archive",
            f"update the archive {self.name}",
            ArchiveName=self.name,
            EventPattern=json.dumps(self._wanted.pattern),
            RetentionDays=self._wanted.archive_days,
            **({"Description": description} if description else {}),
        )
        return f"now {self.planned()}"

    def ready(self, timeout: float) -> Found:
        """Wait until it takes events."""

        def look() -> Found | None:
            archive = self._describe()
            state = (archive or {}).get("State")
            if archive and str(state).endswith("_FAILED"):
                reason = archive.get("StateReason") or "AWS gives no reason"
                raise AwsRefused(f"the archive {self.name} is {state}: {reason}")
            return self.inspect() if state in {"ENABLED", "DISABLED"} else None

        return wait_for(look, f"the archive {self.name}", timeout)

    def _describe(self) -> dict[str, Any] | None:
        return attempt(
            self._events,
            "describe_archive",
            f"describe the archive {self.name}",
            NOT_FOUND,
            ArchiveName=self.name,
        )


def archive_mark(table: str) -> str:
    """The description by which teardown knows an archive of ours."""
    return f"managed by ddbrelay for table {table}"


def _days(days: int | None) -> str:
    return f"{days} days" if days else "without an end"
