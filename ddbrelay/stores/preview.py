"""A store for runs that must not move the live checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import Account, DeadLetter, Store, Usage


class FixedPositions:
    """A `Store` that starts from given positions and forgets where the run came to.

    Dead letters go to `store`; without one they are only shown. Those of earlier runs hold nothing
    back: what is sent again was sent before.
    """

    def __init__(self, positions: Iterable[Position], store: Store | None = None) -> None:
        self._positions = {position.shard_id: position for position in positions}
        self._store = store

    async def claim(self) -> None:
        """Whoever owns the live checkpoint is not in the way."""

    async def release(self) -> None:
        """Nothing was claimed."""

    async def load(self) -> dict[str, Position]:
        return dict(self._positions)

    async def begin(self, positions: Iterable[Position], accounts: Iterable[Account] = ()) -> None:
        """The live checkpoint stays where it is."""

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        """The live checkpoint stays where it is."""

    async def forget(self, shard_ids: Iterable[str]) -> None:
        """The live checkpoint stays where it is."""

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        return [] if self._store is None else await self._store.park(letters)

    async def parked_keys(self) -> set[bytes]:
        return set()
