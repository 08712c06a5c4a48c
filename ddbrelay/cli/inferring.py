"""Schemas that are inferred from events: shown, or written to a file for each detail type."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddbrelay.cli.files import write_whole
from ddbrelay.text import counted, one_word, printable

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.cli.options import Run
    from ddbrelay.flow.change import Change
    from ddbrelay.flow.mapping import Event
    from ddbrelay.output.inference import InferredSchema
    from ddbrelay.schemas import Inference


class Inferring:
    """Grows a schema for each detail type that is wanted, all of them where none is named."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._left_out = 0
        self._reason = ""
        self._found: dict[str, Inference] = {}

    @property
    def found(self) -> list[tuple[str, Inference]]:
        """Each detail type that has an example, sorted, and its schema."""
        return sorted((name, one) for name, one in self._found.items() if one.examples)

    def event(self, change: Change, event: Event) -> None:
        """One more example."""
        from ddbrelay.schemas import Inference, SchemaError

        if self._wanted and event.detail_type not in self._wanted:
            return
        if event.detail_type not in self._found:
            self._found[event.detail_type] = Inference()
        try:
            self._found[event.detail_type].add(event.detail)
        except SchemaError as error:
            self.rejected(change, str(error))

    def rejected(self, change: Change, reason: str) -> None:
        """A record of which no event can be made."""
        self._left_out += 1
        self._reason = self._reason or reason

    def report(self, console: Console) -> None:
        """Say what could not be used; ExpectationNotMet where nothing was found."""
        from ddbrelay.errors import ExpectationNotMet

        if self._left_out:
            console.words(
                f"{counted(self._left_out, 'record')} left out, no event can be made of "
                f"{'it' if self._left_out == 1 else 'them'}: {first_line(self._reason)}"
            )
        if not self.found:
            raise ExpectationNotMet(
                "there is no event to infer a schema from",
                "ddbrelay map FILE and ddbrelay tail show what becomes of changes",
            )
        for name in sorted(self._wanted - {name for name, _ in self.found}):
            console.words(f"there is no event of type {one_word(name)}")


@dataclass(frozen=True)
class _File:
    """A schema that is to stand in a file; `state` says what was there: new, same or other."""

    detail_type: str
    inference: Inference
    schema: dict[str, Any]
    path: Path | None = None
    state: Literal["new", "same", "other"] = "new"


def write(run: Run, inferring: Inferring, folder: Path | None, *, force: bool) -> None:
    """Print the schema, or write a file for each into the folder; ConfigError where one differs."""
    from ddbrelay.errors import ConfigError
    from ddbrelay.schemas import formatted

    console = run.console
    schemas = [
        _File(name, inference, inference.schema(name)) for name, inference in inferring.found
    ]
    if folder is None:
        if console.json:
            for one in schemas:
                console.object(_line_of(one))
            return
        if len(schemas) > 1:
            names = ", ".join(one_word(one.detail_type) for one in schemas)
            raise ConfigError(
                f"there are events of {len(schemas)} types: {names}",
                "--detail-type chooses one, --dir DIR writes a file for each",
            )
        _print(console, schemas[0])
        return
    schemas = _placed(schemas, folder, force=force)
    for one in schemas:
        if one.state != "same":
            assert one.path is not None
            write_whole(one.path, formatted(one.schema), make_folder=True)
        _show_file(console, one)
    for one in schemas:
        console.next_step(_rule_line(run, one))


def _print(console: Console, schema: _File) -> None:
    from ddbrelay.schemas import formatted

    console.data(formatted(schema.schema).rstrip("\n"))
    name = one_word(schema.detail_type)
    examples = counted(schema.inference.examples, "example")
    console.words(f"{name}, inferred from {examples}")
    file = file_name(schema.detail_type)
    console.next_step(f'save it as {file}, and put schema = "{file}" into the rule of {name}')


def _placed(schemas: Iterable[_File], folder: Path, *, force: bool) -> list[_File]:
    """Each with its file; ConfigError, before any is written, where one must not be."""
    from ddbrelay.errors import ConfigError

    placed: dict[Path, _File] = {}
    for one in schemas:
        path = folder / file_name(one.detail_type)
        if path in placed:
            raise ConfigError(
                f"{one.detail_type} and {placed[path].detail_type} would both be in {path}",
                "--detail-type chooses one of them",
            )
        placed[path] = replace(one, path=path, state=_state_of(path, one.schema))
    if (
        others := [str(path) for path, one in placed.items() if one.state == "other"]
    ) and not force:
        raise ConfigError(
            f"{', '.join(others)} {'differs' if len(others) == 1 else 'differ'} from what would be "
            "written",
            "--force replaces; --check says which events do not fit what is there",
        )
    return list(placed.values())


def _state_of(path: Path, schema: dict[str, Any]) -> Literal["new", "same", "other"]:
    from ddbrelay.errors import ConfigError

    try:
        return "same" if json.loads(path.read_bytes()) == schema else "other"
    except FileNotFoundError:
        return "new"
    except (ValueError, RecursionError):
        return "other"
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


_STATES: dict[str, Literal["written", "unchanged", "replaced"]] = {
    "new": "written",
    "same": "unchanged",
    "other": "replaced",
}


def _show_file(console: Console, schema: _File) -> None:
    if console.json:
        console.object(_line_of(schema))
        return
    examples = counted(schema.inference.examples, "example")
    name = one_word(schema.detail_type)
    console.data(f"{_STATES[schema.state]:<9}  {schema.path}  {name} from {examples}")


def _line_of(schema: _File) -> InferredSchema:
    from ddbrelay.output.inference import InferredSchema

    line = InferredSchema(schema.detail_type, schema.inference.examples, schema.schema)
    if schema.path is not None:
        line.file, line.state = str(schema.path), _STATES[schema.state]
    return line


def _rule_line(run: Run, schema: _File) -> str:
    """The line that makes a rule check its events, as it must stand in the mapping file."""
    assert schema.path is not None
    file = run.config.file
    folder = Path() if file is None else file.parent
    try:
        place = Path(os.path.relpath(schema.path, folder)).as_posix()
    except ValueError:
        place = schema.path.absolute().as_posix()
    line = f"schema = {json.dumps(place, ensure_ascii=False)}"
    return f"put {line} into the rule of {one_word(schema.detail_type)}"


def file_name(detail_type: str) -> str:
    """`UserEmailChanged` -> `user-email-changed.json`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", detail_type)
    return (re.sub(r"[\W_]+", "-", words).strip("-").lower() or "event") + ".json"


def first_line(reason: str) -> str:
    """Why a record was rejected; a traceback may follow."""
    return printable(reason.partition("\n")[0])
