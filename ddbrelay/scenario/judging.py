"""Which expectation which event meets, what is still missing, and what must not have come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddbrelay.flow.mapping.document import encode
from ddbrelay.scenario.model import Expect, Never
from ddbrelay.scenario.ordering import Arrival, Comparison

_STREAM = "/stream/"
_KEPT = 1000
"""Events that nothing asked for, the last ones, which are kept to be shown."""
_BUDGET = 20_000
"""Steps of the search for a choice of events that is in order, which may take exponential time."""


@dataclass(frozen=True, slots=True)
class Disorder:
    """Two events of one item that came the wrong way round: `wanted_first` was later."""

    wanted_first: Expect
    wanted_then: Expect
    first: Arrival
    then: Arrival
    evidence: str


class Judge:
    """Takes events as they come; each one meets at most one expectation.

    An event is given to another expectation where that lets one more be met, so what is met stays
    so, and the order in which events come does not matter. A repeat (the same event again, or the
    same change relayed again, told by its stable id) changes nothing.
    """

    def __init__(
        self, expects: Sequence[Expect], nevers: Sequence[Never], comparison: Comparison
    ) -> None:
        self._expects, self._nevers, self._comparison = expects, nevers, comparison
        self._given: list[list[Arrival]] = [[] for _ in expects]
        self._wanted: list[tuple[Arrival, list[int]]] = []
        self._matches: dict[int, list[int]] = {}
        self._seen: set[str] = set()
        self._others: deque[Arrival] = deque(maxlen=_KEPT)
        self._late: list[tuple[Arrival, list[int]]] = []
        self.distinct = 0
        self.repeats = 0
        self.forbidden: list[tuple[Never, Arrival]] = []

    def add(self, arrival: Arrival, *, late: bool = False) -> tuple[list[Expect], list[Never]]:
        """What is met now and was not before, and what this event is forbidden by.

        One that is `late` meets nothing any more.
        """
        identities = _identities(arrival.event)
        repeated = not self._seen.isdisjoint(identities)
        self._seen.update(identities)
        if repeated:
            self.repeats += 1
            return [], []
        self.distinct += 1
        event = arrival.event
        forbidden = [one for one in self._nevers if one.pattern.matches(event)]
        self.forbidden += [(one, arrival) for one in forbidden]
        matches = [at for at, one in enumerate(self._expects) if one.pattern.matches(event)]
        if not matches:
            if not forbidden:
                self._others.append(arrival)
            return [], forbidden
        if late:
            self._late.append((arrival, matches))
            return [], forbidden
        before = [self._is_met(at) for at in range(len(self._expects))]
        self._matches[arrival.place] = matches
        self._wanted.append((arrival, matches))
        self._give(arrival, set())
        now = [one for at, one in enumerate(self._expects) if self._is_met(at) and not before[at]]
        return now, forbidden

    @property
    def complete(self) -> bool:
        """Whether everything expected has come."""
        return all(self._is_met(at) for at in range(len(self._expects)))

    @property
    def missing(self) -> list[tuple[Expect, int]]:
        """What has not come yet, with how many of it have."""
        return [
            (one, len(self._given[at]))
            for at, one in enumerate(self._expects)
            if not self._is_met(at)
        ]

    @property
    def surplus(self) -> list[tuple[Expect, list[Arrival]]]:
        """Expectations of so many events of which more came, with the ones too many.

        An event that one without a number could have as well is not too many.
        """
        given = {one.place for several in self._given for one in several}
        over: dict[int, list[Arrival]] = {}
        for arrival, matches in self._wanted:
            counted = [at for at in matches if self._expects[at].times is not None]
            if arrival.place not in given and counted == matches:
                over.setdefault(counted[0], []).append(arrival)
        return [(self._expects[at], arrivals) for at, arrivals in sorted(over.items())]

    @property
    def unasked(self) -> list[Arrival]:
        """The last 1000 events that nothing asked for."""
        return list(self._others)

    def late(self, expect: Expect) -> list[Arrival]:
        """Events that match, but came too late."""
        return [one for one, matches in self._late if self._expects.index(expect) in matches]

    def elsewhere(self, expect: Expect) -> list[tuple[Expect, list[Arrival]]]:
        """Events that match, but meet other expectations, by these."""
        wanted = self._expects.index(expect)
        found = (
            (one, [each for each in given if wanted in self._matches[each.place]])
            for at, (one, given) in enumerate(zip(self._expects, self._given, strict=True))
            if at != wanted
        )
        return [(one, arrivals) for one, arrivals in found if arrivals]

    @property
    def arrivals(self) -> list[Arrival]:
        """The distinct events in the order of arrival, without the oldest unasked ones."""
        several = [
            *(arrival for arrival, _ in self._wanted),
            *(arrival for arrival, _ in self._late),
            *self._others,
            *(arrival for _, arrival in self.forbidden),
        ]
        return [one for _, one in sorted({one.place: one for one in several}.items())]

    def disorder(self) -> list[Disorder]:
        """Pairs that came the wrong way round, in every choice of events; empty where one is right.

        Asked for when everything expected has come.
        """
        found = list(self._disorder(self._given))
        if not found:
            return []
        choice = self._choice_in_order()
        return [] if choice is not None else found

    # Which event meets what: augmenting paths, as for any bipartite matching

    def _is_met(self, at: int) -> bool:
        return len(self._given[at]) >= self._expects[at].needed

    def _give(self, arrival: Arrival, tried: set[int]) -> bool:
        for at in self._matches[arrival.place]:
            if at in tried:
                continue
            tried.add(at)
            given = self._given[at]
            if not self._is_met(at):
                given.append(arrival)
                return True
            for index, other in enumerate(given):
                if self._give(other, tried):
                    given[index] = arrival
                    return True
        return False

    # Order

    def _disorder(self, given: Sequence[Sequence[Arrival]]) -> Iterator[Disorder]:
        for at, earlier in enumerate(given):
            pair = next(self._reversed(at, earlier, given), None)
            if pair is not None:
                yield pair

    def _reversed(
        self, at: int, earlier: Sequence[Arrival], given: Sequence[Sequence[Arrival]]
    ) -> Iterator[Disorder]:
        for later in range(at + 1, len(given)):
            for wanted_first in earlier:
                for wanted_then in given[later]:
                    evidence = self._against(wanted_first, wanted_then)
                    if evidence is not None:
                        yield Disorder(
                            self._expects[at],
                            self._expects[later],
                            wanted_then,
                            wanted_first,
                            evidence,
                        )

    def _against(self, wanted_first: Arrival, wanted_then: Arrival) -> str | None:
        if wanted_first.key is None or wanted_first.key != wanted_then.key:
            return None
        return self._comparison.evidence(wanted_then, wanted_first)

    def _choice_in_order(self) -> list[Arrival] | None:
        """One event for each expectation, as often as it is needed, such that all are in order."""
        slots = [at for at, one in enumerate(self._expects) for _ in range(one.needed)]
        candidates: list[list[Arrival]] = [[] for _ in self._expects]
        for arrival, matches in self._wanted:
            for at in matches:
                candidates[at].append(arrival)
        chosen: list[Arrival] = []
        left = _BUDGET

        def fits(at: int, arrival: Arrival) -> bool:
            return all(
                arrival.place != other.place
                and (slots[index] == at or self._against(other, arrival) is None)
                for index, other in enumerate(chosen)
            )

        # A stack of iterators instead of recursion: there may be more slots than Python's frames.
        stack = [iter(candidates[slots[0]])] if slots else []
        while stack:
            if (left := left - 1) < 0:
                return None
            at = slots[len(stack) - 1]
            found = next((one for one in stack[-1] if fits(at, one)), None)
            if found is None:
                stack.pop()
                if chosen:
                    chosen.pop()
                continue
            chosen.append(found)
            if len(chosen) == len(slots):
                return chosen
            stack.append(iter(candidates[slots[len(chosen)]]))
        return None


def _identities(event: Mapping[str, Any]) -> list[str]:
    """What tells a repeat: the bus's id, and what is the same when the change is relayed again.

    The latter is all but that id and the time, where the stable id of the record is in it. Without
    it, two equal events may as well be of two changes.
    """
    found = [f"id {event['id']}"] if event.get("id") else []
    if _has_stable_id(event):
        parts = [event.get(name) for name in ("source", "detail-type", "resources", "detail")]
        try:
            found.append(encode(parts).decode())
        except (OverflowError, TypeError, ValueError):
            found.append(repr(parts))
    return found


def _has_stable_id(event: Mapping[str, Any]) -> bool:
    """Whether it stands behind the stream's ARN, or in an envelope that ddbrelay makes."""
    resources, detail = event.get("resources"), event.get("detail")
    if isinstance(resources, list) and len(resources) > 1 and _STREAM in str(resources[0]):
        return True
    if not isinstance(detail, dict):
        return False
    metadata = detail.get("metadata")
    return "specversion" in detail or (isinstance(metadata, dict) and "sequence" in metadata)
