"""`ddbrelay listen` as a process: in a terminal, with filters, and with a recording."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import Cli
from pipeline import ON_MOTO
from rich.cells import cell_len
from test_screens import terminal

from ddbrelay.aws.session import Aws

pytestmark = ON_MOTO

Waiter = Callable[[Callable[[], bool], float], None]
ESCAPE = "\x1b[2J"


@pytest.fixture
def queue(aws: Aws, name: str) -> str:
    """A queue whose name this is."""
    aws.client("sqs").create_queue(QueueName=name)
    return name


def send(aws: Aws, queue: str, *events: dict[str, Any]) -> None:
    """Send them as a rule does, and a message that is no event after them."""
    sqs = aws.client("sqs")
    bodies = [
        json.dumps({"source": "ddbrelay.users", "time": "2026-11-23T10:31:07Z", **event})
        for event in events
    ]
    for body in [*bodies, f"no event {ESCAPE}"]:
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], MessageBody=body)


EVENTS = (
    {"id": "6b1e0c9f-1", "detail-type": "UserCreated", "detail": {"id": "a", "name": "Kaylee"}},
    {"id": "02ad77e1-2", "detail-type": "OrderPlaced", "detail": {"id": "b", "name": "Inara"}},
    {"id": "6b1e0c9f-1", "detail-type": "UserCreated", "detail": {"id": "a", "name": "Kaylee"}},
)


def test_filters_narrow_what_is_printed_and_nothing_else(cli: Cli, aws: Aws, queue: str) -> None:
    send(aws, queue, *EVENTS)
    words = ("listen", "--queue", queue, "--max-events", "4")
    *objects, summary = cli.json(
        *words, "--show", "User*", "--record", "run.html", "--timeout", "9s"
    )
    assert [one["event"]["detail"]["id"] for one in objects] == ["a", "a"]
    assert (summary["received"], summary["distinct"], summary["notEvents"]) == (3, 2, 1)
    page = (cli.directory / "run.html").read_text()
    assert page.count("id=a") == 2
    assert "id=b" not in page
    assert "hidden 2" in page
    assert "OrderPlaced" in page
    send(aws, queue, *EVENTS)
    done = cli.ok(*words, "--grep", "inara", "--detail", "--record", "run.svg")
    first, *below = done.stdout.splitlines()
    assert first == "2026-11-23T10:31:07Z OrderPlaced ddbrelay.users id=b 02ad77e1-2"
    assert json.loads("\n".join(below)) == {
        "source": "ddbrelay.users",
        "time": "2026-11-23T10:31:07Z",
        **EVENTS[1],
    }
    assert "(1 repeated, 1 message that is no event, hidden by --show/--grep: 3)" in done.stderr
    ElementTree.fromstring((cli.directory / "run.svg").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_rows_status_and_table_and_its_last_lines_stay(
    cli: Cli, aws: Aws, queue: str, wait_until: Waiter, width: int
) -> None:
    words = ("listen", "--queue", queue, "--expect", "9", "--record", "run.svg")
    with terminal(cli, width, *words) as shown:
        wait_until(lambda: "received 0" in shown.written, 30)
        send(aws, queue, *EVENTS)
        wait_until(lambda: "not events 1" in shown.written, 30)
        wait_until(lambda: "up 2 s" in shown.written, 30)
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 6
    lines = shown.screen()
    said = next(
        n
        for n, line in enumerate(lines)
        if line.endswith("(1 repeated, 1 message that is no event)")
    )
    assert max(map(cell_len, lines[:said])) <= width
    assert ESCAPE not in shown.written
    assert lines[0] == f"queue {queue}   Ctrl-C stops"
    rows = [line for line in lines if line[2:3] == ":"]
    assert len(rows) == 4
    assert [("6b1e0c9f" in row, "02ad77e1" in row) for row in rows[:2]] == (
        [(True, False), (False, True)]
    )
    assert sum("↻" in row for row in rows) == 1
    assert sum("not an event  no event" in row for row in rows) == 1
    (status,) = [n for n, line in enumerate(lines) if "received 3   distinct 2" in line]
    assert "↻ repeated 1   not events 1" in lines[status]
    assert re.fullmatch(rf"queue {queue}   up \d+ s   2 of 9 expected", lines[status + 1])
    table = [line.split() for line in lines[status + 3 : said]]
    assert [line[:3] for line in table if line][:3] == [
        ["received", "repeated", "oldest"],
        ["UserCreated", "2", "1"],
        ["OrderPlaced", "1", "0"],
    ]
    # The cursor that was hidden is back.
    assert shown.written.rindex("\x1b[?25h") > shown.written.rindex("\x1b[?25l")
    picture = (cli.directory / "run.svg").read_text()
    words_in_it = "".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")
    assert "2 of 9 expected" in words_in_it
