"""The policy that one part of ddbrelay needs, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def policy_for(role: str, config: Config, table: str, scope: iam.Scope) -> dict[str, Any]:
    """The policy of the relay, of the function or of provision; ConfigError for a bad mapping."""
    from ddbrelay.mappings import buses_of, mapper_of, rules_of

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
    mapper_of(config, table)
    sources = sources_of(config, rules_of(config, table))
    buses = [wanted.bus, *buses_of(config)]
    if role == "lambda":
        return _function(config, table, scope, buses, sources)
    return iam.relay_policy(
        scope,
        table=table,
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
    table_arn = scope.arn("dynamodb", f"table/{table}")
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
