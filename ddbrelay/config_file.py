"""`ddbrelay.toml` as it stands: its settings by dotted key, its mapping, and where each key is."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import ConfigError

if TYPE_CHECKING:
    from ddbrelay.toml_places import Places

RULES = "rule"
_ENDPOINT_ID = "bus.endpoint_id"
PRESET_SECTIONS = ("outbox", "single_table")
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True)
class MappingSource:
    """What the file says of the mapping besides settings; `text` is the file's, for its places."""

    rules: tuple[dict[str, Any], ...] = ()
    outbox: Mapping[str, Any] = field(default_factory=dict)
    single_table: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    text: str = ""

    def place(self, *path: str | int, offset: int | None = None) -> str:
        """`FILE:LINE:COLUMN` of a key, of the nearest one above it that the file has, or FILE.

        `offset` is a character of the key's text.
        """
        places, found = _places(self.text), None
        if offset is not None:
            found = places.inside(offset, *path)
        while found is None and path:
            found = places.key(*path) or places.value(*path)
            path = path[:-1]
        return str(self.file) if found is None else f"{self.file}:{found.line}:{found.column}"


@lru_cache(maxsize=4)
def _places(text: str) -> Places:
    # Imported here: only rules and mistakes need it.
    from ddbrelay.toml_places import Places

    return Places(text)


def check_owner(file: Path) -> None:
    """ConfigError for a file that another user put there: it may name code that would be imported.

    The file, its folder and a link to it must belong to this user or to root; under sudo they may
    also belong to whoever called it, as git has it:
    https://git-scm.com/docs/git-config#Documentation/git-config.txt-safedirectory
    """
    if sys.platform == "win32":
        return
    trusted = {0, os.geteuid()}
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
        trusted.add(int(os.environ["SUDO_UID"]))
    try:
        owners = {file: {os.lstat(file).st_uid, os.stat(file).st_uid}}
        owners[file.parent] = {os.stat(file.parent).st_uid}
    except OSError:
        # Reading it says what is wrong.
        return
    for path, found in owners.items():
        if foreign := sorted(found - trusted):
            folder = "" if path == file else f", the folder of {file.name},"
            raise ConfigError(
                f"{path}{folder} belongs to another user (uid {foreign[0]}): "
                "it is not read unless it is named",
                f"--config {file}, if you trust what it says; --config {os.devnull} goes without",
            )


def read_file(file: Path, known: set[str]) -> tuple[dict[str, Any], MappingSource]:
    """The settings by dotted key, and the mapping; `known` are the keys of settings.

    ConfigError for what cannot be read, for TOML that is none, and for a key that is not known.
    """
    try:
        source = file.read_text(encoding="utf-8")
        document = tomllib.loads(source)
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}", "ddbrelay init writes a commented file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise no_toml(file, source, str(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    places = MappingSource(file=file, text=source)
    mapping = _mapping(places, document)
    sections = {key.split(".")[0] for key in known if "." in key}
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if key in sections and isinstance(value, dict):
            flat |= {f"{key}.{inner}": item for inner, item in value.items()}
        elif key in sections:
            raise ConfigError(f"{places.place(key)}: {key} must be a section, written [{key}]")
        else:
            flat[key] = value
    for key in flat:
        if key == _ENDPOINT_ID:
            raise no_global_endpoint(f"{places.place(*key.split('.'))}: {key}")
        if key not in known:
            section, _, last = key.partition(".")
            where = places.place(section, last) if last else places.place(section)
            raise ConfigError(f'{where}: unknown key "{key}"', _nearest(key, known, sections))
    return flat, mapping


def working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working directory no longer exists", "cd to another one") from None


def no_global_endpoint(place: str) -> ConfigError:
    return ConfigError(
        f"{place}: global endpoints are not supported: requests to them are signed with SigV4A",
        "bus.name with the bus of one region; its events can be replicated by a rule",
    )


def no_toml(file: Path, source: str, error: str) -> ConfigError:
    match = _AT.search(error)
    if match is None:
        return ConfigError(f"{file} is not TOML: {error}")
    line, column = match[1], match[2]
    if line is None:
        line, column = str(source.count("\n") + 1), str(len(source) - source.rfind("\n"))
    return ConfigError(f"{file}:{line}:{column}: not TOML: {error[: match.start()]}")


def _mapping(places: MappingSource, document: dict[str, Any]) -> MappingSource:
    """Takes out of the document what is not a setting."""
    rules = document.pop(RULES, [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        where = places.place(RULES)
        raise ConfigError(f"{where}: {RULES} must be an array of tables, written [[{RULES}]]")
    options = {name: document.pop(name, {}) for name in PRESET_SECTIONS}
    for name, section in options.items():
        if not isinstance(section, dict):
            raise ConfigError(f"{places.place(name)}: {name} must be a section, written [{name}]")
    return MappingSource(tuple(rules), file=places.file, text=places.text, **options)


def _nearest(key: str, known: set[str], sections: set[str]) -> str:
    # Imported here: only mistakes need it.
    from ddbrelay.text import near

    section, _, last = key.rpartition(".")
    words = known | sections | {RULES, *PRESET_SECTIONS}
    close = near(key, sorted(words))
    # The right word in the wrong section is nearer to what was meant than a similar spelling.
    moved = sorted(k for k in known if k.rpartition(".")[2] == last)
    best = moved[0] if moved else close
    if best is not None:
        return f'did you mean "{best}"?'
    names = sorted(k for k in known if k.startswith(f"{section}.")) if section else sorted(known)
    return f"known keys: {', '.join(names or sorted(known))}"
