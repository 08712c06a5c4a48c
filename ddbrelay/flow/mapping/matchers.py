"""What one value of a field may be: the operators of EventBridge's event patterns.

Rests on https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
and, for what that page leaves open, on https://github.com/aws/event-ruler.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, TypeGuard

Test = Callable[[Any], bool]
"""Says whether one text, number, true, false or null is wanted."""
_TEXT_TESTS: dict[str, Callable[[str, str], bool]] = {
    "prefix": str.startswith,
    "suffix": str.endswith,
}
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]{2,39}").fullmatch
_SHOWN_VALUES = 6
_SHOWN_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Exact:
    """A value as it stands; numbers are equal where their values are."""

    value: str | int | float | Decimal | bool | None

    def __str__(self) -> str:
        return shown(self.value)

    def test(self) -> Test:
        return _one_of((self,))


@dataclass(frozen=True, slots=True)
class Affix:
    """A text that begins (`prefix`) or ends (`suffix`) so."""

    name: str
    text: str
    any_case: bool = False

    def __str__(self) -> str:
        return f"{self.name} {shown(self.text)}" + (" in any case" if self.any_case else "")

    def test(self) -> Test:
        text = self.text
        if self.any_case:
            regex = any_case(text)
            found = (
                re.compile(regex, re.DOTALL).match
                if self.name == "prefix"
                else re.compile(rf"(?:{regex})\Z", re.DOTALL).search
            )
            return lambda value: type(value) is str and found(value) is not None
        holds = _TEXT_TESTS[self.name]
        return lambda value: type(value) is str and holds(value, text)


@dataclass(frozen=True, slots=True)
class AnyCase:
    """A text whose letters may be of either case (`equals-ignore-case`)."""

    text: str

    def __str__(self) -> str:
        return f"{shown(self.text)} in any case"

    def test(self) -> Test:
        found = re.compile(any_case(self.text), re.DOTALL).fullmatch
        return lambda value: type(value) is str and found(value) is not None


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A text with these parts in this order, anything between them.

    `text` is as written, with `\\*` for an asterisk and `\\\\` for a backslash.
    """

    text: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"wildcard {shown(self.text)}"

    def test(self) -> Test:
        if len(self.parts) == 1:
            return _one_of((Exact(self.parts[0]),))
        first, *between, last = self.parts
        shortest = len(first) + len(last)

        def test(value: Any) -> bool:
            if type(value) is not str or len(value) < shortest:
                return False
            if not (value.startswith(first) and value.endswith(last)):
                return False
            start, end = len(first), len(value) - len(last)
            for part in between:
                start = value.find(part, start, end)
                if start < 0:
                    return False
                start += len(part)
            return True

        return test


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range; `closed` where the number itself belongs to it."""

    number: Decimal
    closed: bool


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number between two bounds, of which one may be missing; `text` for people."""

    low: Bound | None
    high: Bound | None
    text: str

    def __str__(self) -> str:
        return self.text

    def test(self) -> Test:
        above, under = _side(self.low, "g"), _side(self.high, "l")
        low, high = (_plain(bound) for bound in (self.low, self.high))
        exact_low, exact_high = (bound and bound.number for bound in (self.low, self.high))

        def test(value: Any) -> bool:
            kind = type(value)
            if kind is int or kind is float:
                return above(value, low) and under(value, high)
            if isinstance(value, Decimal):
                return above(value, exact_low) and under(value, exact_high)
            return False

        return test


