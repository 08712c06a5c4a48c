"""Events against the schemas that they must fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ddbrelay.cli.inferring import file_name, first_line
from ddbrelay.text import counted, one_word, printable

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.config import Config
    from ddbrelay.flow.change import Change
    from ddbrelay.flow.mapping import Event

_Check = Callable[[bytes], "str | None"]
_Finder = Callable[["Change", "Event"], "_Check | None"]


def schema_finder(config: Config, folder: Path | None) -> _Finder:
    """What an event is checked by; None for one that has no schema."""
    from ddbrelay.errors import ConfigError
    from ddbrelay.mappings import rules_of

    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"there is no directory {folder}", "ddbrelay schema --dir makes it")

        @cache
        def named(detail_type: str) -> _Check | None:
            path = folder / file_name(detail_type)
            return _check_of(path) if path.exists() else None

        return lambda change, event: named(event.detail_type)
    source = config.mapping
    if not any("schema" in rule for rule in source.rules):
        raise ConfigError(
            "no rule names a schema",
            '--dir DIR, or schema = "FILE" in a rule; ddbrelay schema --dir DIR makes such files',
        )
    home = Path() if source.file is None else source.file.parent

    @cache
    def schemas(table: str) -> dict[str, Path]:
        rules = rules_of(config, table)
        return {rule.name: home / rule.spec["schema"] for rule in rules if "schema" in rule.spec}

    def by_rule(change: Change, event: Event) -> _Check | None:
        path = schemas(change.table).get(event.rule or "")
        return None if path is None else _check_of(path)

    return by_rule


@cache
def _check_of(path: Path) -> _Check:
    from ddbrelay.errors import ConfigError
    from ddbrelay.schemas import SchemaError, validator_of

    try:
        return validator_of(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the schema {path}: {error.strerror}") from None
    except SchemaError as error:
        raise ConfigError(f"{path} is no JSON Schema: {error}") from None


@dataclass
class Checking:
    """Shows each event that does not fit, as it comes."""

    console: Console
    wanted: frozenset[str]
    schema_of: _Finder
    fit: int = 0
    unfit: int = 0
    failed: int = 0
    without: dict[str, int] = field(default_factory=dict)

    def event(self, change: Change, event: Event) -> None:
        if self.wanted and event.detail_type not in self.wanted:
            return
        check = self.schema_of(change, event)
        if check is None:
            self.without[event.detail_type] = self.without.get(event.detail_type, 0) + 1
        elif (reason := check(event.detail)) is None:
            self.fit += 1
        else:
            self.unfit += 1
            self._show(change, event.detail_type, event.rule, reason)

    def rejected(self, change: Change, reason: str) -> None:
        # Of which type it would have been, nobody knows.
        if not self.wanted:
            self.failed += 1
            self._show(change, None, None, first_line(reason))

    def _show(self, change: Change, detail_type: str | None, rule: str | None, reason: str) -> None:
        if self.console.json:
            from ddbrelay.output.inference import Mismatch

            self.console.object(Mismatch(detail_type, change.event_id, rule, reason))
        else:
            name = "-" if detail_type is None else one_word(detail_type)
            self.console.data(f"{name}  {one_word(change.event_id)}  {printable(reason)}")

    def conclude(self) -> None:
        """The last words; ExpectationNotMet when an event does not fit, or none was checked."""
        from ddbrelay.errors import ExpectationNotMet

        checked = self.fit + self.unfit
        if self.console.json:
            from ddbrelay.output.inference import CheckSummary

            self.console.object(CheckSummary(checked, self.unfit, self.failed, self.without))
        elif self.without:
            names = ", ".join(f"{one_word(name)} ({n:,})" for name, n in self.without.items())
            self.console.words(f"no schema for {names}")
        if self.unfit:
            raise ExpectationNotMet(
                f"{self.unfit:,} of {counted(checked, 'event')} "
                f"{'does' if self.unfit == 1 else 'do'} not fit the schema",
                "correct the mapping, or infer the schema anew: ddbrelay schema --dir DIR --force",
            )
        if self.failed:
            raise ExpectationNotMet(
                f"no event can be made of {counted(self.failed, 'record')}",
                "ddbrelay map FILE --explain says why",
            )
        if not checked:
            raise ExpectationNotMet("no event was checked", "ddbrelay map FILE shows the events")
        self.console.words(f"{counted(checked, 'event')} {'fits' if checked == 1 else 'fit'}")
