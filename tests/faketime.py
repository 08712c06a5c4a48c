"""A clock that tests set: Debian's libfaketime, loaded into a process before everything else.

It is looked for in `DDBRELAY_FAKETIME`, then where Debian puts it. It must be the variant that
locks, `libfaketimeMT.so.1`: in the other one a second thread now and then sees the real time
(https://github.com/wolfcw/libfaketime/pull/547). Version 0.9.10 breaks `time.sleep` of Python
3.11 when the monotonic clock stays real, so a process on a `SteppedClock` must wait on a loop, a
lock or a socket (https://github.com/wolfcw/libfaketime/issues/426).
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

_NAME = "libfaketimeMT.so.1"
# Read when the tests are collected: afterwards the variables of the caller are taken away.
_GIVEN = os.environ.get("DDBRELAY_FAKETIME")
_SHARED = Path("/dev/shm")


def library() -> Path | None:
    """The file to preload, None where it is not installed."""
    usual = [*Path("/usr/lib").glob(f"*/faketime/{_NAME}"), Path("/usr/lib/faketime", _NAME)]
    candidates = [Path(_GIVEN)] if _GIVEN else usual
    return next((path.resolve() for path in candidates if path.is_file()), None)


def required_library() -> Path:
    """The same; without it the test is skipped, and fails where CI is set."""
    found = library()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs faketime, yet libfaketimeMT.so.1 was not found")
        pytest.skip("libfaketime is not installed (Debian: apt-get install faketime)")
    return found


class SteppedClock:
    """Wall-clock time that jumps when the test says so, for every process on it at once.

    A process is on it when it was started with `environment`. Its monotonic clock stays real.
    """

    def __init__(self, preload: Path, file: Path) -> None:
        self._file = file
        self.offset = 0
        self.environment = {
            "LD_PRELOAD": str(preload),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
        }
        self.step(0)

    @property
    def now(self) -> float:
        """Epoch seconds on this clock."""
        return time.time() + self.offset

    def step(self, seconds: int) -> None:
        """Jump ahead."""
        self.offset += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"+{self.offset}\n")
        # Whole or not at all: every process reads it at every look at the clock.
        new.replace(self._file)


def fast(preload: Path, times: int) -> dict[str, str]:
    """The environment of a process for which time runs so many times faster."""
    return {
        "LD_PRELOAD": str(preload),
        "FAKETIME": f"+0 x{times}",
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
    }


def wrapped(program: str, environment: Mapping[str, str], script: Path) -> Path:
    """A script that becomes the program with these variables, whatever its own are."""
    words = ["env", *(f"{name}={value}" for name, value in environment.items()), program]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)
    return script


def sweep() -> None:
    """Remove the shared memory that libfaketime leaves behind for processes that were killed."""
    for file in [*_SHARED.glob("faketime_shm_*"), *_SHARED.glob("sem.faketime_sem_*")]:
        gone = not Path("/proc", file.name.rpartition("_")[2]).exists()
        if gone and file.owner() == Path("/proc/self").owner():
            file.unlink(missing_ok=True)
