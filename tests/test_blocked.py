"""Whatever blocks a run: output that nobody reads, and code that does not return."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from conftest import Cli
from gateway import gateway_to
from pipeline import ON_MOTO, Pipeline, checkpoint, rows

from ddbrelay.aws.session import Aws
from ddbrelay.cli.outlet import Outlet
from ddbrelay.local import engine as engines

Waiter = Callable[[Callable[[], bool], float], None]


class Reader:
    """What an outlet writes to: it takes a byte for each that it is allowed."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self._allowed = threading.Semaphore(0)
        self.error: OSError | None = None

    def allow(self, number: int) -> None:
        self._allowed.release(number)

    def __call__(self, text: memoryview) -> int:
        self._allowed.acquire()
        if self.error is not None:
            raise self.error
        self.taken += text[:1]
        return 1


def test_an_outlet_leaves_lines_out_once_too_much_waits_and_counts_them() -> None:
    reader = Reader()
    outlet = Outlet(reader, limit=8)
    for line in (b"one\n", b"two\n", b"three\nfour\n", b"", b"five\n"):
        outlet.put(line)
    assert (outlet.waiting, outlet.left_out) == (8, 3)
    assert not outlet.drain(patience=0)
    reader.allow(8)
    assert outlet.drain(patience=30)
    outlet.put(b"six\n")
    reader.allow(4)
    assert outlet.drain(None)
    outlet.close()
    assert (bytes(reader.taken), outlet.left_out) == (b"one\ntwo\nsix\n", 3)


def test_a_text_larger_than_the_limit_passes_where_nothing_waits() -> None:
    reader = Reader()
    reader.allow(20)
    outlet = Outlet(reader, limit=8)
    outlet.put(b"longer than that\n")
    assert outlet.drain(30)
    outlet.close()
    assert (bytes(reader.taken), outlet.left_out) == (b"longer than that\n", 0)


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_an_outlet_that_cannot_write_tells_at_once_and_holds_nobody(error: int) -> None:
    reader, broken = Reader(), threading.Event()
    reader.error = OSError(error, os.strerror(error))
    outlet = Outlet(reader)
    outlet.when_broken = broken.set
    outlet.put(b"line\n" * 1000)
    reader.allow(1)
    assert broken.wait(30)
    assert outlet.waiting == 0
    outlet.close()


def test_what_still_waits_when_an_outlet_is_closed_counts_as_left_out() -> None:
    reader = Reader()
    outlet = Outlet(reader)
    for _ in range(3):
        outlet.put(b"line\n")
    assert not outlet.drain(patience=60, limit=0)
    outlet.close()
    reader.allow(5)
    assert outlet.drain(None, limit=0) or outlet.left_out >= 2


def test_an_outlet_whose_reader_left_says_so_and_takes_nothing_more() -> None:
    reader, left = Reader(), threading.Event()
    reader.error = BrokenPipeError(32, "Broken pipe")
    outlet = Outlet(reader)
    outlet.when_broken = left.set
    outlet.put(b"line\n")
    reader.allow(1)
    assert left.wait(30)
    assert outlet.broken
    assert outlet.drain(None)
    outlet.put(b"line\n")
    outlet.close()


# --- whole runs


@contextmanager
def unread(cli: Cli, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command whose stdout is a pipe of a page that nobody reads; the end to read it from."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen(
        cli.arguments(*words),
        cwd=cli.directory,
        env=cli.env(),
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write)
        try:
            yield process, read
        finally:
            process.kill()
            with suppress(OSError):
                os.close(read)


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


