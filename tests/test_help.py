"""`ddbrelay help`, and that every command which a help or a topic names exists."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import Cli

from ddbrelay.cli import help as helps
from ddbrelay.cli.main import COMMANDS, HEADINGS, cli
from ddbrelay.errors import ConfigError

_QUOTED = re.compile(r"`(ddbrelay [^`]+)`")
_PLACEHOLDER = re.compile(r"[A-Z]+$")


def commands(*words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group below these words, with its own."""
    command = helps._command(click.Context(cli), words)
    assert command is not None
    yield words, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from commands(*words, name)


EVERY = dict(commands())


def text_of(words: tuple[str, ...]) -> str:
    context, command = click.Context(cli, info_name="ddbrelay"), EVERY[()]
    for end in range(1, len(words) + 1):
        command = EVERY[words[:end]]
        context = click.Context(command, info_name=words[end - 1], parent=context)
    context.max_content_width = context.terminal_width = 100
    return command.get_help(context)


def lines_of(text: str) -> Iterator[str]:
    """The commands of ours that a text shows: on lines of their own, and in backquotes."""
    for line in text.splitlines():
        for part in re.split(r" \| |\$\(|\"\$\(", line.strip()):
            if re.match(r"(?:[A-Z_]+=\S+ )*ddbrelay ", part):
                yield re.sub(r"^(?:[A-Z_]+=\S+ )*", "", part)
    yield from _QUOTED.findall(re.sub(r"\s+", " ", text))


def fault(line: str) -> str | None:
    """What is wrong with a command line, by its words alone."""
    line = re.split(r" (?:>|2>|\||in ~/|&&) ?|\)\"|\s{3,}| …", line)[0]
    words = [word for word in shlex.split(line)[1:] if word != "|"]
    at: tuple[str, ...] = ()
    command: click.Command = cli
    while words:
        word, *words = words
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            if name in {"--help", "-h"}:
                continue
            option = next(
                (one for one in command.params if name in (*one.opts, *one.secondary_opts)), None
            )
            if not isinstance(option, click.Option):
                return f"{' '.join(at)} has no option {name}"
            if not (equals or option.is_flag or option.count):
                if not words:
                    return f"{name} wants a value"
                words = words[1:]
        elif isinstance(command, click.Group):
            if _PLACEHOLDER.match(word):
                return None
            at = (*at, word)
            if at not in EVERY:
                return f"no command {' '.join(at)}"
            command = EVERY[at]
        elif at == ("help",):
            rest = (word, *words)
            if not (rest in EVERY or rest[0] in helps.topics() or _PLACEHOLDER.match(word)):
                return f"nothing to help with {rest}"
            return None
    return None


def test_a_wrong_command_line_in_a_text_would_be_found() -> None:
    assert fault("ddbrelay tial") == "no command tial"
    assert fault("ddbrelay tail --tabel users") == "tail has no option --tabel"
    assert fault("ddbrelay tail --table") == "--table wants a value"
    assert fault("ddbrelay help positons") == "nothing to help with ('positons',)"
    assert list(
        lines_of("  ddbrelay a\n  X=1 ddbrelay b |\nsee `ddbrelay\n  c`, $(ddbrelay d)")
    ) == [
        "ddbrelay a",
        "ddbrelay b |",
        "ddbrelay d)",
        "ddbrelay c",
    ]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_help_shows_examples_of_commands_that_exist(words: tuple[str, ...]) -> None:
    text = text_of(words)
    found = list(lines_of(re.sub(r"^Usage: .*$", "", text, flags=re.MULTILINE)))
    assert found
    assert [wrong for line in found if (wrong := fault(line))] == []
    if words:
        assert len(re.findall(r"^  Examples?:$", text, re.MULTILINE)) == 1
        assert text.index("Example") < text.index("Global options")


@pytest.mark.parametrize("name", helps.topics())
def test_a_topic_is_a_page_whose_commands_exist(name: str) -> None:
    text = helps.topic(name)
    lines = text.splitlines()
    assert lines[0].startswith(f"{name}: ")
    assert 30 <= len(lines) <= 80
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    headings = [line for line in lines[1:] if line[:1].strip()]
    assert headings[-1] == "SEE ALSO"
    assert all(heading == heading.upper() for heading in headings)
    found = list(lines_of(text))
    assert len(found) >= 5
    assert [wrong for line in found if (wrong := fault(line))] == []


def test_every_file_of_a_topic_is_listed() -> None:
    assert {file.stem for file in helps.TOPICS.iterdir()} == set(helps.topics())


