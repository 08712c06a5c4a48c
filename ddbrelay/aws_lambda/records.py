"""The event that Lambda hands to a function behind a stream -> records, stream by stream.

https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Record
from ddbrelay.flow.change import Note, Origin, decode_lambda_event, unheard

_ARN = re.compile(r"arn:[^/]*:table/([^/]+)/stream/[^/]+")
_HINT = "the function must be the target of an event source mapping of a DynamoDB stream"


def decode(event: object, note: Note = unheard) -> dict[Origin, list[Record]]:
    """The records of each stream, in the order in which the event has them.

    Lambda gives records of one shard, so of one stream. `note` is told what is left out of records.
    Raises ConfigError for an event that does not come from a DynamoDB stream.
    """
    given = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(given, list):
        raise ConfigError("the event has no list of Records", _HINT)
    try:
        records = decode_lambda_event(_encoded(event), note)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the event is not one of a DynamoDB stream: {error}", _HINT) from None
    found: dict[Origin, list[Record]] = {}
    for raw, record in zip(given, records, strict=True):
        found.setdefault(_origin(raw), []).append(record)
    return found


def _encoded(event: Any) -> bytes:
    try:
        return msgspec.json.encode(event)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which an emulator lets through; as an escape the decoder of
        # records knows what to do with it.
        return json.dumps(event).encode()


def _origin(raw: dict[str, Any]) -> Origin:
    arn = raw.get("eventSourceARN")
    match = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    if match is None:
        raise ConfigError(f"a record comes from {arn!r}, which is no stream of a table", _HINT)
    return Origin(match[1], match[0])
