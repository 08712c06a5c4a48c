"""The tasks of one run: the first error of any of them ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any


class Tasks:
    """Starts tasks and hears how they end; `on_failure` is called with the first error."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self.failed = False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it beside the caller, who keeps the task."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._collect)
        return task

    def _collect(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed:
            self.failed = True
            self._on_failure(error)


class Timers:
    """Calls that are due later, unless the run is over before."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it then."""

        def due() -> None:
            self._handles.discard(handle)
            call()

        handle = asyncio.get_running_loop().call_later(seconds, due)
        self._handles.add(handle)

    def cancel(self) -> None:
        """Nothing of it is due any more."""
        for handle in self._handles:
            handle.cancel()


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and return when they have ended; their errors were heard already."""
    doomed = list(tasks)
    for task in doomed:
        task.cancel()
    await asyncio.gather(*doomed, return_exceptions=True)
