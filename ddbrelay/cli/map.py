"""`ddbrelay map`: recorded changes through the mapping, without AWS; the test of a mapping."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli import completing
from ddbrelay.cli.console import Console, is_terminal, terminal
from ddbrelay.cli.files import STDIN, name_of, read, records
from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from ddbrelay.flow.capture import Record
    from ddbrelay.flow.change import Change
    from ddbrelay.flow.mapping import Event, Reject, Skip
    from ddbrelay.flow.mapping.rules import Verdict
    from ddbrelay.library import Mapper
    from ddbrelay.output.map import Explanation


@dataclass
class _Result:
    """What became of one record: the events as they would be sent, or why there is none.

    `verdicts` is None where nothing is to be explained, or there are no rules.
    """

    change: Change
    fate: tuple[Event, ...] | Skip | Reject
    verdicts: Sequence[Verdict] | None = None
    untried: int = 0


@dataclass
class _Tally:
    records: int = 0
    events: int = 0
    skipped: int = 0
    parked: int = 0


@click.command("map", cls=Command)
@click.argument("files", metavar="[FILE]...", nargs=-1, shell_complete=completing.files)
@click.option(
    "--expect",
    metavar="FILE",
    help="compare with what --output json printed before",
    shell_complete=completing.files,
)
@click.option("--explain", is_flag=True, help="say of each rule why it matched or did not")
@click.option("--detail", is_flag=True, help="show the detail of each event")
@click.option("--stream-arn", metavar="ARN", help="the stream of records that do not tell theirs")
@setting_options("entity", "source", "preset", "mapper")
@pass_run
def command(
    run: Run,
    files: tuple[str, ...],
    expect: str | None,
    explain: bool,
    detail: bool,
    stream_arn: str | None,
) -> None:
    """Show which events recorded changes would become; nothing is sent, no AWS is needed.

    A FILE (or standard input, "-") holds a GetRecords answer, a Lambda event, one record, an array
    of these, JSON lines of these, or exported dead letters. The exit code is 3 when a record would
    be parked; with --expect it is 6 when anything differs, and no event is printed.

    \b
    Examples:
      ddbrelay map changes.json --explain
      ddbrelay map changes.json --output json > expected.jsonl
      ddbrelay map changes.json --expect expected.jsonl
      aws dynamodbstreams get-records --shard-iterator "$I" | ddbrelay map --detail
    """
    from ddbrelay.cli.in_force import check_table
    from ddbrelay.errors import RecordsParked
    from ddbrelay.flow.mapping import Reject, Skip
    from ddbrelay.library import Mapper
    from ddbrelay.mappings import sightings_of

    check_table(run, writes=False)
    mapper, sightings = Mapper(run.config, stream_arn=stream_arn), sightings_of(run.config)
    expected = None if expect is None else _expectations(expect)
    tally, seen = _Tally(), []
    # All of it is read before anything is shown: a mistake in the last file is no half a result.
    for record in list(_records(run, files)):
        change = mapper.change(record)
        sightings.see(change)
        result = _result(mapper, change, len(run.config.mapping.rules), explain=explain)
        tally.records += 1
        if isinstance(result.fate, Skip):
            tally.skipped += 1
        elif isinstance(result.fate, Reject):
            tally.parked += 1
        else:
            tally.events += len(result.fate)
        if expected is None:
            _show(run.console, result, explain=explain, detail=detail)
        else:
            seen.append(result)
    for line in sightings.complaints():
        run.console.trouble(printable(line))
    if explain and not run.config.mapping.rules:
        run.console.words("there are no rules to explain, see ddbrelay rules")
    if expected is not None and expect is not None:
        _compare(run, tally, seen, expected, expect)
        return
    if not run.console.json:
        run.console.words(
            f"{counted(tally.records, 'record')}: {counted(tally.events, 'event')}, "
            f"{tally.skipped:,} skipped, {tally.parked:,} parked"
        )
    if tally.parked:
        raise RecordsParked(
            f"{tally.parked:,} of {counted(tally.records, 'record')} would be parked",
            "--explain says what each rule makes of them",
        )
    if files and STDIN not in files and not explain:
        run.next_step(f"{_again(files)} --explain")


def _again(files: Iterable[str]) -> str:
    import shlex

    return shlex.join(["map", *files])


def _result(mapper: Mapper, change: Change, rules: int, *, explain: bool) -> _Result:
    verdicts = mapper.explain(change) if explain else None
    untried = 0 if verdicts is None else rules - len(verdicts)
    # Mapped last: what the mapping redacts is then hidden from all that is shown.
    return _Result(change, mapper.fate(change), verdicts, untried)


# What is read


def _records(run: Run, files: Sequence[str]) -> Iterator[Record]:
    from ddbrelay.errors import ConfigError

    if not files and is_terminal(sys.stdin):
        raise ConfigError(
            "no records are given", f"{run.again('map')} FILE, or pipe them into the command"
        )
    return records(files or (STDIN,), run.console.trouble)


def _expectations(file: str) -> dict[str, list[Any]]:
    from ddbrelay.cli.expectations import ExpectationError, expected_in
    from ddbrelay.errors import ConfigError

    try:
        return expected_in(read(file))
    except ExpectationError as error:
        raise ConfigError(f"{name_of(file)}:{error.line}:{error.column}: {error.what}") from None


# What is shown


def _explanation(result: _Result) -> Explanation:
    from ddbrelay.flow.mapping import Event, Reject
    from ddbrelay.output import map as printed

    def effect(
        result: Event | Skip | Reject | None,
    ) -> printed.MakesEvent | printed.Parks | printed.Skips | None:
        if isinstance(result, Event):
            return printed.MakesEvent(result.detail_type)
        if isinstance(result, Reject):
            return printed.Parks(result.reason)
        return None if result is None else printed.Skips()

    return printed.Explanation(
        result.change.event_id,
        [
            printed.TriedRule(
                verdict.rule.name,
                verdict.matched,
                [
                    printed.PatternField(field.path, field.wanted, field.found, field.ok)
                    for field in verdict.findings
                ],
                effect(verdict.result),
            )
            for verdict in result.verdicts or ()
        ],
    )


def _show(console: Console, result: _Result, *, explain: bool, detail: bool) -> None:
    if console.json:
        from ddbrelay.cli.expectations import objects_of

        if explain:
            console.object(_explanation(result))
        for one in objects_of(result.change, result.fate):
            console.object(one)
        return
    from ddbrelay.flow.mapping import Event, Reject

    for outcome in _outcomes(result):
        _show_outcome(console, outcome)
        if detail and isinstance(outcome.event, Event):
            _show_detail(console, outcome.event)
    if isinstance(result.fate, Reject):
        # The traceback of a function of the user's own.
        _show_dim(console, result.fate.reason.split("\n")[1:])
    if result.verdicts is not None:
        _show_verdicts(console.data, console, result)


def _outcomes(result: _Result) -> list[Any]:
    """The rows of a record, as `tail` has them."""
    from ddbrelay.flow.mapping import Reject, Skip
    from ddbrelay.flow.tracking import Fate
    from ddbrelay.relay import Outcome

    change, fate = result.change, result.fate
    if isinstance(fate, Skip):
        return [Outcome(change, None, Fate.SKIPPED, reason=fate.reason)]
    if isinstance(fate, Reject):
        return [Outcome(change, None, Fate.PARKED, reason=fate.reason.partition("\n")[0])]
    return [Outcome(change, event, None) for event in fate]


def _show_outcome(console: Console, outcome: Any) -> None:
    from ddbrelay.output.words import outcome_line

    if console.output != "rich":
        console.data(outcome_line(outcome))
    elif not console.quiet:
        from ddbrelay.cli.view.rows import row

        screen = _screen()
        text = row(outcome, screen.width)
        # A reason is never cut: it is what one asked for.
        text.no_wrap, text.overflow = False, "fold"
        screen.print(text)


@cache
def _screen() -> RichConsole:
    return terminal()


def _show_detail(console: Console, event: Event) -> None:
    import msgspec

    _show_dim(console, msgspec.json.format(event.detail, indent=2).decode().split("\n"))


def _show_dim(console: Console, lines: Iterable[str]) -> None:
    from ddbrelay.cli.accounts import styled

    for line in lines:
        console.data(styled(console, f"    {printable(line)}", "dim"))


def _show_verdicts(write: Callable[[str], None], console: Console, result: _Result) -> None:
    """Each rule that was tried, below it what it looked at, and how many were not tried."""
    from ddbrelay.cli.accounts import styled
    from ddbrelay.flow.mapping import Event, Reject

    for verdict in result.verdicts or ():
        text, made = f"  {_mark(verdict.matched)} {printable(verdict.rule.name)}", verdict.result
        if isinstance(made, Event):
            text += f" → {printable(made.detail_type)}"
            text += ", and on to the next rule" if verdict.rule.goes_on else ""
        elif isinstance(made, Reject):
            text += f" → parked: {printable(made.reason)}"
        elif made is not None:
            text += " → skipped"
        write(text)
        if verdict.rule.when is None:
            write(styled(console, "      · it has no pattern: it matches every change", "dim"))
        for one in verdict.findings:
            where = f"{printable(one.path)}: " if one.path else ""
            said = f"wanted {printable(one.wanted)}, found {printable(one.found)}"
            colour = "dim" if one.ok else None
            write(styled(console, f"      {_mark(one.ok)} {where}{said}", colour))
    if all(verdict.result is None for verdict in result.verdicts or ()):
        write(styled(console, "  – no rule matches", "dim"))
    elif result.untried:
        left = counted(result.untried, "later rule")
        write(styled(console, f"  · {left} not tried", "dim"))


def _mark(ok: bool) -> str:
    return "✔" if ok else "✖"


def _compare(
    run: Run, tally: _Tally, results: Sequence[_Result], expected: dict[str, list[Any]], file: str
) -> None:
    """Says what differs, record by record; ExpectationNotMet where anything does."""
    from ddbrelay.cli.expectations import differences, objects_of
    from ddbrelay.errors import ExpectationNotMet
    from ddbrelay.output.map import MapSummary

    by_id = {result.change.event_id: result for result in results}
    mapped = [one for result in results for one in objects_of(result.change, result.fate)]
    different = []
    for event_id, diff in differences(expected, mapped):
        different.append(event_id)
        for line in diff:
            run.console.words(printable(line))
        if event_id in by_id and by_id[event_id].verdicts is not None:
            _show_verdicts(run.console.words, run.console, by_id[event_id])
    if run.console.json:
        run.console.object(MapSummary(tally.records, different))
    if not different:
        run.console.words(f"{counted(tally.records, 'record')} as expected")
        return
    are = "is" if len(different) == 1 else "are"
    raise ExpectationNotMet(
        f"{counted(len(different), 'record')} {are} not mapped as {printable(file)} says",
        "--explain says why; --output json prints what the mapping makes now",
    )
