from __future__ import annotations

from collections import defaultdict
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.mapping import Event
from ddbrelay.flow.mapping.events import stable_id
from ddbrelay.flow.packing import (
    MAX_BYTES,
    MAX_ENTRIES,
    Item,
    Packer,
    oversize,
    packed,
    rule_of,
)
from ddbrelay.testing.builders import change, item

EMPTY = Event("s", "T", b"{}")


def packer(*items: Item) -> Packer:
    made = Packer()
    for one in items:
        made.add(one)
    return made


def numbers(items: list[Item]) -> list[str]:
    return [one.change.sequence_number for one in items]


def test_a_request_has_at_most_ten_entries() -> None:
    made = packer(*(item(f"k{n}", n) for n in range(12)))
    assert len(made.take()) == 10
    assert len(made.take()) == 2
    assert made.take() == []


def test_two_events_of_one_item_never_go_together() -> None:
    made = packer(item("a", 1), item("a", 2), item("b", 3))
    taken = made.take()
    assert numbers(taken) == ["1", "3"]
    assert made.take() == []
    assert len(made) == 1
    made.release(taken[0])
    assert numbers(made.take()) == ["2"]


def test_ten_big_entries_are_packed_by_bytes_and_not_by_count_only() -> None:
    made = packer(*(item(f"k{n}", n, size=300 * 1024) for n in range(10)))
    requests = []
    while taken := made.take():
        requests.append(len(taken))
    assert requests == [3, 3, 3, 1]


def test_the_entries_of_a_request_stay_strictly_below_one_megabyte() -> None:
    half = MAX_BYTES // 2
    assert len(packer(item("a", size=half), item("b", size=half)).take()) == 1
    assert len(packer(item("a", size=half), item("b", size=half - 1)).take()) == 2


def test_an_event_of_one_megabyte_fits_no_request() -> None:
    room = MAX_BYTES - EMPTY.size
    assert oversize(Event("s", "T", b"{" + b" " * room + b"}"))
    assert not oversize(Event("s", "T", b"{" + b" " * (room - 1) + b"}"))


def test_an_entry_to_be_sent_again_goes_before_the_later_ones_of_its_item() -> None:
    made = packer(item("a", 1), item("a", 2))
    (first,) = made.take()
    made.put_back(first)
    assert made.take() == []
    assert len(made) == 2
    made.again(first)
    assert made.take() == [first]


def test_what_waits_behind_a_rejected_entry_is_withdrawn_in_order() -> None:
    made = packer(item("a", 1), item("a", 2), item("b", 3), item("a", 4))
    first = made.take()[0]
    assert numbers(made.withdraw(first)) == ["2", "4"]
    made.release(first)
    assert len(made) == 0
    made.add(item("a", 5))
    assert numbers(made.take()) == ["5"]


