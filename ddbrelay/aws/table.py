"""What must be there before a relay can run: the table with its stream, and the bus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ddbrelay.arns import account_in, table_arn_in
from ddbrelay.aws.errors import DENIED, code_of, translate, translated
from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.text import near

UNKNOWN = "unknown"
"""The view type of a stream of which nobody said it."""
_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")


@dataclass(frozen=True)
class TableStream:
    """The latest stream of a table; a disabled one stays readable for 24 hours."""

    table: str
    arn: str
    view_type: str
    enabled: bool
    keys: tuple[str, ...] = ()
    """Names of the key attributes, where they are known."""
    table_arn: str = ""
    """The ARN of the table, as the ARN of the stream has it where that has AWS's form."""


def check_name(table: str) -> None:
    """ConfigError for what cannot be a table's name, by `TableName` of the `dynamodb` model."""
    if not _NAME.fullmatch(table):
        raise ConfigError(
            f'"{table}" is not a name of a table',
            "3 to 255 letters, digits, dots, dashes and underscores, or an ARN",
        )


def describe_table(aws: Aws, table: str) -> dict[str, Any]:
    """What DescribeTable says; AwsRefused when the table does not exist.

    Raises ConfigError for what cannot be a table's name.
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DescribeTable.html
    """
    from botocore.exceptions import ClientError

    check_name(table)
    try:
        with translated(f'describe the table "{table}"'):
            described: dict[str, Any] = aws.client("dynamodb").describe_table(
                TableName=aws.address_of(table)
            )
            return described["Table"]  # type: ignore[no-any-return]
    except AwsRefused as refused:
        cause = refused.__cause__
        if isinstance(cause, ClientError) and code_of(cause) == "ResourceNotFoundException":
            if aws.address_of(table) != table:
                raise AwsRefused(
                    f'table "{aws.table_arn}" does not exist',
                    "check the ARN; DynamoDB says so too of a table that it may not show",
                    code=refused.code,
                ) from cause
            near = _near(aws, table)
            meant = f'did you mean "{near}"? ' if near else ""
            raise AwsRefused(
                f'table "{table}" does not exist ({aws.where})',
                f"{meant}{aws.command(f'provision --table {table}')} makes it"
                + f"; or check --region{'' if aws.local else ' and --profile'}",
                code=refused.code,
            ) from cause
        raise


def _near(aws: Aws, table: str) -> str | None:
    """A table of the account whose name is much alike; None also for who may not list them."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        names = aws.client("dynamodb").list_tables()["TableNames"]
    except (ClientError, BotoCoreError):
        return None
    return near(table, names)


def stream_of(aws: Aws, table: str) -> TableStream:
    """The table's stream; AwsRefused when the table, or its stream, does not exist."""
    described = describe_table(aws, table)
    account = account_in(str(described["TableArn"]))
    arn = described.get("LatestStreamArn")
    if not arn:
        raise AwsRefused(
            f'table "{table}" has no stream ({aws.where}, account {account})',
            "whoever owns it turns on NEW_AND_OLD_IMAGES"
            if aws.address_of(table) != table
            else f"{aws.command(f'provision --table {table} --apply-changes')} turns on "
            "NEW_AND_OLD_IMAGES",
        )
    specification = described.get("StreamSpecification", {})
    return TableStream(
        table,
        arn,
        specification.get("StreamViewType", UNKNOWN),
        bool(specification.get("StreamEnabled")),
        tuple(str(key["AttributeName"]) for key in described.get("KeySchema", ())),
        table_arn_in(arn) or str(described["TableArn"]),
    )


def describe_stream(aws: Aws, arn: str) -> dict[str, Any]:
    """What DescribeStream says of a stream, its shards apart; empty where it says no.

    The stream is gone then, most likely; the relay asks again, and says what that means.
    """
    from botocore.exceptions import ClientError

    try:
        with translated("describe an earlier stream"):
            said = aws.client("dynamodbstreams").describe_stream(StreamArn=arn, Limit=1)
            return dict(said["StreamDescription"])
    except AwsRefused as refused:
        if isinstance(refused.__cause__, ClientError):
            return {}
        raise


def check_bus(aws: Aws, bus: str) -> None:
    """AwsRefused when the bus, a name or an ARN, does not exist.

    PutEvents may accept events for a bus that is not there, so it is asked before the first one.
    Who may not ask is believed: publishing needs no right to describe, and the owner of a bus in
    another account seldom grants it.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        aws.client("events").describe_event_bus(Name=bus)
    except ClientError as error:
        if code_of(error) in DENIED:
            return
        if code_of(error) == "ResourceNotFoundException":
            raise AwsRefused(
                f'bus "{bus}" does not exist ({aws.where})',
                "check the region, the account and the name in the ARN"
                if bus.startswith("arn:")
                else f"{aws.provision(bus)} makes it; or name another with --bus",
                code=code_of(error),
            ) from error
        raise translate(error, "describe the bus") from error
    except BotoCoreError as error:
        raise translate(error, "describe the bus") from error
