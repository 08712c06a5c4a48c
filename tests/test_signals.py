"""Stopping on a signal, in synchronous and in asyncio code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ddbrelay.cli.signals import asyncio_stop, run_until_signal, stop_on_signals

STOPPERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", STOPPERS)
def test_the_first_signal_only_sets_the_flag(number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        assert stop.wait(60)


@pytest.mark.parametrize("number", STOPPERS)
def test_the_second_signal_raises_keyboard_interrupt(number: signal.Signals) -> None:
    with stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_a_wait_ends_when_the_signal_comes() -> None:
    with stop_on_signals() as stop:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        started = time.monotonic()
        assert stop.wait(60)
        assert time.monotonic() - started < 30
        timer.join()


def test_a_wait_without_a_signal_ends_after_its_time() -> None:
    with stop_on_signals() as stop:
        assert not stop.wait(0)
        assert not stop.wait(-1)


def test_earlier_handlers_are_back_even_after_an_error() -> None:
    before = [signal.getsignal(number) for number in STOPPERS]
    with contextlib.suppress(ZeroDivisionError), stop_on_signals():
        assert [signal.getsignal(number) for number in STOPPERS] != before
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in STOPPERS] == before


def test_a_hang_up_that_the_caller_ignores_stays_ignored() -> None:
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.mark.parametrize("number", STOPPERS)
def test_in_asyncio_the_first_signal_sets_the_event(number: signal.Signals) -> None:
    async def main() -> str:
        with asyncio_stop() as stop:
            signal.raise_signal(number)
            await asyncio.wait_for(stop.wait(), 20)
            return "went on to its end"

    assert asyncio.run(main()) == "went on to its end"


def test_in_asyncio_the_second_signal_cancels_and_ends_in_keyboard_interrupt() -> None:
    cleaned = []

    async def main() -> None:
        with asyncio_stop() as stop:
            try:
                signal.raise_signal(signal.SIGINT)
                await stop.wait()
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(60)
            finally:
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert cleaned == [True]


def test_in_asyncio_the_second_signal_calls_the_given_function_instead() -> None:
    called = asyncio.Event()

    async def main() -> None:
        with asyncio_stop(second=called.set) as stop:
            signal.raise_signal(signal.SIGINT)
            await stop.wait()
            signal.raise_signal(signal.SIGINT)
            await asyncio.wait_for(called.wait(), 20)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def test_in_asyncio_earlier_handlers_are_back() -> None:
    async def main() -> None:
        before = [signal.getsignal(number) for number in STOPPERS]
        with asyncio_stop():
            pass
        assert [signal.getsignal(number) for number in STOPPERS] == before

    asyncio.run(main())


PROGRAM = """
import asyncio
from ddbrelay.cli.signals import asyncio_stop, run_until_signal, stop_on_signals

def synchronous():
    with stop_on_signals() as stop:
        print("ready", flush=True)
        stop.wait()
        print("stopping", flush=True)
        while True:
            pass

async def on_a_loop():
    with asyncio_stop() as stop:
        print("ready", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        await asyncio.Event().wait()

def asynchronous():
    asyncio.run(on_a_loop())

import ddbrelay.cli.main as entry
entry.cli.main = lambda **_: {body}()
entry.main([])
"""


@pytest.mark.parametrize("body", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_with_130(body: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("{body}", body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for word in ("ready\n", "stopping\n"):
                assert process.stdout.readline() == word
                process.send_signal(number)
            _, words = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert words == "error: interrupted\n"


class _Late(asyncio.SelectorEventLoop):
    """A loop during whose end one more signal comes."""

    def close(self) -> None:
        if not self.is_closed():
            signal.raise_signal(signal.SIGINT)
        super().close()


def test_a_signal_while_the_loop_is_taken_down_changes_nothing() -> None:
    before = [signal.getsignal(number) for number in STOPPERS]

    async def main(stop: asyncio.Event) -> int:
        signal.raise_signal(signal.SIGINT)
        await stop.wait()
        return 7

    assert run_until_signal(main, _Late) == 7
    assert [signal.getsignal(number) for number in STOPPERS] == before


def test_the_second_signal_ends_what_does_not_end_by_itself() -> None:
    async def main(stop: asyncio.Event) -> None:
        signal.raise_signal(signal.SIGINT)
        await stop.wait()
        signal.raise_signal(signal.SIGINT)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(KeyboardInterrupt):
        run_until_signal(main)
