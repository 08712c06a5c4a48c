"""What a dead letter is sent as, when its record is mapped again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, MapFunction, Reject
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.flow.mapping.presets import Outbox
from ddbrelay.flow.mapping.rules import RuleMapper, compile_rules
from ddbrelay.flow.tracking import DeadLetter
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
