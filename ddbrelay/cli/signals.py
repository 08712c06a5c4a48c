"""Stopping on a signal: the first one asks, the second one insists.

SIGINT (Ctrl-C), SIGTERM (a scheduler) and SIGHUP (the terminal went away) are one wish. SIGHUP
stays ignored where the caller ignores it, as under nohup.
"""

from __future__ import annotations

import asyncio
import select
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

_T = TypeVar("_T")

_Handlers = dict[signal.Signals, Any]


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


@contextmanager
def asyncio_stop(
    loop: asyncio.AbstractEventLoop | None = None, second: Callable[[], None] | None = None
) -> Iterator[asyncio.Event]:
    """For a coroutine that runs on the main thread's loop: `with asyncio_stop() as stop`.

    The first signal sets the yielded event. Every later one calls `second`, by default the
    cancellation of the task that entered; however the block then ends, KeyboardInterrupt follows
    and the command ends with 130. The handlers that were there before are back afterwards.
    """
    loop = loop or asyncio.get_running_loop()
    task = asyncio.current_task(loop)
    stop = asyncio.Event()
    insisted = False

    def handle() -> None:
        nonlocal insisted
        if not stop.is_set():
            stop.set()
            return
        insisted = True
        if second is not None:
            second()
        elif task is not None:
            task.cancel()

    earlier: _Handlers = {}
    try:
        for number in _signals():
            earlier[number] = signal.getsignal(number)
            loop.add_signal_handler(number, handle)
        yield stop
    finally:
        for number in earlier:
            loop.remove_signal_handler(number)
        _restore(earlier)
        if insisted:
            raise KeyboardInterrupt


def run_until_signal(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, _T]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a coroutine that is given the event of `asyncio_stop`, on a loop of its own.

    A signal that comes when it is done, while its loop is taken down, changes nothing any more.
    """
    earlier: _Handlers = {number: signal.getsignal(number) for number in _signals()}

    async def until_done() -> _T:
        try:
            with asyncio_stop() as stop:
                return await main(stop)
        finally:
            for number in earlier:
                signal.signal(number, signal.SIG_IGN)

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(until_done())
    finally:
        _restore(earlier)
