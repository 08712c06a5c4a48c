"""The bus of a run, with what stands around it: claim checks before, the tidying of items after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.session import Aws
from ddbrelay.aws.transport import Transport
from ddbrelay.flow.sink import Sink

if TYPE_CHECKING:
    from ddbrelay.aws.sweeping import Sweeper
    from ddbrelay.mappings import Tidying


async def sink_of(
    aws: Aws,
    transport: Transport,
    bus: str,
    claim_check: str | None,
    tell: Callable[[str], None],
) -> Sink:
    """The bus, behind what writes the details that no request can hold."""
    sink = await AwsBus.open(transport, bus)
    if claim_check is None:
        return sink
    from ddbrelay.aws.claims import ClaimChecks, ClaimingSink

    claims = ClaimChecks(aws, claim_check)
    await claims.check(tell)
    return ClaimingSink(sink, claims)


async def items_of(transport: Transport, table: str, tidying: Tidying) -> Sweeper:
    """What deletes or expires the items of a table."""
    from ddbrelay.aws.sweeping import Expiry, OutboxTable

    expiry = None if tidying.attribute is None else Expiry(tidying.attribute, tidying.seconds)
    return await OutboxTable.open(transport, table, expiry)


@asynccontextmanager
async def tidied(
    sink: Sink,
    transport: Transport,
    table: str,
    tidying: Tidying | None,
    tell: Callable[[str], None],
    grace: float,
) -> AsyncIterator[Sink]:
    """The same sink, which deletes or expires the items whose events it took, where asked to.

    At the end it finishes that within `grace` seconds; an item that stays is only untidy.
    """
    if tidying is None:
        yield sink
        return
    from ddbrelay.aws.sweeping import SweepingSink

    items = await items_of(transport, table, tidying)
    async with SweepingSink(sink, items, tell, grace=grace) as sweeping:
        yield sweeping
