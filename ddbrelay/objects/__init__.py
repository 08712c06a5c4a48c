"""The JSON objects in which programs see events, whoever prints or sends them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Of:
    """Whose ledger, or whose dead letters, these are."""

    consumer: str
    table: str
    stream_arn: str
