"""What provision is asked for, what it finds, and what it says about each thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ddbrelay.errors import ConfigError

if TYPE_CHECKING:
    from ddbrelay.config import Settings

MANAGED_BY = "ddbrelay:managed-by"
FOR_TABLE = "ddbrelay:table"
VIEW_TYPES = ("NEW_AND_OLD_IMAGES", "NEW_IMAGE", "OLD_IMAGE", "KEYS_ONLY")
ARN_PREFIX = "arn:"
DEFAULT_BUS = "default"
"""Every account has this bus; nobody creates or deletes it."""

PARTNER_PREFIX = "aws.partner/"

State = Literal[
    "created", "exists", "differs", "updated", "would-create", "would-update",
    "deleted", "left", "would-delete",
]  # fmt: skip


@dataclass(frozen=True)
class Key:
    """An attribute of a table's key; `type` is S, N or B."""

    name: str
    type: str = "S"

    @classmethod
    def parse(cls, text: str) -> Key:
        """`id` (a string), `id:S`, `at:N` or `hash:B`; ConfigError for anything else."""
        name, colon, kind = text.rpartition(":")
        key = cls(name, kind) if colon else cls(text)
        if not key.name or key.type not in {"S", "N", "B"} or len(key.name.encode()) > 255:
            raise ConfigError(f'"{text}" is not a key', "a name with a type: id, id:S, at:N, raw:B")
        return key

    def __str__(self) -> str:
        return f"{self.name}:{self.type}"


def refuse_table_arn(settings: Settings, command: str) -> None:
    """ConfigError where the table was given by its ARN, for a command that makes or deletes."""
    if settings.table_arn is not None:
        raise ConfigError(
            f"{command} works in the account of the credentials, and takes no ARN: "
            f"{settings.table_arn}",
            f"--table {settings.table}, with credentials of the account that has it",
        )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What should stand: `archive_days` is None for no archive and 0 for one without an end.

    `other_buses` are names of buses that rules of the mapping publish to; nothing stands behind
    them. `ttl_attribute` is the attribute by which the table's items expire, None for no matter.

    Raises ConfigError for what AWS would refuse: the patterns are those of the `TableName` shape
    of the `dynamodb` model and of `EventBusName` in the `events` model; `source` as in (and further
    ones beside it, as an event pattern has them)
    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
    """

    table: str
    bus: str
    source: str
    key: Key = Key("id")
    sort_key: Key | None = None
    view_type: str = VIEW_TYPES[0]
    archive_days: int | None = None
    other_sources: tuple[Any, ...] = ()
    other_buses: tuple[str, ...] = ()
    ttl_attribute: str | None = None

    def __post_init__(self) -> None:
        # Imported here: the help of provision needs this module, and neither boto3 nor msgspec.
        from ddbrelay.aws.table import check_name
        from ddbrelay.flow.mapping import bad_source

        check_name(self.table)
        for option, bus in (("--bus", self.bus), *(("bus", one) for one in self.other_buses)):
            # The buses of partners alone have slashes, and nobody else can make such a one.
            plain = bus.removeprefix(PARTNER_PREFIX).replace("/", "-") if is_partner(bus) else bus
            if len(bus) > 256 or not re.fullmatch(r"[.\-_A-Za-z0-9]+", plain):
                raise ConfigError(
                    f'"{bus}" is not a name of a bus',
                    f"{option} with 1 to 256 letters, digits, dots, dashes and underscores"
                    f"{'; not an ARN' if option == '--bus' else ''}",
                )
        if bad_source(self.source):
            raise ConfigError(
                f'"{self.source}" cannot be the source of events',
                "1 to 256 characters that do not begin with aws.",
            )
        if self.view_type not in VIEW_TYPES:
            raise ConfigError(
                f'"{self.view_type}" is not a view type of a stream', ", ".join(VIEW_TYPES)
            )
        if self.sort_key is not None and self.sort_key.name == self.key.name:
            raise ConfigError(f'"{self.key.name}" cannot be partition key and sort key at once')
        if self.archive_days is not None and self.archive_days < 0:
            raise ConfigError("an archive cannot keep events for less than 0 days")

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        key: str | None = None,
        sort_key: str | None = None,
        view_type: str | None = None,
        archive_days: int | None = None,
        other_sources: Sequence[Any] = (),
        other_buses: Sequence[str] = (),
        ttl_attribute: str | None = None,
    ) -> Wanted:
        """Table, bus and source of a run; the keys as `Key.parse` reads them.

        Of the `other_buses` those that are named by an ARN are somebody else's, and left out.
        """
        if settings.table is None or settings.bus_name is None:
            raise ConfigError(
                "no table is given", "--table, DDBRELAY_TABLE, or source.table in ddbrelay.toml"
            )
        return cls(
            table=settings.table,
            bus=settings.bus_name,
            source=settings.event_source,
            key=Key.parse(key) if key is not None else cls.key,
            sort_key=Key.parse(sort_key) if sort_key is not None else None,
            view_type=view_type or cls.view_type,
            archive_days=archive_days,
            other_sources=tuple(other_sources),
            other_buses=names_among(other_buses, settings.bus_name),
            ttl_attribute=ttl_attribute,
        )

    @property
    def tags(self) -> dict[str, str]:
        """What marks a thing as ours."""
        return {MANAGED_BY: "ddbrelay", FOR_TABLE: self.table}

    @property
    def tag_list(self) -> list[dict[str, str]]:
        """The tags in the shape that DynamoDB and EventBridge take."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    @property
    def pattern(self) -> dict[str, Any]:
        """The event pattern of rule and archive."""
        return {"source": [self.source, *self.other_sources]}

    @property
    def source_text(self) -> str:
        """The sources that the rule matches, for a person."""
        return ", ".join(source_text(one) for one in self.pattern["source"])


