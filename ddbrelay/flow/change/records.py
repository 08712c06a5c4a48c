"""The records of an answer of GetRecords, and of the event that Lambda hands to a function.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
and https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from ddbrelay.flow.capture import Page, Record
from ddbrelay.flow.capture.port import CREATED_AT
from ddbrelay.times import MOST_SECONDS, epoch_of

Note = Callable[[str], object]
_LEFT_OUT = "the time of a record (ApproximateCreationDateTime) is left out: {}"


class _GetRecordsOutput(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)


class _LambdaEvent(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records")


_get_records_decoder = msgspec.json.Decoder(_GetRecordsOutput)
_lambda_decoder = msgspec.json.Decoder(_LambdaEvent)
_record_decoder = msgspec.json.Decoder(Record)


def unheard(note: str) -> None:
    """Nobody is told."""


def decode_page(body: bytes) -> Page:
    """The answer of GetRecords as a page; images stay undecoded.

    Raises msgspec.DecodeError when the body is no such answer.
    """
    notes: dict[str, None] = {}
    output = _decoded(_get_records_decoder, body, notes.setdefault)
    _check_numbers(output.records)
    return Page(output.records, output.next_iterator, len(body), tuple(notes))


def decode_lambda_event(body: bytes, note: Note = unheard) -> Sequence[Record]:
    """The records of the event that Lambda hands to a function behind a stream.

    `note` is told what is left out of records. Raises msgspec.DecodeError when the body is no such
    event.
    """
    records = _decoded(_lambda_decoder, body, note).records
    _check_numbers(records)
    return records


def _check_numbers(records: Sequence[Record]) -> None:
    for record in records:
        if not record.dynamodb.sequence_number.isdecimal():
            number = record.dynamodb.sequence_number[:60]
            raise msgspec.DecodeError(f"the SequenceNumber {number!r} is not a decimal number")


def decode_record(body: bytes | str) -> Record:
    """A record that was stored; msgspec.DecodeError when the body is none.

    SQLite returns a string where somebody edited the state file.
    """
    body = body.encode() if isinstance(body, str) else body
    return _decoded(_record_decoder, body, unheard)


def creation_time(value: object, note: Note = unheard) -> float | None:
    """Epoch seconds of an ApproximateCreationDateTime in any form, None where it can be no time.

    Milliseconds and ISO times are read as such. `note` is told why a value is left out.
    """
    if value is None:
        return None
    try:
        time = epoch_of(value)
    except ValueError as error:
        note(_LEFT_OUT.format(error))
        return None
    if time > MOST_SECONDS:
        note(_LEFT_OUT.format("it lies too far in the future"))
        return None
    return time


_Form = TypeVar("_Form")


def _decoded(decoder: msgspec.json.Decoder[_Form], body: bytes, note: Note) -> _Form:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        # Half of a surrogate pair, which DynamoDB never stores but an emulator lets through, is a
        # fault of one image, and a time that is none of one record: neither must make the other
        # records unreadable.
        if not any(sign in body for sign in (b"\\ud", b"\\uD", CREATED_AT.encode())):
            raise
        return decoder.decode(_mended(body, note))


def _mended(body: bytes, note: Note) -> bytes:
    """The same JSON with times that are times, and without escapes.

    Half of a surrogate pair becomes bytes that are no UTF-8. msgspec.DecodeError where it is no
    JSON.
    """
    try:
        document = json.loads(body)
        for record in _records_in(document):
            if CREATED_AT in record:
                record[CREATED_AT] = creation_time(record[CREATED_AT], note)
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _records_in(document: Any) -> Iterator[dict[str, Any]]:
    """The `dynamodb` parts of an answer, an event or a record."""
    records = document.get("Records", [document]) if isinstance(document, dict) else ()
    for record in records if isinstance(records, list) else ():
        part = record.get("dynamodb") if isinstance(record, dict) else None
        if isinstance(part, dict):
            yield part
