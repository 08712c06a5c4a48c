"""What goes into the package of the function besides ddbrelay itself."""

from __future__ import annotations

import ast
import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbrelay import __version__
from ddbrelay.config import FILE_NAME, env_name
from ddbrelay.config_template import render
from ddbrelay.errors import ConfigError
from ddbrelay.toml_places import Places

if TYPE_CHECKING:
    from ddbrelay.config import Config

_SECTION = "aws"
_MAPPING = (
    *("table", "bus", "source", "entity", "preset", "mapper", "mapper_timeout", "strict"),
    *("envelope", "redact", "claim_check"),
)
_OWN_PACKAGE = "ddbrelay"
"""It comes by requirements.txt, also where the mapping file lies in a checkout of it."""
_WITH_OURS = ("boto3", "botocore", "jmespath", "msgspec", "yaml")
"""What a mapper is likely to import, and ddbrelay brings along."""
_SHOWN = 3
_REMOVED = "# Lambda has its own: "


def function_files(config: Config) -> dict[str, bytes]:
    """The mapping file, the schemas and the modules that it takes, and what pip installs beside.

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
    folder = _folder(config)
    for rule in source.rules:
        if isinstance(name := rule.get("schema"), str):
            files |= _one(folder, name)
    if config.settings.mapper is not None:
        files |= _modules(folder, config.settings.mapper.partition(":")[0])
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


def unpackaged(config: Config) -> str | None:
    """One line about a module of the mapper that cannot be packaged, since it lies elsewhere."""
    mapper = config.settings.mapper
    if mapper is None:
        return None
    folder, top = _folder(config), mapper.partition(":")[0].partition(".")[0]
    if _sources(folder, top):
        return None
    return (
        f"the module {top} of the mapper does not lie beside {FILE_NAME} ({folder}) and is not "
        "packaged: name what it is installed from in function/requirements.txt"
    )


def incomplete(config: Config) -> list[str]:
    """One line about what a mapper imports from elsewhere, and one about files beside its code."""
    mapper = config.settings.mapper
    if mapper is None:
        return []
    folder, top = _folder(config), mapper.partition(":")[0].partition(".")[0]
    code = {name: text for name, text in _modules(folder, top).items() if name.endswith(".py")}
    notes = []
    imported = {one for name, text in code.items() for one in _imported(text, name)}
    own = {_OWN_PACKAGE, *_WITH_OURS, *sys.stdlib_module_names}
    if elsewhere := sorted(one for one in imported - own if not _sources(folder, one)):
        notes.append(
            f"the mapper imports {', '.join(elsewhere)}, which is not packaged: name what it is "
            "installed from in function/requirements.txt"
        )
    packages = sorted({name.partition("/")[0] for name in code if "/" in name})
    beside = [
        file.relative_to(folder).as_posix()
        for one in packages
        for file in sorted((folder / one).rglob("*"))
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    ]
    if beside:
        more = f" and {len(beside) - _SHOWN} more" if len(beside) > _SHOWN else ""
        notes.append(
            f"only the code of the mapper is packaged: copy {', '.join(beside[:_SHOWN])}{more} "
            "into function/ where it reads that"
        )
    return notes


def _folder(config: Config) -> Path:
    return config.file.parent if config.file is not None else Path.cwd()


def _modules(folder: Path, module: str) -> dict[str, bytes]:
    """The module, or all of its package, and what lies beside and is imported by them."""
    found: dict[str, bytes] = {}
    waiting, seen = [module.partition(".")[0]], {_OWN_PACKAGE, *sys.stdlib_module_names}
    while waiting:
        top = waiting.pop()
        if top in seen:
            continue
        seen.add(top)
        for file in _sources(folder, top):
            name = file.relative_to(folder).as_posix()
            found |= _one(folder, name)
            waiting += _imported(found[name], name)
    return found


def _sources(folder: Path, top: str) -> list[Path]:
    module = folder / f"{top}.py"
    return [module] if module.is_file() else sorted((folder / top).rglob("*.py"))


def _imported(code: bytes, name: str) -> list[str]:
    """The first parts of the names of the modules that this code imports."""
    found: list[str] = []
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{name} is not Python: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append(node.module)
    return [one.partition(".")[0] for one in found]
