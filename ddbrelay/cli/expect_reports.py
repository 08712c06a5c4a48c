"""What a run of `expect` leaves for CI, however it ends: JUnit XML, annotations, a summary."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ddbrelay.cli.expect_console import Steady
from ddbrelay.cli.files import write_whole
from ddbrelay.errors import ConfigError, DdbrelayError
from ddbrelay.scenario import github
from ddbrelay.scenario.junit import report
from ddbrelay.scenario.loading import load
from ddbrelay.scenario.model import Scenario, Spot
from ddbrelay.scenario.results import Outcome
from ddbrelay.times import iso


class Reports:
    """The reports of one run over `files`; `junit` is where the XML goes.

    `outcomes` are those of the files, which may still be given while the run is on its way.
    """

    def __init__(
        self, console: Steady, files: Sequence[Path], junit: Path | None, began: float
    ) -> None:
        self._console, self._files, self._junit, self._began = console, files, junit, began
        self.outcomes: list[Outcome] = []
        self._unwritten: ConfigError | None = None

    def load(self, runs: Sequence[str], *, relay: bool, timeout: float | None) -> None:
        """Read all files, each with its own run; `relay` and `timeout` are those of the options.

        ConfigError of the first file with a mistake; every mistake is reported.
        """
        mistakes: list[ConfigError] = []
        for file, number in zip(self._files, runs, strict=True):
            try:
                one = load(file, number)
                one = replace(one, relay=one.relay or relay, timeout=timeout or one.timeout)
                self.outcomes.append(Outcome(one))
            except ConfigError as error:
                mistakes.append(error)
                self.outcomes.append(_unread(file, number, error))
        if mistakes:
            with self.written():
                raise mistakes[0]

    @contextmanager
    def written(self) -> Iterator[None]:
        """Whatever happens, the reports are written; what ends the run is a scenario's error."""
        try:
            yield
        except BaseException as error:
            self._blame(error)
            self._write()
            raise
        self._write()

    @contextmanager
    def judged(self) -> Iterator[None]:
        """A report that could not be written is an error, but the verdict comes before it."""
        try:
            yield
        except DdbrelayError:
            if self._unwritten is not None:
                self._console.words(self._unwritten.message)
            raise
        if self._unwritten is not None:
            raise self._unwritten

    def _blame(self, error: BaseException) -> None:
        wrong = [one for one in self.outcomes if one.error]
        if wrong:
            for one in wrong:
                if not one.over:
                    annotate(self._console, one)
            return
        current = next((one for one in self.outcomes if not one.over), self.outcomes[-1])
        current.error = _words_of(error)
        for one in self.outcomes:
            found = _spot_in(current.error, one.scenario.file)
            if found is not None:
                current.error, current = None, one
                current.spot, current.error = found
                break
        annotate(self._console, current)

    def _write(self) -> None:
        if self._junit is not None:
            started = iso(self._began).removesuffix("Z")
            try:
                write_whole(self._junit, report(self.outcomes, started))
            except ConfigError as error:
                self._unwritten = error
        if github.is_running(os.environ):
            try:
                github.append_summary(self.outcomes, os.environ)
            except OSError as error:
                self._console.words(f"cannot write the summary of the job: {error.strerror}")


def annotate(console: Steady, outcome: Outcome) -> None:
    """What is wrong, as workflow commands, where GitHub Actions runs this."""
    if github.is_running(os.environ):
        for line in github.annotate(outcome, os.environ):
            # GitHub reads both streams, and JSON stays alone on its own.
            console.raw(line, stderr=console.json)


def _unread(file: Path, run: str, error: ConfigError) -> Outcome:
    """Of a file that holds no scenario."""
    outcome = Outcome(
        Scenario(
            file=file,
            name=file.stem,
            run=run,
            timeout=0.0,
            relay=False,
            order="carried",
            steps=(),
            expects=(),
            nevers=(),
        )
    )
    outcome.spot, outcome.error = _spot_in(error.message, file) or (None, error.message)
    return outcome


def _spot_in(message: str, file: Path) -> tuple[Spot, str] | None:
    """The place in the file that a message begins with, and the rest of the message."""
    found = re.match(rf"{re.escape(str(file))}:([0-9]+):([0-9]+): (?=.)", message)
    if found is None:
        return None
    return Spot(file, int(found[1]), int(found[2])), message[found.end() :]


def _words_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(getattr(error, "message", "") or f"{type(error).__name__}: {error}")
