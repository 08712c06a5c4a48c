"""Which dead letters a command is about: of which consumer and table, by id, by filter, or all."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.types import asked_keys, moment

if TYPE_CHECKING:
    from ddbrelay.cli.options import Run
    from ddbrelay.objects import Of
    from ddbrelay.stores.letters import ItemOf, Letters, Parked, Queue


@contextmanager
def opened(run: Run, *, reading: bool = True) -> Iterator[tuple[Letters, Of]]:
    """The letters of the consumer on all streams of the table, the oldest stream first.

    None of them is to be written while `reading`.
    """
    from ddbrelay.cli.positions import latest_of
    from ddbrelay.objects import Of
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.letters import Letters, consumers
    from ddbrelay.stores.streams import Tables

    consumer, table = run.settings.consumer, run.settings.table
    database = Database(run.settings.state_file, reading=reading)
    try:
        tables = Tables(database)
        mine = [one for one in consumers(database) if one.name == consumer]
        if not any(table in {None, tables.name(one.stream_arn)} for one in mine):
            yield Letters(database, consumer, ()), Of(consumer, table or "", "")
            return
        latest = latest_of(run, mine, tables, "dead letter", "")
        here = tables.of(latest.stream_arn)
        streams = [one.stream_arn for one in mine if tables.of(one.stream_arn) == here]
        # A stream's label is the time of its making.
        of = Of(consumer, here.name, latest.stream_arn)
        yield Letters(database, consumer, sorted(streams)), of
    finally:
        database.close()


@dataclass(frozen=True)
class Filter:
    """Which letters are asked for; alternatives of one key attribute are alternatives."""

    keys: dict[str, set[str]] = field(default_factory=dict)
    since: float | None = None
    until: float | None = None
    reason: str | None = None

    def __bool__(self) -> bool:
        bounds = (self.since, self.until, self.reason)
        return bool(self.keys) or any(one is not None for one in bounds)

    def takes(self, letter: Parked, *, head: bool) -> bool:
        """Whether a letter is asked for."""
        from ddbrelay.cli.letters import key_texts
        from ddbrelay.objects.letters import reason_of

        if self.since is not None and letter.parked_at < self.since:
            return False
        if self.until is not None and letter.parked_at > self.until:
            return False
        said = reason_of(letter, head=head).casefold()
        if self.reason is not None and self.reason.casefold() not in said:
            return False
        parts = key_texts(letter) if self.keys else {}
        return all(parts.get(name) in values for name, values in self.keys.items())


def filters(function: Any) -> Any:
    """Decorator: the command gets `wanted`, a filter of what was typed."""

    @functools.wraps(function)
    def filtered(
        *args: Any,
        keys: Sequence[str],
        since: str | None,
        until: str | None,
        reason: str | None,
        **kwargs: Any,
    ) -> Any:
        wanted = Filter(
            asked_keys(keys),
            None if since is None else moment("--since", since),
            None if until is None else moment("--until", until),
            reason or None,
        )
        return function(*args, wanted=wanted, **kwargs)

    for option in (
        click.option("--reason", metavar="TEXT", help="only where the reason has this text in it"),
        click.option("--until", metavar="TIME", help="only what was parked before this"),
        click.option("--since", metavar="TIME", help="only what was parked since, or an age: 2h"),
        click.option(
            "--key", "keys", metavar="NAME=VALUE", multiple=True, help="only items with this key"
        ),
    ):
        filtered = option(filtered)
    return filtered


def one_choice(ids: Sequence[str], everything: bool, wanted: Filter) -> None:
    """ConfigError unless letters are named in exactly one way."""
    from ddbrelay.errors import ConfigError

    if sum((bool(ids), everything, bool(wanted))) != 1:
        raise ConfigError(
            "say which dead letters, in one way",
            "their IDs, --all, or a filter such as --key id=7f3a91c2",
        )


def chosen(letters: Letters, wanted: Filter) -> list[tuple[Queue, Parked]]:
    """Every letter that is asked for, with its queue, in the order of sending."""
    return [
        (queue, letter)
        for queue in letters.queues()
        for letter in queue.letters
        if wanted.takes(letter, head=letter is queue.head)
    ]


def items_by(letters: Letters, wanted: Filter) -> list[ItemOf]:
    """The items that are asked for by what stands at their head."""
    if not wanted:
        return letters.items()
    return [q.head.item for q in letters.queues() if wanted.takes(q.head, head=True)]


def items_of(letters: Letters, ids: Sequence[str]) -> list[ItemOf]:
    """The items of these letters, one of which must stand before the others of its item."""
    from ddbrelay.errors import ConfigError

    found = dict.fromkeys(letters.find(*ids))
    items = dict.fromkeys(letter.item for letter in found)
    heads = {item: letters.of_item(item)[0] for item in items}
    for letter in found:
        head = heads[letter.item]
        if head not in found:
            raise ConfigError(
                f"{letter.id} waits behind {head.id}: events of an item are sent in order",
                f"ddbrelay dead-letters redrive {head.id} sends it after that one",
            )
    return list(items)
