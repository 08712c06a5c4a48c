"""`--record`: the view of a run as one file that asks for nothing from elsewhere."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Cli
from rich.table import Table
from rich.text import Text

from ddbrelay.cli.recording import NOTES, ROWS, WIDTH, Recording
from ddbrelay.errors import ConfigError, ExpectationNotMet

BOTH = pytest.mark.parametrize("ending", [".svg", ".html", ".SVG"])
ELSEWHERE = re.compile(r"@import|@font-face|url\((?!#)|\b(?:src|href)\s*=|<script|<image|<link")


def filled(path: Path, *, make_folder: bool = False) -> Recording:
    if make_folder:
        path.parent.mkdir()
    recording = Recording(path, title="ddbrelay <tail>")
    recording.header(Text("users ─▶ users-bus", "bold"))
    for number in range(3):
        recording.row(Text.assemble((f"row {number} ", "dim"), ("UserCreated", "cyan"), " ✔"))
    recording.status(Text("\n▁▂▅  3/s   published 3\nin flight 0"))
    table = Table(box=None)
    table.add_column("event type")
    table.add_row("User[b]Created[/b]")
    recording.summary(table)
    return recording


def words_of(path: Path) -> str:
    """The text that a reader sees, a line for each line; the file must be well-formed XML."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    if root.tag == "html":
        for head in root.findall("head"):
            root.remove(head)
        return "".join(root.itertext())
    lines: dict[float, str] = {}
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        row = float(text.attrib["y"])
        lines[row] = lines.get(row, "") + (text.text or "").replace("\xa0", " ")
    return "\n".join(line for _, line in sorted(lines.items()))


def places(text: str, *words: str) -> list[int]:
    return [text.index(word) for word in words]


