"""The JSON objects in which programs see events, whoever prints or sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Of:
    """Whose ledger, or whose dead letters, these are."""

    consumer: str
    table: str
    stream_arn: str

    def object(self) -> dict[str, Any]:
        """What every summary says of it."""
        return {"consumer": self.consumer, "table": self.table, "streamArn": self.stream_arn}
