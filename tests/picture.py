"""Draws `examples/demo.svg`, the picture of the README, from a demo that runs while it is drawn.

python -m tests.picture
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ddbrelay.cli.recording import picture

PICTURE = Path(__file__).parent.parent / "examples" / "demo.svg"
COMMAND = ("ddbrelay", "demo", "--count", "8")
COLUMNS = 100
_UNSEEN = {"\r", "\x1b[?25l", "\x1b[?25h", "\x1b[?2026h", "\x1b[?2026l"}
_MOVE = re.compile(r"(\r|\n|\x1b\[[0-9;?]*[A-HJ-Zfhl])")


def main() -> None:
    """Run the demo and write the picture; fails when the demo does."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), " ".join(COMMAND)))
    for line in final_screen(record()):
        console.print(Text.from_ansi(line), soft_wrap=False, overflow="fold")
    PICTURE.write_text(picture(console, "ddbrelay demo"), encoding="utf-8")


def record() -> str:
    """What the demo writes to a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    foreign = ("AWS_", "DDBRELAY_", "COLUMNS", "LINES", "NO_COLOR")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-P", "-m", *COMMAND],
            cwd=folder,
            env=environment | {"TERM": "xterm-256color", "DDBRELAY_STATE_DIR": folder},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        ) as process,
    ):
        os.close(slave)
        written = b""
        while chunk := _read(master):
            written += chunk
        os.close(master)
    if process.returncode:
        sys.exit(f"the demo ended with {process.returncode}:\n{written.decode()}")
    return written.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:
        # Linux answers EIO when the last one has closed the other side.
        return b""


def written_to(console: Console) -> str:
    """What a console of a test has put into its `StringIO`, also while something is drawn there."""
    file = getattr(console.file, "file", console.file)
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def final_screen(written: str) -> list[str]:
    """The lines that stand in the end, with their colours, of a terminal that has room for all.

    Knows what rich's Live does and nothing else: go up, clear the line, write lines from their
    first column, hide and show the cursor; and that a drawing is shown at once.
    """
    lines, at = [""], 0
    for part in _MOVE.split(written):
        if part == "\n":
            at += 1
            lines += [""] * (at - len(lines) + 1)
        elif part == "\x1b[2K":
            lines[at] = ""
        elif part == "\x1b[1A":
            at -= 1
        elif part not in _UNSEEN:
            if _MOVE.fullmatch(part):
                sys.exit(f"the cursor moves in a way not known here: {part!r}")
            lines[at] += part
    while not lines[-1]:
        lines.pop()
    return lines


if __name__ == "__main__":
    main()
