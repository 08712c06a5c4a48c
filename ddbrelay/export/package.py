"""What goes into the package of the function besides ddbrelay itself."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbrelay import __version__
from ddbrelay.config import FILE_NAME, env_name, render
from ddbrelay.errors import ConfigError
from ddbrelay.toml_places import Places

if TYPE_CHECKING:
    from ddbrelay.config import Config

_SECTION = "aws"
_MAPPING = (
    *("table", "bus", "source", "entity", "preset", "mapper", "strict", "envelope", "redact"),
    "claim_check",
)
_REMOVED = "# Lambda has its own: "


def function_files(config: Config) -> dict[str, bytes]:
    """The mapping file, the schemas and the module that it names, and what pip installs beside.

    The file's section [aws] is for the machine that it was written on, and is left out. Raises
    ConfigError for a file that is not there, or that cannot be beside the mapping file.
    """
    files = {"requirements.txt": f"ddbrelay=={__version__}\n".encode()}
    source = config.mapping
    if config.file is None:
        given = {name: getattr(config.settings, name) for name in ("table", "bus", "source")}
        text = render({name: value for name, value in given.items() if value is not None})
    else:
        text = _without_account(source.text or config.file.read_text(encoding="utf-8"))
    files[FILE_NAME] = text.encode()
    folder = config.file.parent if config.file is not None else Path.cwd()
    for rule in source.rules:
        if isinstance(name := rule.get("schema"), str):
            files |= _one(folder, name)
    if config.settings.mapper is not None:
        files |= _module(folder, config.settings.mapper.partition(":")[0])
    return dict(sorted(files.items()))


def function_variables(config: Config, table: str, bus: str) -> dict[str, str]:
    """The environment of the function: what the file does not say, since a flag or variable did."""
    found = {"table": table, "bus": bus}
    for name in _MAPPING:
        value = getattr(config.settings, name)
        if config.origins.get(name, "").startswith(("flag", "environment")) and value is not None:
            found[name] = _spelt(value)
    return {env_name(name): found[name] for name in _MAPPING if name in found}


def _spelt(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _without_account(text: str) -> str:
    section = tomllib.loads(text).get(_SECTION)
    if not section:
        return text
    places = Places(text)
    lines = text.splitlines(keepends=True)
    for name in section:
        place = places.key(_SECTION, name)
        if place is not None and not lines[place.line - 1].startswith("#"):
            lines[place.line - 1] = _REMOVED + lines[place.line - 1]
    found = "".join(lines)
    try:
        left = tomllib.loads(found)
    except tomllib.TOMLDecodeError:
        left = {_SECTION: section}
    if left.get(_SECTION):
        raise ConfigError(
            f"the settings of [{_SECTION}] cannot be left out of the function's {FILE_NAME}",
            "write each of them on a line of its own, below [aws]",
        )
    return found


def _one(folder: Path, name: str) -> dict[str, bytes]:
    inside = Path(os.path.normpath(name))
    if inside.is_absolute() or inside.parts[:1] == ("..",):
        raise ConfigError(
            f'"{name}" lies outside of the folder of {FILE_NAME}, and cannot be packaged with it',
            "move it into the folder",
        )
    try:
        return {inside.as_posix(): (folder / inside).read_bytes()}
    except OSError as error:
        raise ConfigError(f"cannot read {folder / inside}: {error.strerror}") from None


def _module(folder: Path, module: str) -> Mapping[str, bytes]:
    """The module's file, or all Python files of its package; none where it is installed."""
    top = module.partition(".")[0]
    if (folder / f"{top}.py").is_file():
        return _one(folder, f"{top}.py")
    found: dict[str, bytes] = {}
    for file in sorted((folder / top).rglob("*.py")):
        found |= _one(folder, file.relative_to(folder).as_posix())
    return found
