"""`ddbrelay help`: concepts in a page each, the help of commands, and the schemas of their JSON."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ddbrelay.cli.console import in_ci, is_terminal, out, page
from ddbrelay.cli.options import Command, Run, pass_run
from ddbrelay.errors import ConfigError

TOPICS = Path(__file__).parent / "topics"
"""A text for each topic: its name and title on the first line, headings at the left margin."""
_SCHEMAS = "output"
"""The topic behind whose name a command asks for the schema of its JSON."""
_ORDER = ("positions", "delivery", "mapping", "output", "exit-codes", "logs", "ci", "testing")


@cache
def topics() -> dict[str, str]:
    """Topic -> its title, in the order in which they are listed."""
    return {name: topic(name).partition("\n")[0].partition(": ")[2] for name in _ORDER}


def topic(name: str) -> str:
    """The text of a topic."""
    return (TOPICS / f"{name}.txt").read_text(encoding="utf-8")


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    words = ctx.params.get("words") or ()
    found: dict[str, str | None] = {}
    root = ctx.find_root()
    if not words:
        found |= topics()
    if words == (_SCHEMAS,):
        from ddbrelay import outputs

        found |= dict.fromkeys(outputs.names())
    elif (command := _command(root, words)) is not None and isinstance(command, click.Group):
        found |= {name: None for name in command.list_commands(root) if name not in found}
    return [
        CompletionItem(name, help=title)
        for name, title in found.items()
        if name.startswith(incomplete)
    ]


@click.command("help", cls=Command)
@click.argument("words", nargs=-1, metavar="[TOPIC|COMMAND]...", shell_complete=_complete)
@pass_run
@click.pass_context
def command(ctx: click.Context, run: Run, words: tuple[str, ...]) -> None:
    """Explain a concept, or show the help of a command.

    Without a word it lists both. `ddbrelay help output COMMAND` shows the JSON Schema of a line
    that the command prints with --output json.

    \b
    Examples:
      ddbrelay help
      ddbrelay help delivery
      ddbrelay help dead-letters redrive
      ddbrelay help output tail
    """
    as_json = run.console.json if run.flags else _console_is_json(run)
    name = " ".join(words)
    if words[:1] == (_SCHEMAS,) and len(words) > 1:
        _schema(run, words[1:], as_json)
        return
    text = _text(ctx, words)
    if as_json:
        from ddbrelay.output.help import Topic

        run.console.object(Topic(name or "help", text))
    else:
        _show(text)


def _console_is_json(run: Run) -> bool:
    """A file that is wrong must not keep its help away."""
    try:
        return run.console.json
    except ConfigError:
        return False


def _text(ctx: click.Context, words: Sequence[str]) -> str:
    root = ctx.find_root()
    if not words:
        return _overview(root)
    if len(words) == 1 and words[0] in topics():
        return topic(words[0]).rstrip("\n")
    at, group = root, root.command
    for word in words:
        found = group.get_command(at, word) if isinstance(group, click.Group) else None
        if found is None:
            raise _unknown(words, word, group, at)
        at, group = click.Context(found, info_name=word, parent=at), found
    return at.get_help()


def _command(root: click.Context, words: Sequence[str]) -> click.Command | None:
    found: click.Command | None = root.command
    for word in words:
        found = found.get_command(root, word) if isinstance(found, click.Group) else None
    return found


def _unknown(
    words: Sequence[str], word: str, group: click.Command, at: click.Context
) -> ConfigError:
    if not isinstance(group, click.Group):
        return ConfigError(
            f'{at.command_path} has no command "{word}"', f"{at.command_path} --help"
        )
    known = group.list_commands(at)
    if word == words[0] and word in topics():
        return ConfigError(f'"{word}" is a topic, of one page', f"ddbrelay help {word}")
    if len(words) == 1 or word == words[0]:
        return ConfigError(f'no topic or command "{word}"', _meant(word, [*topics(), *known]))
    return ConfigError(f'{at.command_path} has no command "{word}"', _meant(word, known))


def _meant(word: str, known: Collection[str]) -> str:
    from ddbrelay.cli import synonyms
    from ddbrelay.text import near

    way = (synonyms.command(word, known) or "").partition(" ")[0]
    # Options have no page.
    page = way if way in known else near(word, known)
    return f'did you mean "{page}"?' if page else "ddbrelay help lists what there is"


def _overview(root: click.Context) -> str:
    formatter = root.make_formatter()
    formatter.write_usage("ddbrelay", "help [TOPIC|COMMAND]...")
    with formatter.section("Topics"):
        formatter.write_dl(list(topics().items()))
    assert isinstance(root.command, click.Group)
    root.command.format_commands(root, formatter)
    return formatter.getvalue().rstrip("\n")


def _schema(run: Run, words: Sequence[str], as_json: bool) -> None:
    import json

    from ddbrelay import outputs
    from ddbrelay.output.help import Schema

    name = ".".join(words)
    if name not in outputs.names():
        known = [one.replace(".", " ") for one in outputs.names()]
        name = name.replace(".", " ")
        inside = [one for one in known if one.startswith(f"{name} ")]
        hint = f"one of: {', '.join(inside)}" if inside else _meant(name, known)
        raise ConfigError(f'no schema of the output of "{name}"', hint)
    schema = json.loads(outputs.schema_of(name))
    if as_json:
        run.console.object(Schema(name, schema))
    else:
        out(json.dumps(schema, indent=2, ensure_ascii=False))


def _show(text: str) -> None:
    """Print it; with headings in colour, and page by page, where it is a terminal."""
    if not is_terminal(sys.stdout):
        out(text)
        return
    if not os.environ.get("NO_COLOR"):
        text = "\n".join(
            click.style(line, fg="cyan", bold=True) if line[:1].strip() else line
            for line in text.split("\n")
        )
    # Nobody turns the pages of a CI job's terminal.
    fits = len(text.split("\n")) < shutil.get_terminal_size().lines
    if fits or in_ci() or os.environ.get("TERM") in {"dumb", "", None}:
        out(text)
    else:
        page(text)
