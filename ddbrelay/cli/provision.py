"""`ddbrelay provision`: table with stream, bus, rule and queue, and how each thing is shown."""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import click

from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.infra.plan import VIEW_TYPES

if TYPE_CHECKING:
    from rich.text import Text

    from ddbrelay.cli.console import Console
    from ddbrelay.infra.plan import Provisioned, Step

_STYLES = {
    "created": "green",
    "updated": "green",
    "deleted": "green",
    "differs": "yellow",
    "left": "yellow",
    "would-create": "yellow",
    "would-update": "yellow",
    "would-delete": "yellow",
}
_INDENT = " " * 10
_KIND_WIDTH = 7
_NAME_WIDTH = 24
_STATE_WIDTH = 12
_EPILOG = """\b
Examples:
  ddbrelay provision --table users
  ddbrelay --local provision --table orders --key customer:S --sort-key at:N
  ddbrelay provision --table users --archive-days 30 --dry-run
  ddbrelay provision --table users --view-type NEW_IMAGE --apply-changes

\b
A second run changes nothing. What exists but differs is shown and refused (exit 2) unless
--apply-changes is given. A key schema is never changed.
"""


@click.command("provision", cls=Command, epilog=_EPILOG)
@click.option("--key", metavar="NAME[:S|N|B]", help="partition key of a new table (default: id:S)")
@click.option("--sort-key", metavar="NAME[:S|N|B]", help="sort key of a new table")
@click.option(
    "--view-type",
    type=click.Choice(VIEW_TYPES, case_sensitive=False),
    metavar="TYPE",
    help=f"what the stream carries: {VIEW_TYPES[0]} (default), {', '.join(VIEW_TYPES[1:])}",
)
@click.option(
    "--archive-days",
    type=click.IntRange(min=0),
    metavar="N",
    help="archive the events for N days; 0 keeps them without an end",
)
@click.option("--apply-changes", is_flag=True, help="also change what exists but differs")
@click.option("--dry-run", is_flag=True, help="show the plan and write nothing")
@setting_options("source")
@pass_run
def command(
    run: Run,
    key: str | None,
    sort_key: str | None,
    view_type: str | None,
    archive_days: int | None,
    apply_changes: bool,
    dry_run: bool,
) -> None:
    """Create a table with a stream, a bus, and a rule that sends the events to a queue.

    What exists is left as it is. Everything that is created is tagged, so that teardown finds it
    again.
    """
    from ddbrelay.infra.plan import Differs, Wanted, refuse_table_arn
    from ddbrelay.infra.provision import provision

    table = run.require("table")
    refuse_table_arn(run.settings, "provision")
    # Imported here: the help needs no mapping.
    from ddbrelay.cli.in_force import check_table
    from ddbrelay.infra.mapped_keys import key_note
    from ddbrelay.mappings import buses_of, rules_of, sources_of, tidying_of

    check_table(run, writes=not dry_run)
    tidying = tidying_of(run.config)
    wanted = Wanted.from_settings(
        run.settings,
        key=key,
        sort_key=sort_key,
        view_type=view_type,
        archive_days=archive_days,
        other_sources=sources_of(run.config),
        other_buses=buses_of(run.config),
        ttl_attribute=None if tidying is None else tidying.attribute,
    )
    keys = [one for one in (wanted.key, wanted.sort_key) if one is not None]
    if note := key_note(run.config, rules_of(run.config, table), keys):
        run.console.words(f"note: {note}")
    rows = Rows(run.console)
    started = time.monotonic()
    try:
        with rows.waiting(f"provisioning {wanted.table}"):
            done = provision(
                run.aws,
                wanted,
                apply_changes=apply_changes,
                dry_run=dry_run,
                on_plan=rows.plan,
                on_step=rows.show,
            )
    except Differs as refusal:
        if run.console.json:
            seconds = time.monotonic() - started
            run.console.object(summary(refusal.steps, dry_run=dry_run, seconds=seconds))
        raise
    seconds = time.monotonic() - started
    if run.console.json:
        counted = summary(done.steps, dry_run=dry_run, seconds=seconds)
        run.console.object(counted | _addresses(done))
    else:
        run.console.words(_last_words(run, done, dry_run, seconds))


