"""The buses, the rules on them, and who gets which of our events.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_ListRules.html. An archive has a
rule `Events-Archive-<name>` on its bus, which nobody receives anything from.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddbrelay.arns import account_in
from ddbrelay.checkup.asking import Answer, asked, refused
from ddbrelay.checkup.findings import Area, Finding, Subject
from ddbrelay.checkup.kinds import UNKNOWN, Kind, may_match
from ddbrelay.flow.mapping.patterns import Pattern, PatternError, compile_pattern
from ddbrelay.infra.calls import NOT_FOUND, attempt, listing
from ddbrelay.infra.names import PREFIX, rule_name
from ddbrelay.infra.plan import ARN_PREFIX, DEFAULT_BUS
from ddbrelay.mappings import sources_of
from ddbrelay.text import counted, listed

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

AREA = Area("bus")
_ARCHIVE = "Events-Archive-"
_LISTENER = f"{PREFIX}listen-"
_ALIKE = 0.8
"""How alike two names are of which one may be a slip of the other, from 0 to 1."""


@dataclass(frozen=True)
class Rule:
    """A rule with an event pattern; `pattern` is None where ours cannot read it, for `mistake`."""

    name: str
    arn: str
    enabled: bool
    pattern: Pattern | None
    mistake: str = ""
    managed: bool = False

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Rule | None:
        """From an element of ListRules; None for a schedule, which has no pattern."""
        text = said.get("EventPattern")
        if not text:
            return None
        pattern, mistake = None, ""
        try:
            pattern = compile_pattern(json.loads(text))
        except (PatternError, ValueError) as error:
            mistake = str(error)
        return cls(
            str(said["Name"]),
            str(said.get("Arn", "")),
            said.get("State", "ENABLED") != "DISABLED",
            pattern,
            mistake,
            bool(said.get("ManagedBy")),
        )

    @property
    def bus(self) -> str:
        """The bus that it is on; the ARN of one on the default bus does not name it."""
        return self.arn.partition(":rule/")[2].rpartition("/")[0] or DEFAULT_BUS

    @property
    def consumes(self) -> bool:
        """Whether somebody is behind it: not an archive, and no listener that will be gone."""
        return not self.name.startswith((_ARCHIVE, _LISTENER))


@dataclass(frozen=True)
class Bus:
    """A bus that events are published to; `policy` whether it has one of its own."""

    name: str
    arn: str
    policy: bool

    @property
    def account(self) -> str | None:
        return account_in(self.arn) or None


def look(aws: Aws, name: str) -> Answer[Bus | None]:
    """The bus, a name or an ARN; None where there is none."""

    doing = f"describe the bus {name}"

    def ask() -> Bus | None:
        said = attempt(aws.client("events"), "describe_event_bus", doing, NOT_FOUND, Name=name)
        if said is None:
            return None
        return Bus(name, str(said["Arn"]), bool(said.get("Policy")))

    return asked(ask, doing)


def look_at_rules(aws: Aws, bus: str) -> Answer[list[Rule]]:
    """The rules of a bus that have a pattern."""

    doing = f"list the rules of the bus {bus}"

    def ask() -> list[Rule]:
        said = listing(aws.client("events"), "list_rules", doing, "Rules", EventBusName=bus)
        return [rule for rule in map(Rule.of, said) if rule is not None]

    return asked(ask, doing)


def judge(subject: Subject, name: str, bus: Answer[Bus | None]) -> list[Finding]:
    """Whether a bus is there."""
    if bus.refusal is not None:
        # Publishing needs no right to describe; but it needs the same address.
        needed = not bus.denied
        return [refused(AREA, "bus", bus, emulated=subject.emulated, needed=needed)]
    if bus.value is not None:
        return [AREA.ok("bus", f"{name} exists")]
    named = name.startswith(ARN_PREFIX)
    mend = None
    if name == subject.bus and not named:
        mend = subject.provision()
    elif not named:
        mend = subject.aws_cli(f"events create-event-bus --name {shlex.quote(name)}")
    why = "nothing can be published, and the relay does not start"
    return [AREA.error("bus", f'bus "{name}" does not exist ({subject.region})', why, mend)]


def feeding(rules: Iterable[Rule], kinds: Sequence[Kind], account: str | None) -> list[Rule]:
    """The enabled rules with somebody behind them that some event of ours may match."""
    return [rule for rule in rules if rule.consumes and rule.enabled and _fed(rule, kinds, account)]


def _fed(rule: Rule, kinds: Iterable[Kind], account: str | None) -> bool:
    pattern = rule.pattern
    return pattern is not None and any(may_match(pattern, kind, account) for kind in kinds)


def judge_rules(
    subject: Subject,
    bus: str,
    rules: Answer[list[Rule]],
    kinds: Sequence[Kind],
    events: Sequence[Mapping[str, Any]] = (),
    account: str | None = None,
) -> list[Finding]:
    """Which rules no event of ours can match, and which events no rule would.

    `kinds` are those that go to this bus, `events` are made from sampled changes, as EventBridge
    delivers them.
    """
    if rules.value is None:
        return [refused(AREA, "rules", rules, emulated=subject.emulated)]
    consumers = [rule for rule in rules.value if rule.consumes]
    found = [
        AREA.note("pattern", f'the pattern of rule "{rule.name}" cannot be read: {rule.mistake}')
        for rule in consumers
        if rule.pattern is None
    ]
    for rule in consumers:
        found += _about(subject, bus, rule, kinds, account)
    found += _others(consumers, kinds, account)
    unreadable = any(rule.pattern is None and rule.enabled for rule in consumers)
    return (
        found if unreadable else [*found, *_heard(subject, bus, consumers, kinds, events, account)]
    )


def _about(
    subject: Subject, bus: str, rule: Rule, kinds: Sequence[Kind], account: str | None
) -> list[Finding]:
    pattern = rule.pattern
    if pattern is None:
        return []
    if _fed(rule, kinds, account):
        if rule.enabled:
            return []
        words = f'rule "{rule.name}" is disabled, and our events would match it'
        mend = subject.aws_cli(f"events enable-rule --name {rule.name}{on(bus)}")
        return [AREA.warning("disabled", words, "whoever is behind it receives nothing", mend)]
    if (why := _slip(pattern, kinds, account)) is None:
        return []
    words = f'no event of ours can match rule "{rule.name}"'
    mend = "correct its pattern (aws events put-rule), or the mapping"
    if rule.name == rule_name(subject.table) and is_own(subject, bus):
        mend = subject.provision(apply=True)
    return [AREA.warning("never-fed", words, why, mend)]


def _slip(pattern: Pattern, kinds: Sequence[Kind], account: str | None) -> str | None:
    """Why a rule that seems to be meant for our events has none; None for one that does not."""
    by_source = [Kind(kind.bus, kind.source, UNKNOWN) for kind in kinds]
    wanted_types, wanted_sources = (_texts(pattern, name) for name in ("detail-type", "source"))
    if any(may_match(pattern, kind, account) for kind in by_source):
        ours = [str(kind.detail_type) for kind in kinds if kind.detail_type != UNKNOWN]
        return _said("detail-type", wanted_types, ours)
    ours = [str(kind.source) for kind in kinds if kind.source != UNKNOWN]
    if _close(wanted_sources, ours):
        return _said("source", wanted_sources, ours)
    return None


def _said(name: str, wanted: Sequence[str], ours: Sequence[str]) -> str:
    asks = f"it wants the {name} {listed(wanted)}" if wanted else f"of its {name}"
    if close := _close(wanted, ours):
        return f"{asks}, did it mean {close[0]}?"
    return f"{asks}, ours {'are' if len(set(ours)) > 1 else 'is'} {listed(ours)}"


def _close(wanted: Iterable[str], ours: Sequence[str]) -> list[str]:
    return [
        near
        for one in wanted
        for near in difflib.get_close_matches(one, list(ours), n=1, cutoff=_ALIKE)
    ]


def _texts(pattern: Pattern, name: str) -> list[str]:
    """The plain texts that a pattern wants of a field, where it is not in a branch."""
    wanted = pattern.source.get(name)
    return [one for one in wanted if isinstance(one, str)] if isinstance(wanted, list) else []


def _others(rules: Sequence[Rule], kinds: Sequence[Kind], account: str | None) -> list[Finding]:
    foreign = [
        rule.name
        for rule in rules
        if rule.pattern is not None
        and not _fed(rule, kinds, account)
        and _slip(rule.pattern, kinds, account) is None
    ]
    if not foreign:
        return []
    words = f"{counted(len(foreign), 'rule')} for other events than ours: {listed(foreign)}"
    return [AREA.note("others", words)]


def _heard(
    subject: Subject,
    bus: str,
    rules: Sequence[Rule],
    kinds: Sequence[Kind],
    events: Sequence[Mapping[str, Any]],
    account: str | None,
) -> list[Finding]:
    """Whether every event has a receiver."""
    if not kinds:
        return [AREA.note("heard", f"the mapping sends nothing to {bus}")]
    patterns = [rule.pattern for rule in rules if rule.enabled and rule.pattern is not None]
    receivers = [rule for rule in rules if rule.enabled and _fed(rule, kinds, account)]
    why = "the bus takes such an event and drops it: nobody receives it, and nobody is told"
    if not receivers:
        words = f"no enabled rule on {bus} matches our events"
        return [AREA.warning("unheard", words, why, _make_rule(subject, bus, kinds))]
    silent = [
        kind.name for kind in kinds if not any(may_match(one, kind, account) for one in patterns)
    ]
    unmatched, of = _unmatched(patterns, events)
    found = []
    if silent:
        words = f"no enabled rule on {bus} matches {listed(silent)}"
        mend = _make_rule(subject, bus, kinds)
        found.append(AREA.warning("unheard", words, why, mend))
    for name in sorted(unmatched.keys() - set(silent)):
        words = f"{unmatched[name]:,} of {of[name]:,} sampled {name} match no enabled rule on {bus}"
        lost = [one for one in events if one["detail-type"] == name and not _any(patterns, one)]
        mend = _match(subject, bus, kinds, lost)
        found.append(AREA.warning("unheard", words, why, mend))
    if not found:
        names = listed(rule.name for rule in receivers)
        found.append(AREA.ok("heard", f"every event has a rule on {bus}: {names}"))
    return found


def _unmatched(
    patterns: Sequence[Pattern], events: Sequence[Mapping[str, Any]]
) -> tuple[Counter[str], Counter[str]]:
    """By detail type how many sampled events match nothing, and how many there are."""
    of = Counter(str(event["detail-type"]) for event in events)
    unmatched = Counter(str(event["detail-type"]) for event in events if not _any(patterns, event))
    return unmatched, of


def _any(patterns: Iterable[Pattern], event: Mapping[str, Any]) -> bool:
    return any(pattern.matches(event) for pattern in patterns)


def on(bus: str) -> str:
    """The option of the AWS CLI that names a bus."""
    return "" if bus == DEFAULT_BUS else f" --event-bus-name {shlex.quote(bus)}"


def is_own(subject: Subject, bus: str) -> bool:
    """Whether it is the bus of the run, and provision may work on it."""
    return bus == subject.bus and not bus.startswith(ARN_PREFIX)


def _make_rule(subject: Subject, bus: str, kinds: Sequence[Kind]) -> str:
    if is_own(subject, bus):
        return subject.provision()
    conditions = [source.condition for source in dict.fromkeys(kind.source for kind in kinds)]
    known = [one for one in conditions if one is not None]
    sources = known if len(known) == len(conditions) else [{"prefix": ""}]
    pattern = shlex.quote(json.dumps({"source": sources}))
    name = rule_name(subject.table)
    return subject.aws_cli(f"events put-rule --name {name}{on(bus)} --event-pattern {pattern}")


def _match(
    subject: Subject, bus: str, kinds: Sequence[Kind], events: Sequence[Mapping[str, Any]]
) -> str:
    """How these sampled events come to a rule; provision's own knows the sources of the mapping."""
    ours = compile_pattern({"source": [subject.settings.event_source, *sources_of(subject.config)]})
    if not is_own(subject, bus) or all(ours.matches(event) for event in events):
        return _make_rule(subject, bus, kinds)
    strange = listed(sorted({str(one["source"]) for one in events if not ours.matches(one)}))
    return f"a rule of your own on {bus}, for the source {strange}"
