"""Removes the guards one at a time, and shows that some test fails without each.

    python -m tests.mutations            all of them, in two processes
    python -m tests.mutations trimmed    those whose name has this word

Run by hand: it takes a while. The copy of the project that lacks a guard is tested in a directory
of its own: first the tests next to the guard, then all that is pure or simulated, then simulated
days. A guard that no test misses is a survivor, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guards import GUARDS, Guard

ROOT = Path(__file__).parent.parent
WIDER = (
    [
        "tests/test_lineage.py",
        "tests/test_reader.py",
        "tests/test_tracking.py",
        "tests/test_packing.py",
        "tests/test_sink.py",
        "tests/test_change.py",
        "tests/test_mapping.py",
        "tests/test_engine.py",
        "tests/test_engine_ends.py",
        "tests/test_engine_gaps.py",
        "tests/test_engine_lineage.py",
        "tests/test_store.py",
        "tests/test_transport.py",
        "tests/test_wide.py",
    ],
    ["tests/test_simulation.py"],
)
"""What is tested when the nearest tests do not notice, one list after the other."""


@dataclass(frozen=True)
class Verdict:
    """The first test that fails without the guard; None when all pass."""

    guard: Guard
    failed: str | None
    seconds: float


def removed(guard: Guard) -> Verdict:
    """Test a copy of the project without the guard, the nearest tests first."""
    started = time.monotonic()
    with _copy() as copy:
        file = copy / guard.file
        text = file.read_text()
        if text.count(guard.there) != 1:
            raise SystemExit(f"{guard.file} has not exactly one place for: {guard.name}")
        file.write_text(text.replace(guard.there, guard.gone))
        failed = None
        for tests in ([guard.tests], *WIDER):
            failed = _first_failure(copy, tests)
            if failed is not None:
                break
    return Verdict(guard, failed, time.monotonic() - started)


def check_that_all_passes(guards: list[Guard]) -> None:
    """SystemExit when a test fails with all guards in place: it would prove nothing."""
    tests = {guard.tests for guard in guards}.union(*WIDER)
    with _copy() as copy:
        failed = _first_failure(copy, sorted(tests))
    if failed is not None:
        raise SystemExit(f"{failed} fails although no guard is removed")


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ddbrelay-mutation-") as folder:
        copy = Path(folder)
        for part in ("ddbrelay", "tests", "examples"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / part, copy / part)
        yield copy


def _first_failure(copy: Path, tests: list[str]) -> str | None:
    # Those that wait are for the nearest tests only: simulated days are many enough without them.
    marks = "not slow" if tests == WIDER[-1] else ""
    plain = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", marks]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *tests],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else f"{tests[0]} (exit code {done.returncode})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations")
    parser.add_argument("words", nargs="*", help="only guards whose name has one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    guards = [
        guard
        for guard in GUARDS
        if not chosen.words or any(word in guard.name for word in chosen.words)
    ]
    check_that_all_passes(guards)
    print("| guard | row | first test that fails without it |\n|---|---|---|")
    survivors = 0
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for verdict in pool.map(removed, guards):
            survivors += verdict.failed is None
            failed = f"`{verdict.failed}`" if verdict.failed else "**none: it survives**"
            print(f"| {verdict.guard.name} | {verdict.guard.row or ''} | {failed} |", flush=True)
    print(f"\n{len(guards)} guards, {survivors} survivors", file=sys.stderr)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