def test_a_request_is_full_by_count_or_by_bytes() -> None:
    assert not packer(*(item(f"k{n}", n) for n in range(9))).full
    assert packer(*(item(f"k{n}", n) for n in range(10))).full
    assert not packer(item("a", 1), item("a", 2, size=MAX_BYTES - 1)).full
    big = packer(item("a", 1, size=MAX_BYTES // 2), item("b", 2, size=MAX_BYTES // 2))
    assert big.full
    big.take()
    assert not big.full


def test_the_oldest_waiting_item_goes_first() -> None:
    made = packer(item("a", 1), item("a", 2), *(item(f"k{n}", n + 10) for n in range(9)))
    taken = made.take()
    made.add(item("z", 99))
    for one in taken:
        made.release(one)
    assert numbers(made.take()) == ["99", "2"]


def events(*details: bytes, rules: str = "rst") -> list[Event]:
    return [
        Event("s", f"T{place}", detail, rule=rule)
        for place, (detail, rule) in enumerate(zip(details, rules, strict=False))
    ]


def test_a_record_becomes_its_next_event_with_no_attempt_made_yet() -> None:
    source, mapped = change("a"), events(b"{}", b'{"n":1}', b"{}")
    one = packed(source, mapped, None)
    assert isinstance(one, Item)
    one.attempts = 3
    assert (one.event, one.size, one.left) == (mapped[0], mapped[0].size, tuple(mapped))
    one.advance()
    assert (one.event, one.size, one.attempts) == (mapped[1], mapped[1].size, 0)
    assert one.left == (None, *mapped[1:])
    one.advance()
    assert (one.event, one.rest, one.left) == (mapped[2], (), (None, None, mapped[2]))
    assert rule_of(one.whole) == "r + s + t"


def test_what_was_sent_before_is_left_out_and_the_others_keep_their_places() -> None:
    big = b'{"x":"' + b"y" * MAX_BYTES + b'"}'
    mapped = events(b"{}", big, big)
    one = packed(change("a", event_id="e1"), [None, *mapped[1:]], "s3://bucket")
    assert isinstance(one, Item)
    assert one.left == (None, *mapped[1:])
    assert one.claim is not None
    assert one.claim.key.startswith("e1-s-")
    one.advance()
    assert one.claim.key.startswith("e1-t-")
    assert one.left == (None, None, mapped[2])


def test_a_single_event_is_left_with_the_detail_that_was_to_go_to_s3() -> None:
    (mapped,) = events(b'{"x":"' + b"y" * MAX_BYTES + b'"}')
    one = packed(change("a"), [mapped], "s3://bucket")
    assert isinstance(one, Item)
    assert one.size < 1000
    assert (one.left, one.whole, one.rest) == ((mapped,), (), ())


def test_nothing_of_a_record_is_packed_when_one_of_its_events_fits_no_request() -> None:
    mapped = events(b"{}", b'{"x":"' + b"y" * MAX_BYTES + b'"}', b"{}")
    assert packed(change("a"), mapped, None) is mapped[1]


def test_an_event_of_no_rule_has_a_stable_id_by_its_number() -> None:
    assert [stable_id("e1", rule, place) for place, rule in enumerate(["r", "s", None])] == [
        "e1",
        "e1.s",
        "e1.3",
    ]


sizes = st.integers(1, MAX_BYTES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcdefghijklmnop"), sizes),
        st.tuples(st.just("several"), st.sampled_from("abcdefghijklmnop"), st.integers(2, 4)),
        st.tuples(st.just("take"), st.just(""), st.just(0)),
        st.tuples(st.just("delay"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("answer"), st.sampled_from(["ok", "again", "reject"]), st.integers(0, 9)),
    ),
    max_size=120,
)


@given(steps)
def test_packing_crosses_no_limit_and_swaps_no_key_whatever_is_answered(
    script: list[tuple[str, str, int]],
) -> None:
    made = Packer()
    added: dict[bytes, list[Item]] = defaultdict(list)
    gone: dict[bytes, list[Item]] = defaultdict(list)
    sent: dict[int, list[str]] = defaultdict(list)
    refused: set[int] = set()
    flying: list[Item] = []
    delayed: list[Item] = []

    def answer(one: Item, what: str) -> None:
        flying.remove(one)
        if what == "again":
            made.put_back(one)
            delayed.append(one)
        elif what == "ok" and one.rest:
            sent[id(one)].append(one.event.detail_type)
            one.advance()
            made.put_back(one)
            made.again(one)
        else:
            if what == "ok":
                sent[id(one)].append(one.event.detail_type)
            gone[one.key].append(one)
            if what == "reject":
                later = made.withdraw(one)
                gone[one.key] += later
                refused.update(map(id, [one, *later]))
            made.release(one)

    def take() -> list[Item]:
        taken = made.take()
        assert len(taken) <= MAX_ENTRIES
        assert sum(one.size for one in taken) < MAX_BYTES
        flying.extend(taken)
        keys = [one.key for one in [*flying, *delayed]]
        assert len(keys) == len(set(keys))
        return taken

    for kind, word, number in script:
        if kind == "add":
            source = change(word)
            new = Item(source, EMPTY, source.item_key, number)
            added[new.key].append(new)
            made.add(new)
        elif kind == "several":
            record = packed(change(word), events(*[b"{}"] * number, rules="rstu"), None)
            assert isinstance(record, Item)
            added[record.key].append(record)
            made.add(record)
        elif kind == "take":
            take()
        elif kind == "delay":
            if delayed:
                made.again(delayed.pop(number % len(delayed)))
        elif flying:
            answer(flying[number % len(flying)], word)
        assert len(made) == sum(map(len, added.values())) - sum(map(len, gone.values())) - len(
            flying
        )
    while delayed:
        made.again(delayed.pop())
    while flying or take():
        answer(flying[0], "ok")
    assert gone == added
    assert len(made) == 0
    for one in chain.from_iterable(added.values()):
        names = [event.detail_type for event in one.whole if event] or [one.event.detail_type]
        told = sent[id(one)]
        assert told == (names[: len(told)] if id(one) in refused else names)
