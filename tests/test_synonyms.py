"""What is suggested for words that are unknown: what other tools call it, or else what is near."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from conftest import Cli

from ddbrelay.cli import synonyms
from ddbrelay.cli.main import cli
from ddbrelay.text import near, nearest


def commands(
    group: click.Group = cli, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that name it, groups included."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("run", 'did you mean "tail --forward"?'),
        ("forward", 'did you mean "tail --forward"?'),
        ("relay", 'did you mean "tail --forward"?'),
        ("dlq", 'did you mean "dead-letters"?'),
        ("logs", 'did you mean "tail"?'),
        ("watch", 'did you mean "tail"?'),
        ("follow", 'did you mean "tail"?'),
        ("deploy", 'did you mean "export"?'),
        ("prov", 'did you mean "provision"?'),
        ("reply", 'did you mean "replay"?'),
        ("positions ls", 'did you mean "list"?'),
        ("dead-letters rm", 'did you mean "drop"?'),
        ("help deploy", 'did you mean "export"?'),
        ("help version", "ddbrelay help lists what there is"),
        ("destroyed", "ddbrelay --help"),
        ("tail -o json", 'did you mean "--output"?'),
        ("tail -f", 'did you mean "--forward"?'),
        ("rules -f users.toml", 'did you mean "--config"?'),
        ("tail -n 5", 'did you mean "--max-records"?'),
        ("listen -n 5", 'did you mean "--max-events"?'),
        ("tail --json", 'did you mean "--output json"?'),
        ("config show --format json", 'did you mean "--output json"?'),
        ("--json config show", 'did you mean "--output json"?'),
        ("tail --out json", 'did you mean "--output"?'),
        ("tail --visible", "ddbrelay tail --help"),
    ],
)
def test_what_other_tools_call_it_is_understood_and_nothing_far_is_suggested(
    bare_cli: Cli, line: str, hint: str
) -> None:
    done = bare_cli.run(*line.split())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"  hint: {hint}"


@pytest.mark.parametrize(
    ("word", "known", "close"),
    [
        ("deploy", ["replay", "tail"], None),
        ("json", ["region", "version"], None),
        ("mpa", ["map", "tail"], "map"),
        ("tabel", ["label", "table"], "table"),
        ("detailtype", ["DetailType"], "DetailType"),
        ("out", ["output", "bus"], "output"),
        ("pro", ["profile", "provision"], None),
        ("", ["output"], None),
    ],
)
def test_only_what_is_near_is_suggested(word: str, known: list[str], close: str | None) -> None:
    assert near(word, known) == close
    hint = f"known: {', '.join(known)}" if close is None else f'did you mean "{close}"?'
    assert nearest(word, known, "known:") == hint


def test_every_synonym_leads_to_something_that_there_is() -> None:
    known = dict(commands())
    names = {name for words in known for name in words}
    for word, ways in synonyms._COMMANDS.items():
        assert word not in {words[0] for words in known if len(words) == 1}
        words = {part for way in ways for part in way.split() if not part.startswith("--")}
        assert words <= names
    options = {
        name
        for command in known.values()
        for param in command.get_params(click.Context(command))
        for name in param.opts
    }
    for word, ways in synonyms._OPTIONS.items():
        assert word.startswith("--") or word not in options
        assert all(way == "-vv" or way.split()[0] in options for way in ways)
