"""When positions and ledger are saved: as soon as they moved, but not all the time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

from ddbrelay.flow.tracking import Frontier, Store, Usage
from ddbrelay.relay.outcome import Options
from ddbrelay.relay.tasks import Tasks


class Checkpoints:
    """Saves the frontiers of one run; `open_ones` gives those of the shards being read.

    Without a store nothing is saved.
    """

    def __init__(
        self,
        store: Store | None,
        options: Options,
        tasks: Tasks,
        usage: Usage,
        open_ones: Callable[[], Iterable[Frontier]],
    ) -> None:
        self._store, self._options, self._tasks = store, options, tasks
        self._usage, self._open_ones = usage, open_ones
        self._moved = asyncio.Event()
        self._saving = asyncio.Lock()

    def moved(self) -> None:
        """A frontier moved."""
        self._moved.set()

    async def run(self) -> None:
        """Save what moved, and now and then what idle shards were seen to hold; for ever."""
        beat = self._options.beat_interval
        saved_all_at = _loop_time()
        while True:
            left = saved_all_at + beat - _loop_time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0.0)):
                    await self._moved.wait()
            self._moved.clear()
            began = _loop_time()
            everything = began - saved_all_at >= beat
            moved = [f for f in self._open_ones() if f.dirty or (everything and f.stale)]
            if everything:
                saved_all_at = began
            if moved or everything:
                await self.save(moved)
            # A thousand shards take a while to be saved: it must not be all that is done.
            elapsed = _loop_time() - began
            await asyncio.sleep(max(self._options.checkpoint_interval, 9 * elapsed))

    async def save(self, frontiers: Sequence[Frontier]) -> None:
        """Save to the end even when the caller is cancelled: the ledger counts each record once."""
        if self._store is not None:
            await asyncio.shield(self._tasks.spawn(self._save(self._store, frontiers)))

    async def _save(self, store: Store, frontiers: Sequence[Frontier]) -> None:
        async with self._saving:
            drafts = [frontier.draft() for frontier in frontiers]
            await store.save(
                [position for position, _ in drafts],
                [account for _, account in drafts],
                self._usage,
            )


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
