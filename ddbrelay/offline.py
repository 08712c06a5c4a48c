"""Stream records from a file, in every form in which people have them.

GetRecords as AWS answers it, and as the AWS CLI prints it (times in ISO 8601): service model
`dynamodbstreams/2012-08-10`; the event of a Lambda function behind a stream:
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html; what `ddbrelay dead-letters export`
prints. In all of them binary is base64 text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from ddbrelay.flow.capture import Identity, Record, StreamRecord
from ddbrelay.flow.capture.port import CREATED_AT
from ddbrelay.flow.change import Change, Note, Origin, creation_time, unheard

_Span = tuple[int, int]
_Members = dict[str, _Span]

_SPACE = re.compile(r"[ \t\r\n]*")
_KINDS = {"{": "an object", "[": "an array", '"': "a text", "t": "true", "f": "false", "n": "null"}
_EXPECTED = (
    "expected a GetRecords answer, a Lambda event, a stream record, an array of these, or one of "
    "these after the other"
)

_KINESIS = (
    "it has no sequence number, and Kinesis promises no order; take records of the table's own "
    "stream (aws dynamodbstreams get-records, or a Lambda event of it)"
)


class RecordError(ValueError):
    """A text holds something else than stream records; `line` and `column` count from 1."""

    def __init__(self, text: str, offset: int, what: str) -> None:
        self.line, self.column = text.count("\n", 0, offset) + 1, _column(text, offset)
        self.what = what
        super().__init__(f"line {self.line}, column {self.column}: {what}")


class SourcedRecord(Record, frozen=True, omit_defaults=True, gc=False):
    """A record that may tell its stream, as Lambda's do."""

    stream_arn: str | None = msgspec.field(name="eventSourceARN", default=None)


def records_of(text: bytes, note: Note = unheard) -> list[Record]:
    """The records in a text, in their order; keys and images stay the JSON that they are.

    The text is a GetRecords answer, a Lambda event, one record, a dead letter that was exported, an
    array of these, or any number of these one after the other (JSON lines). RecordError, which is a
    ValueError and names line and column, for anything else, and for a text without any value.
    `note` is told what is left out of a record: a time that can be none.
    """
    return list(_Reader(text, note).records())


def values_of(text: bytes) -> Iterator[tuple[Any, int, int]]:
    """Any JSON values one after the other, or the elements of arrays, each with line and column.

    Numbers are `msgspec.Raw`, as they are written. RecordError as `records_of` has it.
    """
    return _Reader(text).values()


def change_of(record: Record, origin: Origin, shard_id: str | None = None) -> Change:
    """The change of a record; one that was read offline need not have a shard."""
    return Change(record, shard_id or "", origin)


def stream_of(record: Record) -> str | None:
    """The ARN of the stream that the record tells, None where it tells none."""
    return record.stream_arn if isinstance(record, SourcedRecord) else None


def _column(text: str, offset: int) -> int:
    return offset - text.rfind("\n", 0, offset)


def _raw_number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


_exact = json.JSONDecoder(parse_int=_raw_number, parse_float=_raw_number).raw_decode


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


