"""The table, its stream, and what they must be like for the mapping."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ddbrelay.arns import account_in
from ddbrelay.aws.table import describe_table
from ddbrelay.checkup.asking import Answer, asked, refused
from ddbrelay.checkup.findings import Area, Finding, Subject
from ddbrelay.errors import ConfigError
from ddbrelay.infra.calls import call
from ddbrelay.infra.mapped_keys import key_note
from ddbrelay.infra.plan import Key, Wanted
from ddbrelay.mappings import check_redaction, tidying_of
from ddbrelay.view_types import Harm, Lack, Need, lacks, needs_of

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.flow.mapping.rules import Rule

AREA = Area("table")
_USABLE = frozenset({"ACTIVE", "UPDATING"})
_TTL_ON = frozenset({"ENABLED", "ENABLING"})
_BOTH = "NEW_AND_OLD_IMAGES"
_OF_MOTO = "123456789012"
"""The account of everything on moto, whose tables get no stream after one was turned off."""


@dataclass(frozen=True)
class Table:
    """What DescribeTable says, as far as it matters; `stream_arn` is that of the latest stream."""

    name: str
    arn: str
    status: str
    stream_arn: str | None
    enabled: bool
    view_type: str | None
    keys: tuple[Key, ...]

    @classmethod
    def of(cls, said: dict[str, Any]) -> Table:
        """From the `Table` of an answer."""
        types = {one["AttributeName"]: one["AttributeType"] for one in said["AttributeDefinitions"]}
        stream = said.get("StreamSpecification") or {}
        return cls(
            str(said["TableName"]),
            str(said["TableArn"]),
            str(said.get("TableStatus", "ACTIVE")),
            said.get("LatestStreamArn") or None,
            bool(stream.get("StreamEnabled")),
            stream.get("StreamViewType"),
            tuple(
                Key(one["AttributeName"], types.get(one["AttributeName"], "S"))
                for one in said["KeySchema"]
            ),
        )

    @property
    def account(self) -> str:
        """The account that has the table."""
        return account_in(self.arn)

    @property
    def key_flags(self) -> list[str]:
        """What provision must be told of the keys to find them as it wants them."""
        if self.keys == (Wanted.key,):
            return []
        flags = zip(("--key", "--sort-key"), self.keys, strict=False)
        return [part for flag, key in flags for part in (flag, str(key))]

    @property
    def unchangeable(self) -> bool:
        """Whether an emulator serves the table that gives it no second stream."""
        return self.account == _OF_MOTO and self.stream_arn is not None

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys)


def look(aws: Aws, table: str) -> Answer[Table]:
    """The table; a refusal where there is none."""
    return asked(lambda: Table.of(describe_table(aws, table)), f"describe the table {table}")


def is_missing(table: Answer[Table]) -> bool:
    """Whether AWS says that there is no such table."""
    return table.code == "ResourceNotFoundException"


def look_at_ttl(aws: Aws, table: str) -> Answer[str | None]:
    """The attribute by which items expire, None where they do not.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DescribeTimeToLive.html
    """

    doing = f"look at the TTL of the table {table}"

    def ask() -> str | None:
        said = call(
            aws.client("dynamodb"), "describe_time_to_live", doing, TableName=aws.address_of(table)
        )
        found = said.get("TimeToLiveDescription", {})
        on = found.get("TimeToLiveStatus") in _TTL_ON
        return str(found["AttributeName"]) if on else None

    return asked(ask, doing)


def judge(
    subject: Subject, table: Answer[Table], ttl: Answer[str | None], rules: Sequence[Rule]
) -> list[Finding]:
    """Whether the table can be followed, and carries what the mapping needs."""
    if table.value is None:
        refusal = table.refusal
        if is_missing(table) and refusal is not None:
            make = subject.provision()
            return [AREA.error("table", refusal.message, "there is nothing to follow", make)]
        return [refused(AREA, "table", table, emulated=subject.emulated, needed=True)]
    seen = table.value
    return [
        _status(seen),
        *_stream(subject, seen, needs_of(subject.config, rules)),
        *_keys(subject, seen, rules),
        *_ttl(subject, ttl),
    ]


def _status(seen: Table) -> Finding:
    if seen.status in _USABLE:
        return AREA.ok("table", f"table {seen.name} is {seen.status}, account {seen.account}")
    if seen.status == "CREATING":
        why = "its stream can be read once it is active"
        return AREA.warning("table", f"{seen.name} is being created", why, "wait a minute")
    why = "its stream can be read for 24 hours at most, and nothing new comes"
    return AREA.error("table", f"{seen.name} is {seen.status}", why)


def _stream(subject: Subject, seen: Table, needs: Sequence[Need]) -> list[Finding]:
    if not seen.enabled:
        old = "" if seen.stream_arn is None else "; what the old one holds can be read for 24 h"
        why = f"no change of the table is recorded{old}"
        turn_on = _with_stream(subject, seen, None)
        return [AREA.error("stream", f"the stream of {seen.name} is off", why, turn_on)]
    view = seen.view_type or "unknown"
    missing = lacks(needs, view)
    found = [AREA.ok("stream", f"its stream is on since {str(seen.stream_arn).rpartition('/')[2]}")]
    if not missing:
        reads = "a function of your own sees the images that there are"
        mapped = "all that the mapping reads" if subject.settings.mapper is None else reads
        return [*found, AREA.ok("view-type", f"{view}: {mapped}")]
    mend = _with_stream(subject, seen, _BOTH)
    return [*found, *(_missing(lack, mend) for lack in missing)]


def _with_stream(subject: Subject, seen: Table, view_type: str | None) -> str:
    """How the table comes to a stream of this view type, of the default one for None."""
    if not (subject.emulated and seen.unchangeable):
        return subject.provision(view_type=view_type, apply=True)
    remove, make = subject.again("teardown"), replace(subject, seen=None).provision()
    flags = shlex.join(seen.key_flags)
    return (
        "moto cannot give a table a second stream: make it anew, its items are gone then, with "
        f"{remove} and {make}{f' {flags}' if flags else ''}"
    )


def _missing(lack: Lack, mend: str) -> Finding:
    if lack.harm in {Harm.EMPTY, Harm.ONLY_KEYS}:
        return AREA.warning("view-type", lack.words, lack.harm.value, mend)
    return AREA.error("view-type", lack.words, lack.harm.value, mend)


def _keys(subject: Subject, seen: Table, rules: Sequence[Rule]) -> list[Finding]:
    found = []
    if note := key_note(subject.config, rules, seen.keys, new=False):
        why = "a pattern on an attribute that is not there never matches, and a hole parks"
        found.append(AREA.warning("keys", note, why, "correct keys.… in ddbrelay.toml"))
    try:
        check_redaction(subject.config, seen.key_names)
    except ConfigError as error:
        found.append(AREA.error("redaction", error.message, "tail refuses to start", error.hint))
    return found


def _ttl(subject: Subject, ttl: Answer[str | None]) -> list[Finding]:
    tidying = tidying_of(subject.config)
    wanted = None if tidying is None else tidying.attribute
    if wanted is None:
        return []
    if ttl.refusal is not None:
        return [refused(AREA, "ttl", ttl, emulated=subject.emulated)]
    if ttl.value == wanted:
        return [AREA.ok("ttl", f"relayed items expire by {wanted}")]
    why = f"items of the outbox that were relayed get {wanted}, and stay for ever"
    if ttl.value is None:
        mend = subject.provision(apply=True)
        return [AREA.warning("ttl", "Time to Live is off", why, mend)]
    words = f"Time to Live is on for {ttl.value}, not {wanted}"
    return [AREA.warning("ttl", words, why, f'ttl_attribute = "{ttl.value}" below [outbox]')]
