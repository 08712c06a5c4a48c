"""Runs a program that must not outlive its parent: `python leash.py PROGRAM`.

The parent holds the other end of stdin. When it closes it, or dies in whatever way, the program
and everything in its process group is ended, and its temporary files go with it. Nothing but the
standard library is imported: it is started with `-I -S`, for speed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading

GRACE = 3.0
"""Seconds between asking the program to end and killing it."""


def main(program: list[str]) -> int:
    """The program's exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ddbrelay-", ignore_cleanup_errors=True) as scratch:
        child = subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": scratch},
            process_group=0,
        )
        try:
            threading.Thread(target=_end_with_parent, args=(child,), daemon=True).start()
            return child.wait()
        except KeyboardInterrupt:
            return _end(child)
        finally:
            _kill_group(child.pid)


def _end_with_parent(child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _end(child)


def _end(child: subprocess.Popen[bytes]) -> int:
    child.terminate()
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        _kill_group(child.pid)
        return child.wait()


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # macOS answers PermissionError for a group of which only a zombie is left.
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