class _Reader:
    """Finds where things stand; the JSON of keys and images is cut out, not built anew."""

    def __init__(self, text: bytes, note: Note = unheard) -> None:
        self._note = note
        try:
            self._text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # All of it up to there is text.
            before = text[: error.start].decode("utf-8-sig")
            raise RecordError(before, len(before), "no UTF-8") from None
        # Numbers stay text: they may have more digits than Python turns into a number.
        self._scan = json.JSONDecoder(
            parse_int=str, parse_float=str, parse_constant=_no_constant
        ).raw_decode

    def records(self) -> Iterator[Record]:
        at = self._skip(0)
        if at == len(self._text):
            self._fail(at, f"there is nothing in it; {_EXPECTED}")
        while at < len(self._text):
            end = self._end(at)
            yield from self._any(at)
            at = self._skip(end)

    def values(self) -> Iterator[tuple[Any, int, int]]:
        at, line, counted = self._skip(0), 1, 0
        while at < len(self._text):
            end = self._end(at)
            for begin, _ in self._elements(at) if self._text[at] == "[" else [(at, end)]:
                value = _exact(self._text, begin)[0]
                try:
                    msgspec.json.encode(value)
                except UnicodeEncodeError:
                    self._fail(begin, "it has half a character, which no UTF-8 has")
                line += self._text.count("\n", counted, begin)
                counted = begin
                yield value, line, _column(self._text, begin)
            at = self._skip(end)

    def _any(self, at: int) -> Iterator[Record]:
        first = self._text[at]
        if first == "[":
            for element, _ in self._elements(at):
                yield from self._any(element)
        elif first == "{":
            members = self._members(at)
            if "Records" in members:
                begin, _ = members["Records"]
                self._must_be(begin, "[", "Records")
                for element, _ in self._elements(begin):
                    self._must_be(element, "{", "a record")
                    yield self._record(element, self._members(element), None)
            elif "record" in members and "dynamodb" not in members:
                begin, _ = members["record"]
                self._must_be(begin, "{", "record")
                yield self._record(
                    begin, self._members(begin), self._text_of(members, "streamArn", None)
                )
            elif not {"eventID", "eventName", "dynamodb"} & members.keys():
                self._fail(at, f"this is no stream record: {_EXPECTED}")
            else:
                yield self._record(at, members, None)
        else:
            self._fail(at, f"{_KINDS.get(first, 'a number')} is no stream record: {_EXPECTED}")

    def _record(self, at: int, members: _Members, stream_arn: str | None) -> Record:
        if "kinesis" in members:
            self._fail(at, f"this is a record of a Kinesis data stream: {_KINESIS}")
        begin, _ = self._member(at, members, "dynamodb")
        self._must_be(begin, "{", "dynamodb")
        inner = self._members(begin)
        if "recordFormat" in members and "SequenceNumber" not in inner:
            self._fail(at, f"this change comes from Kinesis Data Streams for DynamoDB: {_KINESIS}")
        number = self._required(begin, inner, "SequenceNumber")
        if not (number.isascii() and number.isdigit()):
            self._fail(inner["SequenceNumber"][0], "SequenceNumber is no decimal number")
        keys_at, _ = self._member(begin, inner, "Keys")
        self._must_be(keys_at, "{", "Keys")
        return SourcedRecord(
            event_id=self._required(at, members, "eventID"),
            event_name=self._required(at, members, "eventName"),
            dynamodb=StreamRecord(
                sequence_number=number,
                keys=self._raw(inner["Keys"]),
                new_image=self._image(inner, "NewImage"),
                old_image=self._image(inner, "OldImage"),
                created_at=self._time(inner),
                size=self._size(inner),
                view_type=self._text_of(inner, "StreamViewType", None),
            ),
            identity=self._identity(members),
            stream_arn=self._text_of(members, "eventSourceARN", stream_arn),
        )

    def _identity(self, members: _Members) -> Identity | None:
        value = self._value(members, "userIdentity")
        try:
            return msgspec.convert(value, Identity | None)
        except msgspec.ValidationError as error:
            self._fail(members["userIdentity"][0], f"userIdentity cannot be read: {error}")

    def _image(self, members: _Members, name: str) -> msgspec.Raw | msgspec.UnsetType:
        if name not in members or self._text[members[name][0]] == "n":
            return msgspec.UNSET
        self._must_be(members[name][0], "{", name)
        return self._raw(members[name])

    def _time(self, members: _Members) -> float | None:
        if CREATED_AT not in members:
            return None
        try:
            value = msgspec.json.decode(self._raw(members[CREATED_AT]))
        except msgspec.DecodeError:
            # A number that is too large for any time.
            value = math.inf
        return creation_time(value, self._note)

    def _size(self, members: _Members) -> int | None:
        value = self._value(members, "SizeBytes")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            self._fail(members["SizeBytes"][0], "SizeBytes is no whole number")
        return value

    def _required(self, at: int, members: _Members, name: str) -> str:
        begin, _ = self._member(at, members, name)
        text = self._text_of(members, name, None)
        if not text:
            self._fail(begin, f"{name} is empty")
        return text

    def _member(self, at: int, members: _Members, name: str) -> _Span:
        if name not in members:
            self._fail(at, f"the record has no {name}")
        return members[name]

    def _text_of(self, members: _Members, name: str, default: str | None) -> str | None:
        value = self._value(members, name)
        if value is None:
            return default
        if not isinstance(value, str) or not value.isprintable():
            self._fail(members[name][0], f"{name} is no text that can be printed")
        return value

    def _value(self, members: _Members, name: str) -> Any:
        if name not in members:
            return None
        try:
            return msgspec.json.decode(self._raw(members[name]))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._fail(members[name][0], f"{name} cannot be read: {error}")

    def _raw(self, span: _Span) -> msgspec.Raw:
        return msgspec.Raw(self._text[slice(*span)].encode())

    # Places

    def _members(self, at: int) -> _Members:
        """The members of the object at this place, of several with one name the last."""
        found: _Members = {}
        at = self._skip(at + 1)
        while self._text[at] != "}":
            name, at = self._scan(self._text, at)
            begin = self._skip(self._skip(at) + 1)
            found[name] = (begin, self._end(begin))
            at = self._next(found[name][1])
        return found

    def _elements(self, at: int) -> Iterator[_Span]:
        at = self._skip(at + 1)
        while self._text[at] != "]":
            end = self._end(at)
            yield at, end
            at = self._next(end)

    def _next(self, at: int) -> int:
        at = self._skip(at)
        return self._skip(at + 1) if self._text[at] == "," else at

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        assert found is not None
        return found.end()

    def _end(self, at: int) -> int:
        """The end of the value that begins here."""
        try:
            return int(self._scan(self._text, at)[1])
        except json.JSONDecodeError as error:
            self._fail(error.pos, f"no JSON: {error.msg}")
        except ValueError as error:
            self._fail(at, f"no JSON: {error}")
        except RecursionError:
            self._fail(at, "it is nested too deeply")

    def _must_be(self, at: int, first: str, name: str) -> None:
        if self._text[at] != first:
            self._fail(at, f"{name} must be {_KINDS[first]}")

    def _fail(self, at: int, what: str) -> NoReturn:
        raise RecordError(self._text, at, what)
