"""What an ARN tells where it has AWS's form; other servers have forms of their own."""

from __future__ import annotations

import re

_STREAM = re.compile(r"(arn:aws[a-z-]*:dynamodb:[^:]*:[^:]*:table/([A-Za-z0-9_.-]+))/stream/[^/]+")


def table_in(stream_arn: str) -> str | None:
    """The name of the table in a stream's ARN; None where it has not AWS's form."""
    match = _STREAM.fullmatch(stream_arn)
    return match[2] if match else None


def table_arn_in(stream_arn: str) -> str | None:
    """The ARN of the table in a stream's ARN; None where it has not AWS's form."""
    match = _STREAM.fullmatch(stream_arn)
    return match[1] if match else None


def name_of_table(arn: str) -> str:
    """The name in the ARN of a table; a name is one already."""
    return arn.rpartition("/")[2]


def region_in(arn: str) -> str:
    """The region that an ARN names; empty where it has not AWS's form."""
    return _part(arn, 3)


def account_in(arn: str) -> str:
    """The account that an ARN names; empty where it has not AWS's form."""
    return _part(arn, 4)


def _part(arn: str, number: int) -> str:
    parts = arn.split(":", 5)
    return parts[number] if len(parts) == 6 else ""
