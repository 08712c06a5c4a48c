"""The mapping of a file as a Python object, for unit tests that need no AWS."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ddbrelay.arns import table_in
from ddbrelay.config import Config, env_name, load
from ddbrelay.errors import ConfigError, RecordsParked
from ddbrelay.flow.change import Change, Origin, UndecodableError
from ddbrelay.flow.mapping import Event, MapFunction, Mapped, Reject, Several, Skip
from ddbrelay.flow.packing import packed, too_large
from ddbrelay.mappings import check_redaction, mapper_of
from ddbrelay.offline import change_of, records_of, stream_of

if TYPE_CHECKING:
    from ddbrelay.flow.capture import Record
    from ddbrelay.flow.mapping.rules import Verdict

Records = Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | bytes
"""One record, a GetRecords answer, a Lambda event or an array of them: as boto3 gives it, as a
dictionary of a JSON file, or as JSON text (also JSON lines)."""
_MAPPING = ("table", "entity", "source", "preset", "mapper", "strict", "envelope", "redact")
_VARIABLES = frozenset({"DDBRELAY_CONFIG", *(env_name(name) for name in _MAPPING)})
"""Of the environment only what the mapping depends on is read."""


class Mapper:
    """Says, without AWS, which events the relay would send for a record.

    It reads the same `ddbrelay.toml` as the command line, so a unit test can hold the mapping to
    its word:

        from ddbrelay import Mapper

        mapper = Mapper.load("ddbrelay.toml")

        def test_a_new_user_is_announced():
            record = {
                "eventID": "1",
                "eventName": "INSERT",
                "dynamodb": {
                    "SequenceNumber": "111",
                    "Keys": {"id": {"S": "7f3a"}},
                    "NewImage": {"id": {"S": "7f3a"}, "name": {"S": "Kaylee"}},
                },
            }
            [entry] = mapper.entries(record)
            assert entry["DetailType"] == "UserCreated"
            assert json.loads(entry["Detail"]) == {"id": "7f3a", "name": "Kaylee"}

    The table of a record is the one that is given or set, else that of the stream which the record
    tells (Lambda's do); `stream_arn` is the stream of records that tell none.
    """

    def __init__(
        self, config: Config, *, table: str | None = None, stream_arn: str | None = None
    ) -> None:
        if stream_arn is not None and table_in(stream_arn) is None:
            raise ConfigError(
                f'"{stream_arn}" is not the ARN of a stream',
                "such as arn:aws:dynamodb:us-east-1:123456789012:table/users/stream/"
                "2026-01-01T00:00:00.000",
            )
        self._config, self._stream_arn = config, stream_arn
        self._table = table or config.settings.table
        self._mappers: dict[str, MapFunction] = {}

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        table: str | None = None,
        stream_arn: str | None = None,
    ) -> Mapper:
        """The mapping of a file, by default of the nearest `ddbrelay.toml`, as commands find it.

        Of the environment only `DDBRELAY_CONFIG` and the variables of the mapping's own settings
        count. ConfigError for every mistake, with file, line and column where there is one.
        """
        environment = {name: value for name, value in os.environ.items() if name in _VARIABLES}
        flags = {"config": None if path is None else str(Path(path)), "table": table}
        mapper = cls(load(flags, environment), stream_arn=stream_arn)
        if mapper._table is not None:
            # A mistake in the file is reported here, not at the first record.
            mapper._of(mapper._table)
        return mapper

    def map(self, record: Records) -> Mapped:
        """What becomes of one record: an Event, Several of them, a Skip or a Reject.

        ValueError for what is not exactly one record.
        """
        changes = self.changes(record)
        if len(changes) != 1:
            raise ValueError(f"there are {len(changes)} records, not one; entries() takes several")
        fate = self.fate(changes[0])
        if isinstance(fate, Skip | Reject):
            return fate
        return fate[0] if len(fate) == 1 else Several(fate)

    def entries(self, record: Records, *, bus: str | None = None) -> list[dict[str, Any]]:
        """The entries for PutEvents, as boto3 takes them: `events.put_events(Entries=...)`.

        Detail is JSON text, Time a datetime in UTC. Entries have the EventBusName that their rule
        names, else `bus` where it is given. Skipped records have no entries. RecordsParked where
        one of the records would be parked, ValueError for what is no record.
        """
        entries = []
        for change in self.changes(record):
            fate = self.fate(change)
            if isinstance(fate, Reject):
                raise RecordsParked(f"record {change.event_id} would be parked: {fate.reason}")
            if not isinstance(fate, Skip):
                entries += [_entry(event, event.bus or bus) for event in fate]
        return entries

    def changes(self, record: Records) -> list[Change]:
        """The changes that one or more records tell; ValueError for what is no record."""
        return [self.change(one) for one in records_of(_text_of(record))]

    def change(self, record: Record) -> Change:
        """The change of a record that was read offline; ConfigError where no table is known."""
        arn = stream_of(record) or self._stream_arn
        table = self._table or (None if arn is None else table_in(arn))
        if table is None:
            raise ConfigError(
                f"record {record.event_id} does not tell its table",
                "--table, DDBRELAY_TABLE, source.table in ddbrelay.toml, or Mapper.load(table=...)",
            )
        return change_of(record, Origin(table, arn or _stream_arn(table)))

    def fate(self, change: Change) -> tuple[Event, ...] | Skip | Reject:
        """The events as they would be sent, large details replaced by references, or why none."""
        with suppress(UndecodableError):
            check_redaction(self._config, change.keys)
        # First of all, as in the relay: it takes out of the change what must not be shown.
        mapped = self._of(change.table)(change)
        try:
            _ = change.item_key
        except UndecodableError as error:
            return Reject(str(error))
        if isinstance(mapped, Skip | Reject):
            return mapped
        events = mapped.events if isinstance(mapped, Several) else (mapped,)
        claim_check = self._config.settings.claim_check
        item = packed(change, events, claim_check)
        if isinstance(item, Event):
            without = "" if claim_check else ", and there is no --claim-check"
            return Reject(too_large(item) + without)
        return (item.event, *(parcel.event for parcel in item.rest))

    def explain(self, change: Change) -> list[Verdict] | None:
        """What each rule says of a change, in the order tried; None where there are no rules."""
        from ddbrelay.flow.mapping.rules import RuleMapper

        mapper = self._of(change.table)
        if not isinstance(mapper, RuleMapper) or not mapper.rules:
            return None
        return mapper.explain(change)

    def _of(self, table: str) -> MapFunction:
        if table not in self._mappers:
            self._mappers[table] = mapper_of(self._config, table)
        return self._mappers[table]


def _stream_arn(table: str) -> str:
    return f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}/stream/2026-01-01T00:00:00.000"


def _entry(event: Event, bus: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Source": event.source,
        "DetailType": event.detail_type,
        "Detail": event.detail.decode(),
        "Resources": list(event.resources),
    }
    if event.time is not None:
        entry["Time"] = datetime.fromtimestamp(event.time, UTC)
    if bus is not None:
        entry["EventBusName"] = bus
    if event.trace_header is not None:
        entry["TraceHeader"] = event.trace_header
    return entry


def _text_of(record: Any) -> bytes:
    """JSON of what boto3 gives, with its datetimes, bytes and `Binary`; JSON text as it is."""
    try:
        if isinstance(record, bytes | bytearray):
            return bytes(record)
        return record.encode() if isinstance(record, str) else _encode(record)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"this is no record: {error}") from None


def _binary(value: Any) -> bytes:
    # boto3's Binary; importing boto3 to know it by its class would take a while.
    inner = getattr(value, "value", None)
    if isinstance(inner, bytes | bytearray):
        return bytes(inner)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_encode = msgspec.json.Encoder(enc_hook=_binary, decimal_format="number").encode