def fill(pipe: Pipeline, number: int = 12) -> None:
    for key in range(number):
        pipe.put(f"k{key}", filler={"S": "x" * 2000})


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize("output", ["lines", "json"])
def test_a_relay_goes_on_and_ends_cleanly_where_nobody_reads_its_output(
    cli: Cli, pipe: Pipeline, wait_until: Waiter, output: str
) -> None:
    fill(pipe)
    words = ("tail", "--forward", "--detail", "--grace", "0.5s", "--output", output)
    with unread(cli, *words) as (process, _):
        wait_until(lambda: checkpoint(cli) == pipe.sequences()[-1], 30)
        fill(pipe)
        wait_until(lambda: checkpoint(cli) == pipe.sequences()[-1], 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert "output left out" in said
    assert len(pipe.received()) == 24


@pytest.mark.slow
@ON_MOTO
def test_a_preview_waits_for_its_reader_and_leaves_nothing_out(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    fill(pipe)
    with unread(cli, "tail", "--until-idle", "0", "--output", "json") as (process, read):
        with open(read, "rb", closefd=False) as reader:
            lines = reader.readlines()
        assert process.wait(30) == 0
    assert len(lines) == 13
    assert b'"leftOut":0' in lines[-1]


@pytest.mark.slow
@ON_MOTO
def test_a_preview_that_nobody_reads_ends_at_a_signal(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    fill(pipe)
    with unread(cli, "tail", "--grace", "0.5s", "-v") as (process, read):
        # Its first page stands in the pipe.
        os.set_blocking(read, True)
        assert os.read(read, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def parked(cli: Cli, engine: engines.Engine, pipe: Pipeline) -> Pipeline:
    """A pipeline of which 60 changes are parked: the lines of their redrive fill a pipe."""
    for key in range(60):
        pipe.put(f"k{key}-{'x' * 200}")
    with gateway_to(engine) as gateway:
        gateway.answers["PutEvents"] = (400, "ValidationException")
        direct = cli.environment["DDBRELAY_ENDPOINT_URL"]
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        done = cli.run("tail", "--forward", "--until-idle", "0", "--output", "json")
        cli.environment["DDBRELAY_ENDPOINT_URL"] = direct
    assert (done.returncode, letters(cli)) == (3, 60)
    return pipe


def letters(cli: Cli) -> int:
    ((count,),) = rows(cli, "SELECT count(*) FROM dead_letters")
    return int(count)


REDRIVE = ("dead-letters", "redrive", "--all", "--grace", "0.5s", "--output", "json")


@pytest.mark.slow
@ON_MOTO
def test_a_redrive_that_nobody_reads_sends_everything_and_leaves_the_letters_unlocked(
    cli: Cli, parked: Pipeline
) -> None:
    with unread(cli, *REDRIVE) as (process, _):
        assert process.wait(30) == 0
        assert process.stderr is not None
        words = process.stderr.read().decode()
    assert "output left out" in words
    assert (letters(cli), len(parked.received())) == (0, 60)
    assert cli.run("dead-letters", "drop", "--all", "--yes").returncode == 0


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize(("signals", "code"), [(1, 0), (2, 130)])
def test_a_redrive_that_nobody_reads_hears_each_signal(
    cli: Cli,
    engine: engines.Engine,
    parked: Pipeline,
    wait_until: Waiter,
    signals: int,
    code: int,
) -> None:
    with gateway_to(engine) as gateway:
        # 40 lines are several times what the pipe takes; later requests are not answered.
        gateway.passing["PutEvents"] = 4
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        with unread(cli, *REDRIVE) as (process, _):
            wait_until(lambda: gateway.calls["PutEvents"] > 4 and letters(cli) <= 20, 30)
            process.send_signal(signal.SIGTERM)
            if signals == 2:
                process.send_signal(signal.SIGINT)
            assert process.wait(30) == code
            gateway.release.set()


@pytest.mark.slow
@ON_MOTO
def test_a_redrive_whose_reader_leaves_stops_and_says_so(
    cli: Cli, engine: engines.Engine, parked: Pipeline, wait_until: Waiter
) -> None:
    with gateway_to(engine) as gateway:
        gateway.passing["PutEvents"] = 2
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        with unread(cli, *REDRIVE) as (process, read):
            wait_until(lambda: gateway.calls["PutEvents"] > 2, 30)
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), read)
            assert process.wait(30) == 7
            gateway.release.set()
            assert process.stderr is not None
            assert b"whoever read standard output has left" in process.stderr.read()
    assert letters(cli) > 0


def unread_bytes(process: subprocess.Popen[bytes]) -> int:
    """What waits in the pipe of its stdout."""
    number = array.array("i", [0])
    fcntl.ioctl(process.stdout, termios.FIONREAD, number)
    return number[0]


STUCK = """
import asyncio, re, signal, sys, time
from ddbrelay.cli.signals import run_until_signal

async def main(stop):
    print("ready", flush=True)
    await asyncio.sleep(0)
    {stuck}

import ddbrelay.cli.main as entry
import uvloop
entry.cli.main = lambda **_: run_until_signal(main, {factory})
entry.main([])
"""


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["None", "uvloop.new_event_loop"])
@pytest.mark.parametrize(
    "stuck",
    [
        "while True: pass",
        "time.sleep(3600)",
        're.search("(a|aa)+$", "a" * 100 + "!")',
        "sys.stdout.write('x' * 10_000_000)",
        "await asyncio.to_thread(time.sleep, 3600)",
    ],
)
def test_the_second_signal_ends_with_130_whatever_blocks_the_loop(
    stuck: str, factory: str, wait_until: Waiter
) -> None:
    code = STUCK.replace("{stuck}", stuck).replace("{factory}", factory)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            if "write" in stuck:
                # A signal just before a call that waits is seen by Python when that returns.
                full = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)
                wait_until(lambda: unread_bytes(process) == full, 30)
            # Two of one kind may be delivered as one.
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 130
            assert process.stderr is not None
            assert process.stderr.read() == b"error: interrupted\n"
        finally:
            process.kill()


AT_THE_END = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
import ddbrelay.cli.main as entry

def interrupted(**_):
    # The interpreter waits for these at its end.
    ThreadPoolExecutor(1).submit(time.sleep, 3600)
    threading.Thread(target=time.sleep, args=(3600,)).start()
    raise KeyboardInterrupt

entry.cli.main = interrupted
entry.main([])
"""


@pytest.mark.slow
def test_an_interrupted_command_ends_whatever_its_threads_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"error: interrupted\n")


def test_a_first_signal_reaches_a_loop_that_turns() -> None:
    from ddbrelay.cli.signals import run_until_signal

    async def main(stop: asyncio.Event) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 30)
        return "ended by itself"

    import uvloop

    assert run_until_signal(main, uvloop.new_event_loop) == "ended by itself"
