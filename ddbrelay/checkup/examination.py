"""All checks of a configuration: what is asked at the same time, and what depends on what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from ddbrelay.aws.session import is_loopback
from ddbrelay.checkup import (
    bus,
    clock,
    credentials,
    endpoints,
    permissions,
    positions,
    readers,
    sample,
    settings,
    sizes,
    state,
    table,
    targets,
)
from ddbrelay.checkup.asking import Answer, QuickAws, asked
from ddbrelay.checkup.findings import Finding, Level, Subject
from ddbrelay.checkup.kinds import kinds_of
from ddbrelay.errors import StateError
from ddbrelay.flow.mapping import MapFunction
from ddbrelay.mappings import buses_of, mapper_of, rules_of, sightings_of
from ddbrelay.output.doctor import Area

if TYPE_CHECKING:
    from ddbrelay.config import Config
    from ddbrelay.flow.mapping.rules import Rule

T = TypeVar("T")
_AT_ONCE = 16
ORDER: tuple[str, ...] = get_args(Area)
"""The areas, in the order in which they are shown."""


def examine(
    aws: QuickAws,
    config: Config,
    name: str,
    *,
    most: int,
    again: Callable[[str], str],
    tell: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """What there is to say of a table and its relay; nothing is changed anywhere.

    `most` is how many changes or items are sampled, `tell` hears which areas are still open. Raises
    ConfigError for a mapping or a setting that cannot be right. What AWS refuses is a finding.
    """
    mapper, rules = mapper_of(config, name), rules_of(config, name)
    emulated = aws.local or (aws.endpoint_url is not None and is_loopback(aws.endpoint_url))
    subject = Subject(
        config, name, again, time.time(), aws.region, aws.endpoint_url, aws.local, emulated
    )
    tell("credentials")
    keys = asked(lambda: credentials.keys_of(aws.credentials(), subject.now), "find credentials")
    if keys.refusal is not None:
        return _with_the_rest(
            [*credentials.judge(subject, keys, Answer()), *_offline(subject, None)]
        )
    with ThreadPoolExecutor(_AT_ONCE, "ddbrelay-doctor") as pool:
        look = _Look(aws, subject, mapper, rules, most, pool, tell)
        try:
            return look.findings(keys)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _with_the_rest(found: Sequence[Finding]) -> list[Finding]:
    """The findings, and one that says which areas could not be looked at."""
    return _in_order([*found, credentials.AREA.note("skipped", _not_seen(found))])


def _not_seen(found: Sequence[Finding]) -> str:
    seen = {finding.area for finding in found}
    missing = [area for area in ORDER if area not in {*seen, settings.AREA.name}]
    return f"not looked at: {', '.join(missing)}"


def _offline(subject: Subject, standing: state.Standing | None) -> list[Finding]:
    """What can be looked at without AWS."""
    found = [settings.judge_mapping(subject.config), *settings.judge_table(subject.config)]
    try:
        seen = state.look(subject.settings.state_file)
    except StateError as error:
        words = error.message
        mistake = state.AREA.error("state-file", words, "the relay does not start", error.hint)
        return [*found, mistake]
    found += state.judge(subject, seen)
    host, port = subject.settings.metrics_host, subject.settings.metrics_port
    if port is not None:
        # Without the table nothing tells which runs are of it.
        relaying = None if standing is None else standing.owner is not None
        free = settings.port_is_free(host, port)
        found += settings.judge_port(host, port, free=free, relaying=relaying)
    return found


@dataclass
class _Look:
    """One look at everything, with several questions under way at once."""

    aws: QuickAws
    subject: Subject
    mapper: MapFunction
    rules: Sequence[Rule]
    most: int
    pool: ThreadPoolExecutor
    tell: Callable[[str], None]

    def ask(self, question: Callable[[], T]) -> Future[T]:
        return self.pool.submit(question)

    def findings(self, keys: Answer[credentials.Keys]) -> list[Finding]:
        aws, subject = self.aws, self.subject
        where = endpoints.look(aws, subject.config)
        own = subject.bus
        buses = [own, *buses_of(subject.config)]
        identity = self.ask(lambda: credentials.caller(aws))
        described = self.ask(lambda: table.look(aws, subject.table))
        ttl = self.ask(lambda: table.look_at_ttl(aws, subject.table))
        seen_buses = {name: self.ask(lambda name=name: bus.look(aws, name)) for name in buses}  # type: ignore[misc]
        rules = {name: self.ask(lambda name=name: bus.look_at_rules(aws, name)) for name in buses}  # type: ignore[misc]
        beside = self._beside()

        self.tell("credentials")
        who = identity.result()
        found = credentials.judge(subject, keys, who)
        found += endpoints.judge(subject, where)
        if who.bad_credentials:
            found += [*clock.judge(aws.clock.ahead), *_offline(subject, None)]
            return _with_the_rest(found)

        self.tell("the table")
        here = described.result()
        subject = self.subject = replace(subject, seen=here.value)
        behind = self._behind_table(here.value, who)
        found += table.judge(subject, here, ttl.result(), self.rules)

        self.tell("the bus")
        read, mapped = self._sampled(behind)
        found += self._read(read, mapped)
        found += self._of_buses(seen_buses, rules, mapped, here.value)

        self.tell("permissions and positions")
        seen_own = seen_buses[own].result().value
        guarded = [seen_own.arn] if seen_own is not None and seen_own.policy else []
        found += self._permitted(here.value, who, behind, read, guarded)
        found += self._standing(here.value, behind)
        for judged in beside:
            found += judged.result()
        found += clock.judge(aws.clock.ahead)
        if here.refusal is not None and not table.is_missing(here):
            found.append(table.AREA.note("skipped", _not_seen(found)))
        return _in_order(found)

    # What stands beside table and bus

    def _beside(self) -> list[Future[list[Finding]]]:
        aws, subject, given = self.aws, self.subject, self.subject.settings
        queue, address = given.dead_letter_queue, given.claim_check
        asking: list[Future[list[Finding]]] = []
        if queue is not None:
            name = queue
            asking.append(
                self.ask(
                    lambda: settings.judge_queue(
                        subject,
                        name,
                        settings.look_at_queue(aws, name, given.consumer, subject.table),
                    )
                )
            )
        if address is not None:
            bucket = address
            asking.append(
                self.ask(
                    lambda: settings.judge_bucket(
                        subject, bucket, settings.look_at_bucket(aws, bucket)
                    )
                )
            )
        return asking

    # What depends on the table

    def _behind_table(
        self, seen: table.Table | None, who: Answer[dict[str, Any]]
    ) -> dict[str, Future[Any]]:
        aws, subject = self.aws, self.subject
        if seen is None:
            return {}
        asking: dict[str, Future[Any]] = {
            "sample": self.ask(lambda: sample.look(aws, seen, self.most)),
            "streams": self.ask(lambda: positions.streams(aws, subject.table)),
        }
        if seen.stream_arn is not None:
            arn = seen.stream_arn
            asking["functions"] = self.ask(lambda: readers.functions(aws, arn))
            asking["pipes"] = self.ask(lambda: readers.pipes(aws, arn))
        kept = self._kept(seen)
        asking["standing"] = Future()
        asking["standing"].set_result(kept)
        mine = [one for one in kept.kept if one.stream_arn == seen.stream_arn] if kept else []
        if mine:
            asking["survey"] = self.ask(lambda: positions.look(aws, seen, mine[0]))
        if not subject.emulated and who.value is not None:
            arn = str(who.value["Arn"])
            asking["principal"] = self.ask(lambda: permissions.principal_of(aws, arn))
        return asking

    def _kept(self, seen: table.Table) -> state.Standing | None:
        """None where the state file cannot be looked into."""
        given = self.subject.settings
        try:
            file = state.look(given.state_file)
            if file.exists and not state.readable(file):
                return None
            return state.standing(given.state_file, given.consumer, seen.arn, self.subject.now)
        except StateError:
            return None

    def _sampled(self, behind: dict[str, Future[Any]]) -> tuple[sample.Read, sample.Mapped]:
        if "sample" not in behind:
            return sample.Read(), sample.Mapped(sample.STREAM)
        answer: Answer[sample.Read] = asked(behind["sample"].result, "read the stream")
        read = answer.value or sample.Read(stream_refusal=answer.refusal)
        return read, sample.mapped(read, self.mapper, sightings_of(self.subject.config))

    def _read(self, read: sample.Read, mapped: sample.Mapped) -> list[Finding]:
        found = sizes.judge_reading(self.subject, read)
        if self.most and (mapped.count or read.scan is not None):
            found += sizes.judge(self.subject, read, mapped)
        return found

    # Buses and what is behind them

    def _of_buses(
        self,
        seen_buses: dict[str, Future[Answer[bus.Bus | None]]],
        rules: dict[str, Future[Answer[list[bus.Rule]]]],
        mapped: sample.Mapped,
        seen: table.Table | None,
    ) -> Iterator[Finding]:
        subject, aws = self.subject, self.aws
        own, account = subject.bus, None if seen is None else seen.account
        kinds = kinds_of(subject.config, subject.table, self.rules, own)
        for name, future in seen_buses.items():
            judged = bus.judge(subject, name, future.result())
            yield from judged
            if any(one.level is Level.ERROR for one in judged):
                continue
            here = [kind for kind in kinds if kind.bus == name]
            events = [
                sample.envelope(event, account or "", aws.region)
                for event in mapped.events
                if (event.bus or own) == name
            ]
            listed = rules[name].result()
            yield from bus.judge_rules(subject, name, listed, here, events, account)
            fed = bus.feeding(listed.value or (), here, account)
            yield from targets.judge(subject, name, targets.look(aws, name, fed, self.pool))

    # Permissions, readers, positions

    def _permitted(
        self,
        seen: table.Table | None,
        who: Answer[dict[str, Any]],
        behind: dict[str, Future[Any]],
        read: sample.Read,
        guarded: Sequence[str],
    ) -> list[Finding]:
        aws, subject = self.aws, self.subject
        if seen is None:
            return []
        if who.value is None and not subject.emulated:
            return [permissions.AREA.note("simulation", "not looked at: who asks is not known")]
        principal = behind["principal"].result() if "principal" in behind else None
        if (instead := permissions.not_asked(subject, principal)) is not None:
            return [instead]
        assert principal is not None
        asking = permissions.questions(subject, seen.arn, seen.stream_arn)
        answers = permissions.look(aws, principal, asking, self.pool)
        proven = {*read.dry, "dynamodb:DescribeTable"}
        if behind["streams"].result().value is not None:
            proven.add("dynamodb:ListStreams")
        return permissions.judge(subject, seen.account, answers, proven=proven, guarded=guarded)

    def _standing(self, seen: table.Table | None, behind: dict[str, Future[Any]]) -> list[Finding]:
        subject = self.subject
        if seen is None:
            return _offline(subject, None)
        standing: state.Standing | None = behind["standing"].result()
        found = _offline(subject, standing)
        if seen.stream_arn is not None:
            others = () if standing is None else standing.others
            asking = [behind["functions"].result(), behind["pipes"].result()]
            found += readers.judge(subject, asking, others)
        if standing is not None:
            survey = behind["survey"].result() if "survey" in behind else None
            listed = behind["streams"].result()
            found += positions.judge(subject, seen.stream_arn, standing, listed, survey)
        return found


def _in_order(found: Iterable[Finding]) -> list[Finding]:
    """By area; within one the worst first, and what is alike only once."""
    rank = {level: place for place, level in enumerate(reversed(Level))}
    return sorted(dict.fromkeys(found), key=lambda one: (ORDER.index(one.area), rank[one.level]))