@dataclass(frozen=True, slots=True)
class Cidr:
    """The text of an address in this network."""

    network: IPv4Network | IPv6Network

    def __str__(self) -> str:
        return f"cidr {self.network}"

    def test(self) -> Test:
        network = self.network

        def test(value: Any) -> bool:
            if type(value) is not str or _ADDRESS(value) is None:
                return False
            try:
                return ip_address(value) in network
            except ValueError:
                return False

        return test


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether the field has a value at all; null is one, an object and an empty list are none."""

    wanted: bool

    def __str__(self) -> str:
        return "exists" if self.wanted else "absent"

    def test(self) -> Test:
        wanted = self.wanted
        return lambda _: wanted


@dataclass(frozen=True, slots=True)
class AnythingBut:
    """Any value that none of these wants; a value there must be."""

    unwanted: tuple[Matcher, ...]

    def __str__(self) -> str:
        return f"anything but {listed(self.unwanted)}"

    def test(self) -> Test:
        refuses = test_of(self.unwanted)
        return lambda value: not refuses(value)


Matcher = Exact | Affix | AnyCase | Wildcard | Numeric | Cidr | Exists | AnythingBut


def test_of(matchers: Iterable[Matcher]) -> Test:
    """One test for a list of alternatives, built once, called for every value."""
    matchers = tuple(matchers)
    exact = [one for one in matchers if isinstance(one, Exact)]
    others = [one for one in matchers if not isinstance(one, Exact)]
    if Exists(True) in others:
        return Exists(True).test()
    tests = [_one_of(exact)] if exact else []
    tests += [one.test() for one in others if one != Exists(False)]
    if not tests:
        return Exists(False).test()
    if len(tests) == 1:
        return tests[0]
    one, *rest = tests
    if len(rest) == 1:
        (two,) = rest
        return lambda value: one(value) or two(value)
    return lambda value: any(test(value) for test in tests)


def _one_of(matchers: Iterable[Exact]) -> Test:
    literals = {one.value for one in matchers if one.value is None or type(one.value) is bool}
    plain: set[Any] = set()
    for one in matchers:
        if is_number(one.value):
            # 0.1 is not the binary number nearest to it, and documents have both.
            plain |= {decimal(one.value), _near(decimal(one.value))}
        elif isinstance(one.value, str):
            plain.add(one.value)
    wanted = frozenset(plain)
    if all(isinstance(value, str) for value in wanted) and not literals:
        return wanted.__contains__

    def test(value: Any) -> bool:
        if value is None or type(value) is bool:
            return value in literals
        return value in wanted

    return test


def is_number(value: object) -> TypeGuard[int | float | Decimal]:
    """A JSON number, which true and false are not."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def decimal(number: float | Decimal) -> Decimal:
    """The number as it is written: 0.1, not the binary number nearest to it."""
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _near(number: Decimal) -> int | float:
    """What Python's own numbers are compared with."""
    return int(number) if number == number.to_integral_value() else float(number)


def _plain(bound: Bound | None) -> int | float | None:
    return None if bound is None else _near(bound.number)


def _side(bound: Bound | None, side: str) -> Callable[[Any, Any], bool]:
    if bound is None:
        return lambda _value, _bound: True
    compare: Callable[[Any, Any], bool] = getattr(operator, side + ("e" if bound.closed else "t"))
    return compare


def any_case(text: str) -> str:
    """A regular expression: each character in its lower or upper case, as event-ruler has it.

    Folding both sides would be another relation: `ß` here wants `ß` or `SS`, and `SS` only `SS`,
    `Ss`, `sS` or `ss`.
    """
    return "".join(_either(character) for character in text)


def _either(character: str) -> str:
    cases = sorted({character.lower(), character.upper()})
    return re.escape(cases[0]) if len(cases) == 1 else f"(?:{'|'.join(map(re.escape, cases))})"


def listed(matchers: Iterable[Matcher]) -> str:
    """The alternatives in words, a long list cut short."""
    texts = [str(one) for one in matchers]
    more = len(texts) - _SHOWN_VALUES
    if more > 1:
        texts = [*texts[:_SHOWN_VALUES], f"{more} more"]
    return " or ".join(texts)


def shown(value: Any) -> str:
    """A value as JSON, cut to 60 characters."""
    text = _json(value).encode(errors="backslashreplace").decode()
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


def _json(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        pairs = list(value.items())[:_SHOWN_LENGTH]
        return "{" + ", ".join(f"{_json(name)}: {_json(one)}" for name, one in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value[:_SHOWN_LENGTH])) + "]"
    text = value[:_SHOWN_LENGTH] if isinstance(value, str) else value
    return json.dumps(text, ensure_ascii=False, default=str)
