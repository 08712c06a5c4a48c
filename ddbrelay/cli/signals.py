"""Stopping on a signal: the first one asks, the second one insists.

SIGINT (Ctrl-C), SIGTERM (a scheduler) and SIGHUP (the terminal went away) are one wish. SIGHUP
stays ignored where the caller ignores it, as under nohup.

The handlers are Python's own, not the loop's: these run between any two instructions and within
calls that wait, whatever holds the loop.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

from ddbrelay.cli.console import break_off
from ddbrelay.errors import INTERRUPTED

_T = TypeVar("_T")

_Handlers = dict[signal.Signals, Any]
_CHANCE = 2.0
"""Seconds that a second signal leaves for the way out."""


class Stop:
    """Whether to stop, and a wait that ends at once when it is so.

    A `threading.Event` would not do: setting it in a handler deadlocks when the signal arrives
    while the same thread holds the event's lock.
    """

    def __init__(self) -> None:
        self._set = False
        self._receiver, self._sender = socket.socketpair()

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        if not self._set:
            self._set = True
            self._sender.send(b".")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for at most `seconds`, without end for None; True when it is time to stop."""
        select.select([self._receiver], [], [], None if seconds is None else max(0.0, seconds))
        return self._set

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


def _signals() -> list[signal.Signals]:
    chosen = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        chosen.append(signal.SIGHUP)
    return chosen


def _restore(handlers: _Handlers) -> None:
    for number, handler in handlers.items():
        # None is a handler that was not installed from Python; it cannot be put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """For synchronous code in the main thread.

    The first signal sets the yielded `Stop`; the second raises KeyboardInterrupt, which ends the
    command with 130. The handlers that were there before are back afterwards.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    earlier: _Handlers = {}
    try:
        for number in _signals():
            earlier[number] = signal.signal(number, handle)
        yield stop
    finally:
        _restore(earlier)
        stop.close()


class _Insisting:
    """Ends the process with 130 where a second signal did not do it within `_CHANCE` seconds.

    Nothing is lost by that: what a state file holds survives a kill.
    """

    def __init__(self) -> None:
        self._begun = self._ended = False

    def insist(self) -> None:
        """Give the process that long; none at all the second time."""
        if self._begun:
            _leave()
        self._begun = True
        # A threading.Thread takes a lock that the main thread may hold where a signal comes.
        _thread.start_new_thread(self._wait, ())

    def end(self) -> None:
        """The process ends by itself."""
        self._ended = True

    def _wait(self) -> None:
        time.sleep(_CHANCE)
        if not self._ended:
            _leave()


def leave_soon() -> None:
    """End the process with 130 in a moment, even where its end waits for a thread of its own."""

    def leave() -> None:
        time.sleep(_CHANCE)
        os._exit(INTERRUPTED)

    _thread.start_new_thread(leave, ())


def _leave() -> NoReturn:
    break_off("error: interrupted")
    os._exit(INTERRUPTED)


@contextmanager
def asyncio_stop(
    loop: asyncio.AbstractEventLoop | None = None, second: Callable[[], None] | None = None
) -> Iterator[asyncio.Event]:
    """For a coroutine that runs on the main thread's loop: `with asyncio_stop() as stop`.

    The first signal sets the yielded event. Every later one calls `second`, by default the
    cancellation of the task that entered; however the block then ends, KeyboardInterrupt follows
    and the command ends with 130. It also does so at once where the loop has not even heard of the
    first signal, and soon where the block does not end. The handlers that were there before are
    back afterwards.
    """
    insisting = _Insisting()
    try:
        with _handled(loop or asyncio.get_running_loop(), second, insisting) as stop:
            yield stop
    finally:
        insisting.end()


@contextmanager
def _handled(
    loop: asyncio.AbstractEventLoop, second: Callable[[], None] | None, insisting: _Insisting
) -> Iterator[asyncio.Event]:
    task = asyncio.current_task(loop)
    stop = asyncio.Event()
    signals = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            loop.call_soon_threadsafe(stop.set)
            return
        if not stop.is_set():
            _leave()
        if second is not None:
            loop.call_soon_threadsafe(second)
        elif task is not None:
            loop.call_soon_threadsafe(task.cancel)
        insisting.insist()

    earlier: _Handlers = {}
    try:
        for number in _signals():
            earlier[number] = signal.signal(number, handle)
        yield stop
    finally:
        _restore(earlier)
        if signals > 1:
            raise KeyboardInterrupt


def run_until_signal(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, _T]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a coroutine that is given the event of `asyncio_stop`, on a loop of its own.

    A signal that comes when it is done, while its loop is taken down, changes nothing, unless that
    takes longer than a moment.
    """
    earlier: _Handlers = {number: signal.getsignal(number) for number in _signals()}
    insisting = _Insisting()

    async def until_done() -> _T:
        try:
            with _handled(asyncio.get_running_loop(), None, insisting) as stop:
                return await main(stop)
        finally:
            for number in earlier:
                signal.signal(number, lambda *_: insisting.insist())

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(until_done())
    finally:
        _restore(earlier)
        insisting.end()
