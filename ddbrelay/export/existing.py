"""The stream of a table that is there, asked of AWS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ddbrelay.aws.session import is_loopback
from ddbrelay.aws.table import describe_table, stream_of
from ddbrelay.errors import ConfigError

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.config import Settings
    from ddbrelay.export.choices import Choices


def refuse_emulator(settings: Settings, aws: Callable[[], Aws], table: str) -> None:
    """ConfigError where an emulator would be asked: its streams are not on AWS."""
    where = "the embedded AWS"
    if not settings.local:
        address = str(aws().client("dynamodb").meta.endpoint_url)
        if not is_loopback(address):
            return
        where = f"the emulator at {address}"
    raise ConfigError(
        f"--existing-table would ask {where}, whose streams no deployment can read",
        f"--stream-arn arn:aws:dynamodb:REGION:ACCOUNT:table/{table}/stream/LABEL",
    )


def of_table(aws: Aws, table: str, choices: Choices) -> Choices:
    """With the stream of the table, and its keys unless they were chosen; AwsRefused."""
    described = describe_table(aws, table)
    kinds = {
        one["AttributeName"]: one["AttributeType"] for one in described["AttributeDefinitions"]
    }
    keys = {
        one["KeyType"]: f"{one['AttributeName']}:{kinds[one['AttributeName']]}"
        for one in described["KeySchema"]
    }
    return replace(
        choices,
        stream_arn=stream_of(aws, table).arn,
        key=choices.key or keys["HASH"],
        sort_key=choices.sort_key or keys.get("RANGE"),
    )
