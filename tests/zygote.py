"""Runs `ddbrelay` many times, each time in a fork of one process that has imported what it needs.

A new interpreter spends most of its time on imports, and the tests of the command line run more
than a thousand commands. Everything else is as in a process of its own: directory, environment,
standard streams, signals, exit code. Variables that an interpreter reads when it starts need a real
one: `needs_an_interpreter` says so.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "FAKETIME")
_APART = ("ddbrelay.local.moto", "ddbrelay.testing", "ddbrelay.__main__")
"""What no ordinary command imports: all of moto, and pytest."""


def needs_an_interpreter(environment: Mapping[str, str]) -> bool:
    """Whether these variables, beside the caller's, change how Python starts."""
    return any(name.startswith(_AT_START) for name in environment)


class Zygote:
    """The process that is forked; it ends with its owner."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._files = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115

    def run(
        self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of `python -m ddbrelay` with these words does it, in text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {
            "words": command[3:],
            "cwd": str(cwd),
            "environment": dict(environment),
            "timeout": timeout,
            "outputs": [file.name for file in self._files],
        }
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        out, err = (Path(file.name).read_bytes().decode() for file in self._files)
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout, out, err)
        return subprocess.CompletedProcess(list(command), code, out, err)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        for file in self._files:
            file.close()


# In the process itself


def _serve() -> None:
    _import_all()
    gc.collect()
    gc.freeze()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked)
        answer = _wait(pid, asked["timeout"])
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _import_all() -> None:
    import ddbrelay

    for name in ("boto3", "faker", "aiohttp", "rich.live", "rich.table", "uvloop"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(ddbrelay.__path__, "ddbrelay."):
        if not module.name.startswith(_APART):
            importlib.import_module(module.name)


def _wait(pid: int, timeout: float) -> int | None:
    ended = os.pidfd_open(pid)
    try:
        in_time, _, _ = select.select([ended], [], [], timeout)
        if not in_time:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    finally:
        os.close(ended)
    return os.waitstatus_to_exitcode(status) if in_time else None


def _become(asked: dict[str, Any]) -> NoReturn:
    flags = os.O_WRONLY | os.O_TRUNC | os.O_APPEND
    targets = [os.open(os.devnull, os.O_RDONLY), *(os.open(one, flags) for one in asked["outputs"])]
    for number, target in enumerate(targets):
        os.dup2(target, number)
        os.close(target)
    sys.stdin = open(0, encoding=sys.stdin.encoding, closefd=False)  # noqa: SIM115
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    sys.argv = ["ddbrelay", *asked["words"]]
    # `python -m` puts the working directory there.
    sys.path[0] = asked["cwd"]
    importlib.invalidate_caches()
    os._exit(_run())


def _run() -> int:
    from ddbrelay.__main__ import run

    code: Any = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    # What an interpreter does at its end.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)


if __name__ == "__main__":
    _serve()