class Rows:
    """Shows each step as it is done: a row, and under it its addresses, dim.

    In json a `resource` object. A detail that has no room beside the name goes below it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._names = _NAME_WIDTH
        self._rich = None
        if console.output == "rich" and not console.quiet:
            from ddbrelay.cli.console import terminal

            self._rich = terminal(soft_wrap=True)

    def plan(self, steps: Sequence[Step]) -> None:
        """Make the column of names as wide as the longest of these, where the terminal has room."""
        self._names = _name_width(steps, None if self._rich is None else self._rich.width)

    def waiting(self, text: str) -> AbstractContextManager[object]:
        """A spinner where the terminal may be redrawn."""
        if self._rich is not None and self._console.live:
            return self._rich.status(text, spinner="dots")
        return nullcontext()

    def show(self, step: Step) -> None:
        """One step, on stdout."""
        if self._console.json:
            shape = ("kind", "name", "state", "arn", "detail")
            self._console.object({"type": "resource"} | {key: getattr(step, key) for key in shape})
        elif self._rich is not None:
            for line, part in _lines(step, self._names, self._rich.width):
                self._rich.print(_styled(line, self._names, step, part))
        else:
            for line, _ in _lines(step, self._names, None):
                self._console.data(line)


def lines(steps: Sequence[Step]) -> str:
    """The same rows as plain text."""
    names = _name_width(steps, None)
    return "\n".join(line for step in steps for line, _ in _lines(step, names, None))


def summary(steps: Sequence[Step], *, dry_run: bool, seconds: float) -> dict[str, object]:
    """The last JSON object; `counts` is how many things came to each state."""
    return {
        "type": "summary",
        "dryRun": dry_run,
        "counts": dict(Counter(step.state for step in steps)),
        "seconds": round(seconds, 3),
    }


def _name_width(steps: Sequence[Step], width: int | None) -> int:
    longest = max((len(step.name) for step in steps), default=0)
    room = longest if width is None else width - _KIND_WIDTH - _STATE_WIDTH - len("    ")
    return max(_NAME_WIDTH, longest) if longest <= room else _NAME_WIDTH


def _lines(step: Step, names: int, width: int | None) -> list[tuple[str, str]]:
    row = f"{_head(step, names)}{step.state:<{_STATE_WIDTH}}"
    addresses = [address for address in (step.arn, *step.related) if address]
    below = [(f"{_INDENT}{address}", "address") for address in addresses]
    beside = f"{row} {step.detail}".rstrip()
    if width is None or len(beside) <= width:
        return [(beside, "row"), *below]
    wrapped = textwrap.wrap(
        step.detail,
        width,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [(row.rstrip(), "row"), *((line, "detail") for line in wrapped), *below]


def _head(step: Step, names: int) -> str:
    return f"  {step.kind:<{_KIND_WIDTH}} {step.name:<{names}} "


def _styled(line: str, names: int, step: Step, part: str) -> Text:
    from rich.text import Text

    if part != "row":
        return Text(line, style="dim" if part == "address" else "")
    text = Text(line)
    start = len(_head(step, names))
    text.stylize(_STYLES.get(step.state, "dim"), start, start + len(step.state))
    return text


def _addresses(done: Provisioned) -> dict[str, str | None]:
    return {
        "tableArn": done.table_arn or None,
        "streamArn": done.stream_arn or None,
        "busArn": done.bus_arn or None,
        "ruleArn": done.rule_arn or None,
        "queueArn": done.queue_arn or None,
        "queueUrl": done.queue_url or None,
        "archiveArn": done.archive_arn or None,
    }


def _last_words(run: Run, done: Provisioned, dry_run: bool, seconds: float) -> str:
    again = run.again("seed --count 100")
    if dry_run:
        counts = Counter(step.state for step in done.steps)
        if not counts.keys() & {"would-create", "would-update"}:
            return f"nothing to do: all of it stands as wanted · next: {again}"
        plan = f"{counts['would-create']} to create, {counts['would-update']} to change"
        return f"nothing was written: {plan} · next: the same without --dry-run"
    state = "ready" if done.changed else "nothing to change, all of it exists: ready"
    return f"{state} in {seconds:.1f} s · next: {again}"
