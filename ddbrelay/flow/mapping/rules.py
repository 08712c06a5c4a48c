"""Rules, tried in order: which of them a change matches, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping.checks import named, pattern_of
from ddbrelay.flow.mapping.crud import CrudMapper
from ddbrelay.flow.mapping.document import Document, TypedDocument
from ddbrelay.flow.mapping.events import (
    JOINT,
    Event,
    MapFunction,
    Mapped,
    Reject,
    Several,
    Skip,
    stable_id,
)
from ddbrelay.flow.mapping.making import Defaults, Maker, MappingError
from ddbrelay.flow.mapping.patterns import Finding, Pattern, compile_pattern, covers
from ddbrelay.flow.mapping.presets import NO_ENTITY, OUTBOX_RULE, Outbox, unknown_key
from ddbrelay.flow.mapping.redaction import redaction_paths

NO_RULE = "no rule"
_HIDDEN = "an attribute that must not be shown"
_MAKING = frozenset(
    {
        *("source", "detail_type", "detail", "resources", "time", "bus", "trace_header"),
        *("envelope", "schema"),
    }
)
_KEYS = _MAKING | {"name", "when", "skip", "redact", "continue"}
_RESERVED = frozenset({NO_RULE, NO_ENTITY, OUTBOX_RULE})


@dataclass(frozen=True)
class Rule:
    """One compiled rule; `spec` is what the file says, its `when` always as an object."""

    name: str
    spec: Mapping[str, Any]
    when: Pattern | None
    lambda_form: bool
    skip: bool
    goes_on: bool
    redact: tuple[tuple[str, ...], ...]
    place: str = ""
    make: Maker | None = None

    def matches(self, document: Document, typed: TypedDocument) -> bool:
        """Whether the rule is for this change; UndecodableError where that cannot be known."""
        if self.when is None:
            return True
        return self.when.matches(typed if self.lambda_form else document)


@dataclass(frozen=True)
class Verdict:
    """What one rule says of a change: whether it matched and why, and what it made."""

    rule: Rule
    matched: bool
    findings: Sequence[Finding]
    result: Event | Skip | Reject | None = None


class RuleMapper:
    """The first rule that matches counts, and after a `continue` the next ones too.

    What no rule matches goes to `otherwise` where there is one; else it is skipped, or rejected
    where the file is strict.
    """

    def __init__(
        self, rules: Sequence[Rule], defaults: Defaults, otherwise: MapFunction | None = None
    ) -> None:
        self.rules = tuple(rules)
        self._otherwise = otherwise
        self._strict = defaults.strict
        self._redact = redaction_paths(defaults.redact, ("redact",))

    def __call__(self, change: Change) -> Mapped:
        change.reveal()
        if isinstance(self._otherwise, Outbox):
            self._otherwise.follow_aggregate(change)
        document, typed = Document(change), TypedDocument(change)
        matched: list[Rule] = []
        skipped: Rule | None = None
        for rule in self.rules:
            try:
                # As Rule.matches has it; the call would cost more than most patterns do.
                when = rule.when
                if when is not None and not when.matches(typed if rule.lambda_form else document):
                    continue
            except UndecodableError as error:
                self._hide(change, [*matched, rule])
                return _unreadable(rule, change, error)
            if rule.skip:
                skipped = rule
                break
            matched.append(rule)
            if not rule.goes_on:
                break
        self._hide(change, matched if skipped is None else [*matched, skipped])
        if matched:
            return self._made(change, document, matched)
        if skipped is not None:
            return Skip(skipped.name)
        if self._otherwise is not None:
            return self._otherwise(change)
        return (
            Reject("no rule matches, and the mapping is strict") if self._strict else Skip(NO_RULE)
        )

    def _hide(self, change: Change, rules: Iterable[Rule]) -> None:
        paths = [*self._redact, *(path for rule in rules for path in rule.redact)]
        if paths:
            change.redact(paths)

    def _made(self, change: Change, document: Document, rules: Sequence[Rule]) -> Mapped:
        if change.is_redacted:
            document = Document(change)
        events: list[Event] = []
        for rule in rules:
            assert rule.make is not None
            event_id = stable_id(change.event_id, rule.name, len(events))
            result = rule.make(change, document, event_id)
            if isinstance(result, Reject):
                # All events of a change go, or none of them.
                return result
            events.append(result)
        return events[0] if len(events) == 1 else Several(tuple(events))

    def explain(self, change: Change) -> list[Verdict]:
        """Each rule that was tried, in order, and why it did or did not match."""
        change.reveal()
        document, typed = Document(change), TypedDocument(change)
        shown = self._shown(change)
        tried: list[tuple[Rule, bool, list[Finding]]] = []
        unread: tuple[Rule, UndecodableError] | None = None
        for rule in self.rules:
            matched = False
            try:
                matched = rule.matches(document, typed)
            except UndecodableError as error:
                unread = rule, error
            try:
                findings = _findings(rule, document, typed, shown)
            except UndecodableError as error:
                findings = [Finding("", "what can be read", _reason(shown, error), ok=False)]
            tried.append((rule, matched, findings))
            if unread or (matched and not rule.goes_on):
                break
        raising = [rule for rule, matched, _ in tried if matched and not rule.skip]
        hiding = [rule for rule, matched, _ in tried if matched]
        self._hide(change, [*hiding, tried[-1][0]] if unread else hiding)
        document = Document(change)
        verdicts = []
        for rule, matched, findings in tried:
            result: Event | Skip | Reject | None = None
            if unread and rule is unread[0]:
                result = _unreadable(rule, change, unread[1])
            elif matched and rule.skip:
                result = Skip(rule.name)
            elif matched and rule.make is not None:
                event_id = stable_id(change.event_id, rule.name, raising.index(rule))
                result = rule.make(change, document, event_id)
            verdicts.append(Verdict(rule, matched, findings, result))
        return verdicts

    def _shown(self, change: Change) -> Change:
        """The change as it may be shown: without what the file or any rule redacts."""
        shown = Change(change.record, change.shard_id, change.origin)
        if paths := [*self._redact, *(path for rule in self.rules for path in rule.redact)]:
            shown.redact(paths)
        return shown


def _unreadable(rule: Rule, change: Change, error: UndecodableError) -> Reject:
    reason = _reason(change, error)
    return Reject(f'rule "{rule.name}": cannot be read: {reason}', rule.name)


def _reason(change: Change, error: UndecodableError) -> str:
    """Why a rule cannot read a change from which what must not be shown was taken out.

    The error itself may name what lies inside an attribute that is redacted.
    """
    return (change.unreadable or _HIDDEN) if change.is_redacted else str(error)


def _findings(rule: Rule, document: Document, typed: TypedDocument, shown: Change) -> list[Finding]:
    """What a rule found: judged by what is there, and told by what may be shown of it."""
    if rule.when is None:
        return []
    judged = typed if rule.lambda_form else document
    told = TypedDocument(shown) if rule.lambda_form else Document(shown)
    try:
        return rule.when.explain(judged, told)
    except UndecodableError:
        # An image that the rule does not read cannot be read, and so none may be shown.
        return rule.when.explain(judged, None)


def compile_rules(
    specs: Sequence[Mapping[str, Any]], defaults: Defaults, crud: CrudMapper
) -> list[Rule]:
    """The rules of a file, in its order; MappingError for the first mistake."""
    rules: list[Rule] = []
    for index, spec in enumerate(specs):
        rule = _compiled(index, spec, defaults, crud, {rule.name for rule in rules})
        _check_reached(index, rule, rules)
        rules.append(rule)
    return rules


def _compiled(
    index: int, spec: Mapping[str, Any], defaults: Defaults, crud: CrudMapper, taken: set[str]
) -> Rule:
    path: tuple[str | int, ...] = ("rule", index)
    if not spec:
        raise MappingError("an empty rule", path, hint="when, and detail_type or skip")
    for key in spec:
        if key not in _KEYS:
            raise unknown_key(key, _KEYS, (*path, key))
    skip = spec.get("skip", False)
    if not isinstance(skip, bool) and not (isinstance(skip, str) and skip):
        raise MappingError("skip must be true, or a text that says why", (*path, "skip"))
    goes_on = spec.get("continue", False)
    if not isinstance(goes_on, bool):
        raise MappingError("continue must be true or false", (*path, "continue"))
    if skip and (never := sorted(_MAKING & spec.keys())):
        raise MappingError(f"a rule that skips has no {never[0]}", (*path, never[0]))
    if skip and goes_on:
        raise MappingError("a rule that skips cannot continue", (*path, "continue"))
    name = _name(spec, path, taken)
    when = _when(spec.get("when"), (*path, "when"))
    pattern, lambda_form = None, False
    if when is not None:
        pattern, lambda_form = pattern_of(when, (*path, "when"))
    return Rule(
        name,
        {**spec, "when": when} if when is not None else spec,
        pattern,
        lambda_form,
        bool(skip),
        goes_on,
        redaction_paths(spec.get("redact", ()), (*path, "redact")),
        make=None if skip else Maker(name, spec, path, defaults, crud),
    )


def _name(spec: Mapping[str, Any], path: tuple[str | int, ...], taken: set[str]) -> str:
    given = spec.get("name")
    if given is None:
        described = [spec.get("skip"), spec.get("detail_type")]
        texts = (one for one in described if isinstance(one, str) and one)
        text = next(texts, f"rule {int(path[1]) + 1}").replace(JOINT, " and ")
        name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        numbered, count = name, 1
        while numbered in taken:
            count += 1
            numbered = f"{name} ({count})"
        return numbered
    if not isinstance(given, str) or not given.strip() or JOINT in given or not given.isprintable():
        raise MappingError(f'a name must be a text on one line without "{JOINT}"', (*path, "name"))
    if given in _RESERVED:
        raise MappingError(
            f'"{given}" is a name that the ledger has for something else', (*path, "name")
        )
    if given in taken:
        raise MappingError(f'there is an earlier rule "{given}"', (*path, "name"))
    return given


def _when(when: object, path: tuple[str | int, ...]) -> dict[str, Any] | None:
    if isinstance(when, str):
        text = when
        try:
            when = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            said, _, place = str(error).partition(" (byte ")
            at = place.rstrip(")")
            offset = len(text.encode()[: int(at)].decode(errors="replace")) if at else None
            raise MappingError(f"when is no JSON: {said}", path, offset=offset) from None
    if when is None:
        return None
    if not isinstance(when, dict) or not when:
        raise MappingError('when must be a pattern, such as { eventName = ["INSERT"] }', path)
    return when


def _check_reached(index: int, rule: Rule, earlier: Iterable[Rule]) -> None:
    when = {} if rule.when is None else rule.when.source
    asked = compile_pattern(named(when, lambda_form=rule.lambda_form))
    for number, one in enumerate(earlier, 1):
        if one.goes_on:
            continue
        same_form = rule.when is None or one.lambda_form == rule.lambda_form
        hidden = one.when is None or (same_form and covers(one.when, asked))
        if hidden:
            raise MappingError(
                f'rule "{rule.name}" is never reached: rule "{one.name}" (number {number}) '
                "matches all that it matches",
                ("rule", index),
                hint="move it up, or give the earlier one continue = true",
            )
