"""Files that the user names: recorded changes that are read, results that are written whole."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ddbrelay.cli.console import append
from ddbrelay.errors import ConfigError
from ddbrelay.text import printable

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


def records(files: Iterable[str], note: Callable[[str], None]) -> Iterator[Record]:
    """The recorded changes of these files; ConfigError with line and column of what is none.

    `note` is told what is left out of records, each kind once a file.
    """
    from ddbrelay.offline import RecordError, records_of

    for file in files:
        notes: dict[str, None] = {}
        try:
            yield from records_of(read(file), notes.setdefault)
        except RecordError as error:
            raise ConfigError(
                f"{name_of(file)}:{error.line}:{error.column}: {error.what}"
            ) from None
        for text in notes:
            note(f"{name_of(file)}: {text}")


def check_writable(target: Path) -> None:
    """ConfigError where `write_whole` will fail, as far as that shows before there is a text."""
    shown = printable(str(target))
    try:
        kind = _kind(target)
        if kind is None or stat.S_ISREG(kind):
            real = _behind_links(target)
            if not real.parent.is_dir():
                folder = printable(str(real.parent))
                raise ConfigError(f"cannot write {shown}: there is no folder {folder}")
            # Permission bits alone do not tell: of a read-only or a full disk, of root.
            with tempfile.TemporaryFile(dir=real.parent):
                return
        if stat.S_ISCHR(kind):
            _try_device(target)
    except OSError as error:
        raise ConfigError(f"cannot write {shown}: {error.strerror}") from None
    if stat.S_ISDIR(kind):
        raise ConfigError(f"cannot write {shown}: it is a folder")
    if _takes_no_text(kind) or not os.access(target, os.W_OK):
        raise ConfigError(f"cannot write {shown}: it takes no text")


def write_whole(target: Path, text: str, *, make_folder: bool = False) -> None:
    """Write the file in one step, so that nobody sees a half of it; ConfigError where it fails.

    A link stays, and the file behind it is written. What is no file, such as a pipe or a device, is
    opened and written to. What stdout or stderr leads to gets the text behind what it has already.
    """
    try:
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        kind, output = _kind(target), _output_at(target)
        if kind is not None and _takes_no_text(kind):
            raise ConfigError(f"cannot write {target}: it takes no text")
        if output is not None:
            append(output, text)
        elif kind is None or stat.S_ISREG(kind):
            _replace(_behind_links(target), text)
        else:
            with target.open("w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None


def _kind(target: Path) -> int | None:
    """The mode of what stands there, links followed; None where nothing does."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return None


def _takes_no_text(kind: int) -> bool:
    """Whether it is a socket, which cannot be opened, or a disk, which would be damaged."""
    return stat.S_ISSOCK(kind) or stat.S_ISBLK(kind)


def _try_device(target: Path) -> None:
    """OSError of a device that takes nothing, as /dev/full does; a terminal is left alone."""
    with target.open("wb", buffering=0) as device:
        if not device.isatty():
            device.write(b"\n")


def _behind_links(target: Path) -> Path:
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def _output_at(target: Path) -> int | None:
    """Which of stdout and stderr leads there: replaced, it would be lost to what is printed."""
    for number in (1, 2):
        try:
            if os.path.samestat(target.stat(), os.fstat(number)):
                return number
        except OSError:
            # Nothing stands there, or that output is closed.
            continue
    return None


def _replace(target: Path, text: str) -> None:
    # The name is known before the file is there, so that no interrupt can leave one behind.
    temporary = target.parent / f".ddbrelay-{uuid4().hex}"
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