@BOTH
def test_a_recording_has_header_rows_status_and_summary_in_this_order(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"run{ending}"
    filled(path).write()
    found = places(
        words_of(path),
        "users ─▶ users-bus",
        "row 0 UserCreated ✔",
        "row 2 UserCreated ✔",
        "published 3",
        "in flight 0",
        "event type",
        "User[b]Created[/b]",
    )
    assert found == sorted(found)


@BOTH
def test_a_recording_asks_for_nothing_from_elsewhere(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"run{ending}"
    recording = filled(path)
    recording.row(Text("a link", "link https://example.com"))
    recording.write()
    written = path.read_text(encoding="utf-8")
    assert ELSEWHERE.findall(written) == []
    assert set(re.findall(r"https?://[^\"' ]*", written)) <= {"http://www.w3.org/2000/svg"}
    assert "monospace" in written


def test_a_page_can_be_read_on_a_phone_and_a_picture_has_a_size_of_its_own(
    tmp_path: Path,
) -> None:
    page, picture = tmp_path / "run.html", tmp_path / "run.svg"
    filled(page).write()
    filled(picture).write()
    html = page.read_text()
    assert html.startswith("<!DOCTYPE html>")
    assert 'name="viewport" content="width=device-width' in html
    assert "pre-wrap" in html
    root = ElementTree.fromstring(picture.read_text())
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    clips = {one.attrib.get("id") for one in root.iter("{http://www.w3.org/2000/svg}clipPath")}
    asked = set(re.findall(r"url\(#([^)]*)\)", picture.read_text()))
    assert asked <= clips


@BOTH
def test_the_same_run_gives_the_same_bytes_whatever_the_environment(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    filled(first).write()
    for name, value in (("NO_COLOR", "1"), ("COLUMNS", "40"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    filled(second).write()
    assert first.read_bytes() == second.read_bytes()
    assert "#56bebe" in first.read_text()


@BOTH
def test_control_characters_and_markup_of_a_stranger_come_through_as_text(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"run{ending}"
    evil = "a\x1b[2J\x1b]0;x\x07b\x00\x9b31m\ud800\ufffe\u202e]]> <script>alert(1)</script> &amp;"
    recording = Recording(path, title=f"t{evil}")
    recording.header(Text(f"h{evil}"))
    recording.row(Text(f"r{evil}"))
    recording.note(Text(f"n{evil}"))
    recording.status(Text(f"s{evil}"))
    table = Table(box=None)
    table.add_column(f"c{evil}")
    table.add_row(Text(f"d{evil}"))
    recording.summary(table)
    recording.write()
    written = path.read_bytes().decode()
    assert [one for one in written if not one.isprintable() and one not in "\n\xa0"] == []
    assert "<script" not in written
    shown = words_of(path)
    for part in "hrns":
        assert f"{part}a\N{REPLACEMENT CHARACTER}[2J" in shown
    assert "<script>alert(1)</script> &amp;" in shown


def test_characters_of_two_cells_keep_the_room_that_they_need(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    recording = Recording(path, title="t")
    recording.row(Text.assemble(("長い鍵", "cyan"), ("abc", "red")))
    recording.write()
    texts = ElementTree.fromstring(path.read_text()).iter("{http://www.w3.org/2000/svg}text")
    wide = {text.text: float(text.attrib["textLength"]) for text in texts if text.text != "t"}
    assert wide == {"長い鍵": 72.0, "abc": 36.0}


@BOTH
def test_a_run_of_days_keeps_the_last_rows_and_the_last_notes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"run{ending}"
    recording = Recording(path, title="t")
    drawn: list[int] = []

    def row(number: int) -> Text:
        drawn.append(number)
        return Text(f"row-{number}-")

    recording.note(Text("note-first-"))
    for number in range(10_000):
        recording.row(lambda number=number: row(number))
    for number in range(NOTES):
        recording.note(Text(f"note-{number}- {'long ' * 40}"))
    recording.row(Text("row-last-"))
    recording.write()
    assert drawn == list(reversed(range(10_001 - ROWS, 10_000)))
    shown = words_of(path)
    assert shown.count("row-") == ROWS
    assert shown.count("note-") == NOTES
    assert "note-first-" not in shown
    assert f"… {10_001 - ROWS:,} earlier rows are left out" in shown
    assert "… 1 earlier notes are left out" in shown
    found = places(shown, f"row-{10_001 - ROWS}-", "row-9999-", "note-0-", "row-last-")
    assert found == sorted(found)
    assert path.stat().st_size < 600_000


def test_rows_of_many_lines_fill_a_recording_sooner(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    recording = Recording(path, title="t")
    for number in range(150):
        recording.row(Text(f"row-{number}-\n" + "line\n" * 98 + "line"))
    recording.write()
    shown = words_of(path)
    assert [f"row-{number}-" in shown for number in range(150)] == [False] * 140 + [True] * 10
    assert "… 140 earlier rows are left out" in shown
    recording.row(Text("row-150-\n" + "line\n" * 5000))
    recording.write()
    assert words_of(path).count("row-") == 1


def test_a_row_is_cut_to_the_width_and_a_note_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    recording = Recording(path, title="t", width=40)
    assert Recording(path, title="t").width == WIDTH
    recording.row(Text("r" * 100))
    recording.note(Text("n" * 100))
    recording.write()
    shown = words_of(path)
    assert ("r" * 39 + "…", shown.count("r"), shown.count("n")) == ("r" * 39 + "…", 39, 100)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run.png", "neither .svg nor .html"),
        ("run", "neither .svg nor .html"),
        ("nowhere/run.svg", "there is no folder "),
        ("folder.svg", "it is a folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.svg").mkdir()
    for doing in (Recording.check, lambda path: Recording(path, title="t")):
        with pytest.raises(ConfigError, match=said):
            doing(tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == ["folder.svg"]


def test_a_folder_in_which_nobody_can_write_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot write /proc/run\.svg"):
        Recording.check(Path("/proc/run.svg"))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ExpectationNotMet("no")])
def test_it_is_written_however_the_run_ends(
    tmp_path: Path, error: type[BaseException] | BaseException | None
) -> None:
    path = tmp_path / "run.svg"
    with suppress(KeyboardInterrupt, ExpectationNotMet), filled(path):
        if error is not None:
            raise error
    assert "row 2" in words_of(path)


def test_what_cannot_be_written_at_the_end_hides_no_other_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recording = filled(tmp_path / "folder" / "run.svg", make_folder=True)
    recording.path.parent.rmdir()
    with pytest.raises(ConfigError, match="cannot write"):
        recording.__exit__(None, None, None)
    assert caplog.text == ""
    recording.__exit__(ExpectationNotMet, ExpectationNotMet("no"), None)
    assert "cannot write" in caplog.text


@pytest.mark.parametrize("words", [("--record", "run.png"), ("--record", "/proc/run.html")])
def test_a_command_refuses_it_before_anything_starts(bare_cli: Cli, words: tuple[str, ...]) -> None:
    done = bare_cli.run("listen", "--table", "t", "--region", "us-east-1", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words[1] in done.stderr
    assert "Traceback" not in done.stderr
    assert list(bare_cli.directory.iterdir()) == []
