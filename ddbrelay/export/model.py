"""What a deployment consists of, whichever tool it is written for.

Limits: `CreateEventSourceMappingRequest` and `CreateFunctionRequest` of the `lambda` model;
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import ConfigError
from ddbrelay.export.choices import MOST_AT_ONCE, OLD_LINUX, TYPES, Choices, FieldPath
from ddbrelay.export.filters import Conditions, Filters, filters_of
from ddbrelay.export.values import typed
from ddbrelay.flow.mapping.matchers import Affix, Exact, Matcher
from ddbrelay.infra.names import queue_name, rule_name, short_hash
from ddbrelay.infra.plan import DEFAULT_BUS, Key, Wanted, names_among
from ddbrelay.sources import Source

if TYPE_CHECKING:
    from ddbrelay.config import Config, Settings
    from ddbrelay.export.sample import Sample
    from ddbrelay.flow.mapping.rules import Rule

FUNCTION_LIMIT = 64
QUEUE_LIMIT = 80
PIPE_LIMIT = 64
HANDLER = "ddbrelay.aws_lambda.handler"
RETENTION_DAYS = 30
"""Of the function's log."""
_STREAM = re.compile(
    r"arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:\d{12}:table/([A-Za-z0-9_.-]{3,255})/stream/[0-9T:.-]+"
)
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]{1,256}")


@dataclass(frozen=True, kw_only=True)
class Project:
    """One deployment; `files` go into the function's package, `variables` into its environment.

    `other_buses` are names and ARNs of the buses that rules name; `letters` is a dead-letter queue
    that is there, by name or URL. `notes` are for the person, `function_notes` of a function only.
    """

    table: str
    key: Key
    sort_key: Key | None
    stream_arn: str | None
    bus: str
    create_bus: bool
    other_buses: tuple[str, ...]
    sources: tuple[Source, ...]
    rules: tuple[Rule, ...]
    filters: Filters
    types: Mapping[FieldPath, str]
    claim_check: str | None
    letters: str | None
    after: str
    outbox_expiry: str
    choices: Choices
    variables: Mapping[str, str]
    files: Mapping[str, bytes]
    sample: Sample
    notes: tuple[str, ...]
    function_notes: tuple[str, ...]

    @property
    def keys(self) -> list[Key]:
        """The attributes of the table's key."""
        return [key for key in (self.key, self.sort_key) if key is not None]

    @property
    def new_buses(self) -> tuple[str, ...]:
        """Of the other buses those that are made here: all that are named, and not by an ARN."""
        if self.choices.existing_bus:
            return ()
        return tuple(bus for bus in names_among(self.other_buses, self.bus) if bus != DEFAULT_BUS)

    @property
    def function(self) -> str:
        """Name of the function."""
        return name_of(self.table, "", FUNCTION_LIMIT)

    @property
    def stack(self) -> str:
        """Name of the stack."""
        return stack_name(self.table)

    @property
    def rule(self) -> str:
        """Name of the rule behind the bus."""
        return rule_name(self.table)

    @property
    def queue(self) -> str:
        """Name of the consumer's queue."""
        return queue_name(self.table)

    @property
    def queue_dead(self) -> str:
        """Name of the dead-letter queue behind the consumer's."""
        return name_of(self.table, "-dead", QUEUE_LIMIT)

    @property
    def failed(self) -> str:
        """Name of the queue for what could not be relayed."""
        return name_of(self.table, "-failed", QUEUE_LIMIT)

    @property
    def pattern(self) -> dict[str, Any]:
        """The event pattern of the rule."""
        return {"source": [source.pattern for source in self.sources]}


