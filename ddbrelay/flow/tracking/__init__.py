"""Receipts -> contiguous frontier per shard -> checkpoint, and what became of every record."""

from ddbrelay.flow.tracking.frontier import Frontier, Ticket
from ddbrelay.flow.tracking.ledger import Account, Block, Fate, Line
from ddbrelay.flow.tracking.letter import DeadLetter, events_of, stored_events
from ddbrelay.flow.tracking.store import Store, Tally, Usage

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
    "Usage",
    "events_of",
    "stored_events",
]
