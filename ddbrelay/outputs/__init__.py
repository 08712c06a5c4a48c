"""The JSON Schemas of what commands print under `--output json`, one for each command.

A schema describes one printed line and stands by itself (draft 2020-12). A line is an object whose
`type` says which of the shapes under `$defs` it has. It is made of the Structs in
`ddbrelay.output`; for a command that prints none yet there is a file here.
"""

from __future__ import annotations

from importlib import resources

import msgspec

from ddbrelay.output import schema

_SUFFIX = ".json"


def names() -> list[str]:
    """The commands that have one, sorted; a command of a group is `positions.list`."""
    return sorted(schema.COMMANDS.keys() | _files())


def schema_of(name: str) -> bytes:
    """The schema of a command as a JSON document; KeyError where it has none."""
    if name in _files():
        return resources.files(__name__).joinpath(name + _SUFFIX).read_bytes()
    return msgspec.json.encode(schema.schema_of(name))


def _files() -> set[str]:
    files = (file.name for file in resources.files(__name__).iterdir())
    return {name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)}
