"""What the bus answers, and what becomes of the events then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.errors import THROTTLED
from ddbrelay.aws.transport import ForeignError, NoAnswerError, WireError
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import RETRYABLE_CODES, Receipt
from ddbrelay.testing.builders import item


class Script:
    """A service that answers by a script: a body, or what it raises."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self._answers = list(answers)
        self.bodies: list[dict[str, Any]] = []

    async def call(self, operation: str, body: bytes, decode: Callable[[bytes], Any]) -> Any:
        assert operation == "PutEvents"
        self.bodies.append(json.loads(body))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return decode(answer)


def results(*codes: str | None) -> bytes:
    """An answer; None for an entry that was taken."""
    entries = [
        {"EventId": f"id-{n}"} if code is None else {"ErrorCode": code, "ErrorMessage": "said AWS"}
        for n, code in enumerate(codes)
    ]
    failed = sum(code is not None for code in codes)
    return json.dumps({"FailedEntryCount": failed, "Entries": entries}).encode()


def bus(*answers: bytes | Exception) -> tuple[AwsBus, Script]:
    script = Script(*answers)
    return AwsBus(script, "users-bus"), script  # type: ignore[arg-type]


def send(sink: AwsBus, items: Sequence[Item]) -> Receipt:
    return asyncio.run(sink.send(items))


TWO = [item("a", 1), item("b", 2)]


def large(*keys: str) -> list[Item]:
    """Items that some endpoint may find too large together."""
    items = [item(key) for key in keys]
    for one in items:
        one.size = 300_000
    return items


def test_an_entry_has_what_put_events_asks_for() -> None:
    sink, script = bus(results(None))
    assert send(sink, TWO[:1]).accepted == [(TWO[0], "id-0")]
    [entry] = script.bodies[0]["Entries"]
    event = TWO[0].event
    assert entry.pop("Time", event.time) == event.time
    resources = entry.pop("Resources", [])
    assert tuple(resources) == event.resources
    assert entry == {
        "EventBusName": "users-bus",
        "Source": event.source,
        "DetailType": event.detail_type,
        "Detail": event.detail.decode(),
    }


def to(bus: str | None, key: str, **more: Any) -> Item:
    made = item(key)
    made.event = msgspec.structs.replace(made.event, bus=bus, **more)
    return made


def buses(script: Script) -> list[list[str]]:
    """The buses of the entries of each request."""
    return [[entry["EventBusName"] for entry in body["Entries"]] for body in script.bodies]


GONE = WireError(400, "ResourceNotFoundException", "Event bus does not exist.")


def test_an_event_goes_to_the_bus_that_it_names_with_its_trace_header() -> None:
    arn = "arn:aws:events:eu-west-1:444455556666:event-bus/orders"
    sink, script = bus(results(None, None, None))
    send(sink, [to(None, "a"), to("other", "b"), to(arn, "c", trace_header="Root=1-5e1b4151")])
    assert buses(script) == [["users-bus", "other", arn]]
    headers = [entry.get("TraceHeader") for entry in script.bodies[0]["Entries"]]
    assert headers == [None, None, "Root=1-5e1b4151"]


def test_a_missing_bus_that_is_not_the_runs_holds_up_its_own_events_only() -> None:
    sink, script = bus(GONE, results(None, None), GONE, results(None, None), GONE)
    items = [to("other", "a"), to(None, "b"), to("other", "c"), to(None, "d")]
    first = send(sink, items)
    assert [one for one, _ in first.accepted] == [items[1], items[3]]
    gone = 'bus "other" does not exist'
    assert first.retry == [(items[0], gone), (items[2], gone)]
    assert (first.held, first.crowded, first.rejected) == (None, False, [])
    # It is known now, and spoils the requests of the others no more.
    assert len(send(sink, items).accepted) == 2
    own, other = ["users-bus"] * 2, ["other"] * 2
    assert buses(script) == [["other", "users-bus"] * 2, own, other, own, other]


