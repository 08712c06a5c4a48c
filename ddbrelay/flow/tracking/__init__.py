"""Receipts -> contiguous frontier per shard -> checkpoint, and what became of every record."""

from ddbrelay.flow.tracking.frontier import Frontier, Ticket
from ddbrelay.flow.tracking.ledger import Account, Block, Fate, Kind, Line, Passed
from ddbrelay.flow.tracking.letter import DeadLetter, events_of, stored_events
from ddbrelay.flow.tracking.store import Store, Tally, Usage

__all__ = [
    "Account",
    "Block",
    "DeadLetter",
    "Fate",
    "Frontier",
    "Kind",
    "Line",
    "Passed",
    "Store",
    "Tally",
    "Ticket",
    "Usage",
    "events_of",
    "stored_events",
]
