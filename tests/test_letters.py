"""What a dead letter is sent as, when its record is mapped again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, Event, MapFunction, Reject
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.flow.mapping.presets import Outbox
from ddbrelay.flow.mapping.rules import RuleMapper, compile_rules
from ddbrelay.flow.tracking import DeadLetter, events_of, stored_events
from ddbrelay.relay.concealing import concealed
from ddbrelay.relay.letters import Preparation, Ready, Skipped, Stays
from ddbrelay.stores.letters import Parked
from ddbrelay.testing.builders import ORIGIN, TABLE, change


def ruled(detail_type: str, *redact: str, **when: Any) -> RuleMapper:
    defaults, crud = Defaults(TABLE, redact=redact), CrudMapper(TABLE)
    return RuleMapper(
        compile_rules([{"when": when, "detail_type": detail_type}], defaults, crud), defaults
    )


def parked(source: Change, mapper: MapFunction) -> tuple[Parked, DeadLetter]:
    """The letter of a change that this mapping rejects."""
    result = mapper(source)
    assert isinstance(result, Reject)
    record, key = msgspec.json.encode(source.record), source.item_key
    number = source.sequence_number
    letter = Parked(
        ORIGIN.stream_arn, "s", number, source.event_id, key, result.reason, 0, 0.0, False, False
    )
    return letter, DeadLetter("s", number, key, result.reason, record, None, 0, 0.0)


def modified() -> Change:
    return change("a", event_name="MODIFY", old={"id": "a", "pw": "x"}, new={"id": "a", "pw": "y"})


def test_a_record_that_was_redacted_is_not_forgotten_because_its_rule_sees_nothing_any_more() -> (
    None
):
    letter, stored = parked(modified(), ruled("{new.missing}", "pw", changed=["pw"]))
    mended = Preparation(TABLE, mapper=ruled("PasswordChanged", "pw", changed=["pw"]))
    result = mended(letter, stored)
    assert isinstance(result, Stays)
    assert result.reason.startswith("what is redacted cannot be matched again")


def test_a_record_that_the_mapping_now_skips_is_done() -> None:
    letter, stored = parked(modified(), ruled("{new.missing}", eventName=["MODIFY"]))
    result = Preparation(TABLE, mapper=ruled("X", eventName=["INSERT"]))(letter, stored)
    assert isinstance(result, Skipped)


def test_a_letter_stands_in_the_line_in_which_it_was_parked() -> None:
    outbox = Outbox(Defaults(TABLE), {})
    source = change("m1", new={"id": "m1", "aggregateId": "order-7", "payload": 5})
    letter, stored = parked(source, outbox)
    assert letter.item_key == b'{"aggregateId":{"S":"order-7"}}'
    event = msgspec.json.encode(CrudMapper(TABLE)(change("m1")))
    ready = Preparation(TABLE)(letter, replace(stored, event=event))
    assert isinstance(ready, Ready)
    assert ready.item.key == letter.item_key


CARD = "4111-1111"


def with_card(**more: Any) -> Change:
    new = {"id": "a", "card": CARD, "address": {"street": "Elm 1", "zip": "123"}, **more}
    return change("a", event_name="MODIFY", old={"id": "a", "card": "4000-0000"}, new=new)


def stored_before(source: Change, reason: str = "") -> DeadLetter:
    """The letter of a change from before anything was redacted, with an event that says it all."""
    detail = {
        "was": {"card": "4000-0000"},
        "said": f"by {CARD}",
        "address": {"street": "Elm 1", "zip": "123"},
        "n": msgspec.Raw(b"1.50"),
    }
    event = Event("s", f"Paid {CARD}", msgspec.json.encode(detail))
    record, number = msgspec.json.encode(source.record), source.sequence_number
    return DeadLetter("s", number, source.item_key, reason, record, stored_events([event]), 0, 0.0)


def test_what_is_redacted_today_is_hidden_in_what_was_stored_before() -> None:
    stored = stored_before(with_card(n=5), reason=f"no {CARD} here")
    hidden = concealed(stored, [("card",), ("address", "street"), ("id",)])
    assert hidden.reason == "no [redacted] here"
    [event] = events_of(hidden.event or b"")
    assert event is not None
    for part in (hidden.record, event.detail):
        for value in (b"4111", b"4000", b"Elm"):
            assert value not in part
        assert b'"123"' in part
    assert event.detail_type == "Paid [redacted]"
    assert event.detail == (
        b'{"was":{"card":"[redacted]"},"said":"by [redacted]",'
        b'"address":{"street":"[redacted]","zip":"123"},"n":1.50}'
    )
    # Its key says which item it is.
    assert b'"id":{"S":"a"}' in hidden.record
    assert concealed(stored, []) is stored


@pytest.mark.parametrize("record", [b"{", b'{"eventID": 5}'])
def test_what_cannot_be_read_is_not_taken_for_hidden(record: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        concealed(replace(stored_before(with_card()), record=record), [("card",)])


def test_a_letter_that_was_mapped_again_and_stays_is_kept_redacted() -> None:
    source = with_card()
    letter, _ = parked(source, ruled("{new.missing}", eventName=["MODIFY"]))
    stored = stored_before(source)
    again = Preparation(
        TABLE, mapper=ruled("{new.missing}", "card", eventName=["MODIFY"]), redact=[("card",)]
    )
    stays = again(letter, stored)
    assert isinstance(stays, Stays)
    kept = again.kept(stored, stays.change)
    assert kept is not None
    [event] = events_of(kept.event or b"")
    assert event is not None
    assert CARD.encode() not in kept.record + event.detail
    assert Preparation(TABLE).kept(stored, source) is None