def test_a_bus_that_is_there_again_shares_requests_again() -> None:
    sink, script = bus(GONE, results(None), results(None, None))
    assert len(send(sink, [to("other", "a")]).retry) == 1
    assert len(send(sink, [to("other", "a")]).accepted) == 1
    assert len(send(sink, [to("other", "a"), to(None, "b")]).accepted) == 2
    assert buses(script)[-1] == ["other", "users-bus"]


def test_without_the_bus_of_the_run_nothing_goes_to_another_one() -> None:
    sink, script = bus(GONE, GONE)
    items = [to("other", "a"), to(None, "b")]
    receipt = send(sink, items)
    assert receipt.held == 'bus "users-bus" does not exist'
    assert {one.key for one, _ in receipt.retry} == {one.key for one in items}
    assert not receipt.accepted
    assert buses(script) == [["other", "users-bus"], ["users-bus"]]


def test_another_bus_that_takes_nothing_from_us_ends_the_run_after_what_was_taken_is_told() -> None:
    sink, script = bus(results(None, "AccessDeniedException", "MalformedDetail"))
    items = [to(None, "a"), to("other", "b"), to(None, "c")]
    receipt = send(sink, items)
    assert [one for one, _ in receipt.accepted] == items[:1]
    assert [one for one, _ in receipt.retry] == items[1:2]
    assert [one for one, _ in receipt.rejected] == items[2:]
    with pytest.raises(AwsRefused, match="publish to bus other") as refused:
        send(sink, items[:1])
    assert refused.value.code == "AccessDeniedException"
    assert len(script.bodies) == 1


def test_a_refusal_in_the_middle_of_parts_comes_after_what_was_accepted() -> None:
    denied = WireError(400, "AccessDeniedException", "no")
    sink, _ = bus(WireError(413, "HTTP 413", ""), results(None), denied)
    items = large("a", "b", "c")
    receipt = send(sink, items)
    assert [one for one, _ in receipt.accepted] == items[:1]
    assert [one for one, _ in receipt.retry] == items[1:]
    with pytest.raises(AwsRefused):
        send(sink, items[1:])


def test_a_refusal_names_all_buses_of_the_request() -> None:
    sink, _ = bus(WireError(400, "AccessDeniedException", "no"))
    with pytest.raises(AwsRefused, match="publish to buses users-bus, other"):
        send(sink, [to(None, "a"), to("other", "b"), to(None, "c")])


@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidAccountIdException"])
def test_a_bus_that_takes_nothing_from_us_ends_the_run_instead_of_parking_everything(
    code: str,
) -> None:
    sink, _ = bus(results(code, code))
    with pytest.raises(AwsRefused, match="users-bus") as refused:
        send(sink, TWO)
    assert refused.value.code == code


def test_once_the_bus_took_an_event_a_denied_one_is_the_fault_of_the_event() -> None:
    sink, _ = bus(
        results(None, "AccessDeniedException"),
        results("AccessDeniedException", "AccessDeniedException"),
    )
    first = send(sink, TWO)
    assert [one for one, _ in first.accepted] == TWO[:1]
    assert first.rejected == [(TWO[1], "AccessDeniedException: said AWS")]
    assert [one for one, _ in send(sink, TWO).rejected] == TWO


def test_a_final_code_of_an_event_is_no_fault_of_the_bus() -> None:
    sink, _ = bus(results("MalformedDetail", "NotAuthorizedForDetailTypeException"))
    assert [one for one, _ in send(sink, TWO).rejected] == TWO


def test_a_bus_that_does_not_exist_any_more_holds_everything() -> None:
    sink, _ = bus(WireError(400, "ResourceNotFoundException", "Event bus does not exist."))
    receipt = send(sink, TWO)
    assert receipt.held == 'bus "users-bus" does not exist'
    assert [one for one, _ in receipt.retry] == TWO


