"""How `expect` shows what becomes of a scenario, while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.expect_console import Steady
from ddbrelay.cli.expect_reports import annotate
from ddbrelay.text import counted, printable

if TYPE_CHECKING:
    from msgspec import Raw

    from ddbrelay.output.expect import Met
    from ddbrelay.scenario.model import Scenario, Spot
    from ddbrelay.scenario.results import Done, Outcome, Verdict

_WIDTH = 100
_INDENT = 6
_TITLE = 60
_MARKS = {"done": ("·", "dim"), "met": ("✔", "green"), "failed": ("✖", "red")}


class Lines:
    """A line for each thing as it happens, for a terminal or a log."""

    def __init__(self, console: Steady) -> None:
        import shutil

        self._console = console
        columns = shutil.get_terminal_size().columns if console.output == "rich" else _WIDTH
        self._columns = max(40, min(columns, _WIDTH))
        self.width = self._columns - _INDENT
        self._met: set[str] = set()

    def begins(self, scenario: Scenario) -> None:
        self._met.clear()
        self._console.data(printable(scenario.name))

    def step(self, scenario: Scenario, done: Done) -> None:
        title = done.step.title
        if done.step.name is None and done.key:
            title = " ".join([done.step.action.word, *(f"{n}={value}" for n, value in done.key)])
        if done.error is None:
            self._row("done", title, done.seconds)
        else:
            self._wrong(title, done.error, done.step.spot, done.lines)

    def verdict(self, scenario: Scenario, verdict: Verdict) -> None:
        title, what = verdict.about.title, verdict.what
        if verdict.reason is None:
            self._met.add(title)
            self._row("met", title, verdict.seconds)
            return
        if title in self._met:
            what = f"{what} ({_MARKS['met'][0]} above no longer counts)"
        self._wrong(title, what, verdict.about.spot, verdict.lines)

    def waits(self, what: str, seconds: float) -> None:
        self._console.waiting(f"  … {what}  {seconds:.0f} s")

    def relay_said(self, words: str) -> None:
        self._console.trouble(f"relay: {printable(words)}")

    def settled(self, outcome: Outcome) -> None:
        self._console.still()

    def ended(self, outcome: Outcome) -> None:
        outcome.over = True
        scenario = outcome.scenario
        if outcome.error is None:
            total = len(scenario.expects) + len(scenario.nevers)
            met = total - len(outcome.failures) if outcome.failed_step is None else 0
            how = "met" if outcome.met else "not met"
            words = f"{how}: {met} of {counted(total, 'expectation')} in {outcome.seconds:.1f} s"
            self._console.data(self._styled("met" if outcome.met else "failed", words))
        annotate(self._console, outcome)

    def _row(self, state: str, title: str, seconds: float) -> None:
        room = min(self._columns - 16, _TITLE)
        title = printable(title)
        title = title if len(title) <= room else f"{title[: room - 1]}…"
        mark = self._styled(state, _MARKS[state][0])
        self._console.data(f"  {mark} {title:<{room}}  {seconds:>7.1f} s")

    def _wrong(self, title: str, what: str, spot: Spot, lines: Sequence[str]) -> None:
        mark = self._styled("failed", _MARKS["failed"][0])
        self._console.data(f"  {mark} {printable(title)}: {printable(what)}")
        for line in (f"at {spot}", *lines):
            self._console.data(f"{' ' * _INDENT}{printable(line)}")

    def _styled(self, state: str, text: str) -> str:
        style = _MARKS[state][1]
        if not self._console.colour:
            return text
        return click.style(text, dim=True) if style == "dim" else click.style(text, fg=style)


class Objects:
    """A JSON object for each step as it is done, and for each verdict when it is the last one."""

    width = _WIDTH

    def __init__(self, console: Steady) -> None:
        self._console = console

    def begins(self, scenario: Scenario) -> None:
        """The first object of a scenario says which one it is, as all do."""

    def step(self, scenario: Scenario, done: Done) -> None:
        from ddbrelay.output.expect import Step

        self._console.object(
            Step(
                *_about(scenario),
                number=done.step.number,
                title=done.step.title,
                action=done.step.action.word,
                line=done.step.spot.line,
                key=_raw(None if done.key is None else dict(done.key)),
                ok=done.error is None,
                error=done.error,
                output=list(done.lines),
                seconds=round(done.seconds, 3),
            )
        )

    def verdict(self, scenario: Scenario, verdict: Verdict) -> None:
        """Another one on the same expectation may follow."""

    def settled(self, outcome: Outcome) -> None:
        for verdict in outcome.verdicts:
            self._console.object(_verdict_line(outcome.scenario, verdict))

    def relay_said(self, words: str) -> None:
        self._console.words(f"relay: {words}")

    def waits(self, what: str, seconds: float) -> None:
        """That nothing has happened yet is no object."""

    def ended(self, outcome: Outcome) -> None:
        outcome.over = True
        annotate(self._console, outcome)


def _about(scenario: Scenario) -> tuple[str, str, str]:
    """The fields of `output.expect.OfScenario`."""
    return scenario.name, str(scenario.file), scenario.run


def _verdict_line(scenario: Scenario, verdict: Verdict) -> Met:
    from ddbrelay.output.expect import Forbidden, Met, Unmet
    from ddbrelay.scenario.model import Never

    about = _about(scenario)
    known: dict[str, Any] = {
        "name": verdict.about.name,
        "never": isinstance(verdict.about, Never),
        "line": verdict.about.spot.line,
        "came": verdict.came,
        "events": [_raw(event) for event in verdict.events],
        "seconds": round(verdict.seconds, 3),
    }
    if verdict.reason is None:
        return Met(*about, **known)
    known |= {"what": verdict.what, "explanation": list(verdict.lines)}
    if verdict.reason == "forbidden":
        return Forbidden(*about, **known)
    return Unmet(*about, **known, reason=verdict.reason)


def _raw(value: Mapping[str, Any] | None) -> Raw:
    """JSON with every digit; what an emulator delivers beyond 64 bits becomes text."""
    import msgspec

    from ddbrelay.flow.mapping.document import encode

    try:
        return msgspec.Raw(encode(value))
    except OverflowError:
        import json

        return msgspec.Raw(json.dumps(value, default=str).encode())
