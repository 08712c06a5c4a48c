"""`ddbrelay tail`: where it starts, where it ends, and what arrives behind the bus."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from conftest import Cli
from pipeline import (
    ON_MOTO,
    Pipeline,
    checkpoint,
    clear_error,
    event_ids,
    objects,
    rows,
    running,
    seen_keys,
    state_file,
)

from ddbrelay.aws.session import Aws
from ddbrelay.infra.seed import seed

Waiter = Callable[[Callable[[], bool], float], None]
ONCE = ("--until-idle", "0")
FORWARD = ("tail", "--forward", *ONCE)


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


def test_a_preview_sends_nothing_and_moves_no_checkpoint(cli: Cli, pipe: Pipeline) -> None:
    for key in "abc":
        pipe.put(key)
    *events, summary = cli.json("tail", *ONCE)
    assert seen_keys(events) == ["a", "b", "c"]
    assert {event["receipt"]["state"] for event in events} == {"preview"}
    assert {event["event"]["bus"] for event in events} == {None}
    assert (summary["read"], summary["published"], summary["forward"]) == (3, 0, False)
    assert pipe.received() == []
    for table in ("positions", "bookmarks", "dead_letters"):
        assert rows(cli, f"SELECT * FROM {table}") == []


def test_a_forwarding_run_publishes_every_change_and_the_next_goes_on_behind_it(
    cli: Cli, pipe: Pipeline
) -> None:
    seed(pipe.aws, pipe.table, count=20, updates=0.5, deletes=0.3, random_seed=1)
    *events, summary = cli.json(*FORWARD)
    arrived = pipe.received()
    ids = [record["eventID"] for record in pipe.records()]
    assert len(ids) == 36
    assert sorted(event_ids(arrived)) == sorted(ids)
    assert sorted(event["change"]["eventID"] for event in events) == sorted(ids)
    assert {event["receipt"]["state"] for event in events} == {"published"}
    assert {event["receipt"]["eventId"] for event in events} == {one["id"] for one in arrived}
    assert (summary["read"], summary["published"], summary["end"]) == (36, 36, "idle")
    assert summary["checkpoint"] == {pipe.shard: pipe.sequences()[-1]}

    pipe.put("late")
    assert seen_keys(cli.json(*FORWARD)) == ["late"]
    assert [event["detail"]["id"] for event in pipe.received()] == ["late"]
    assert cli.json(*FORWARD)[-1]["read"] == 0
    assert cli.json(*FORWARD, "--from", "trim-horizon")[-1]["published"] == 37
    assert sorted(event_ids(pipe.received())) == sorted(r["eventID"] for r in pipe.records())


@ON_MOTO
def test_the_events_of_an_item_arrive_in_the_order_of_its_changes(cli: Cli, pipe: Pipeline) -> None:
    for version in range(8):
        for key in "abcd":
            pipe.put(key, version={"N": str(version)})
    cli.ok(*FORWARD)
    arrived = [event["detail"] for event in pipe.received()]
    for key in "abcd":
        assert [d["version"] for d in arrived if d["id"] == key] == list(range(8))


def test_latest_starts_behind_what_was_written_before(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("before")
    with running(cli, "tail", "--from", "latest", "--max-records", "1", "--output", "json") as tail:
        # When it has its iterator cannot be seen from outside, so something is always new.
        deadline = time.monotonic() + 30
        while tail.process.poll() is None and time.monotonic() < deadline:
            pipe.put("after")
            time.sleep(0.05)
        assert tail.wait()[0] == 0
        assert seen_keys(objects("".join(tail.lines))) == ["after"]


def test_latest_is_for_the_very_first_start_of_a_forwarding_run(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("before")
    assert cli.json(*FORWARD, "--from", "latest")[-1]["read"] == 0
    pipe.put("between")
    done = cli.ok(*FORWARD, "--from", "latest", "--output", "json")
    assert seen_keys(objects(done.stdout)) == ["between"]
    assert "going on from the checkpoint: latest would lose what came since" in done.stderr
    assert [event["detail"]["id"] for event in pipe.received()] == ["between"]


@pytest.mark.moto_first
def test_a_time_or_an_age_starts_with_what_was_written_from_then_on(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    pipe.put("before")
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, 5)
    moment = datetime.now(UTC).replace(microsecond=0)
    pipe.put("after")
    assert seen_keys(cli.json("tail", *ONCE, "--from", moment.isoformat())) == ["after"]
    assert seen_keys(cli.json("tail", *ONCE, "--from", "1h")) == ["before", "after"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "neither an ISO time such as"),
        ("2999-01-01", "lies in the future"),
        ("TRIM_HORIZON", "neither an ISO time such as"),
    ],
)
def test_a_start_that_is_none_is_refused(bare_cli: Cli, text: str, says: str) -> None:
    bare_cli.environment |= {"DDBRELAY_LOCAL": "1", "DDBRELAY_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = bare_cli.run("tail", "--table", "users", "--from", text)
    clear_error(done, 2, f"error: --from: '{text}'", says, "trim-horizon, latest, an ISO time")
    assert not state_file(bare_cli).exists()


@pytest.mark.slow
def test_max_records_is_exact_and_the_next_run_goes_on(cli: Cli, pipe: Pipeline) -> None:
    for key in "abcdefg":
        pipe.put(key)
    first = cli.json("tail", "--forward", "--max-records", "3")
    assert (len(seen_keys(first)), first[-1]["end"]) == (3, "max-records")
    assert checkpoint(cli) == pipe.sequences()[2]
    second = cli.json("tail", "--forward", "--max-records", "4")
    assert [sorted(seen_keys(run)) for run in (first, second)] == [list("abc"), list("defg")]
    assert sorted(event["detail"]["id"] for event in pipe.received()) == list("abcdefg")


@pytest.mark.slow
@ON_MOTO
def test_a_timeout_alone_is_a_good_end_and_a_bad_one_where_more_was_asked(
    cli: Cli, pipe: Pipeline
) -> None:
    pipe.put("a")
    assert cli.json("tail", "--timeout", "0.3s")[-1]["end"] == "timeout"
    for more in (("--max-records", "2"), ("--until-idle", "1h")):
        done = cli.run("tail", "--timeout", "300ms", *more)
        clear_error(done, 6, "error: the time-out came before the end that was asked for")


@pytest.mark.slow
@ON_MOTO
def test_two_consumers_go_their_own_ways(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    assert seen_keys(cli.json(*FORWARD, "--consumer", "one")) == ["a"]
    pipe.put("b")
    assert seen_keys(cli.json(*FORWARD, "--consumer", "two")) == ["a", "b"]
    assert seen_keys(cli.json(*FORWARD, "--consumer", "one")) == ["b"]
    assert checkpoint(cli, "one") == checkpoint(cli, "two") == pipe.sequences()[-1]


@ON_MOTO
def test_the_environment_drives_it(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    cli.environment |= {
        "DDBRELAY_CONSUMER": "from-the-environment",
        "DDBRELAY_ENTITY": "Person",
        "DDBRELAY_FROM": "1h",
        "DDBRELAY_OUTPUT": "json",
        "DDBRELAY_STATE": str(cli.directory / "elsewhere.db"),
    }
    *events, summary = objects(cli.ok(*FORWARD).stdout)
    assert summary["consumer"] == "from-the-environment"
    assert [event["event"]["detailType"] for event in events] == ["PersonCreated"]
    assert [event["event"]["bus"] for event in events] == [pipe.bus]
    assert (cli.directory / "elsewhere.db").exists()
    assert not state_file(cli).exists()
    # A start that stands in the settings is for the first run only: the checkpoint comes first.
    assert objects(cli.ok(*FORWARD).stdout)[-1]["read"] == 0


@ON_MOTO
def test_the_file_drives_it_and_the_environment_wins(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    endpoint = cli.environment.pop("DDBRELAY_ENDPOINT_URL")
    for name in ("DDBRELAY_TABLE", "DDBRELAY_BUS", "DDBRELAY_LOCAL"):
        del cli.environment[name]
    (cli.directory / "ddbrelay.toml").write_text(
        f'output = "json"\n[aws]\nlocal = true\nendpoint_url = "{endpoint}"\n'
        f'[source]\ntable = "{pipe.table}"\nentity = "Person"\n[bus]\nname = "{pipe.bus}"\n'
        'source = "people"\n[relay]\nconsumer = "from-the-file"\n'
    )
    cli.environment["DDBRELAY_ENTITY"] = "Someone"
    *events, summary = objects(cli.ok(*FORWARD).stdout)
    assert [event["event"]["source"] for event in events] == ["people"]
    assert [event["event"]["detailType"] for event in events] == ["SomeoneCreated"]
    assert summary["consumer"] == "from-the-file"
