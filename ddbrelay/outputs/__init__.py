"""The JSON Schemas of what commands print under `--output json`: one file for each command.

A schema describes one printed line and stands by itself (draft 2020-12). A line is an object whose
`type` says which of the shapes under `$defs` it has.
"""

from __future__ import annotations

from importlib import resources

_SUFFIX = ".json"


def names() -> list[str]:
    """The commands that have one, sorted; a command of a group is `positions.list`."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX))


def schema_of(name: str) -> bytes:
    """The schema of a command as it stands in its file; KeyError where it has none."""
    if name not in names():
        raise KeyError(name)
    return resources.files(__name__).joinpath(name + _SUFFIX).read_bytes()