def source_text(source: Any) -> str:
    """One alternative for the source in an event pattern, for a person."""
    if isinstance(source, str):
        return source
    return f"{source['prefix']}…" if "prefix" in source else "any source"


@dataclass(frozen=True)
class Step:
    """What became of one thing, or would; `arn` is None while it has none.

    `related` are further addresses: a table's stream ARN, a queue's URL.
    """

    kind: str
    name: str
    state: State
    arn: str | None
    detail: str = ""
    related: tuple[str, ...] = ()


OnStep = Callable[[Step], None]
OnPlan = Callable[[Sequence[Step]], None]
"""Hears of all that will be shown, before the first step of it."""


@dataclass(frozen=True)
class Found:
    """A thing that exists; `related` as in Step.

    `differences` can be changed, and `consequence` is what else that does; `fixed` are differences
    that no call can change, and `advice` is what to do about them. `unfinished` is what a run that
    made the thing has not done yet, or did not come to: it is done without being asked for.
    """

    arn: str
    detail: str = ""
    related: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    consequence: str | None = None
    fixed: tuple[str, ...] = ()
    advice: str | None = None
    unfinished: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provisioned:
    """What stands now. In a dry run the address of what does not exist yet is empty."""

    steps: tuple[Step, ...]
    table_arn: str
    stream_arn: str
    bus_arn: str
    rule_arn: str
    queue_url: str
    queue_arn: str
    archive_arn: str

    @property
    def changed(self) -> bool:
        """Whether anything was created or updated."""
        return any(step.state in {"created", "updated"} for step in self.steps)


class Differs(ConfigError):
    """Something exists that is not as wanted; nothing was written by then. `steps` is the plan."""

    def __init__(self, message: str, hint: str, steps: tuple[Step, ...]) -> None:
        super().__init__(message, hint)
        self.steps = steps


@dataclass(frozen=True)
class Place:
    """Where ARNs point to, read off one of them."""

    partition: str
    region: str
    account: str

    @classmethod
    def of(cls, arn: str) -> Place:
        """From any ARN with a region and an account."""
        _, partition, _, region, account, _ = arn.split(":", 5)
        return cls(partition, region, account)

    def rule(self, bus: str, rule: str) -> str:
        """The ARN of a rule; one on the default bus does not name its bus."""
        path = rule if bus == DEFAULT_BUS else f"{bus}/{rule}"
        return f"arn:{self.partition}:events:{self.region}:{self.account}:rule/{path}"

    def queue(self, name: str) -> str:
        """The ARN of a queue."""
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{name}"

    def bus(self, name: str) -> str:
        """The ARN of an event bus."""
        return f"arn:{self.partition}:events:{self.region}:{self.account}:event-bus/{name}"


def is_partner(bus: str) -> bool:
    """Whether it is a bus of a partner, which stands behind a source and is made by no one else."""
    return bus.startswith(PARTNER_PREFIX)


def names_among(buses: Sequence[str], own: str | None) -> tuple[str, ...]:
    """The buses that are given by their names, each once and without the `own` one."""
    return tuple(
        dict.fromkeys(bus for bus in buses if bus != own and not bus.startswith(ARN_PREFIX))
    )


def tag_map(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """`[{"Key": k, "Value": v}]` as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in tags}
