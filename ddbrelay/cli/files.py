"""Files that the user names: recorded changes that are read, results that are written whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ddbrelay.errors import ConfigError
from ddbrelay.words import printable

if TYPE_CHECKING:
    from ddbrelay.flow.capture import Record

STDIN = "-"
"""Stands for standard input."""


def name_of(file: str) -> str:
    """The file as it is called in a message."""
    return "standard input" if file == STDIN else printable(file)


def read(file: str) -> bytes:
    """The whole file; ConfigError where it cannot be read."""
    if file == STDIN and sys.stdin is None:
        raise ConfigError("standard input is closed", "name a file, or pipe it in")
    try:
        return sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {name_of(file)}: {error.strerror}") from None


def records(files: Iterable[str]) -> Iterator[Record]:
    """The recorded changes of these files; ConfigError with line and column of what is none."""
    from ddbrelay.offline import RecordError, records_of

    for file in files:
        try:
            yield from records_of(read(file))
        except RecordError as error:
            raise ConfigError(
                f"{name_of(file)}:{error.line}:{error.column}: {error.what}"
            ) from None


def write_whole(target: Path, text: str, *, make_folder: bool = False) -> None:
    """Write the file in one step, so that nobody sees a half of it; ConfigError where it fails."""
    temporary: str | None = None
    try:
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None
    finally:
        if temporary is not None:
            os.unlink(temporary)