def test_every_command_stands_below_one_heading() -> None:
    placed = [name for names in HEADINGS.values() for name in names]
    assert sorted(placed) == sorted(COMMANDS)


def test_help_lists_topics_and_commands_and_shows_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def said(*words: str) -> str:
        cli.main([*words], prog_name="ddbrelay", standalone_mode=False)
        return capsys.readouterr().out

    overview = said("help")
    for name in (*helps.topics(), *COMMANDS):
        assert f"\n  {name} " in overview
    assert said("help", "positions") == helps.topic("positions")
    assert said("help", "tail") == said("tail", "--help")
    assert said("help", "positions", "save") == said("positions", "save", "--help")
    assert json.loads(said("help", "output", "tail"))["title"] == "ddbrelay tail --output json"
    [line] = said("help", "logs", "--output", "json").splitlines()
    assert json.loads(line) == {
        "type": "topic",
        "name": "logs",
        "text": helps.topic("logs").rstrip("\n"),
    }
    [line] = said("--output", "json", "help", "output", "positions", "list").splitlines()
    schema = json.loads(line)
    assert (schema["type"], schema["name"]) == ("schema", "positions.list")
    assert schema["schema"]["$defs"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            "exit-codes positions",
            '"exit-codes" is a topic, of one page',
            "ddbrelay help exit-codes",
        ),
        ("exit-cods positions", 'no topic or command "exit-cods"', 'did you mean "exit-codes"?'),
        ("tail x", 'ddbrelay tail has no command "x"', "ddbrelay tail --help"),
        (
            "output positions",
            'no schema of the output of "positions"',
            "one of: positions delete, positions export, positions import, positions list, "
            "positions save, positions show",
        ),
        (
            "output positions.lst",
            'no schema of the output of "positions lst"',
            'did you mean "positions list"?',
        ),
    ],
)
def test_what_it_does_not_know_is_said_with_what_was_meant(
    words: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        cli.main(["help", *words.split()], prog_name="ddbrelay", standalone_mode=False)
    assert (refused.value.message, refused.value.hint) == (message, hint)


def test_the_schema_of_a_command_of_a_group_is_found_with_a_dot_and_with_a_blank(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = []
    for words in (["positions.list"], ["positions", "list"]):
        cli.main(["help", "output", *words], prog_name="ddbrelay", standalone_mode=False)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_a_preview_is_told_of_where_it_goes_another_way() -> None:
    codes, positions = (" ".join(helps.topic(name).split()) for name in ("exit-codes", "positions"))
    assert "3 also in a preview without --forward when a record would be parked" in codes
    assert "keeps and moves nothing: there it always counts" in positions


def test_a_file_that_is_wrong_does_not_keep_its_help_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ddbrelay.toml").write_text("tabel = 1\n")
    monkeypatch.chdir(tmp_path)
    cli.main(["help", "mapping"], prog_name="ddbrelay", standalone_mode=False)
    assert capsys.readouterr().out.startswith("mapping: ")


@pytest.mark.parametrize(
    ("more", "lines", "paged"),
    [({}, 10, True), ({}, 200, False), ({"CI": "1"}, 10, False), ({"TERM": "dumb"}, 10, False)],
)
def test_only_a_text_longer_than_the_screen_goes_through_the_pager(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, str],
    lines: int,
    paged: bool,
) -> None:
    for name in ("CI", "NO_COLOR", "LESS"):
        monkeypatch.delenv(name, raising=False)
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\necho it was paged\ncat > {tmp_path}/seen\n")
    pager.chmod(0o755)
    environment = {"PAGER": str(pager), "TERM": "xterm", "LINES": str(lines), "COLUMNS": "80"}
    for name, value in (environment | more).items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as screen, os.fdopen(os.dup(slave)) as keys:
        monkeypatch.setattr(sys, "stdin", keys)
        monkeypatch.setattr(sys, "stdout", screen)
        saved = os.dup(1)
        try:
            os.dup2(slave, 1)
            helps._show("TOPIC\n" + "  a line\n" * 30)
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        screen.flush()
        shown = os.read(master, 10_000).decode()
    os.close(master)
    assert ("it was paged" in shown) is paged
    text = (tmp_path / "seen").read_text() if paged else shown
    assert "a line" in text
    assert paged or "\x1b[36m" in text


def test_help_is_never_paged_or_coloured_in_a_pipe(bare_cli: Cli) -> None:
    bare_cli.environment |= {"PAGER": "false", "LINES": "5", "TERM": "xterm"}
    assert bare_cli.ok("help", "delivery").stdout == helps.topic("delivery")
