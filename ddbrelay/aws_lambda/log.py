"""Log lines of the function: one JSON object each, which CloudWatch Logs takes apart."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from ddbrelay.flow.capture import Gap
from ddbrelay.relay import Outcome
from ddbrelay.secrecy import hidden
from ddbrelay.times import iso


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Log:
    """An `Observer` that writes lines in Lambda's own JSON format, for one invocation.

    Fields that are None are left out. Nothing of an item stands in a line.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
    """

    def __init__(self, request_id: str, write: Callable[[str], None] = _print) -> None:
        self._request_id, self._write = request_id, write

    def info(self, message: str, **fields: Any) -> None:
        """What was done."""
        self._line("INFO", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        """What did not go as it should, and is dealt with."""
        self._line("WARN", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """What somebody should look at."""
        self._line("ERROR", message, fields)

    def _line(self, level: str, message: str, fields: dict[str, Any]) -> None:
        line = {
            "timestamp": iso(round(time.time(), 3)),
            "level": level,
            "message": message,
            "requestId": self._request_id,
        } | {name: value for name, value in fields.items() if value is not None}
        self._write(hidden(msgspec.json.encode(line).decode()))

    # What the engine tells

    def outcome(self, outcome: Outcome) -> None:
        """Nothing: what was published is counted, what is parked is told when the queue has it."""

    def gap(self, gap: Gap) -> None:
        """Nothing: Lambda reads the stream."""

    def trouble(self, message: str) -> None:
        """A call keeps failing."""
        self.warn(message)
