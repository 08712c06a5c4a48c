"""The live view of `ddbrelay tail`, in a terminal of 80 and of 120 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, checkpoint, poisoned
from rich.cells import cell_len

from ddbrelay.aws.session import Aws

pytestmark = [pytest.mark.slow, ON_MOTO]

Waiter = Callable[[Callable[[], bool], float], None]
CTRL_S, CTRL_Q = b"\x13", b"\x11"
CURSOR = re.compile(r"\x1b\[\?25([hl])")
_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([a-zA-Z])|\r|\n|[^\x1b\r\n]+")


class Terminal:
    """A command in a pseudo-terminal of a given width; what it wrote, and what is to be seen."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # A terminal whose other side has closed is an error to read on Linux, and its end.
        with suppress(OSError):
            while part := os.read(self._master, 65536):
                self._written += part

    @property
    def written(self) -> str:
        return self._written.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        """The person presses keys."""
        os.write(self._master, keys)

    def resize(self, width: int) -> None:
        """The person makes the window narrower, or wider."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))

    def wait(self) -> int:
        code = self.process.wait(30)
        self._reader.join()
        return code

    def screen(self) -> list[str]:
        """The lines as they stand, after all movements of the cursor."""
        lines, row, column = [""], 0, 0
        for found in _SEQUENCE.finditer(self.written):
            text, count, kind = found[0], found[1], found[2]
            if text == "\r":
                column = 0
            elif text == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif kind == "A":
                row -= int(count or 1)
            elif kind == "K" and count == "2":
                lines[row] = ""
            elif kind in {"m", "h", "l"}:
                continue
            elif kind:
                pytest.fail(f"a movement that this terminal does not know: {text!r}")
            else:
                line = lines[row].ljust(column)
                lines[row] = line[:column] + text + line[column + len(text) :]
                column += len(text)
        return [line.rstrip() for line in lines]


@contextmanager
def terminal(cli: Cli, width: int, *words: str, term: str = "xterm-256color") -> Iterator[Terminal]:
    """Start a command in it; it is killed when the block is left and it still runs."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {**cli.env(), "TERM": term, "LANG": "C.UTF-8"}
    for name in ("COLUMNS", "LINES", "CI"):
        environment.pop(name, None)
    with subprocess.Popen(
        cli.arguments(*words),
        cwd=cli.directory,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            yield Terminal(process, master)
        finally:
            process.kill()
            process.wait()
            os.close(master)


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_view_has_a_row_an_event_and_its_last_lines_stay(
    cli: Cli, pipe: Pipeline, wait_until: Waiter, width: int
) -> None:
    with terminal(cli, width, "tail", "--forward") as shown:
        pipe.put("kaylee", username={"S": "kaylee.frye"})
        pipe.put("kaylee", username={"S": "k" * 200})
        pipe.delete("kaylee")
        wait_until(lambda: shown.written.count("✔") >= 3, 30)
        pipe.put("長い鍵" * 30, username={"S": "見" * 100})
        wait_until(lambda: shown.written.count("✔") >= 4, 30)
        pipe.put("n", username={"S": "見" * 100})
        wait_until(lambda: "published 5 " in "\n".join(shown.screen()[-4:]), 10)
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 0
    lines = shown.screen()
    assert max(map(cell_len, lines)) <= width
    assert lines[0].startswith(pipe.table)
    rows = [line for line in lines if line[2:3] == ":"]
    assert [row.split()[1] for row in rows[:3]] == ["INSERT", "MODIFY", "REMOVE"]
    assert all("✔" in row for row in rows)
    assert len(rows) == 5
    assert rows[0].split()[2] == "id=kaylee"
    assert "kaylee.frye" in rows[0]
    assert "username" in rows[1]
    ids = [event["id"][:8] for event in pipe.received()]
    assert [any(word in ids for word in row.split()) for row in rows] == [width >= 90] * 5
    status = lines.index(next(line for line in lines if "published 5" in line))
    assert lines.index(rows[-1]) < status
    assert "skipped 0   parked 0   lost 0" in lines[status]
    assert re.search(r"in flight 0   lag \d+\.\d s   1 shard", lines[status + 1])
    heads = ["published", "skipped", "parked", "lost"]
    (head,) = [number for number, line in enumerate(lines) if line.split() == heads]
    table = [line.split() for line in lines[head + 1 : head + 5]]
    assert [(name[-7:], published) for name, published, *_ in table] == [
        ("Created", "3"),
        ("Deleted", "1"),
        ("Updated", "1"),
        ("all", "5"),
    ]
    assert lines[head + 6].startswith("Relayed 5 events in ")
    assert str(checkpoint(cli))[-8:] in lines[head + 6]
    assert len([line for line in lines if "published 5" in line]) == 1
    # The cursor that was hidden is back.
    assert shown.written.rindex("\x1b[?25h") > shown.written.rindex("\x1b[?25l")


def test_a_parked_event_is_red_with_its_reason_in_the_width(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    words = ("tail", "--forward", "--max-records", "1", *poisoned(cli))
    with terminal(cli, 80, *words) as shown:
        assert shown.wait() == 3
    lines = shown.screen()
    assert max(map(cell_len, lines[:-3])) <= 80
    (row,) = [number for number, line in enumerate(lines) if line[2:3] == ":"]
    assert lines[row].endswith("✖ parked")
    assert lines[row + 1].endswith(' rule "long": the detail type is longer than 128 characters')
    assert "\x1b[31m✖ parked" in shown.written
    assert any("parked 1" in line for line in lines)
    assert any(line.startswith("error: finished, but 1 record is parked") for line in lines)


def test_a_preview_says_that_nothing_is_sent_and_what_to_type_next(
    cli: Cli, pipe: Pipeline
) -> None:
    pipe.put("a\x1b[2J\nb")
    with terminal(cli, 80, "tail", "--until-idle", "0") as shown:
        assert shown.wait() == 0
    lines = shown.screen()
    assert "preview, nothing is sent   default mapping" in lines[0]
    assert not any(line.startswith("mapping:") for line in lines)
    (row,) = [line for line in lines if line[2:3] == ":"]
    assert row.split()[-1] == "·"
    assert any(line.startswith("Saw 1 change in ") for line in lines)
    assert any(line.endswith("tail --forward") for line in lines)
    assert "\x1b[2J" not in shown.written


def test_without_colour_the_view_is_drawn_all_the_same(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    cli.environment["NO_COLOR"] = "1"
    words = ("tail", "--forward", "--until-idle", "0")
    with terminal(cli, 80, *words) as shown:
        assert shown.wait() == 0
    assert "✔" in shown.written
    assert "\x1b[?25l" in shown.written
    coloured = re.findall(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", shown.written)
    assert coloured == []


def test_rows_and_status_lines_fit_a_window_that_becomes_narrower(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    with terminal(cli, 120, "tail", "--forward") as shown:
        pipe.put("wide", username={"S": "k" * 200})
        wait_until(lambda: "published 1 " in shown.written, 30)
        shown.resize(70)
        before = len(shown.written)
        pipe.put("narrow", username={"S": "k" * 200})
        wait_until(lambda: "published 2 " in shown.written, 10)
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 0
    written = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.written[before:])
    lines = [line for line in re.split(r"[\r\n]", written) if not line.startswith("Relayed")]
    assert any("id=narrow" in line for line in lines)
    assert max(map(cell_len, lines)) <= 70


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TERM": "dumb"}, ()),
        ({}, ("--output", "lines")),
        ({}, ("--output", "json")),
        ({}, ("-q",)),
    ],
)
def test_a_terminal_that_cannot_or_shall_not_be_redrawn_gets_plain_lines(
    cli: Cli, pipe: Pipeline, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    pipe.put("a")
    term = variables.pop("TERM", "xterm")
    cli.environment |= variables
    with terminal(cli, 80, "tail", "--forward", "--until-idle", "0", *words, term=term) as shown:
        assert shown.wait() == 0
    assert "\x1b" not in shown.written
    assert len(pipe.received()) == 1
    assert bool(shown.written) is ("-q" not in words)


def test_a_terminal_that_takes_nothing_does_not_hold_the_relay(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    with terminal(cli, 80, "tail", "--forward") as shown:
        pipe.put("a")
        wait_until(lambda: shown.written.count("✔") >= 1, 30)
        shown.type(CTRL_S)
        for number in range(30):
            pipe.put(f"paused-{number}")
        received: list[dict[str, Any]] = []

        def all_received() -> bool:
            received.extend(pipe.received())
            return len(received) >= 31

        wait_until(all_received, 30)
        assert "published 31 " not in shown.written
        shown.type(CTRL_Q)
        wait_until(lambda: "published 31 " in "\n".join(shown.screen()[-4:]), 10)
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 0


def test_a_terminal_that_takes_nothing_does_not_hold_the_end(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    with terminal(cli, 80, "tail", "--forward", "--grace", "0.5s") as shown:
        pipe.put("a")
        wait_until(lambda: shown.written.count("✔") >= 1, 30)
        shown.type(CTRL_S)
        pipe.received()
        pipe.put("b")
        wait_until(lambda: bool(pipe.received()), 30)
        shown.process.send_signal(signal.SIGTERM)
        assert shown.wait() == 0
    assert checkpoint(cli) == pipe.sequences()[-1]


def test_a_command_that_is_suspended_gives_the_cursor_back(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    with terminal(cli, 80, "tail") as shown:
        wait_until(lambda: "all read" in shown.written, 30)
        assert CURSOR.findall(shown.written) == ["l"]
        # In a session of its own, without a shell, nobody could let it go on: the kernel does not
        # stop it.
        shown.process.send_signal(signal.SIGTSTP)
        wait_until(lambda: CURSOR.findall(shown.written) == ["l", "h", "l"], 10)
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 0


def test_an_error_leaves_the_terminal_as_it_was(cli: Cli, pipe: Pipeline) -> None:
    with terminal(cli, 80, "tail", "--forward", "--max-records", "1", "--timeout", "1s") as shown:
        assert shown.wait() == 6
    assert shown.written.rindex("\x1b[?25h") > shown.written.rindex("\x1b[?25l")
    assert "error: \x1b[0mthe time-out came" in shown.written


def test_a_flood_is_summed_up_and_nothing_is_forgotten_in_the_count(
    cli: Cli, pipe: Pipeline
) -> None:
    for start in range(0, 700, 25):
        pipe.aws.client("dynamodb").batch_write_item(
            RequestItems={
                pipe.table: [
                    {"PutRequest": {"Item": {"id": {"S": f"k{start + n}"}}}} for n in range(25)
                ]
            }
        )
    with terminal(cli, 80, "tail", "--max-records", "700") as shown:
        assert shown.wait() == 0
    lines = shown.screen()
    rows = [line for line in lines if line[2:3] == ":"]
    assert any("seen 700   " in line for line in lines)
    said = [line for line in lines if "rows were shown" in line]
    assert said == [f"{len(rows):,} of 700 rows were shown; --output lines has all"]
