"""What every action of the control face is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

import msgspec

from ddbrelay.testing.face.account import SimulatedAccount

T = TypeVar("T")


def kebab(name: str) -> str:
    """`RemoveShard` -> `remove-shard`."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


class Action(msgspec.Struct, Generic[T], tag_field="action", tag=kebab):
    """One thing that the control face does: an object of JSON.

    Raises ConfigError, or ApiError where AWS would refuse. Actions about a shard take the name of
    its table, that of a deleted one too; the newest stream that has the shard is meant.
    """

    @abstractmethod
    def apply(self, account: SimulatedAccount) -> T:
        """Do it; what comes back is what the caller gets."""
