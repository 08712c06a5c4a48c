"""The mapping that a configuration asks for: rules, a preset, or the user's own function."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ddbrelay.config import Config
from ddbrelay.config_file import MappingSource
from ddbrelay.errors import ConfigError
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import (
    CrudMapper,
    Event,
    MapFunction,
    Mapped,
    Reject,
    Several,
    Skip,
    refused,
)
from ddbrelay.flow.mapping.document import exact
from ddbrelay.flow.mapping.events import stable_id
from ddbrelay.flow.mapping.making import Defaults, MappingError, Validator
from ddbrelay.flow.mapping.presets import preset_of
from ddbrelay.flow.mapping.rules import Rule, RuleMapper, compile_rules, redaction_paths
from ddbrelay.values import parse_duration

_TRACE_LINES = 12
_IMPORTLIB = importlib.__file__
_TTL_ATTRIBUTE, _TTL = "expiresAt", "1d"
_OWN = "own"
"""The name in the ledger of what the user's own function does."""


def mapper_of(config: Config, table: str) -> MapFunction:
    """What says which change of this table is which event.

    Raises ConfigError for every mistake, with the file, line and column where there is one.
    """
    settings, source = config.settings, config.mapping
    if settings.mapper is not None and (source.rules or settings.preset is not None):
        other = "rules" if source.rules else "a preset"
        raise ConfigError(
            f"a mapping is either a function of your own ({settings.mapper}) or {other}",
            f"take one of them out; mapper comes from: {config.origins['mapper']}",
        )
    try:
        if settings.mapper is not None:
            return OwnMapper(_function(settings.mapper, source), _defaults(config, table))
        return _ruled(config, table)
    except MappingError as error:
        raise _placed(error, source) from None


def rules_of(config: Config, table: str) -> tuple[Rule, ...]:
    """The compiled rules, in their order; ConfigError as `mapper_of` has it."""
    if not config.mapping.rules:
        return ()
    mapper = mapper_of(config, table)
    assert isinstance(mapper, RuleMapper)
    return mapper.rules


def buses_of(config: Config) -> list[str]:
    """The buses that rules name besides the one of the run, each once."""
    own = config.settings.bus_name
    named = (rule.get("bus") for rule in config.mapping.rules)
    return list(dict.fromkeys(bus for bus in named if isinstance(bus, str) and bus != own))


def sources_of(config: Config) -> list[Any]:
    """The sources that rules give their events besides the configured one, as a pattern has them.

    A source with a hole in it stands as the prefix before the hole. Whatever the items of an
    outbox say of themselves is not known here.
    """
    table = config.settings.table or ""
    own, found = config.settings.event_source, []
    for rule in rules_of(config, table):
        source = None if rule.make is None else rule.make.source
        if source is None or source.constant == own:
            continue
        one = {"prefix": source.start} if source.constant is None else source.constant
        if one not in found:
            found.append(one)
    return found


def check_redaction(config: Config, keys: Collection[str]) -> None:
    """ConfigError where an attribute of the key, which says which item it is, is to be hidden."""
    source = config.mapping
    named: list[tuple[tuple[str | int, ...], tuple[str, ...]]] = [
        (("redact",), config.settings.redact)
    ]
    named += [
        (("rule", index, "redact"), tuple(rule["redact"]))
        for index, rule in enumerate(source.rules)
        if isinstance(rule.get("redact"), list)
    ]
    for path, names in named:
        for parts in redaction_paths(names, path):
            if parts[0] in keys:
                error = MappingError(
                    f'"{parts[0]}" is a key attribute, which says which item it is: '
                    "it cannot be redacted",
                    path,
                    hint="give the item another key, and keep this one as an attribute",
                )
                raise _placed(error, source)


@dataclass(frozen=True, slots=True)
class Tidying:
    """What becomes of an outbox's items once they were relayed.

    They are deleted, or they get `attribute`, the table's TTL attribute, so many seconds ahead.
    """

    attribute: str | None = None
    seconds: float = 0.0


def tidying_of(config: Config) -> Tidying | None:
    """None where the items stay, as they do without the preset `outbox`; ConfigError."""
    try:
        return _tidying(config)
    except MappingError as error:
        raise _placed(error, config.mapping) from None


def _tidying(config: Config) -> Tidying | None:
    options = config.mapping.outbox
    after = options.get("after", "keep")
    if config.settings.preset != "outbox":
        return None
    for key in ("ttl", "ttl_attribute"):
        if key in options and after != "expire":
            raise MappingError(f'{key} has no effect without after = "expire"', ("outbox", key))
    if after != "expire":
        return Tidying() if after == "delete" else None
    attribute = options.get("ttl_attribute", _TTL_ATTRIBUTE)
    if not isinstance(attribute, str) or not attribute:
        raise MappingError("ttl_attribute must be a text", ("outbox", "ttl_attribute"))
    try:
        return Tidying(attribute, parse_duration(options.get("ttl", _TTL)))
    except ValueError as error:
        raise MappingError(f"ttl: {error}", ("outbox", "ttl")) from None


def _defaults(config: Config, table: str) -> Defaults:
    settings, source = config.settings, config.mapping
    folder = source.file.parent if source.file is not None else Path()
    return Defaults(
        table,
        settings.entity,
        settings.source,
        settings.envelope,
        settings.strict,
        settings.redact,
        lambda name: _validator(folder / name),
    )


