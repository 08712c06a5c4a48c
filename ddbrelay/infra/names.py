"""Names of what stands behind a table, within the limits of each service.

Limits: the `RuleName` (64), `EventBusName` (256) and `ArchiveName` (48) shapes of the `events`
model, all of `.`, `-`, `_`, letters and digits, and SQS's 80 characters without the dot:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
A table's name has 3 to 255 of the former characters, so it can be too long for any of them, and
its dots are not allowed in a queue's name.
"""

from __future__ import annotations

import hashlib
import re

PREFIX = "ddbrelay-"

RULE_LIMIT = 64
QUEUE_LIMIT = 80
ARCHIVE_LIMIT = 48

_HASH_LENGTH = 8


def rule_name(table: str) -> str:
    """The rule of a table, at most 64 characters."""
    return _fit(table, table, RULE_LIMIT)


def queue_name(table: str) -> str:
    """The queue of a table, at most 80 characters, dots as dashes."""
    return _fit(table, re.sub(r"[^A-Za-z0-9_-]", "-", table), QUEUE_LIMIT)


def archive_name(table: str) -> str:
    """The archive of a table's events, at most 48 characters."""
    return _fit(table, table, ARCHIVE_LIMIT)


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def _fit(table: str, allowed: str, limit: int) -> str:
    """`ddbrelay-<table>`, or as much of it as fits, and a hash of the table's whole name.

    The hash stands wherever a character was dropped or replaced, so that two tables do not come
    to share a name.
    """
    if allowed == table and len(PREFIX + table) <= limit:
        return PREFIX + table
    return f"{(PREFIX + allowed)[: limit - _HASH_LENGTH - 1]}-{short_hash(table)}"
