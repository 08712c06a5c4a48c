"""A second copy of every dead letter: the store keeps them, a queue shows them to others.

The store stays the truth. A letter is copied after it was kept, at least once, and marked then;
what could not be copied before a run ended goes out at the start of the next one. All letters that
are not marked are copied, those too that were parked while no queue was configured.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from ddbrelay.errors import DdbrelayError
from ddbrelay.flow.capture import Position
from ddbrelay.flow.sink import retry_delay
from ddbrelay.flow.tracking import Account, DeadLetter, Store, Usage
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD

AT_ONCE = 10
"""Letters that are held in memory at a time; each has its whole record."""
_LONGEST_PAUSE = 60.0


class LetterStore(Store, Protocol):
    """A store that knows which dead letters have a second copy."""

    async def uncopied(self, limit: int) -> list[DeadLetter]:
        """The first `limit` letters without a copy; those of an item in the order of changes."""

    async def copied(self, letters: Iterable[DeadLetter]) -> None:
        """These have one now."""


@dataclass(slots=True)
class Sent:
    """What became of letters: copied, refused for good with the reason, or to be sent again.

    `failed` is why the last of these is to be sent again, None where all were copied or refused.
    """

    copied: list[DeadLetter] = field(default_factory=list)
    refused: list[tuple[DeadLetter, str]] = field(default_factory=list)
    failed: str | None = None


class LetterSink(Protocol):
    """Where copies go."""

    async def send(self, letters: Sequence[DeadLetter]) -> Sent:
        """Send the first of the letters, as many as one request takes, and one at least.

        Letters that did not fit stand nowhere in the answer. A DdbrelayError says that the whole
        request was refused or got no answer; the queue may then have them nevertheless.
        """


class Copies:
    """Copies what is parked while the block runs: `async with Copies(store, queue, tell) as store`.

    Give the yielded store to the engine instead of the one inside. Copying begins when the run has
    claimed its store. Before the store is released, what is left is copied within `grace` seconds.
    A queue that fails holds nothing back: copying is tried again and again, and `tell` gets a word
    every few failures. An error of the store ends the copying, and is raised when the block ends.
    """

    def __init__(
        self,
        store: LetterStore,
        queue: LetterSink,
        tell: Callable[[str], None],
        *,
        grace: float = 5.0,
        rng: random.Random | None = None,
    ) -> None:
        self._store, self._queue, self._tell = store, queue, tell
        self._grace, self._rng = grace, rng or random.Random()
        self._woken, self._ending = asyncio.Event(), asyncio.Event()
        self._refused: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Store:
        return _CopyingStore(self._store, self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = self._task
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if error is None and not task.cancelled() and (failure := task.exception()) is not None:
            raise failure

    def begin(self) -> None:
        """Copy from now on; once begun it goes on."""
        if self._task is None:
            self._task = asyncio.create_task(self._copy())
            self._task.add_done_callback(self._ended)

    def wake(self) -> None:
        """There may be letters to copy."""
        self._woken.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell(f"dead letters are no longer copied to the queue: {error}")

    async def drain(self) -> None:
        """Copy what is left, within the grace time, and say how much is not copied then."""
        task = self._task
        if task is None:
            return
        self._ending.set()
        self.wake()
        await asyncio.wait([task], timeout=self._grace)
        if task.done() and (task.cancelled() or task.exception() is not None):
            return
        task.cancel()
        await asyncio.wait([task])
        if left := len(await self._store.uncopied(AT_ONCE + 1)):
            words = "1 dead letter has" if left == 1 else f"{left} dead letters have"
            if left > AT_ONCE:
                words = f"more than {AT_ONCE} dead letters have"
            self._tell(f"{words} no copy in the queue yet, the next run copies them")

    async def _copy(self) -> None:
        failures, hurried = 0, False
        while True:
            self._woken.clear()
            letters = await self._next()
            if not letters:
                if self._ending.is_set():
                    return
                await self._woken.wait()
                continue
            why = await self._send(letters)
            if why is None:
                failures = 0
                continue
            if self._ending.is_set() and not hurried:
                failures, hurried = 0, True
            failures += 1
            if failures % RETRIES_BEFORE_WORD == 0:
                self._tell(f"dead letters are not copied to the queue, trying again: {why}")
            await self._pause(retry_delay(failures, self._rng, cap=_LONGEST_PAUSE))

    async def _next(self) -> list[DeadLetter]:
        letters = await self._store.uncopied(AT_ONCE + len(self._refused))
        return [one for one in letters if (one.shard_id, one.sequence) not in self._refused]

    async def _send(self, letters: list[DeadLetter]) -> str | None:
        """Send some, mark what is copied, and return why sending must wait, if it must."""
        try:
            sent = await self._queue.send(letters)
        except DdbrelayError as refused:
            return refused.message
        if sent.copied:
            await self._store.copied(sent.copied)
        for letter, reason in sent.refused:
            # Not before the next run: the others must not wait for it.
            self._refused.add((letter.shard_id, letter.sequence))
            self._tell(
                f"the queue refused the copy of dead letter {letter.sequence} of shard "
                f"{letter.shard_id}: {reason}"
            )
        return sent.failed

    async def _pause(self, seconds: float) -> None:
        if self._ending.is_set():
            await asyncio.sleep(seconds)
            return
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait([ending], timeout=seconds)
        finally:
            ending.cancel()


class _CopyingStore:
    """A `Store` that passes everything on, and says when there is something to copy."""

    def __init__(self, store: LetterStore, copies: Copies) -> None:
        self._store, self._copies = store, copies

    async def claim(self) -> None:
        await self._store.claim()
        # Before that, another run may own the letters and copy them.
        self._copies.begin()

    async def release(self) -> None:
        try:
            await self._copies.drain()
        finally:
            await self._store.release()

    async def load(self) -> dict[str, Position]:
        return await self._store.load()

    async def begin(self, positions: Iterable[Position], accounts: Iterable[Account] = ()) -> None:
        await self._store.begin(positions, accounts)

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        await self._store.save(positions, accounts, usage)

    async def forget(self, shard_ids: Iterable[str]) -> None:
        await self._store.forget(shard_ids)

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        left = await self._store.park(letters)
        self._copies.wake()
        return left

    async def parked_keys(self) -> set[bytes]:
        return await self._store.parked_keys()