def _ruled(config: Config, table: str) -> MapFunction:
    settings, source = config.settings, config.mapping
    defaults = _defaults(config, table)
    try:
        crud = CrudMapper(table, entity=settings.entity, source=settings.source)
    except ValueError as error:
        raise ConfigError(str(error), "--source, or bus.source in ddbrelay.toml") from None
    preset = None
    if settings.preset is not None or not source.rules:
        preset = preset_of(
            settings.preset or "crud",
            defaults,
            outbox=source.outbox,
            single_table=source.single_table,
        )
    for name, section in (("outbox", source.outbox), ("single_table", source.single_table)):
        if section and settings.preset != name.replace("_", "-"):
            raise MappingError(
                f"the section [{name}] has no effect without its preset",
                (name,),
                hint=f'preset = "{name.replace("_", "-")}"',
            )
    redaction_paths(settings.redact, ("redact",))
    _tidying(config)
    if not source.rules and preset is not None and not settings.redact:
        return preset
    rules = [
        replace(rule, place=source.place("rule", index))
        for index, rule in enumerate(compile_rules(source.rules, defaults, crud))
    ]
    return RuleMapper(rules, defaults, preset)


def _placed(error: MappingError, source: MappingSource) -> ConfigError:
    """The error as a line that names file, line and column."""
    if source.file is None:
        return ConfigError(str(error), error.hint)
    where = source.place(*error.path, offset=error.offset)
    return ConfigError(f"{where}: {error}", error.hint)


@lru_cache(maxsize=64)
def _validator(file: Path) -> Validator:
    from ddbrelay.schemas import SchemaError, validator_of

    try:
        return validator_of(file.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read the schema {file}: {error.strerror}") from None
    except SchemaError as error:
        raise ValueError(f"{file} is no JSON Schema: {error}") from None


# The user's own function


class OwnChange(Change):
    """A change whose numbers are all numbers, `Digits` where Python would round them."""

    __slots__ = ("_of",)

    def __init__(self, of: Change) -> None:
        super().__init__(of.record, of.shard_id, of.origin)
        self._of = of

    @property
    def keys(self) -> dict[str, Any]:
        keys: dict[str, Any] = exact(super().keys)
        return keys

    @property
    def new(self) -> dict[str, Any] | None:
        image: dict[str, Any] | None = exact(super().new)
        return image

    @property
    def old(self) -> dict[str, Any] | None:
        image: dict[str, Any] | None = exact(super().old)
        return image

    @property
    def changed(self) -> list[str]:
        return self._of.changed

    def order_by(self, key: bytes) -> None:
        self._of.order_by(key)


class OwnMapper:
    """A function of the user's own, which gets a change whose redacted attributes are hidden.

    It returns an event, a sequence of them, a Skip, a Reject, or None to skip. What it raises parks
    the record, with the last lines of the traceback.
    """

    def __init__(self, function: Any, defaults: Defaults) -> None:
        self._function = function
        self._source = defaults.source or f"ddbrelay.{defaults.table}"
        self._redact = redaction_paths(defaults.redact, ("redact",))

    def __call__(self, change: Change) -> Mapped:
        change.reveal()
        if self._redact:
            change.redact(self._redact)
        try:
            result = self._function(OwnChange(change))
        except (Exception, SystemExit) as error:
            return Reject(f"{type(error).__name__} in the mapper: {_trace(error)}", _OWN)
        return self._checked(result, change)

    def _checked(self, result: Any, change: Change) -> Mapped:
        if result is None:
            return Skip(_OWN)
        if isinstance(result, Skip | Reject):
            return result
        events = result.events if isinstance(result, Several) else result
        events = [events] if isinstance(events, Event) else events
        if not isinstance(events, Sequence) or not all(isinstance(one, Event) for one in events):
            return Reject(
                f"the mapper returned {type(result).__name__}, "
                "not an Event, a sequence of them, a Skip, a Reject or None",
                _OWN,
            )
        made = []
        for number, event in enumerate(events):
            whole = self._whole(event, change, number)
            if never := refused(whole):
                return Reject(f"the mapper made what no event can be: {never.reason}", _OWN)
            made.append(whole)
        if not made:
            return Skip(_OWN)
        return made[0] if len(made) == 1 else Several(tuple(made))

    def _whole(self, event: Event, change: Change, place: int) -> Event:
        from msgspec.structs import replace

        rule = event.rule or (_OWN if place == 0 else f"{_OWN}-{place + 1}")
        event_id = stable_id(change.event_id, rule, place)
        return replace(
            event,
            source=event.source or self._source,
            resources=event.resources or (change.stream_arn, event_id),
            time=change.time if event.time is None else event.time,
            rule=rule,
        )


def _trace(error: BaseException) -> str:
    # The first entry is our own call.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    shown = "".join(traceback.format_list(frames[-_TRACE_LINES:])) if frames else ""
    return f"{error}\n{shown}".rstrip()


def _function(name: str, source: MappingSource) -> Any:
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(
            f'mapper "{name}" is not module:function', "such as myapp.events:to_event"
        )
    folder = str(source.file.parent if source.file is not None else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            raise ConfigError(
                f'mapper "{name}": there is no module "{error.name}"',
                f"it is looked for in {folder} and where Python is installed",
            ) from None
        raise ConfigError(
            f'mapper "{name}" cannot be imported: {type(error).__name__}: {error}{_line_of(error)}',
            "-vv shows more",
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(f'mapper "{name}": {module_name} has no function "{attribute}"')
    if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
        raise ConfigError(
            f'mapper "{name}" is asynchronous', "it maps one change at a time: def, not async def"
        )
    return found


def _line_of(error: BaseException) -> str:
    """Where in a file an import failed, in words."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename not in {__file__, _IMPORTLIB}
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
