"""A listing of the shards whose pages do not say where the next one begins."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from scenes import MINUTE, delivered, during_a_run

from ddbrelay.aws.table import TableStream
from ddbrelay.checkup import positions, readers
from ddbrelay.cli import succession
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import ShardPage
from ddbrelay.flow.tracking import Fate
from ddbrelay.infra import calls
from ddbrelay.relay.listing import BROKEN
from ddbrelay.relay.subset import Subtree
from ddbrelay.testing import clock
from ddbrelay.testing.builders import stream
from ddbrelay.testing.faults import Faults
from ddbrelay.testing.simulator import SimulatedSource
from ddbrelay.testing.world import World, simulated

LEADS_NOWHERE: dict[str, Callable[[str | None, ShardPage], str]] = {
    "nowhere": lambda after, page: "",
    "to itself": lambda after, page: after or page.shards[-1].id,
}


class Astray(SimulatedSource):
    """A source whose listing never ends."""

    leads: Callable[[str | None, ShardPage], str]

    @classmethod
    def of(cls, source: SimulatedSource, where: str) -> Astray:
        made = cls(source.stream, source.faults)
        made.leads = LEADS_NOWHERE[where]
        return made

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        page = await super().shards(after, children_of)
        return page if children_of else replace(page, last_id=self.leads(after, page))


@pytest.mark.parametrize("where", LEADS_NOWHERE)
def test_a_listing_that_goes_in_circles_is_told_once_and_what_it_found_is_read(where: str) -> None:
    @simulated("a b -> c")
    async def scene(world: World) -> None:
        world.source = source = Astray.of(world.source, where)
        numbers = world.fill("xyz", 2, "a") + world.fill("uvw", 2, "c")
        task, stop = await during_a_run(world)
        await asyncio.sleep(2 * MINUTE)
        assert sorted(delivered(world), key=int) == numbers
        assert [word.partition(":")[0] for word in world.log.troubles] == [BROKEN]
        # A few each time that it is looked at.
        assert len(source.faults.calls_of("DescribeStream")) < 60
        stop.set()
        await task

    scene()


@pytest.mark.parametrize("where", LEADS_NOWHERE)
def test_what_a_listing_in_circles_leaves_out_is_not_lost(where: str) -> None:
    @simulated("a b")
    async def scene(world: World) -> None:
        world.fill("xyz", 2, "a")
        world.fill("uvw", 2, "b")
        whole = world.source
        await world.run()

        class Half(Astray):
            async def shards(
                self, after: str | None = None, children_of: str | None = None
            ) -> ShardPage:
                page = await super().shards(after, children_of)
                return replace(page, shards=page.shards[:1])

        world.source = Half.of(whole, where)
        tally = await world.run()
        assert (tally.gaps, set(await world.positions())) == ([], {"a", "b"})
        world.source = whole
        world.fill("rst", 2, "b")
        assert (await world.run())[Fate.PUBLISHED] == 6

    scene()


@pytest.mark.parametrize("where", LEADS_NOWHERE)
def test_an_orphan_in_a_listing_in_circles_is_read(where: str) -> None:
    @simulated("a -> b")
    async def scene(world: World) -> None:
        world.fill("xyz", 2, "b")
        world.stream.remove("a")
        world.source = Astray.of(world.source, where)
        tally = await world.run()
        assert tally[Fate.PUBLISHED] == 6

    scene()


@pytest.mark.parametrize("where", LEADS_NOWHERE)
def test_a_part_of_a_stream_whose_listing_goes_in_circles_can_be_read(where: str) -> None:
    async def scene(_: object) -> None:
        source = Astray.of(SimulatedSource(stream("a -> b"), Faults(clock.now)), where)
        page = await Subtree(source, "a").shards()
        assert ([shard.id for shard in page.shards], page.last_id) == (["a", "b"], "")

    clock.run(scene)


class Circling:
    """A client of boto3 of which every list leads back to one of its pages."""

    meta = SimpleNamespace(
        method_to_api_mapping=dict.fromkeys(
            ("list_rules", "list_streams", "list_event_source_mappings"), "List"
        ),
        service_model=SimpleNamespace(endpoint_prefix="aws"),
    )

    def __init__(self, length: int) -> None:
        self._tokens = itertools.cycle(f"page {number}" for number in range(length))
        self.calls = 0

    def list_rules(self, **_: str) -> dict[str, Any]:
        return {"Rules": [1], "NextToken": self._next()}

    def list_streams(self, **_: str) -> dict[str, Any]:
        return {"Streams": [{"StreamArn": MIDDLE}], "LastEvaluatedStreamArn": self._next()}

    def list_event_source_mappings(self, **_: str) -> dict[str, Any]:
        return {"EventSourceMappings": [], "NextMarker": self._next()}

    def _next(self) -> str:
        self.calls += 1
        assert self.calls < 20
        return next(self._tokens)


TABLE = "arn:aws:dynamodb:eu-west-1:111122223333:table/users"
FIRST, MIDDLE, LAST = (f"{TABLE}/stream/2026-01-0{day}T00:00:00.000" for day in (1, 2, 3))
CIRCLES = "the endpoint gives the same page again and again"


@pytest.mark.parametrize("length", [1, 3])
def test_a_list_of_boto3_that_goes_in_circles_ends_and_is_told(length: int) -> None:
    client = Circling(length)
    aws: Any = SimpleNamespace(client=lambda _: client, address_of=str, table_arn=None)
    with pytest.raises(AwsRefused, match=f"^cannot list: {CIRCLES}$"):
        list(calls.listing(client, "list_rules", "list", "Rules"))
    for answer in (positions.streams(aws, "users"), readers.functions(aws, FIRST)):
        assert answer.refusal is not None
        assert CIRCLES in answer.refusal.message
    # A run goes on with the streams that were listed.
    latest = TableStream("users", LAST, "NEW_IMAGE", True, table_arn=TABLE)
    words: list[str] = []
    assert succession._between(aws, FIRST, latest, words.append) == {MIDDLE}
    assert words == [
        f"streams that the table had in between may be left out: cannot list the streams of the "
        f"table: {CIRCLES}"
    ]
    assert client.calls == 4 * (length + 1)


def test_the_doctor_sees_the_pipes_of_every_page() -> None:
    pipes = {
        "": {"Pipes": [{"Name": "one"}], "NextToken": "more"},
        "more": {"Pipes": [{"Name": "two"}]},
    }
    client = SimpleNamespace(
        meta=SimpleNamespace(
            method_to_api_mapping={"list_pipes": "ListPipes"},
            service_model=SimpleNamespace(endpoint_prefix="pipes"),
        ),
        list_pipes=lambda NextToken="", **_: pipes[NextToken],  # noqa: N803
    )
    aws: Any = SimpleNamespace(client=lambda _: client)
    answer = readers.pipes(aws, FIRST)
    assert [one.name for one in answer.value or ()] == ["the pipe one", "the pipe two"]


def test_a_list_of_boto3_ends_with_an_empty_token() -> None:
    answers = iter([{"Streams": [1], "Last": "a"}, {"Streams": [2], "Last": ""}])
    found = list(calls.pages(lambda **_: next(answers), "list", "Last", "Start"))
    assert [page["Streams"] for page in found] == [[1], [2]]
