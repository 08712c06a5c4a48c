"""Which rules an EventBridge pipe can carry out, and why it cannot the others.

A pipe has a filter, a template and nothing else: no memory of other rules, no functions, no types.
Filters: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-event-filtering.html
Templates: eb-pipes-input-transformation.html, and for Source, DetailType and Resources, which may
be one whole path, eb-pipes-event-target.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jmespath

from ddbrelay.export.choices import DEFAULT_LIMIT
from ddbrelay.export.filters import (
    IMAGES,
    MAX_LENGTH,
    NUMBER_FIELDS,
    SAME,
    Branch,
    Conditions,
    Types,
    branches_of,
    disjoint,
    is_dotted,
    nested,
    text_of,
    through_maps,
    ttl_conditions,
)
from ddbrelay.export.values import Matchers, Values, exactly, of_record
from ddbrelay.flow.mapping.document import ID
from ddbrelay.flow.mapping.matchers import (
    Affix,
    AnyCase,
    AnythingBut,
    Cidr,
    Exact,
    Exists,
    Matcher,
    Numeric,
    Wildcard,
    is_number,
)
from ddbrelay.flow.mapping.templates import Template

if TYPE_CHECKING:
    from ddbrelay.flow.mapping.rules import Rule

MAX_TEMPLATE = 8192
"""Characters, by `InputTemplate` of the `pipes` model."""
_STEP = re.compile(r"[\w/-]+", re.ASCII)
_UNSUPPORTED = {"suffix", "equals-ignore-case"}
"""Operators of rules that pipes do not have."""
_WHOLE = {"eventID": "$.eventID", ID: "$.eventID", "eventName": "$.eventName"} | {
    "sequenceNumber": "$.dynamodb.SequenceNumber",
    "streamArn": "$.eventSourceARN",
}
_NOT_FOR_PIPES = {
    "schema": "it checks its events with a schema: a pipe cannot",
    "trace_header": "it sets a trace header: a pipe cannot",
    "time": "it sets the time of its events: a pipe sets its own",
}
_OPERATORS: dict[type[Matcher], str] = {
    AnyCase: "equals-ignore-case",
    AnythingBut: "anything-but",
    Cidr: "cidr",
    Exists: "exists",
    Numeric: "numeric",
    Wildcard: "wildcard",
}
"""Names of operators in patterns; an `Affix` has its own."""


class InexpressibleError(Exception):
    """What of a rule no pipe can do."""


@dataclass(frozen=True)
class PipeRule:
    """A rule as a pipe has it; `source`, `detail_type` and `resources` are texts or whole paths."""

    name: str
    filters: tuple[dict[str, Any], ...]
    source: str
    detail_type: str
    resources: tuple[str, ...]
    template: str
    bus: str | None


def pipe_rules(
    rules: Sequence[Rule],
    *,
    table: str,
    source: str,
    envelope: str,
    redact: Sequence[str],
    types: Types,
) -> tuple[list[PipeRule], list[tuple[str, str]]]:
    """The rules that pipes can carry out, and the names of the others with the reasons.

    `envelope` and `redact` are those of the file, which hold for each of its rules.
    """
    found: list[PipeRule] = []
    others: list[tuple[str, str]] = []
    for number, rule in enumerate(rules):
        if rule.skip:
            continue
        try:
            hidden = [*redact, *(name for name in rule.spec.get("redact", ()))]
            if hidden:
                raise InexpressibleError(f"it redacts {', '.join(hidden)}: a pipe cannot")
            if (around := rule.spec.get("envelope", envelope)) != "none":
                raise InexpressibleError(
                    f"its events have the envelope {around}: a pipe cannot make one"
                )
            known_id = _alone(rule, rules[:number], types)
            found.append(_pipe_rule(rule, table, source, _Names(table, types, known_id)))
        except InexpressibleError as error:
            others.append((rule.name, str(error)))
    return found, others


def _alone(rule: Rule, earlier: Sequence[Rule], types: Types) -> str | None:
    """The first rule that matches counts, and pipes do not wait for each other.

    Where an earlier rule goes on after its event, its name: it says what the id of this one's is.
    """
    first: str | None = None
    for other in earlier:
        if disjoint(other, rule, types):
            continue
        if not other.goes_on:
            raise InexpressibleError(
                f'rule "{other.name}" before it may match the same change, and then this one '
                "must not"
            )
        first = first or other.name
    return first


def _pipe_rule(rule: Rule, table: str, source: str, names: _Names) -> PipeRule:
    for key, why in _NOT_FOR_PIPES.items():
        if rule.spec.get(key):
            raise InexpressibleError(why)
    filters = _filters(rule, table, names.types)
    detail = rule.spec.get("detail")
    if detail is None:
        raise InexpressibleError(
            "it has no detail, and a pipe has the whole item only with DynamoDB's types"
        )
    if isinstance(detail, str):
        template = names.expression(jmespath.compile(detail).parsed)
        if not template.startswith("{"):
            raise InexpressibleError("its detail is not written as an object")
    else:
        template = names.shape(detail)
    if len(template) > MAX_TEMPLATE:
        raise InexpressibleError(f"its detail makes a template of over {MAX_TEMPLATE} characters")
    resources = rule.spec.get("resources") or ("{streamArn}", "{id}")
    return PipeRule(
        rule.name,
        filters,
        names.whole(str(rule.spec.get("source") or source), "source"),
        names.whole(str(rule.spec.get("detail_type", "")), "detail_type"),
        tuple(names.whole(one, "resources") for one in resources),
        template,
        rule.spec.get("bus"),
    )


class _Names:
    """Paths of a rule as paths of a record."""

    def __init__(self, table: str, types: Types, first: str | None) -> None:
        """`first` is a rule that may raise an event before this one, from the same change."""
        self._table = table
        self.types = types
        self._first = first

    def whole(self, text: str, key: str) -> str:
        """A template that is a constant, or one hole and nothing else."""
        template = Template(text)
        if template.constant is not None:
            return template.constant
        holes = template.holes
        if len(holes) != 1 or template.shortest or (path := holes[0].path) is None:
            raise InexpressibleError(f"its {key} {text!r} is neither a text nor one plain path")
        if path == ("table",):
            return self._table
        return self._path(path, only_text=True)[0]

    def expression(self, node: Mapping[str, Any]) -> str:
        """JMESPath as a template; objects, arrays, literals and plain paths can be."""
        kind, children = node["type"], node.get("children", [])
        if kind == "multi_select_dict":
            pairs = (
                f"{_text(one['value'])}: {self.expression(one['children'][0])}" for one in children
            )
            return "{" + ", ".join(pairs) + "}"
        if kind == "multi_select_list":
            return "[" + ", ".join(self.expression(one) for one in children) + "]"
        if kind == "literal":
            return _text(node["value"])
        path = plain_path(node)
        if path is None:
            raise InexpressibleError("its detail has JMESPath beyond plain paths")
        return self._reference(path)

    def shape(self, value: Any) -> str:
        """A table of the mapping file as a template."""
        if isinstance(value, Mapping):
            pairs = (f"{_text(name)}: {self.shape(one)}" for name, one in value.items())
            return "{" + ", ".join(pairs) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(self.shape, value)) + "]"
        if not isinstance(value, str):
            return _text(value)
        template = Template(value)
        if template.constant is not None:
            return _text(template.constant)
        holes = template.holes
        if len(holes) != 1 or template.shortest or (path := holes[0].path) is None:
            raise InexpressibleError(f"{value!r} in its detail is more than one plain path")
        return self._reference(path)

    def _reference(self, path: Sequence[str]) -> str:
        if tuple(path) == ("table",):
            return _text(self._table)
        place, quoted = self._path(path, only_text=False)
        return f'"<{place}>"' if quoted else f"<{place}>"

    def _path(self, path: Sequence[str], *, only_text: bool) -> tuple[str, bool]:
        """The path in a record, and whether a text is there."""
        top, *inner = path
        if tuple(path) == (ID,) and self._first is not None:
            raise InexpressibleError(
                f'its id depends on whether rule "{self._first}" raised an event of the same '
                "change, which a pipe does not know (write eventID instead of id, and resources = "
                '["{streamArn}", "{eventID}"])'
            )
        if not inner and top in _WHOLE:
            return _WHOLE[top], True
        if top in IMAGES and not inner:
            raise InexpressibleError(f"a pipe has all of {top} only with DynamoDB's types")
        if top not in IMAGES:
            raise InexpressibleError(f"a pipe does not know {'.'.join(path)}")
        kind = self.types.get(tuple(inner))
        if kind is None:
            attribute = ".".join(inner)
            raise InexpressibleError(
                f"the type of {attribute} is not known (--attribute {attribute}:S)"
            )
        if kind == "N":
            raise InexpressibleError(f"{'.'.join(path)} is a number, which a pipe makes a text")
        if kind != "S" and (only_text or kind != "BOOL"):
            raise InexpressibleError(f"{'.'.join(path)} has the type {kind}: a pipe cannot copy it")
        if not all(_STEP.fullmatch(name) for name in inner):
            raise InexpressibleError(f"{'.'.join(path)} is no path that a pipe takes")
        return ".".join(("$.dynamodb", IMAGES[top], *through_maps(inner), kind)), kind == "S"


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if "<$." in text or "<aws." in text:
        raise InexpressibleError("its detail has a text that a pipe would take for a path")
    return text


def plain_path(node: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of parsed JMESPath that is nothing but names with dots between them."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] != "subexpression":
        return None
    parts = [plain_path(child) for child in node["children"]]
    return None if None in parts else tuple(name for part in parts if part for name in part)


def _filters(rule: Rule, table: str, types: Types) -> tuple[dict[str, Any], ...]:
    if rule.when is None:
        return ()
    branches = branches_of(rule)
    if branches is None or len(branches) > DEFAULT_LIMIT:
        raise InexpressibleError(f"its $or makes more than {DEFAULT_LIMIT} filters")
    found = []
    for branch in branches:
        exact = _typed_form(branch) if rule.lambda_form else _plain_form(branch, table, types)
        pattern = nested(exact)
        if len(text_of(pattern)) > MAX_LENGTH:
            raise InexpressibleError(f"its pattern is longer than {MAX_LENGTH} characters")
        found.append(pattern)
    return tuple(found) if all(found) else ()


def _typed_form(branch: Branch) -> Conditions:
    found: Conditions = {}
    for path, matchers in branch.items():
        leads_on = any(other[: len(path)] == path for other in branch if other != path)
        said = None if leads_on else of_record(matchers, numbers=path in NUMBER_FIELDS)
        found[path] = _supported(said, matchers, path)
    return found


def _plain_form(branch: Branch, table: str, types: Types) -> Conditions:
    found: Conditions = {}
    for path, matchers in branch.items():
        top, *inner = path
        if is_dotted(path):
            raise InexpressibleError(f"{'.'.join(path)} is a path or a name, a pipe takes one")
        if top in IMAGES and inner:
            kind = types.get(tuple(inner)) or _kind(matchers, path)
            place = ("dynamodb", IMAGES[top], *through_maps(inner), kind)
            said = exactly(matchers, kind)
            if said != []:
                found[place] = _supported(said, matchers, path)
        elif path == ("ttl",):
            found |= _expired(matchers)
        elif len(path) == 1 and top in SAME:
            found[SAME[top]] = _supported(of_record(matchers), matchers, path)
        elif path == ("table",) and Exact(table) in matchers:
            continue
        else:
            raise InexpressibleError(f"a pipe cannot filter on {'.'.join(path)}")
    return found


def _expired(matchers: Matchers) -> Conditions:
    """`ttl` is true or false for every change, and never absent."""
    wanted: set[bool] = set()
    for matcher in matchers:
        match matcher:
            case Exact(bool() as flag):
                wanted.add(flag)
            case Exists(there):
                wanted |= {True, False} if there else set()
            case _:
                _supported(None, matchers, ("ttl",))
    if not wanted:
        _supported(None, matchers, ("ttl",))
    return {} if len(wanted) > 1 else ttl_conditions((Exact(wanted.pop()),))


def _kind(matchers: Matchers, path: Sequence[str]) -> str:
    """The type that the matchers are for; of operators, only texts are known to be meant."""
    kinds = set(map(_kind_of, matchers))
    if len(kinds) != 1 or None in kinds:
        attribute = ".".join(path[1:])
        raise InexpressibleError(
            f"the type of {attribute} is not known (--attribute {attribute}:S)"
        )
    return kinds.pop() or ""


def _kind_of(matcher: Matcher) -> str | None:
    match matcher:
        case Exact(bool()):
            return "BOOL"
        case Exact(None):
            return "NULL"
        case Exact(value) if is_number(value):
            return "N"
        case Exact() | AnyCase() | Wildcard() | Cidr() | Affix(any_case=False):
            return "S"
        case AnythingBut(unwanted):
            kinds = set(map(_kind_of, unwanted))
            return "S" if kinds == {"S"} else None
    return None


def _supported(said: Values | None, matchers: Matchers, path: Sequence[str]) -> Values:
    """What was said of a field; InexpressibleError where nothing was, or by what pipes lack."""
    if said and not any(isinstance(one, dict) and _UNSUPPORTED & one.keys() for one in said):
        return said
    names = dict.fromkeys(map(_operator, matchers))
    operators = [name for name in names if name is not None]
    how = f"by {', '.join(operators)}" if operators else "in this way"
    raise InexpressibleError(f"a pipe cannot filter {'.'.join(path)} {how}")


def _operator(matcher: Matcher) -> str | None:
    return matcher.name if isinstance(matcher, Affix) else _OPERATORS.get(type(matcher))
