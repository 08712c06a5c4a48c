"""One run at a time relays a stream for a consumer."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Callable

import pytest
from conftest import Cli
from pipeline import (
    ON_MOTO,
    Pipeline,
    checkpoint,
    clear_error,
    event_ids,
    poisoned,
    rows,
    running,
    seen_keys,
)

from ddbrelay.aws.session import Aws

Waiter = Callable[[Callable[[], bool], float], None]
FORWARD = ("tail", "--forward")


@pytest.mark.slow
@ON_MOTO
def test_a_second_run_is_refused_and_told_by_whom_until_the_first_one_is_dead(
    cli: Cli, aws: Aws, name: str, wait_until: Waiter
) -> None:
    pipe = Pipeline(aws, name)
    pipe.put("a")
    with running(cli, *FORWARD) as first:
        wait_until(lambda: len(first.lines) == 1, 20)
        done = cli.run(*FORWARD, "--until-idle", "0")
        says = f'consumer "default" is relaying this stream already: pid {first.process.pid} on '
        clear_error(done, 7, says, "since ", "--consumer")
        assert done.stdout == ""
        # Nor can its checkpoint be replaced under it.
        exported = cli.ok("positions", "export").stdout
        (cli.directory / "p.json").write_text(exported)
        clear_error(cli.run("positions", "import", "p.json", "--checkpoint"), 7, says)
        # Who only looks, or is another consumer, is not in the way.
        assert seen_keys(cli.json("tail", "--from", "trim-horizon", "--until-idle", "0")) == ["a"]
        cli.ok(*FORWARD, "--consumer", "other", "--until-idle", "0")
        pipe.put("b")
        wait_until(lambda: len(first.lines) == 2, 20)
        first.signal(signal.SIGKILL)
        first.wait()
    pipe.put("c")
    assert seen_keys(cli.json(*FORWARD, "--until-idle", "0"))[-1] == "c"
    assert rows(cli, "SELECT * FROM owners") == []


@pytest.mark.slow
@ON_MOTO
def test_a_full_disk_ends_the_run_with_one_line_and_the_next_one_sends_what_was_not_stored(
    cli: Cli, aws: Aws, name: str
) -> None:
    """A limit on the size of files stands for the disk; SQLite meets it when it grows its log."""
    pipe = Pipeline(aws, name)
    pipe.put("a")
    cli.ok(*FORWARD, "--until-idle", "0")
    at = checkpoint(cli)
    for number in range(40):
        pipe.put(f"k{number}", blob={"S": "x" * 400_000 if number == 20 else "x"})
    # Its events have too long a detail type: they are parked, and one has 400 KB.
    done = subprocess.run(
        cli.arguments(*FORWARD, "--until-idle", "0", *poisoned(cli)),
        cwd=cli.directory,
        env=cli.env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    clear_error(done, 7, "the state file", "cannot be used")
    assert checkpoint(cli) == at
    cli.ok(*FORWARD, "--until-idle", "0")
    assert set(event_ids(pipe.received())) == {record["eventID"] for record in pipe.records()}
