"""Receipts -> each shard's contiguous frontier -> its checkpoint, and what became of each record."""

from ddbrelay.flow.tracking.frontier import Frontier, Ticket
from ddbrelay.flow.tracking.ledger import Account, Block, Fate, Line
from ddbrelay.flow.tracking.store import DeadLetter, Store, Tally

__all__ = [
    "Account",
    "Block",
    "DeadLetter",
    "Fate",
    "Frontier",
    "Line",
    "Store",
    "Tally",
    "Ticket",
]
