"""The records of an answer of GetRecords, and of the event that Lambda hands to a function.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
and https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from ddbrelay.flow.capture import Page, Record


class _GetRecordsOutput(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)


class _LambdaEvent(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records")


_get_records_decoder = msgspec.json.Decoder(_GetRecordsOutput)
_lambda_decoder = msgspec.json.Decoder(_LambdaEvent)


def decode_page(body: bytes) -> Page:
    """The answer of GetRecords as a page; images stay undecoded.

    Raises msgspec.DecodeError when the body is no such answer.
    """
    output = _decoded(_get_records_decoder, body)
    return Page(output.records, output.next_iterator, len(body))


def decode_lambda_event(body: bytes) -> Sequence[Record]:
    """The records of the event that Lambda hands to a function behind a stream.

    Raises msgspec.DecodeError when the body is no such event.
    """
    return _decoded(_lambda_decoder, body).records


_Form = TypeVar("_Form")


def _decoded(decoder: msgspec.json.Decoder[_Form], body: bytes) -> _Form:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        # Half of a surrogate pair, which DynamoDB never stores but an emulator lets through, is a
        # fault of one image, and must not make the other records unreadable.
        if b"\\ud" not in body and b"\\uD" not in body:
            raise
        return decoder.decode(surrogates_as_bytes(body))


def surrogates_as_bytes(body: bytes) -> bytes:
    """The same JSON without escapes: half of a surrogate pair becomes bytes that are no UTF-8.

    msgspec.DecodeError where it is no JSON.
    """
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None
