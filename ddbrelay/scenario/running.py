"""Runs a scenario: does its steps, receives what comes of them, and says what is met.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html is what arrives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from decimal import Decimal
from json import loads
from typing import TYPE_CHECKING, Any, Protocol

from ddbrelay.errors import AwsRefused
from ddbrelay.scenario import verdicts
from ddbrelay.scenario.judging import Judge
from ddbrelay.scenario.model import Command, Expect, Never, Scenario, Step, in_seconds
from ddbrelay.scenario.ordering import Arrival, Comparison, Key, key_of, sequence_of
from ddbrelay.scenario.results import Done, Outcome, Teller, Verdict
from ddbrelay.scenario.writing import StepFailed, Writer, run_command

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.infra.listener import Received
    from ddbrelay.infra.probing import ProbedListener
    from ddbrelay.scenario.background import BackgroundRelay

_POLL = 1.0
"""Seconds of one long poll, and so the longest that a stop has to wait."""
_PAUSE = 0.1
_DRAINED = 100
"""Polls after which a queue that never gets empty is taken as it is."""


class Stopper(Protocol):
    """Whether to stop, and a wait that ends early when it is so."""

    def is_set(self) -> bool: ...

    def wait(self, seconds: float | None = None, /) -> bool: ...


class Behind:
    """The queues behind the buses, as one; each event with numbers digit for digit.

    Claim checks are followed into `buckets`; `say` hears of those that cannot be.
    """

    def __init__(
        self,
        aws: Aws,
        listeners: Sequence[ProbedListener],
        buckets: Collection[str],
        say: Callable[[str], None],
    ) -> None:
        self._aws, self._listeners, self._buckets, self._say = aws, listeners, buckets, say

    def drain(self) -> None:
        """Drop what came before."""
        for listener in self._listeners:
            for _ in range(_DRAINED):
                found = listener.receive(0)
                if not found:
                    break
                listener.done(found)

    def receive(self, wait: float) -> Iterator[dict[str, Any]]:
        """What is there, after at most `wait` seconds where there is one queue, else at once."""
        single = len(self._listeners) == 1
        for listener in self._listeners:
            found = listener.receive(wait if single else 0.0)
            for received in found:
                if received.event:
                    yield self._event(received)
            listener.done(found)

    def _event(self, received: Received) -> dict[str, Any]:
        from ddbrelay.infra.listener import followed

        whole = followed(self._aws, received, self._buckets)
        if whole.claim_error is not None:
            self._say(f"an event keeps its claim check: {whole.claim_error}")
        event: dict[str, Any] = loads(whole.body, parse_float=Decimal)
        return event


class Runner:
    """Runs scenarios one after the other on one table and its buses.

    `width` is how many columns the lines of verdicts may have; `relay` makes the scenario's own
    relay. `arrival_counts` says that events are delivered in the order of publishing.
    """

    def __init__(
        self,
        behind: Behind,
        writer: Writer | None,
        teller: Teller,
        stop: Stopper,
        *,
        environ: Callable[[str], Mapping[str, str]],
        relay: Callable[[Callable[[str], None]], BackgroundRelay],
        arrival_counts: bool,
        width: int = 100,
    ) -> None:
        self._behind, self._writer, self._teller, self._stop = behind, writer, teller, stop
        self._environ, self._relay = environ, relay
        self._arrival_counts, self._width = arrival_counts, width

    def run(self, outcome: Outcome) -> None:
        """Run the scenario of `outcome`, which is filled as it goes, also when this raises.

        AwsRefused where AWS refuses anything but what a step writes; a scenario that is not met
        raises nothing. Stopped early, it has the error `interrupted`.
        """
        scenario = outcome.scenario
        outcome.begun = True

        def say(words: str) -> None:
            outcome.words.append(words)
            self._teller.relay_said(words)

        try:
            with self._relay(say) if scenario.relay else nullcontext() as relay:
                self._behind.drain()
                self._teller.begins(scenario)
                _Run(self, outcome, relay).go()
        finally:
            self._teller.settled(outcome)
        self._teller.ended(outcome)


class _Run:
    """One scenario on its way."""

    def __init__(self, runner: Runner, outcome: Outcome, relay: BackgroundRelay | None) -> None:
        self._runner, self._outcome, self._relay = runner, outcome, relay
        self._scenario: Scenario = outcome.scenario
        self._teller, self._behind, self._stop = runner._teller, runner._behind, runner._stop
        comparison = Comparison(self._scenario.order, runner._arrival_counts)
        self._judge = Judge(self._scenario.expects, self._scenario.nevers, comparison)
        self._names = tuple(runner._writer.keys) if runner._writer is not None else ()
        self._written: list[Key] = []
        self._came = 0
        self._said: set[str] = set()
        self._doing = ""
        self._time_over = self._late = False
        self._began = time.monotonic()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def go(self) -> None:
        scenario, judge, outcome = self._scenario, self._judge, self._outcome
        try:
            if self._do_steps():
                left = scenario.timeout - self._elapsed
                self._receive_until(lambda: judge.complete or self._time_over, left)
                if not judge.complete:
                    self._take(0.0)
                if judge.complete and not judge.forbidden:
                    self._receive_until(lambda: bool(judge.forbidden), scenario.watch)
            if self._stop.is_set():
                outcome.error = "interrupted"
            elif outcome.failed_step is None:
                self._conclude()
        finally:
            outcome.seconds = self._elapsed
            outcome.events, outcome.repeats = judge.distinct, judge.repeats

    # Steps

    def _do_steps(self) -> bool:
        """Whether what comes of them can be waited for: none failed, and nobody stopped them."""
        for step in self._scenario.steps:
            if self._stop.is_set():
                return False
            if self._is_too_late():
                break
            key = None if self._runner._writer is None else self._runner._writer.key_of(step)
            if key is not None:
                self._written.append(key)
            self._doing = step.title
            done = self._done(step, key)
            self._outcome.steps.append(done)
            self._teller.step(self._scenario, done)
            if done.error is not None:
                return False
            self._doing = f"waiting after {step.title}"
            self._receive_until(lambda: False, step.wait)
        self._doing = ""
        return not self._stop.is_set()

    def _done(self, step: Step, key: Key | None) -> Done:
        began = time.monotonic()
        try:
            self._do(step)
        except StepFailed as failed:
            seconds = time.monotonic() - began
            return Done(step, key, seconds, str(failed), failed.lines, failed.fault)
        except AwsRefused as refused:
            seconds = time.monotonic() - began
            return Done(step, key, seconds, refused.message, (), "refused", refused.hint)
        return Done(step, key, time.monotonic() - began)

    def _do(self, step: Step) -> None:
        if not isinstance(step.action, Command):
            assert self._runner._writer is not None
            self._runner._writer.write(step)
            return
        timeout = self._scenario.timeout
        if (left := timeout - self._elapsed) <= 0:
            raise StepFailed(f"was not begun: its {in_seconds(timeout)} s are over", ())
        run_command(
            step.action,
            self._scenario.file.resolve().parent,
            self._runner._environ(self._scenario.run),
            timeout=left,
            pause=self._pause,
        )

    def _pause(self, seconds: float) -> bool:
        self._take(0.0)
        return self._stop.wait(seconds)

    # Receiving

    def _waiting_for(self) -> str:
        if self._doing:
            return self._doing
        missing = [expect.title for expect, _ in self._judge.missing]
        return f"waiting for {', '.join(missing)}" if missing else "watching what else comes"

    def _receive_until(self, enough: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not (enough() or self._stop.is_set()):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self._relay is not None:
                self._relay.check()
            if not self._take(min(_POLL, left)):
                self._stop.wait(min(_PAUSE, left))

    def _is_too_late(self) -> bool:
        """Whether the time is over, and not everything expected came in it."""
        if self._elapsed >= self._scenario.timeout and not self._time_over:
            self._take(0.0)
        return self._late

    def _take(self, wait: float) -> int:
        """How many events came, after at most `wait` seconds; no wait spans the timeout."""
        self._teller.waits(self._waiting_for(), self._elapsed)
        left = self._scenario.timeout - self._elapsed
        if self._time_over or left > 0:
            return self._look(wait if self._time_over else min(wait, left))
        came = 0
        for _ in range(_DRAINED):
            # What came while nobody looked, as during a step, came in time.
            found = self._look(0.0)
            came += found
            if not found:
                break
        self._time_over, self._late = True, not self._judge.complete
        return came

    def _look(self, wait: float) -> int:
        before = self._came
        for event in self._behind.receive(wait):
            arrival = self._arrival(event)
            met, forbidden = self._judge.add(arrival, late=self._late)
            for expect in met:
                self._say_met(expect, arrival)
            for never in forbidden:
                self._say_forbidden(never, arrival)
        return self._came - before

    def _arrival(self, event: dict[str, Any]) -> Arrival:
        key = key_of(event, self._names, self._written)
        self._came += 1
        return Arrival(event, self._elapsed, self._came, key, sequence_of(event))

    def _say_met(self, expect: Expect, arrival: Arrival) -> None:
        self._say(Verdict(expect, arrival.at, expect.needed, events=(arrival.event,)))

    def _say_forbidden(self, never: Never, arrival: Arrival) -> None:
        if never.title in self._said:
            return
        self._say(verdicts.forbidden(never, arrival, width=self._runner._width))

    def _say(self, verdict: Verdict) -> None:
        self._said.add(verdict.about.title)
        self._outcome.verdicts.append(verdict)
        self._teller.verdict(self._scenario, verdict)

    # The end

    def _conclude(self) -> None:
        judge, width, timeout = self._judge, self._runner._width, self._scenario.timeout
        at = self._elapsed
        for expect, came in judge.missing:
            self._say(verdicts.missing(judge, expect, came, at=at, timeout=timeout, width=width))
        for expect, several in judge.surplus:
            self._replace(verdicts.too_many(expect, several, at=at, width=width))
        if judge.complete:
            known = {} if self._relay is None else self._relay.known
            for arrival in judge.arrivals:
                if arrival.id in known:
                    arrival.key, arrival.sequence = known[arrival.id]
            for disorder in judge.disorder():
                self._replace(verdicts.wrong_order(disorder, at=at, width=width))
        for never in self._scenario.nevers:
            if never.title not in self._said:
                self._say(Verdict(never, self._elapsed))

    def _replace(self, verdict: Verdict) -> None:
        """What was met as far as it was known is not, now that everything has come."""
        known = self._outcome.verdicts
        known[:] = [one for one in known if one.about is not verdict.about]
        self._say(verdict)