@pytest.mark.parametrize(
    "failure",
    [
        WireError(400, "ThrottlingException", "Rate exceeded"),
        WireError(500, "InternalException", ""),
        WireError(503, "HTTP 503", ""),
        NoAnswerError("nobody"),
    ],
    ids=lambda failure: str(failure) or type(failure).__name__,
)
def test_a_request_that_came_to_nothing_is_sent_again_and_more_slowly(failure: Exception) -> None:
    sink, _ = bus(failure)
    receipt = send(sink, TWO)
    assert [one for one, _ in receipt.retry] == TWO
    assert receipt.crowded
    assert receipt.held is None


@pytest.mark.parametrize("code", sorted(RETRYABLE_CODES & THROTTLED))
def test_a_throttled_entry_asks_for_fewer_requests_and_another_failed_one_does_not(
    code: str,
) -> None:
    sink, _ = bus(results(None, code), results(None, "InternalFailure"))
    assert send(sink, TWO).crowded
    assert not send(sink, TWO).crowded


@pytest.mark.parametrize("answer", [results(), results(None), results(*[None] * 3)])
def test_an_answer_that_does_not_fit_the_request_is_as_good_as_none(answer: bytes) -> None:
    sink, _ = bus(answer)
    receipt = send(sink, TWO)
    assert [one for one, _ in receipt.retry] == TWO


@pytest.mark.parametrize(
    "refusal",
    [
        WireError(413, "HTTP 413", ""),
        WireError(400, "ValidationException", "Total size of the entries"),
    ],
    ids=["413", "ValidationException"],
)
def test_a_request_that_is_refused_whole_is_taken_apart_to_find_the_entry_to_blame(
    refusal: WireError,
) -> None:
    sink, script = bus(refusal, results(None), refusal)
    items = large("a", "b")
    receipt = send(sink, items)
    assert [one for one, _ in receipt.accepted] == items[:1]
    assert [one for one, _ in receipt.rejected] == items[1:]
    assert [len(body["Entries"]) for body in script.bodies] == [2, 1, 1]


@pytest.mark.parametrize("code", ["HTTP 413", "RequestEntityTooLargeException"])
def test_a_small_entry_that_is_too_large_for_somebody_is_not_parked_at_once(code: str) -> None:
    sink, _ = bus(WireError(413, code, ""))
    receipt = send(sink, TWO[:1])
    assert [(one, reason) for one, reason in receipt.unknown] == [(TWO[0], code)]
    assert receipt.crowded
    assert not receipt.rejected


def test_entries_that_a_firewall_turns_away_go_together_at_first_and_then_alone() -> None:
    blocked = ForeignError(403, "HTTP 403", "text/html, Blocked")
    sink, script = bus(blocked, blocked, results(None), blocked)
    items = [item("a"), item("b")]
    assert [one for one, _ in send(sink, items).retry] == items
    items[0].attempts = 3
    receipt = send(sink, items)
    assert [one for one, _ in receipt.accepted] == items[:1]
    assert receipt.unknown == [(items[1], "HTTP 403: text/html, Blocked")]
    assert [len(body["Entries"]) for body in script.bodies] == [2, 2, 1, 1]


@pytest.mark.parametrize("kind", ["certificate", "name", "proxy"])
def test_a_bus_that_was_never_reached_is_a_fault_of_the_set_up(kind: Any) -> None:
    sink, _ = bus(NoAnswerError("no way", kind))
    with pytest.raises(AwsRefused, match="no way") as refused:
        send(sink, TWO)
    assert refused.value.hint


def test_a_bus_that_answered_once_is_tried_again_whatever_is_in_the_way() -> None:
    sink, _ = bus(results(None, None), NoAnswerError("no way", "proxy"))
    send(sink, TWO)
    assert [one for one, _ in send(sink, TWO).retry] == TWO


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException"]
)
def test_a_refusal_of_the_caller_ends_the_run(code: str) -> None:
    sink, _ = bus(WireError(400, code, "no"))
    with pytest.raises(AwsRefused) as refused:
        send(sink, TWO)
    assert refused.value.exit_code == 5