def project_of(config: Config, choices: Choices) -> Project:
    """The deployment of this configuration.

    Raises ConfigError for a mapping or an option that cannot be right.
    """
    from ddbrelay.export.package import (
        function_files,
        function_variables,
        incomplete,
        unpackaged,
    )
    from ddbrelay.export.sample import sample_of
    from ddbrelay.infra.mapped_keys import key_note
    from ddbrelay.mappings import buses_of, mapper_of, rules_of, tidying_of

    wanted = Wanted.from_settings(config.settings, key=choices.key, sort_key=choices.sort_key)
    _check(wanted.table, choices)
    mapper_of(config, wanted.table)
    _check_buses(wanted.bus, buses_of(config), choices)
    _check_order(config, choices)
    keys = [key for key in (wanted.key, wanted.sort_key) if key is not None]
    rules = rules_of(config, wanted.table)
    types = _types(wanted, choices)
    settings, tidying = config.settings, tidying_of(config)
    of_keys = key_note(config, rules, keys, new=choices.stream_arn is None)
    notes = [of_keys if choices.keys_known else None, unpackaged(config)]
    of_function = _function_notes(config, wanted.table, choices)
    return Project(
        table=wanted.table,
        key=wanted.key,
        sort_key=wanted.sort_key,
        stream_arn=choices.stream_arn,
        bus=wanted.bus,
        create_bus=not choices.existing_bus and wanted.bus != DEFAULT_BUS,
        other_buses=tuple(bus for bus in buses_of(config) if bus != wanted.bus),
        sources=sources_of(config, rules),
        rules=rules,
        filters=_filters(config, rules, types, choices) if choices.filtered else Filters(),
        types=types,
        claim_check=settings.claim_check,
        letters=settings.dead_letter_queue,
        after=after_of(config),
        outbox_expiry=(tidying.attribute or "") if tidying is not None else "",
        choices=choices,
        variables=function_variables(config, wanted.table, wanted.bus),
        files=function_files(config),
        sample=sample_of(config, rules, keys, keys_known=choices.keys_known),
        notes=tuple(note for note in notes if note is not None),
        function_notes=(*of_function, *incomplete(config)),
    )


def _function_notes(config: Config, table: str, choices: Choices) -> list[str]:
    from ddbrelay.mappings import tidying_of

    notes = []
    if (letters := config.settings.dead_letter_queue) is not None:
        notes.append(
            f"dead letters go to {letters}, which is not made here and has no alarm; "
            f"{name_of(table, '-failed', QUEUE_LIMIT)} gets what Lambda gave up on"
        )
    tidying = tidying_of(config)
    if tidying is not None and tidying.attribute is not None and choices.stream_arn is not None:
        notes.append(
            f"relayed items expire only where Time to Live is switched on for {tidying.attribute} "
            f"in your table: aws dynamodb update-time-to-live --table-name {table} "
            f"--time-to-live-specification Enabled=true,AttributeName={tidying.attribute}"
        )
    return notes


def _check(table: str, choices: Choices) -> None:
    if choices.stream_arn is not None:
        match = _STREAM.fullmatch(choices.stream_arn)
        if match is None:
            raise ConfigError(
                f'"{choices.stream_arn}" is not the ARN of a stream',
                "arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/stream/LABEL, as aws dynamodb "
                "describe-table shows it (LatestStreamArn)",
            )
        if match[1] != table:
            raise ConfigError(
                f'the stream is of table "{match[1]}", and the table is "{table}"',
                f"--table {match[1]}, or another --stream-arn",
            )
    if choices.runtime == OLD_LINUX and choices.architecture == "arm64":
        raise ConfigError(
            f"{OLD_LINUX} on arm64 has a Linux that is older than the wheels of jsonschema-rs want",
            "--runtime python3.12 or later, or --architecture x86_64",
        )
    if choices.window == 0 and choices.batch_size > MOST_AT_ONCE:
        raise ConfigError(
            f"Lambda gathers batches of more than {MOST_AT_ONCE} records for one second at least",
            f"--window 1s or more, or --batch-size {MOST_AT_ONCE}",
        )
    if choices.alarm_topic is not None and not _TOPIC.fullmatch(choices.alarm_topic):
        raise ConfigError(
            f'"{choices.alarm_topic}" is not the ARN of an SNS topic',
            "--alarm-topic arn:aws:sns:REGION:ACCOUNT:NAME",
        )


def _check_buses(bus: str, others: Sequence[str], choices: Choices) -> None:
    for name in () if choices.existing_bus else (bus, *names_among(others, bus)):
        if "/" in name:
            raise ConfigError(
                f'the bus "{name}" cannot be made: only a partner\'s bus has a slash in its name',
                "--existing-bus, or another name",
            )


def _check_order(config: Config, choices: Choices) -> None:
    if config.settings.preset == "outbox" and choices.parallelization > 1:
        raise ConfigError(
            "the preset outbox keeps the events of an aggregate in order, and Lambda keeps only "
            f"those of an item: {choices.parallelization} batches of a shard at a time would swap "
            "them",
            "--parallelization 1",
        )


