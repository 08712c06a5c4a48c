"""An event loop whose time is virtual: a simulated day passes in seconds, the same way every time.

Only time is simulated. File descriptors are real and are polled without waiting, so a server on
127.0.0.1 can live in the same loop; threads cannot, since the clock does not wait for them.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

EPOCH = 1_767_225_600.0
"""The wall clock when a virtual loop starts, 2026-01-01T00:00:00Z in epoch seconds."""
DAY = 24 * 3600.0
_PATIENCE = 1.0

T = TypeVar("T")


class DeadlockError(RuntimeError):
    """Every task waits, no timer is set and no file descriptor has anything: nothing will happen.

    The message names each task and the line at which it waits.
    """


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at time 0; instead of waiting for the next timer it moves its clock there.

    After `limit` virtual seconds it raises TimeoutError.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self._passed = 0.0
        self._limit = limit
        super().__init__(_Selector(self))
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._passed

    def pass_time(self, seconds: float) -> None:
        """Move the clock; timers that became due run next."""
        self._passed += seconds
        if self._passed > self._limit:
            # Once is enough: the tasks that are cancelled now may need time to end.
            limit, self._limit = self._limit, math.inf
            raise TimeoutError(f"still running after {limit:.0f} virtual seconds; {self.waiting()}")

    def waiting(self) -> str:
        """Which task waits where."""
        waiting = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack(limit=1)
            place = f"{frames[-1].f_code.co_qualname}:{frames[-1].f_lineno}" if frames else "?"
            waiting.append(f"{task.get_name()} at {place}")
        return f"waiting: {', '.join(sorted(waiting)) or 'no task'}"


class _Selector(selectors.BaseSelector):
    """Polls the real selector, and moves the loop's clock where the real one would wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None:
            self._loop.pass_time(timeout)
            return []
        # One descriptor is the loop's own; with others, bytes may still be on their way.
        if len(self._real.get_map()) > 1:
            ready = self._real.select(_PATIENCE)
        if not ready:
            raise DeadlockError(
                f"nothing is scheduled and nothing is ready after {self._loop.time():.3f} virtual "
                f"seconds; {self._loop.waiting()}"
            )
        return ready


def now() -> float:
    """The wall clock of the running virtual loop, in epoch seconds."""
    return EPOCH + asyncio.get_running_loop().time()


def run(
    main: Callable[[random.Random], Coroutine[Any, Any, T]],
    seed: int = 0,
    *,
    limit: float = 2 * DAY,
) -> T:
    """Run `main(random.Random(seed))` on a virtual loop of its own and return its result.

    Raises DeadlockError when it can never end, TimeoutError after `limit` virtual seconds.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit)) as runner:
        return runner.run(main(random.Random(seed)))
