"""The official DynamoDB Local as a process on an emulated clock, and what stands in for it.

It is licensed to holders of an AWS account in good standing only, and must not be redistributed:
it is never fetched, and runs only where its user names its folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dynamodb_local_stand_in
import faketime
import pytest

from ddbrelay.local import engine as engines
from ddbrelay.local import leash

JAR = "DynamoDBLocal.jar"
# Read when the tests are collected: afterwards the variables of the caller are taken away.
_FOLDER = os.environ.get("DDBRELAY_DYNAMODB_LOCAL")
_READY_TIMEOUT = 60.0


def required_folder() -> Path:
    """Where the jar lies; the test is skipped where its user has not switched it on."""
    if not _FOLDER:
        pytest.skip(
            "DDBRELAY_DYNAMODB_LOCAL names no folder with Amazon's DynamoDB Local 2.x; by its "
            "licence only holders of an AWS account in good standing may use it"
        )
    folder = Path(_FOLDER).expanduser().resolve()
    if not (folder / JAR).is_file():
        pytest.fail(f"DDBRELAY_DYNAMODB_LOCAL={_FOLDER}: there is no {JAR} in it")
    return folder


def stand_in(scratch: Path) -> tuple[Path, str]:
    """A folder with an empty jar, and a `java` that runs ministack in its place."""
    folder = scratch / "jar"
    folder.mkdir()
    (folder / JAR).touch()
    program = scratch / "java"
    words = shlex.join([sys.executable, str(Path(dynamodb_local_stand_in.__file__).resolve())])
    program.write_text(
        f'#!/bin/sh\nPRELOADED="$LD_PRELOAD" exec env -u LD_PRELOAD {words} "$@"\n',
    )
    program.chmod(0o755)
    return folder, str(program)


@contextmanager
def running(
    folder: Path, clock: Mapping[str, str], scratch: Path, java: str | None = None
) -> Iterator[int]:
    """The port at which the jar answers until the block is left; `clock` as faketime.py has it.

    It listens on all interfaces, which it offers no option against.
    """
    java = java or shutil.which("java")
    if java is None:
        pytest.fail("DynamoDB Local needs Java 17 or newer on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    script = faketime.wrapped(java, clock, scratch / "java-on-its-clock")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, str(script), *arguments(port)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            deadline = time.monotonic() + _READY_TIMEOUT
            while not engines.answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    pytest.fail(f"it did not start: {log.read().decode(errors='replace')}")
                time.sleep(0.05)
            yield port
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(leash.GRACE + 10)


def arguments(port: int) -> list[str]:
    """What the jar is started with."""
    return [
        "-Djava.library.path=./DynamoDBLocal_lib",
        "-jar",
        JAR,
        "-sharedDb",
        "-disableTelemetry",
        "-inMemory",
        "-port",
        str(port),
    ]