def _types(wanted: Wanted, choices: Choices) -> dict[FieldPath, str]:
    """The keys' types are known where the table is made here, or they were given."""
    keys = [key for key in (wanted.key, wanted.sort_key) if key is not None]
    if not choices.keys_known:
        keys = []
    return {(key.name,): key.type for key in keys} | dict(choices.types)


def types_of(texts: Sequence[str]) -> dict[FieldPath, str]:
    """`email:S` and `address.city:S` as paths with types; ConfigError for anything else."""
    found = {}
    for text in texts:
        path, _, kind = text.rpartition(":")
        if not path or kind not in TYPES or not all(path.split(".")):
            raise ConfigError(
                f'"{text}" is not an attribute with its type',
                f"--attribute email:S, of the types {', '.join(TYPES)}",
            )
        found[tuple(path.split("."))] = kind
    return found


def after_of(config: Config) -> str:
    """What becomes of a relayed item: keep, delete or expire."""
    from ddbrelay.mappings import tidying_of

    tidying = tidying_of(config)
    if tidying is None:
        return "keep"
    return "delete" if tidying.attribute is None else "expire"


def _filters(
    config: Config, rules: Sequence[Rule], types: Mapping[FieldPath, str], choices: Choices
) -> Filters:
    settings = config.settings
    if settings.mapper is not None:
        return Filters(notes=("a mapper of your own sees every record: there is no filter",))
    if settings.preset is None and settings.strict:
        return Filters(notes=("strict parks what no rule matches: there is no filter",))
    preset = settings.preset or (None if rules else "crud")
    extra: list[Conditions] = []
    if preset == "outbox":
        extra = [{("eventName",): ["INSERT"]}]
    elif preset == "single-table" and config.mapping.single_table.get("entities"):
        entities = _entities(config, types)
        if entities is None:
            return Filters(notes=("the key with the prefix is not known: there is no filter",))
        extra = [entities]
    elif preset is not None:
        return Filters(notes=(f"the preset {preset} maps every record: there is no filter",))
    return filters_of(rules, types=types, extra=extra, limit=choices.filter_limit)


def _entities(config: Config, types: Mapping[FieldPath, str]) -> Conditions | None:
    options = config.mapping.single_table
    key = options.get("key")
    if not isinstance(key, str):
        return None
    separator = str(options.get("separator", "#"))
    matchers: list[Matcher] = []
    for name in options["entities"]:
        matchers += [Exact(name), Affix("prefix", name + separator)]
    found = typed(tuple(matchers), types.get((key,)))
    return {("dynamodb", "Keys", key, kind): values for kind, values in found.items()}


def sources_of(config: Config, rules: Sequence[Rule]) -> tuple[Source, ...]:
    """Every source that an event can have, as far as it can be known without a record."""
    settings = config.settings
    if settings.mapper is not None:
        return (Source("", exact=False),)
    own = Source(settings.event_source)
    found = [
        own if rule.make.source is None else Source.of(rule.make.source)
        for rule in rules
        if rule.make is not None
    ]
    if settings.preset is not None or not rules:
        found.append(own)
    if settings.preset == "outbox":
        found.append(Source("", exact=False))
    every = list(dict.fromkeys(found))
    loose = [source for source in every if not source.exact]
    return tuple(
        source
        for source in every
        if not any(other != source and source.text.startswith(other.text) for other in loose)
    )


def name_of(table: str, suffix: str, limit: int) -> str:
    """`ddbrelay-<table><suffix>` of letters, digits and dashes, cut with a hash where too long."""
    name = queue_name(table)
    if len(name) + len(suffix) <= limit:
        return name + suffix
    return f"{name[: limit - len(suffix) - 9]}-{short_hash(table)}{suffix}"


def stack_name(table: str, suffix: str = "") -> str:
    """The same as a stack is named: of letters, digits and hyphens only.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
    """
    name = name_of(table, suffix, FUNCTION_LIMIT)
    if "_" not in name:
        return name
    # The hash keeps a_b from the name of a-b.
    plain = queue_name(table).replace("_", "-")[: FUNCTION_LIMIT - len(suffix) - 9]
    return f"{plain}-{short_hash(table)}{suffix}"


def region_of(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """The region of a run as far as it is known without a session."""
    return settings.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
