"""What other tools call our commands and options, for those who type it here."""

from __future__ import annotations

from collections.abc import Collection

_RELAY = ("tail --forward",)
_COMMANDS: dict[str, tuple[str, ...]] = {
    "version": ("--version",),
    **dict.fromkeys(("run", "forward", "relay", "start", "publish", "send"), _RELAY),
    **dict.fromkeys(("logs", "log", "watch", "follow", "stream"), ("tail",)),
    **dict.fromkeys(("dlq", "deadletters", "letters"), ("dead-letters",)),
    "redrive": ("dead-letters redrive",),
    **dict.fromkeys(("deploy", "package", "synth"), ("export",)),
    **dict.fromkeys(("bookmarks", "checkpoints", "offsets"), ("positions",)),
    **dict.fromkeys(("create", "setup"), ("provision",)),
    **dict.fromkeys(("destroy", "cleanup"), ("teardown",)),
    **dict.fromkeys(("check", "diagnose"), ("doctor",)),
    **dict.fromkeys(("ls", "get"), ("list",)),
    **dict.fromkeys(("rm", "remove"), ("delete", "drop")),
}
_JSON = ("--output json",)
_OPTIONS: dict[str, tuple[str, ...]] = {
    "-o": ("--output",),
    "-f": ("--forward", "--file", "--force", "--config"),
    "-n": ("--max-records", "--max-events", "--count"),
    "-c": ("--config",),
    "-t": ("--table",),
    "-r": ("--region",),
    "-p": ("--profile",),
    "-y": ("--yes",),
    **dict.fromkeys(("--json", "--format"), _JSON),
    **dict.fromkeys(("--limit", "--count"), ("--max-records", "--max-events")),
    "--dlq": ("--dead-letter-queue",),
    "--debug": ("-vv",),
}
"""A word -> what to type instead, of which the first counts that there is."""


def command(word: str, names: Collection[str]) -> str | None:
    """What to type for a command of other tools, where these are the names of ours."""
    ways = _COMMANDS.get(word.lower(), ())
    return next((way for way in ways if way.startswith("-") or way.split()[0] in names), None)


def option(word: str, takes: Collection[str]) -> str | None:
    """What to type for an option of other tools, of a command that takes these options."""
    ways = _OPTIONS.get(word, ())
    return next((way for way in ways if way == "-vv" or way.split()[0] in takes), None)
