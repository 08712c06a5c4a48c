"""What programs read: a Struct for each JSON object that a command prints.

The JSON Schema of a command is made of its Structs (`output/schema.py`), so that what is printed
and what is described cannot differ.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Printed(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A JSON object, or a part of one; its docstring and `Meta` are the words of the schema."""


Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Time = Annotated[str, Meta(pattern="Z$", extra_json_schema={"format": "date-time"})]
"""An ISO 8601 time in UTC."""

StreamArn = Annotated[str, Meta(description="ARN of the table's stream")]
ShardId = Annotated[str, Meta(description="id of the shard in the stream")]
SequenceNumber = Annotated[
    str,
    Meta(
        description="sequence number in its shard: a decimal number of up to 40 digits, as text; "
        "compare as a number"
    ),
]
EventId = Annotated[
    str,
    Meta(
        description="id of the stream record, the same each time that the record is read; by "
        "default the last of the event's resources"
    ),
]
RunSeconds = Annotated[Seconds, Meta(description="length of the run")]
