"""The examples do what they say, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Cli
from test_readme import DOCUMENTS, ROOT, run_session, sessions, shell_environment

from ddbrelay import config
from ddbrelay.infra.names import queue_name
from ddbrelay.local import engine as engines

EXAMPLES = ROOT / "examples"
SMOKE = EXAMPLES / "ci" / "smoke.sh"
IDLE = "1"


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a CI job that makes its temporary files in a folder of its own."""
    (tmp_path / "tmp").mkdir()
    environment = shell_environment(tmp_path)
    return environment | {"CI": "true", "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture
def python(cli: Cli, engine: engines.Engine) -> Callable[..., str]:
    """Runs an example with nothing but the standard AWS variables; what it printed."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": engines.url(engine.port),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }

    def run(example: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, EXAMPLES / example, *words],
            cwd=cli.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return run


def left_running(folder: Path) -> Iterator[str]:
    """The command lines of processes whose environment names the folder, where /proc tells."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(folder) in (process / "environ").read_bytes():
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue


def nothing_is_left(job: dict[str, str]) -> bool:
    folder = Path(job["TMPDIR"])
    return not [*folder.iterdir()] and not [*left_running(folder)]


@pytest.mark.slow
def test_the_smoke_test_ends_with_its_verdict_and_leaves_nothing(job: dict[str, str]) -> None:
    done = subprocess.run(
        [SMOKE], env=job, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "smoke: ok, 35 changes written, relayed and received, none twice\n"
    assert nothing_is_left(job)


def test_a_smoke_test_that_fails_names_the_step_and_leaves_nothing(job: dict[str, str]) -> None:
    done = subprocess.run(
        [SMOKE],
        env=job | {"DDBRELAY_SOURCE": "aws.users"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode > 0
    verdict = done.stdout.splitlines()[-1]
    assert re.fullmatch(rf"smoke: FAILED with exit code {done.returncode}, at: \w+", verdict)
    assert "error: " in done.stderr
    assert nothing_is_left(job)


@pytest.mark.slow
def test_a_smoke_test_whose_numbers_differ_says_which(job: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "ddbrelay"
    honest = tmp_path / "honest"
    program.rename(honest)
    program.write_text(
        f'#!/bin/sh\n"{honest}" "$@" | sed -e \'s/"published":35/"published":34/\'\n'
    )
    program.chmod(0o755)
    done = subprocess.run([SMOKE], env=job, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "smoke: published is 34 in relay.json, expected 35:" in done.stderr
    assert done.stdout == "smoke: FAILED with exit code 1, at: relay\n"
    assert nothing_is_left(job)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_smoke_test_that_is_interrupted_leaves_nothing(
    job: dict[str, str],
    number: signal.Signals,
    wait_until: Callable[[Callable[[], bool], float], None],
) -> None:
    folder = Path(job["TMPDIR"])
    with subprocess.Popen(
        [SMOKE],
        env=job,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until(lambda: [*folder.glob("*/relay.json")] != [], 60)
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert printed.startswith(f"smoke: FAILED with exit code {128 + number}")
    assert nothing_is_left(job)


@pytest.mark.slow
def test_the_readme_of_the_examples_runs(tmp_path: Path) -> None:
    [script] = sessions(DOCUMENTS[1].read_text()).values()
    printed = run_session(script, tmp_path)
    for verb in ("Created", "Updated", "Deleted"):
        assert re.search(rf"(?m)^handled User{verb} \S+ \(change \S+\)$", printed)
    assert "\n3 handled, 0 repeats dropped\n" in printed


@pytest.mark.slow
@pytest.mark.moto_first
def test_a_producer_that_knows_nothing_of_the_bus_is_heard_behind_it(
    cli: Cli, name: str, python: Callable[..., str]
) -> None:
    cli.ok("provision")
    words = [line.split() for line in python("producer.py", name).splitlines()]
    assert [verb for verb, _ in words] == ["created", "updated", "deleted"]
    cli.ok("tail", "--forward", "--until-idle", IDLE, "--entity", "User")
    *received, summary = cli.json("listen", "--expect", "3", "--timeout", "30s")
    assert summary["distinct"] == 3
    heard = {(e["event"]["detail-type"], e["event"]["detail"]["id"]) for e in received}
    assert heard == {(f"User{verb.capitalize()}", identity) for verb, identity in words}


@pytest.mark.slow
@pytest.mark.moto_first
def test_a_consumer_handles_each_change_once_although_it_is_sent_twice(
    cli: Cli, name: str, python: Callable[..., str]
) -> None:
    cli.ok("provision")
    written = [*cli.json("seed", "--count", "4", "--updates", "0.5")][-1]
    total = written["inserted"] + written["updated"]
    for start in ("checkpoint", "trim-horizon"):
        cli.ok("tail", "--forward", "--from", start, "--until-idle", IDLE, "--entity", "User")

    printed = python("consumer.py", queue_name(name), "--idle", IDLE).splitlines()
    assert printed[-1] == f"{total} handled, {total} repeats dropped"
    changes = [line.rpartition("(change ")[2] for line in printed[:-1]]
    handled = [line.rpartition("(change ")[2] for line in printed if line.startswith("handled ")]
    assert sorted(handled) == sorted(set(changes))
    with closing(sqlite3.connect(cli.directory / "consumer.db")) as database:
        counts = dict(database.execute("SELECT event, n FROM counts"))
    assert counts == {"UserCreated": written["inserted"], "UserUpdated": written["updated"]}

    again = python("consumer.py", queue_name(name), "--idle", IDLE)
    assert again == "0 handled, 0 repeats dropped\n"


def test_the_configuration_file_is_the_one_that_init_writes(bare_cli: Cli) -> None:
    def portable(text: str) -> list[str]:
        # Where state is kept by default differs from system to system.
        return [line for line in text.splitlines() if not line.startswith("#state")]

    bare_cli.ok("init", "--table", "users")
    written = (bare_cli.directory / config.FILE_NAME).read_text()
    shown = (EXAMPLES / config.FILE_NAME).read_text()
    assert portable(shown) == portable(written), "ddbrelay init --table users writes it"


def test_the_configuration_file_is_accepted(bare_cli: Cli) -> None:
    done = bare_cli.ok(
        "--config", str(EXAMPLES / config.FILE_NAME), "config", "show", "-q", "--output", "json"
    )
    entry = json.loads(done.stdout)["settings"]["source.table"]
    assert entry["value"] == "users"


def test_the_picture_of_the_demo_asks_for_nothing_from_elsewhere() -> None:
    picture = (EXAMPLES / "demo.svg").read_text()
    texts = "".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")
    assert "no AWS account was touched" in texts
    assert not re.search(r"@import|@font-face|url\((?!#)|href=|<image|<script", picture)
