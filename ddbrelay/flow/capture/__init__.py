"""Which shards are read, when, and from where."""

from ddbrelay.flow.capture.lineage import Lineage, Position, Start, first_positions
from ddbrelay.flow.capture.port import (
    ITERATOR_LIFETIME,
    Fault,
    Identity,
    IteratorType,
    Page,
    Record,
    Shard,
    ShardPage,
    StreamFault,
    StreamRecord,
    StreamSource,
)
from ddbrelay.flow.capture.reader import (
    Ended,
    Gap,
    NeedIterator,
    NeedRecords,
    Pace,
    ShardReader,
    Wait,
)

__all__ = [
    "ITERATOR_LIFETIME",
    "Ended",
    "Fault",
    "Gap",
    "Identity",
    "IteratorType",
    "Lineage",
    "NeedIterator",
    "NeedRecords",
    "Pace",
    "Page",
    "Position",
    "Record",
    "Shard",
    "ShardPage",
    "ShardReader",
    "Start",
    "StreamFault",
    "StreamRecord",
    "StreamSource",
    "Wait",
    "first_positions",
]
