"""What a shell offers behind Tab: tables and buses from AWS, names from the state file, values.

Whatever fails offers nothing: a completion never prints, never asks, and is over within about a
second. Flags that stand before it on the line count (`--local`, `--region`, `--state` …).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

if TYPE_CHECKING:
    from ddbrelay.cli.options import Run

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
DEADLINE = 1.0
"""Seconds for asking AWS, credentials included; what came by then is offered."""
_PAGES = 5
_VARIABLE = "_DDBRELAY_COMPLETE"
_STARTS = ("checkpoint", "trim-horizon", "latest", "15m", "1h")


def asked() -> bool:
    """Whether a shell runs this process for what completes its line."""
    return os.environ.get(_VARIABLE, "").endswith("_complete")


def isolate() -> None:
    """Cut the process off from the terminal.

    A profile may ask for a code, and a program for credentials may ask for a password: without a
    terminal they fail instead.
    """
    # A leader of its group cannot leave it; shells start completions in a group of theirs.
    with contextlib.suppress(OSError, AttributeError):
        os.setsid()
    for number, mode in ((0, os.O_RDONLY), (2, os.O_WRONLY)):
        nowhere = os.open(os.devnull, mode)
        os.dup2(nowhere, number)
        if nowhere > 2:
            os.close(nowhere)


class Bash(BashComplete):
    """Bash makes three words of `--table=us`, of which the middle one says nothing."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and what stands at it."""
        words, incomplete = super().get_completion_args()
        before = ["", *words]
        joined = [
            word
            for last, word in zip(before, words, strict=False)
            if word != "=" or not last.startswith("--")
        ]
        return joined, incomplete


add_completion_class(Bash)


def of_setting(name: str, choices: Sequence[str]) -> Completion | None:
    """What completes the option of a setting; None where it is anything that the user likes."""
    if choices:
        return _words(choices)
    return _OF_SETTINGS.get(name)


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of file names."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of folders."""
    return [CompletionItem(incomplete, type="dir")]


def _words(words: Iterable[str]) -> Completion:
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    return complete


def _looked_up(look: Callable[[Run, str], Iterable[tuple[str, str | None]]]) -> Completion:
    """Completes with what a generator of (name, description) finds; it may raise anything."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from ddbrelay.cli.options import Run

        found: dict[str, str | None] = {}
        # Nobody can be told: the shell is about to print the line again.
        with contextlib.suppress(Exception):
            found.update(
                (name, about)
                for name, about in look(ctx.ensure_object(Run), incomplete)
                if name.startswith(incomplete) and name.isprintable()
            )
        return [CompletionItem(name, help=about) for name, about in found.items()]

    return complete


def _in_time(look: Callable[[], Iterator[str]]) -> list[str]:
    """What came within the deadline; a look-up that hangs is left behind."""
    found: list[str] = []

    def run() -> None:
        with contextlib.suppress(Exception):
            for name in look():
                found.append(name)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    return sorted(found)


def _client(run: Run, service: str) -> Any:
    return run.aws.new_client(
        service,
        connect_timeout=DEADLINE / 2,
        read_timeout=DEADLINE,
        retries={"mode": "standard", "total_max_attempts": 1},
    )


def _tables(run: Run, incomplete: str) -> Iterator[tuple[str, None]]:
    # Importing boto3 takes as long as the network may.
    _ = run.aws

    def look() -> Iterator[str]:
        client, more = _client(run, "dynamodb"), dict[str, str]()
        for _ in range(_PAGES):
            page = client.list_tables(**more)
            yield from page["TableNames"]
            if "LastEvaluatedTableName" not in page:
                return
            more = {"ExclusiveStartTableName": page["LastEvaluatedTableName"]}

    return ((name, None) for name in _in_time(look))


def _buses(run: Run, incomplete: str) -> Iterator[tuple[str, None]]:
    _ = run.aws

    def look() -> Iterator[str]:
        client = _client(run, "events")
        more = {"NamePrefix": incomplete} if incomplete else {}
        for _ in range(_PAGES):
            page = client.list_event_buses(**more)
            yield from (bus["Name"] for bus in page["EventBuses"])
            if not page.get("NextToken"):
                return
            more["NextToken"] = page["NextToken"]

    return ((name, None) for name in _in_time(look))


def _profiles(run: Run, incomplete: str) -> Iterator[tuple[str, None]]:
    import botocore.session

    return ((name, None) for name in botocore.session.Session().available_profiles)


def _regions(run: Run, incomplete: str) -> Iterator[tuple[str, None]]:
    import botocore.session

    found = botocore.session.Session().get_available_regions("dynamodb")
    return ((name, None) for name in found)


def _bookmarks(run: Run, incomplete: str) -> Iterator[tuple[str, str]]:
    from ddbrelay.times import iso

    # What was named by hand comes before what runs saved by themselves.
    query = "SELECT name, consumer, saved_at FROM bookmarks ORDER BY automatic, saved_at DESC"
    for name, consumer, saved_at in _stored(run, query):
        yield name, f"of {consumer}, {iso(round(saved_at))}"


def _consumers(run: Run, incomplete: str) -> Iterator[tuple[str, None]]:
    query = (
        "SELECT consumer FROM positions UNION SELECT consumer FROM dead_letters "
        "UNION SELECT consumer FROM ledger"
    )
    return ((name, None) for (name,) in _stored(run, query))


def _stored(run: Run, query: str) -> list[tuple[Any, ...]]:
    """Rows of the state file; opening it as runs do would make one, or bring it up to date."""
    import sqlite3
    from urllib.parse import quote

    file = run.settings.state_file
    # Without a log beside it the file is all there is, and nothing need be made to read it.
    how = "mode=ro" if os.path.exists(f"{file}-wal") else "mode=ro&immutable=1"
    address = f"file:{quote(os.path.abspath(file))}?{how}"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=DEADLINE / 4)) as database:
        return database.execute(query).fetchall()


def _event_types(run: Run, incomplete: str) -> Iterator[tuple[str, str | None]]:
    from ddbrelay.flow.mapping import CrudMapper

    config = run.config
    rules = [rule for rule in config.mapping.rules if isinstance(rule.get("detail_type"), str)]
    for rule in rules:
        if "{" not in rule["detail_type"]:
            yield rule["detail_type"], rule.get("name")
    if (not config.mapping.rules or config.settings.preset == "crud") and config.settings.table:
        crud = CrudMapper(config.settings.table, entity=config.settings.entity)
        yield from ((f"{crud.entity}{past}", None) for past in _PASTS)


_PASTS = ("Created", "Updated", "Deleted", "Expired")
tables = _looked_up(_tables)
"""Tables of the account, or of the embedded AWS."""
buses = _looked_up(_buses)
"""Buses of the account, or of the embedded AWS."""
bookmarks = _looked_up(_bookmarks)
"""Stored positions that have a name, those of runs among them."""
consumers = _looked_up(_consumers)
"""Consumers that the state file knows."""
event_types = _looked_up(_event_types)
"""Detail types that the mapping of the configuration can make."""
_OF_SETTINGS: dict[str, Completion] = {
    "profile": _looked_up(_profiles),
    "region": _looked_up(_regions),
    "table": tables,
    "bus": buses,
    "consumer": consumers,
    "start": _words(_STARTS),
    "state": files,
}
