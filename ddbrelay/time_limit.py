"""Bounds on what is not in our hands: a function of the user's own, the first answers of AWS.

In the main thread a timer and its signal end Python code, `re` and blocking calls alike. In another
thread, as in tests that run a relay in one, the interpreter can only be asked to raise at its next
step, which ends Python code, but no call that blocks.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from ddbrelay.errors import ExpectationNotMet

_Result = TypeVar("_Result")
_LEAST_START = 5.0
"""Seconds for the first answers of AWS, however short --timeout is."""
_LEAST_RUN = 0.1
"""Seconds that are left of a --timeout whose start took all of it."""
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM)
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Overdue(BaseException):
    """The time is up; no `except Exception` of the function takes it for its own."""


class Interrupted(KeyboardInterrupt):
    """A signal came, told apart from a KeyboardInterrupt that the function itself raises."""


def start_within(timeout: float | None, start: Callable[[], _Result]) -> _Result:
    """Return what the start of a command returns, bounded by its --timeout in seconds.

    A start has at least five seconds, so that a short look at a bus is no failure. Raises
    ExpectationNotMet where AWS has not answered by then.
    """
    if not timeout:
        return start()
    seconds = max(timeout, _LEAST_START)
    try:
        return within(seconds, start)
    except Overdue:
        raise ExpectationNotMet(
            f"AWS had not answered after {seconds:g} s, and --timeout is {timeout:g} s",
            "check the network, the region, the proxy and --endpoint-url",
        ) from None


def left_of(timeout: float | None, began: float) -> float | None:
    """Seconds that a run has left of its --timeout; None without one.

    `began` is the monotonic time before the start of the command.
    """
    return timeout and max(timeout - (time.monotonic() - began), _LEAST_RUN)


def interruptible(function: Callable[[], _Result]) -> _Result:
    """The result of the function; Interrupted where a signal raises KeyboardInterrupt in it."""
    handlers: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        # A relay has handlers of its own, which raise nothing: then there is nothing to do.
        python = signal.default_int_handler
        handlers = [one for one in _INTERRUPTING if signal.getsignal(one) is python]
    try:
        for number in handlers:
            signal.signal(number, _interrupt)
        return function()
    finally:
        for number in handlers:
            signal.signal(number, signal.default_int_handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise Interrupted


def within(seconds: float, function: Callable[[], _Result]) -> _Result:
    """The result of the function; Overdue, raised inside of it, once the seconds have passed."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _by_signal(seconds, function)
    return _by_thread(seconds, function)


def _by_signal(seconds: float, function: Callable[[], _Result]) -> _Result:
    running = True

    def ring(_signal: int, _frame: FrameType | None) -> None:
        if running:
            raise Overdue

    before = signal.signal(signal.SIGALRM, ring)
    began, left, interval = time.monotonic(), 0.0, 0.0
    try:
        try:
            # It rings again: an exception out of a destructor is ignored.
            left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
            return function()
        finally:
            running = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
        if left:
            # Somebody else's alarm goes on, as that of a test runner.
            passed = time.monotonic() - began
            signal.setitimer(signal.ITIMER_REAL, max(left - passed, 1e-6), interval)


def _by_thread(seconds: float, function: Callable[[], _Result]) -> _Result:
    here = ctypes.c_ulong(threading.get_ident())
    lock, running, rung = threading.Lock(), True, False

    def ring() -> None:
        nonlocal rung
        with lock:
            if running:
                rung = True
                _raise_in(here, ctypes.py_object(Overdue))

    alarm = threading.Timer(seconds, ring)
    alarm.daemon = True
    alarm.start()
    try:
        return function()
    finally:
        with lock:
            running = False
            if rung:
                # Not to be raised once more, where nobody expects it.
                _raise_in(here, None)
        alarm.cancel()
        alarm.join()
