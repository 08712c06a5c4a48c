"""Random event patterns with documents that match about half of them, from a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
NAMES = ("a", "b", "c", "d")
INNER = ("x", "y", "z")
TEXTS = (
    *("", "a", "ab", "abc", "b", "ba", "AB", "aBc", "order#1", "order#12", "é", "Éa", "x y"),
    *("10.0.0.5", "10.0.1.5", "2001:db8::1", "dir/a.png", "dir/b/c.PNG", "INSERT", "true", "5"),
)
NUMBERS = (0, 5, -3, 2.5, 301.8, 100000, 7, 4999999999)
LITERALS = (None, True, False)
NETWORKS = ("10.0.0.0/24", "10.0.0.0/8", "192.168.0.0/16", "2001:db8::/32")
EVERY_OPERATOR = frozenset(
    {
        *("exact", "prefix", "suffix", "prefix-any-case", "suffix-any-case", "any-case"),
        *("wildcard", "numeric", "cidr", "exists", "but-texts", "but-numbers", "but-nested"),
    }
)


@dataclass(frozen=True)
class Case:
    pattern: Json
    document: Json


def cases(
    seed: int, count: int, operators: frozenset[str] = EVERY_OPERATOR, *, several: bool = True
) -> Iterator[Case]:
    """Pairs; with `several`, a field has up to three alternatives.

    Inside of an array of objects nothing is asked to be absent: what that means where other
    conditions hold is left open by AWS.
    """
    rng = random.Random(seed)
    for _ in range(count):
        document = _document(rng)
        maker = _Maker(rng, tuple(sorted(operators)), several)
        pattern = maker.pattern(document, NAMES, in_array=False, depth=0)
        if rng.random() < 0.1:
            document = _changed(rng, document)
        yield Case(pattern, document)


def _scalar(rng: random.Random) -> Any:
    return rng.choice(rng.choices((TEXTS, NUMBERS, LITERALS), (6, 3, 1))[0])


def _value(rng: random.Random, depth: int) -> Any:
    kind = rng.choices(("scalar", "list", "object", "objects", "empty"), (8, 3, 4, 2, 1))[0]
    if kind == "scalar" or depth > 2:
        return _scalar(rng)
    if kind == "list":
        found = [_scalar(rng) for _ in range(rng.randint(1, 3))]
        return [found, _scalar(rng)] if rng.random() < 0.2 else found
    if kind == "empty":
        return rng.choice(([], {}, [[]]))
    if kind == "object":
        return _object(rng, depth)
    return [_object(rng, depth) for _ in range(rng.randint(1, 3))]


def _object(rng: random.Random, depth: int) -> Json:
    return {name: _value(rng, depth + 1) for name in INNER if rng.random() < 0.7}


def _document(rng: random.Random) -> Json:
    return {name: _value(rng, 0) for name in NAMES if rng.random() < 0.8}


def _changed(rng: random.Random, document: Json) -> Json:
    changed = copy.deepcopy(document)
    name = rng.choice(NAMES)
    if rng.random() < 0.4:
        changed.pop(name, None)
    else:
        changed[name] = _value(rng, 0)
    return changed


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    return [] if isinstance(value, dict) else [value]


class _Maker:
    def __init__(self, rng: random.Random, operators: tuple[str, ...], several: bool) -> None:
        self.rng = rng
        self.operators = operators
        self.several = several
        self.makers: dict[str, Callable[[Any], Any]] = {
            "exact": lambda value: value,
            "prefix": lambda value: {"prefix": self._head(value)},
            "suffix": lambda value: {"suffix": self._tail(value)},
            "prefix-any-case": lambda value: {"prefix": self._folded(self._head(value))},
            "suffix-any-case": lambda value: {"suffix": self._folded(self._tail(value))},
            "any-case": lambda value: self._folded(self._text(value)),
            "wildcard": lambda value: {"wildcard": self._wildcard(value)},
            "numeric": lambda value: {"numeric": self._numeric(value)},
            "cidr": lambda _: {"cidr": self.rng.choice(NETWORKS)},
            "but-texts": lambda _: {"anything-but": self._some(TEXTS)},
            "but-numbers": lambda _: {"anything-but": self._some(NUMBERS)},
            "but-nested": self._but_nested,
        }

    def pattern(
        self, document: Json, names: tuple[str, ...], *, in_array: bool, depth: int
    ) -> Json:
        rng = self.rng
        found: Json = {}
        for name in rng.sample(names, rng.choice((1, 1, 2, 2, 3))):
            found[name] = self._condition(document.get(name), name in document, in_array, depth)
        if rng.random() < 0.12 and depth < 2:
            found["$or"] = [
                self.pattern(document, names, in_array=in_array, depth=depth + 1)
                for _ in range(rng.randint(2, 3))
            ]
            if rng.random() < 0.5 and len(found) > 1:
                found.pop(next(name for name in found if name != "$or"))
        return found

    def _condition(self, value: Any, there: bool, in_array: bool, depth: int) -> Any:
        rng = self.rng
        array = isinstance(value, list)
        objects = [one for one in (value if array else [value]) if isinstance(one, dict)]
        if (objects and rng.random() < 0.85) or rng.random() < 0.03:
            inner = rng.choice(objects) if objects else {}
            return self.pattern(inner, INNER, in_array=in_array or array, depth=depth + 1)
        leaves = _leaves(value)
        if "exists" in self.operators and rng.random() < (0.08 if there else 0.7):
            wanted = bool(leaves) if rng.random() < 0.8 else not leaves
            if wanted or not in_array:
                return [{"exists": wanted}]
        number = rng.choice((1, 1, 2, 3)) if self.several else 1
        return [self._alternative(leaves) for _ in range(number)]

    def _alternative(self, leaves: list[Any]) -> Any:
        rng = self.rng
        value = rng.choice(leaves) if leaves and rng.random() < 0.85 else _scalar(rng)
        names = [name for name in self.operators if name != "exists"]
        fits = {
            "numeric": isinstance(value, int | float) and not isinstance(value, bool),
            "cidr": value in TEXTS[13:16],
        }
        name = rng.choice([one for one in names if fits.get(one, True)])
        if name in ("exact", "numeric", "cidr") or name.startswith("but"):
            return self.makers[name](value)
        return self.makers[name](value) if isinstance(value, str) else value

    def _text(self, value: Any) -> str:
        return value if isinstance(value, str) else self.rng.choice(TEXTS)

    def _head(self, value: Any) -> str:
        text = self._text(value)
        return text[: self.rng.randint(1, 4)] or "a"

    def _tail(self, value: Any) -> str:
        text = self._text(value)
        return text[-self.rng.randint(1, 4) :] or "a"

    def _folded(self, text: str) -> Json:
        return {"equals-ignore-case": self.rng.choice((text, text.upper(), text.lower()))}

    def _wildcard(self, value: Any) -> str:
        text = self._text(value)
        start = self.rng.randint(0, len(text))
        end = self.rng.randint(start, len(text))
        made = f"{text[:start]}*{text[end:]}"
        return made + "*" if self.rng.random() < 0.3 and not made.endswith("*") else made

    def _numeric(self, value: float) -> list[Any]:
        rng = self.rng
        step = rng.choice((0, 1, -1))
        if rng.random() < 0.4:
            low, high = min(value, value - step), max(value, value + 1)
            return [rng.choice((">", ">=")), low, rng.choice(("<", "<=")), high]
        return [rng.choice(("<", "<=", "=", ">", ">=")), value - step]

    def _some(self, pool: tuple[Any, ...]) -> Any:
        some = self.rng.sample(pool, self.rng.randint(1, 3))
        return some[0] if len(some) == 1 and self.several else some

    def _but_nested(self, value: Any) -> Json:
        rng = self.rng
        name = rng.choice(("prefix", "suffix", "equals-ignore-case", "wildcard"))
        make = {"prefix": self._head, "suffix": self._tail, "wildcard": self._wildcard}.get(
            name, self._text
        )
        several = [make(value if rng.random() < 0.3 else None) for _ in range(rng.randint(1, 2))]
        return {"anything-but": {name: several[0] if len(several) == 1 else several}}
