"""Runs many command lines, each in a fork of one process that has imported everything.

`python forked.py` reads a JSON array of command lines from standard input and prints, for each in
its order, an array of its exit code, its stdout and its stderr. The stdin of each is a pipe into
which nothing comes and that never ends; one that still runs after `PATIENCE` seconds is ended, and
its exit code is then negative.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
from typing import Any

import boto3  # noqa: F401

from ddbrelay.cli.main import COMMANDS, main

PATIENCE = 20
for name in ("export.model", "library", "mappings", "relay", "schemas", "stores.letters"):
    importlib.import_module(f"ddbrelay.{name}")
for name in ("letters", "relaying", "standing", "verification", *COMMANDS.values()):
    importlib.import_module(f"ddbrelay.cli.{name}")


def run(words: list[str]) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            for theirs, ours in enumerate((reader, out.fileno(), err.fileno())):
                os.dup2(ours, theirs)
            _child(words)
        os.close(reader)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(writer)
        return code, *(_text(file) for file in (out, err))


def _child(words: list[str]) -> None:
    signal.alarm(PATIENCE)
    code: Any = 1
    try:
        main(words)
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _text(file: Any) -> str:
    file.seek(0)
    return file.read().decode()


if __name__ == "__main__":
    lines = json.loads(sys.stdin.buffer.read())
    print(json.dumps([run(words) for words in lines]))
