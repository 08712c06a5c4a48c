"""The mapping that a configuration asks for: rules, a preset, or the user's own function."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ddbrelay.config import Config, toml_key
from ddbrelay.config_file import MappingSource
from ddbrelay.errors import ConfigError
from ddbrelay.flow.mapping import (
    CrudMapper,
    MapFunction,
)
from ddbrelay.flow.mapping.making import Defaults, MappingError, Validator
from ddbrelay.flow.mapping.presets import preset_of
from ddbrelay.flow.mapping.redaction import Sightings, hides_key, redaction_paths
from ddbrelay.flow.mapping.rules import Rule, RuleMapper, compile_rules
from ddbrelay.own import OwnMapper, function_of
from ddbrelay.sources import Source
from ddbrelay.text import printable
from ddbrelay.values import parse_duration

_TTL_ATTRIBUTE, _TTL = "expiresAt", "1d"


def mapper_of(config: Config, table: str) -> MapFunction:
    """What says which change of this table is which event.

    Raises ConfigError for every mistake, with the file, line and column where there is one.
    """
    try:
        if config.settings.mapper is not None:
            return _own(config, config.settings.mapper, table)
        return _ruled(config, table)
    except MappingError as error:
        raise _placed(error, config.mapping) from None


def check_mapping(config: Config, table: str) -> None:
    """ConfigError as `mapper_of` has it, but without importing a function of the user's own."""
    if config.settings.mapper is None:
        mapper_of(config, table)
    else:
        _check_alone(config, config.settings.mapper)


def in_force(config: Config) -> str:
    """The mapping in a few words: `rules ./ddbrelay.toml (3), everything else skipped`."""
    settings, rules = config.settings, config.mapping.rules
    name = "mapper" if settings.mapper is not None else "preset"
    of_file = config.origins.get(name, "").startswith("file")
    where = f" ({_short(config.file)})" if of_file and config.file is not None else ""
    if settings.mapper is not None:
        words = f"mapper {settings.mapper}{where}"
    elif rules:
        file = "" if config.file is None else f" {_short(config.file)}"
        words = f"rules{file} ({len(rules)}), everything else {rest_of(config)}"
    elif settings.preset is not None:
        words = f"preset {settings.preset}{where}"
    else:
        words = "default mapping"
    return printable(words)


def rest_of(config: Config) -> str:
    """What becomes of the changes that no rule matches."""
    if config.settings.preset is not None:
        return f"mapped by preset {config.settings.preset}"
    return "parked" if config.settings.strict else "skipped"


def _short(file: Path) -> str:
    """The path from the working directory, unless it is longer than the path itself."""
    near = os.path.relpath(file)
    if not near.startswith(os.pardir):
        return os.path.join(os.curdir, near)
    return min(near, str(file), key=len)


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
    own = config.settings.event_source
    made = (rule.make for rule in rules_of(config, config.settings.table or ""))
    named = [Source.of(make.source) for make in made if make is not None and make.source]
    return [source.pattern for source in dict.fromkeys(named) if source != Source(own)]


def check_redaction(config: Config, keys: Collection[str]) -> None:
    """ConfigError where an attribute of the key, which says which item it is, is to be hidden."""
    source = config.mapping
    for path, names in _redactions(config):
        for parts in redaction_paths(names, path):
            if key := next((key for key in keys if hides_key(parts, key)), None):
                error = MappingError(
                    f'"{key}" is a key attribute, which says which item it is: '
                    "it cannot be redacted",
                    path,
                    hint="give the item another key, and keep this one as an attribute",
                )
                raise _placed(error, source)


def redacted_paths(config: Config) -> list[tuple[str, ...]]:
    """The attributes that the file, or any of its rules, redacts, as paths; ConfigError."""
    try:
        return [
            parts for path, names in _redactions(config) for parts in redaction_paths(names, path)
        ]
    except MappingError as error:
        raise _placed(error, config.mapping) from None


def sightings_of(config: Config) -> Sightings:
    """What tells which names of `redact`, of the file and its rules, no change has; ConfigError."""
    try:
        return Sightings(name for _, names in _redactions(config) for name in names)
    except MappingError as error:
        raise _placed(error, config.mapping) from None


def _redactions(config: Config) -> Iterator[tuple[tuple[str | int, ...], tuple[str, ...]]]:
    """The names, each with its place."""
    yield ("redact",), config.settings.redact
    for index, rule in enumerate(config.mapping.rules):
        if isinstance(rule.get("redact"), list):
            yield ("rule", index, "redact"), tuple(rule["redact"])


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
    folder = _folder(source)
    return Defaults(
        table,
        settings.entity,
        settings.source,
        settings.envelope,
        settings.strict,
        settings.redact,
        lambda name: _validator(folder / name),
    )


def _check_alone(config: Config, name: str) -> None:
    settings, source = config.settings, config.mapping
    others = {"rules": source.rules, "a preset": settings.preset, "strict": settings.strict}
    for other, given in others.items():
        if given:
            raise _about(
                config,
                "mapper",
                f"a function of your own ({name}) takes the place of {other}",
                "take one of them out",
            )


def _own(config: Config, name: str, table: str) -> MapFunction:
    _check_alone(config, name)
    try:
        function = function_of(name, _folder(config.mapping))
    except ConfigError as error:
        raise _about(config, "mapper", error.message, error.hint) from error.__cause__
    return OwnMapper(function, _defaults(config, table), config.settings.mapper_timeout)


def _folder(source: MappingSource) -> Path:
    return source.file.parent if source.file is not None else Path.cwd()


def _about(config: Config, setting: str, message: str, hint: str | None) -> ConfigError:
    """The error about a setting, with its place where the file gives it."""
    if config.origins[setting].startswith("file"):
        message = f"{config.mapping.place(*toml_key(setting).split('.'))}: {message}"
    return _said(message, hint)


def _ruled(config: Config, table: str) -> MapFunction:
    settings, source = config.settings, config.mapping
    defaults = _defaults(config, table)
    try:
        crud = CrudMapper(table, entity=settings.entity, source=settings.source)
    except ValueError as error:
        hint = "--source, or bus.source in ddbrelay.toml"
        raise _about(config, "source", str(error), hint) from None
    if settings.entity is not None and crud.never:
        raise _about(config, "entity", crud.never.reason, None)
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
        return _said(str(error), error.hint)
    where = source.place(*error.path, offset=error.offset)
    return _said(f"{where}: {error}", error.hint)


def _said(message: str, hint: str | None) -> ConfigError:
    """The error on one line, whatever keys and texts of the file it repeats."""
    return ConfigError(printable(message), None if hint is None else printable(hint))


@lru_cache(maxsize=64)
def _validator(file: Path) -> Validator:
    from ddbrelay.schemas import SchemaError, validator_of

    try:
        return validator_of(file.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read the schema {file}: {error.strerror}") from None
    except SchemaError as error:
        raise ValueError(f"{file} is no JSON Schema: {error}") from None
