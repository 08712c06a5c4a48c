"""One variant over one set of changes, as a process of its own on a core of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import work

ROOT = Path(__file__).parent.parent.parent
LONGEST = 600.0
VARIANTS = {
    "a": "boto3, one event a call",
    "b": "boto3, ten a call",
    "c": "boto3, ten, 32 threads",
    "d": "ddbrelay tail --forward",
    "dj": "... with JSON to a file",
    "e": "bound: bare sockets",
}


class RunFailed(Exception):
    """A variant did not come to its end; what it said."""


@dataclass(frozen=True)
class Cell:
    """What the changes are like: latency in ms, number of shards, size of an item in KB."""

    latency: float
    shards: int
    items: float

    def __str__(self) -> str:
        return f"{self.latency:g} ms, {self.shards} shards, items of {self.items:g} KB"


@dataclass(frozen=True)
class Result:
    """One run; `cpu` and `idle_cpu` (an empty run's) in seconds, `peak` in MB."""

    variant: str
    records: int
    cpu: float
    idle_cpu: float
    peak: float
    books: dict[str, Any]

    @property
    def seconds(self) -> float:
        """From the first GetRecords to the last accepted event."""
        return float(self.books["seconds"] or 0.0)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.books["accepted"] / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_thousand(self) -> float:
        """CPU milliseconds of 1000 events, start and idle polling taken off."""
        return max(self.cpu - self.idle_cpu, 0.0) * 1e6 / max(self.books["accepted"], 1)

    @property
    def standin_load(self) -> float:
        """The part of its core that the stand-in needed; near 1 it was what held the run up."""
        return self.books["standin_cpu"] / self.seconds if self.seconds else 0.0


@dataclass
class Bench:
    """The stand-in, and the processes that are measured against it."""

    port: int
    cores: list[int]
    folder: Path
    tail_options: list[str] = field(default_factory=list)
    profile: Path | None = None
    _idle: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def control(self, name: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the stand-in for something."""
        body = json.dumps(asked or {}).encode()
        request = urllib.request.Request(f"{self.url}/control/{name}", body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    def configure(self, cell: Cell, records: int, **more: Any) -> int:
        """Set up a run of so many records; how many make a full page."""
        asked = {"shards": cell.shards, "items": cell.items, "records": records, **more}
        return int(
            self.control("configure", {"latency": cell.latency / 1000, **asked})["page_records"]
        )

    def run(self, variant: str, cell: Cell, records: int) -> Result:
        """Relay about so many records: whole pages, or tens where a page is too many."""
        page = self.configure(cell, 0)
        records = max(records // page * page or records // 10 * 10, 10)
        key = (variant, cell.shards)
        if key not in self._idle:
            self._idle[key] = self.process(variant, cell, 0)[0]
        self.configure(cell, records)
        cpu, peak = self.process(variant, cell, records)
        return Result(variant, records, cpu, self._idle[key], peak, self.control("report"))

    def process(self, variant: str, cell: Cell, records: int, *options: str) -> tuple[float, float]:
        """Run a variant to its end; its CPU seconds and its peak memory in MB. Raises RunFailed."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            if variant in {"d", "dj"}:
                words = self._tail(variant, place, records, options)
                printed = Path(place, "events.jsonl")
            else:
                module = "tests.benchmarks.clients"
                words = [sys.executable, "-m", module, variant, str(records), str(cell.items)]
                printed = Path(os.devnull)
            with printed.open("wb") as out, Path(place, "errors").open("w+") as errors:
                process = subprocess.Popen(
                    words,
                    cwd=place,
                    env=self._environment(place),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=errors,
                    preexec_fn=self._pin_client,
                )
                cpu, peak, code = _wait(process)
                errors.seek(0)
                if code != 0:
                    raise RunFailed(
                        f"{shlex.join(words)} ended with {code}:\n{errors.read()[-2000:]}"
                    )
        return cpu, peak

    def _tail(self, variant: str, place: str, records: int, options: tuple[str, ...]) -> list[str]:
        python = [sys.executable]
        if self.profile is not None and records:
            python += ["-m", "cProfile", "-o", str(self.profile.absolute())]
        output = ["-q", "--output", "lines"] if variant == "d" else ["-q", "--output", "json"]
        # The state is a file on a disk, as it is for a user.
        return [
            *python,
            *["-m", "ddbrelay", "tail", "--forward", "--table", work.TABLE, "--bus", work.BUS],
            *["--until-idle", "1s", *output],
            *self.tail_options,
            *options,
        ]

    def _environment(self, place: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("AWS_", "DDBRELAY_", "HTTP"))
        }
        return {
            **kept,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": work.REGION,
            "AWS_REGION": work.REGION,
            "AWS_ENDPOINT_URL": self.url,
            "DDBRELAY_STATE_DIR": str(Path(place, "state")),
            "PYTHONPATH": str(ROOT),
        }

    def _pin_client(self) -> None:
        if len(self.cores) > 1:
            os.sched_setaffinity(0, {self.cores[-1]})


def _wait(process: subprocess.Popen[bytes]) -> tuple[float, float, int]:
    patience = threading.Timer(LONGEST, process.kill)
    patience.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        patience.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    # A process starts with the peak of the one that made it, which is why this one stays small.
    scale = 1_000_000 if sys.platform == "darwin" else 1000
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale, process.returncode


def usable_cores() -> list[int]:
    """The cores that this process may use; empty where one cannot ask."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def bench() -> Iterator[Bench]:
    """Run the stand-in, on the first core, until the block is left."""
    cores = usable_cores()

    def pin() -> None:
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[0]})

    with tempfile.TemporaryDirectory(prefix="ddbrelay-benchmark-") as folder:
        standin = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.standin"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=pin,
        )
        assert standin.stdin is not None
        assert standin.stdout is not None
        try:
            line = standin.stdout.readline()
            if not line:
                raise RuntimeError("the stand-in does not start: pip install -e '.[dev]'")
            yield Bench(int(line), cores, Path(folder))
        finally:
            standin.stdin.close()
            try:
                standin.wait(5)
            except subprocess.TimeoutExpired:
                standin.kill()
                standin.wait()
            standin.stdout.close()
