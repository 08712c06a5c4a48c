"""The policy that one part of ddbrelay needs, from a configuration."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import ConfigError
from ddbrelay.export import iam
from ddbrelay.export.model import (
    FUNCTION_LIMIT,
    QUEUE_LIMIT,
    after_of,
    name_of,
    sources_of,
)
from ddbrelay.infra.names import archive_name, queue_name, rule_name
from ddbrelay.infra.plan import Wanted
from ddbrelay.sources import Source

if TYPE_CHECKING:
    from ddbrelay.config import Config


def policy_for(
    role: str, config: Config, table: str, scope: iam.Scope, *, config_at: str | None = None
) -> dict[str, Any]:
    """The policy of the relay, of the function or of provision; ConfigError for a bad mapping.

    `config_at` is where the function finds its file, where that is not in its package.
    """
    from ddbrelay.mappings import buses_of, check_mapping, rules_of

    wanted = Wanted.from_settings(config.settings, other_buses=buses_of(config))
    if role == "provision":
        return iam.provision_policy(
            scope,
            table=table,
            bus=wanted.bus,
            other_buses=wanted.other_buses,
            rule=rule_name(table),
            queue=queue_name(table),
            archive=archive_name(table),
            expires=after_of(config) == "expire",
        )
    check_mapping(config, table)
    sources = sources_of(config, rules_of(config, table))
    buses = [wanted.bus, *buses_of(config)]
    if role == "lambda":
        made = _function(config, table, scope, buses, sources)
        return made if config_at is None else _reading(made, config, config_at, scope)
    return iam.relay_policy(
        scope,
        table=config.settings.table_arn or table,
        buses=buses,
        sources=sources,
        queue=config.settings.dead_letter_queue,
        claim_check=config.settings.claim_check,
        after=after_of(config),
    )


def _function(
    config: Config,
    table: str,
    scope: iam.Scope,
    buses: list[str],
    sources: tuple[Source, ...],
) -> dict[str, Any]:
    table_arn = scope.table(config.settings.table_arn or table)
    streams = f"{table_arn}/stream/*"
    claims = config.settings.claim_check
    failed = scope.arn("sqs", name_of(table, "-failed", QUEUE_LIMIT))
    function = name_of(table, "", FUNCTION_LIMIT)
    own = config.settings.dead_letter_queue
    return iam.policy(
        [
            *iam.read_stream(streams, streams),
            iam.publish([scope.bus(bus) for bus in buses], sources),
            iam.send("ReportFailures", failed, "GetQueueAttributes"),
            *([] if own is None else [iam.copy_letters(own, scope)]),
            iam.write_log(scope.arn("logs", f"log-group:/aws/lambda/{function}:*")),
            *(iam.write_claims(claims, scope.partition) if claims else []),
            *iam.settle_items(after_of(config), table_arn),
        ]
    )


def _reading(
    made: dict[str, Any], config: Config, address: str, scope: iam.Scope
) -> dict[str, Any]:
    """With the right to read the file, and the schemas that its rules name relative to it."""
    kind, name = _place(address)
    schemas = [one for rule in config.mapping.rules if isinstance(one := rule.get("schema"), str)]
    beside = [posixpath.normpath(posixpath.join(posixpath.dirname(name), one)) for one in schemas]
    names = list(dict.fromkeys([name, *beside]))
    if kind == "s3":
        resources = [f"arn:{scope.partition}:s3:::{one}" for one in names]
        statement = iam.allow("ReadTheConfiguration", ["s3:GetObject"], resources)
    else:
        resources = [scope.arn("ssm", f"parameter/{one.lstrip('/')}") for one in names]
        statement = iam.allow("ReadTheConfiguration", ["ssm:GetParameter"], resources)
    return iam.policy([*made["Statement"], statement])


def _place(address: str) -> tuple[str, str]:
    """`s3` with bucket and key, or `ssm` with the name of a parameter."""
    if re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^*?$]+", address):
        return "s3", address.removeprefix("s3://")
    if re.fullmatch(r"ssm:/?[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*", address):
        return "ssm", address.removeprefix("ssm:")
    raise ConfigError(
        f"{address!r} is not where a configuration can be",
        "--config-at s3://bucket/key or ssm:/parameter/name",
    )
