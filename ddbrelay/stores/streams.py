"""Which table each stream is of: AWS's ARNs tell it, that of other servers is stored.

ScyllaDB's Alternator calls a stream `S` and a UUID, for example.
"""

from __future__ import annotations

from typing import NamedTuple

from ddbrelay.arns import table_arn_in, table_in
from ddbrelay.stores.database import Database


class Table(NamedTuple):
    """The table of a stream; streams of one table have the same `arn` here."""

    name: str
    arn: str


class Tables:
    """The tables of all streams of a state file."""

    def __init__(self, database: Database) -> None:
        with database.reading() as cursor:
            rows = cursor.execute("SELECT stream_arn, table_name, table_arn FROM streams")
            self._stored = {stream_arn: Table(*table) for stream_arn, *table in rows}

    def of(self, stream_arn: str) -> Table:
        """The table; of a stream of which nothing tells it, one that is called as the stream is."""
        name, arn = table_in(stream_arn), table_arn_in(stream_arn)
        if name is not None and arn is not None:
            return Table(name, arn)
        return self._stored.get(stream_arn) or Table(stream_arn, stream_arn)

    def name(self, stream_arn: str) -> str:
        """The name of the table."""
        return self.of(stream_arn).name


def note(database: Database, stream_arn: str, name: str, table_arn: str) -> None:
    """Store of which table a stream is, where its ARN does not tell."""
    table = Table(name, table_arn)
    if table_in(stream_arn) is not None or Tables(database).of(stream_arn) == table:
        return
    with database.transaction() as cursor:
        cursor.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?)", (stream_arn, *table))
