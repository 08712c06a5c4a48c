"""`ddbrelay listen`, as a library and as a command: what arrives, and what is left behind."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Cli
from pipeline import ON_MOTO

from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.offloading import offload
from ddbrelay.infra import listener as listening
from ddbrelay.infra.listener import Listener, Received, find_queue, followed
from ddbrelay.infra.names import queue_name, rule_name

pytestmark = pytest.mark.moto_first

Waiter = Callable[[Callable[[], bool], float], None]


@pytest.fixture
def bus(aws: Aws, name: str) -> str:
    """A bus without rule or queue, under the name that the command line has."""
    aws.client("events").create_event_bus(Name=f"{name}-bus")
    return f"{name}-bus"


@pytest.fixture
def queue(aws: Aws, name: str, bus: str) -> str:
    """The URL of the table's queue, behind the table's rule."""
    sqs, events = aws.client("sqs"), aws.client("events")
    url: str = sqs.create_queue(QueueName=queue_name(name))["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    events.put_rule(
        Name=rule_name(name),
        EventBusName=bus,
        EventPattern=json.dumps({"source": [f"ddbrelay.{name}"]}),
    )
    events.put_targets(
        Rule=rule_name(name),
        EventBusName=bus,
        Targets=[{"Id": "1", "Arn": attributes["QueueArn"]}],
    )
    return url


def publish(aws: Aws, bus: str, source: str, *details: dict[str, Any]) -> list[str]:
    """One `UserCreated` per detail; their event ids."""
    entries = [
        {
            "Source": source,
            "DetailType": "UserCreated",
            "Detail": json.dumps(detail),
            "EventBusName": bus,
        }
        for detail in details
    ]
    answer = aws.client("events").put_events(Entries=entries)
    return [entry["EventId"] for entry in answer["Entries"]]


def check_claim(aws: Aws, body: bytes, *, stored: bytes | None = None) -> dict[str, Any]:
    """The detail of an event whose real one, or something else, lies in S3."""
    event, claim = offload(Event("s", "d", body), "s3://claims/relay", "e1")
    aws.client("s3").create_bucket(Bucket="claims")
    content = body if stored is None else stored
    aws.client("s3").put_object(Bucket="claims", Key=claim.key, Body=content)
    detail: dict[str, Any] = json.loads(event.detail)
    return detail


def left_in(aws: Aws, url: str) -> int:
    """Messages in the queue, those in someone's hands included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


def visible_in(aws: Aws, url: str) -> int:
    answer = aws.client("sqs").get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def made_for_listening(aws: Aws, bus: str) -> tuple[list[str], list[str]]:
    """Temporary rules of the bus, and the temporary queues of those rules or of any rule."""
    try:
        rules = aws.client("events").list_rules(EventBusName=bus)["Rules"]
    except ClientError:
        rules = []
    queues = aws.client("sqs").list_queues(QueueNamePrefix="ddbrelay-listen-").get("QueueUrls", [])
    return [rule["Name"] for rule in rules if "listen" in rule["Name"]], queues


def gather(listener: Listener, count: int, timeout: float = 20) -> list[Received]:
    """At least `count` messages, or what came within the time."""
    seen: list[Received] = []
    deadline = time.monotonic() + timeout
    while len(seen) < count and time.monotonic() < deadline:
        seen += listener.receive(1)
    return seen


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class Broken:
    """An `Aws` some of whose calls fail: the call's name to the error code."""

    def __init__(self, aws: Aws, **codes: str) -> None:
        self.region = aws.region
        self._aws = aws
        self._codes = codes

    def new_client(self, service: str, **_: Any) -> Any:
        return self.client(service)

    def client(self, service: str) -> Any:
        real, codes = self._aws.client(service), self._codes

        class Client:
            def __getattr__(self, call: str) -> Any:
                if call not in codes:
                    return getattr(real, call)

                def refuse(**_: Any) -> Any:
                    raise ClientError({"Error": {"Code": codes[call], "Message": "no"}}, call)

                return refuse

        return Client()


# --- the library


def test_a_message_is_there_until_it_is_done(aws: Aws, name: str, bus: str, queue: str) -> None:
    (event_id,) = publish(aws, bus, f"ddbrelay.{name}", {"id": "a"})
    before = time.time()
    with Listener(aws, bus=bus, sources=["ignored"], queue=queue_name(name)) as listener:
        assert not listener.temporary
        assert listener.name == queue_name(name)
        (received,) = gather(listener, 1)
        assert received.event["id"] == event_id
        assert received.event["detail-type"] == "UserCreated"
        assert received.event["detail"] == {"id": "a"}
        assert json.loads(received.body) == received.event
        assert before <= received.received_at <= time.time()
        assert left_in(aws, queue) == 1
        listener.done([received])
        assert left_in(aws, queue) == 0


def test_what_was_not_done_can_be_received_again_at_once(
    aws: Aws, name: str, bus: str, queue: str
) -> None:
    publish(aws, bus, f"ddbrelay.{name}", *({"id": str(n)} for n in range(3)))
    with contextlib.suppress(ZeroDivisionError), Listener(aws, queue=queue) as listener:
        assert len(gather(listener, 3)) == 3
        assert visible_in(aws, queue) == 0
        raise ZeroDivisionError
    assert visible_in(aws, queue) == 3


def test_kept_messages_are_returned_once_and_stay(
    aws: Aws, name: str, bus: str, queue: str
) -> None:
    aws.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "0"})
    publish(aws, bus, f"ddbrelay.{name}", *({"id": str(n)} for n in range(10)))
    with Listener(aws, queue=queue, keep=True) as listener:
        seen = [message for _ in range(12) for message in listener.receive(0)]
        assert len({message.message_id for message in seen}) == len(seen) == 10
        listener.done(seen)
    assert visible_in(aws, queue) == 10


def test_a_limit_takes_no_more_than_asked_for(aws: Aws, name: str, bus: str, queue: str) -> None:
    publish(aws, bus, f"ddbrelay.{name}", *({"id": str(n)} for n in range(5)))
    with Listener(aws, queue=queue) as listener:
        assert 1 <= len(listener.receive(1, 2)) <= 2
        assert visible_in(aws, queue) >= 3


def test_deletes_that_fail_are_tried_again(
    aws: Aws, name: str, bus: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening.time, "sleep", lambda seconds: None)
    publish(aws, bus, f"ddbrelay.{name}", *({"id": str(n)} for n in range(3)))
    sqs = aws.client("sqs")
    delete = sqs.delete_message_batch
    sizes = []

    def sometimes(QueueUrl: str, Entries: list[dict[str, str]]) -> Any:  # noqa: N803
        sizes.append(len(Entries))
        if len(sizes) == 1:
            delete(QueueUrl=QueueUrl, Entries=Entries[:1])
            failed = [
                {"Id": Entries[1]["Id"], "Code": "InternalError", "SenderFault": False},
                {"Id": Entries[2]["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": True},
            ]
            return {"Failed": failed}
        return delete(QueueUrl=QueueUrl, Entries=Entries)

    monkeypatch.setattr(sqs, "delete_message_batch", sometimes)
    with Listener(aws, queue=queue) as listener:
        listener.done(gather(listener, 3))
    assert sizes == [3, 1]
    assert left_in(aws, queue) == 1


def test_deletes_that_never_succeed_are_an_error(
    aws: Aws, name: str, bus: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening.time, "sleep", lambda seconds: None)
    publish(aws, bus, f"ddbrelay.{name}", {"id": "a"})
    with Listener(aws, queue=queue) as listener:
        received = gather(listener, 1)
        failed = [{"Id": received[0].message_id, "Code": "InternalError", "SenderFault": False}]
        monkeypatch.setattr(
            aws.client("sqs"), "delete_message_batch", lambda **_: {"Failed": failed}
        )
        with pytest.raises(AwsRefused, match=r"cannot delete 1 messages .* InternalError"):
            listener.done(received)


@pytest.mark.parametrize("body", ["not JSON", "[1, 2]", '"text"', '{"a": NaN}', "[" * 5000])
def test_a_message_that_is_no_event_is_not_lost(aws: Aws, queue: str, body: str) -> None:
    aws.client("sqs").send_message(QueueUrl=queue, MessageBody=body)
    with Listener(aws, queue=queue) as listener:
        (received,) = gather(listener, 1)
    assert (received.event, received.body) == ({}, body)
    assert left_in(aws, queue) == 1


def test_a_queue_is_found_by_name_and_by_url(aws: Aws, name: str, queue: str) -> None:
    assert find_queue(aws, queue_name(name)) == queue
    assert find_queue(aws, queue) == queue
    assert find_queue(aws, f"{name}-not-there") is None


def test_a_queue_that_is_named_and_missing_is_an_error(aws: Aws, name: str) -> None:
    with (
        pytest.raises(AwsRefused, match=f'queue "{name}" does not exist'),
        Listener(aws, queue=name),
    ):
        pytest.fail("there is nothing to listen to")


# --- claim checks


def received_with(detail: Any) -> Received:
    event = {"id": "e1", "detail-type": "D", "source": "s", "detail": detail}
    return Received(event, json.dumps(event), "m", "h", 1.0)


def test_a_claim_check_is_followed_to_the_detail(aws: Aws) -> None:
    detail = check_claim(aws, b'{"id": "a", "n": 0.10}')
    found = followed(aws, received_with(detail), {"claims"})
    assert found.event == {"id": "e1", "detail-type": "D", "source": "s"} | {
        "detail": {"id": "a", "n": 0.1}
    }
    assert '"detail":{"id": "a", "n": 0.10}' in found.body
    assert found.claim is not None
    assert found.claim.as_object() == detail["claimCheck"]
    assert found.claim_error is None


def test_what_is_no_claim_check_asks_nobody(aws: Aws) -> None:
    nobody: Any = None
    for detail in ({"id": "a"}, {"claimCheck": "ours"}, None, []):
        received = received_with(detail)
        assert followed(nobody, received, ()) is received


@pytest.mark.parametrize(
    ("body", "stored", "said"),
    [
        (b'{"id": "a"}', b'{"id": "b"}', "has another SHA-256"),
        (b'{"id": "a"}', b'{"id": "ab"}', "has 12 bytes, the event says 11"),
        (b"[1, 2]", None, "holds no JSON object"),
        (b'{"a": NaN}', None, "holds no JSON object"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", None, "holds no JSON object"),
    ],
)
def test_a_detail_that_cannot_be_had_leaves_the_reference(
    aws: Aws, body: bytes, stored: bytes | None, said: str
) -> None:
    received = received_with(check_claim(aws, body, stored=stored))
    found = followed(aws, received, None)
    assert (found.event, found.body) == (received.event, received.body)
    assert found.claim is not None
    assert found.claim_error is not None
    assert said in found.claim_error
    assert found.claim.url in found.claim_error


# --- temporary rule and queue


def test_a_temporary_queue_gets_the_events_of_its_source_only(aws: Aws, bus: str) -> None:
    with Listener(aws, bus=bus, sources=["mine"]) as listener:
        assert listener.temporary
        publish(aws, bus, "other", {"id": "no"})
        (event_id,) = publish(aws, bus, "mine", {"id": "yes"})
        assert [r.event["id"] for r in gather(listener, 1)] == [event_id]
        assert listener.receive(0) == []


def test_two_temporary_listeners_each_get_every_event(aws: Aws, bus: str) -> None:
    with Listener(aws, bus=bus, sources=None) as first, Listener(aws, bus=bus) as second:
        assert first.name != second.name
        sent = publish(aws, bus, "a", {"id": "1"}) + publish(aws, bus, "b", {"id": "2"})
        for listener in (first, second):
            assert {r.event["id"] for r in gather(listener, 2)} == set(sent)
    assert made_for_listening(aws, bus)[0] == []


def test_the_temporary_rule_and_queue_are_marked_and_only_the_rule_may_send(
    aws: Aws, bus: str
) -> None:
    tags = {"ddbrelay:managed-by": "ddbrelay", "ddbrelay:temporary": "true"}
    sqs, events = aws.client("sqs"), aws.client("events")
    with Listener(aws, bus=bus, sources=["mine"]) as listener:
        assert re.fullmatch(r"ddbrelay-listen-[0-9a-f]{8}", listener.name)
        rule = events.describe_rule(Name=listener.name, EventBusName=bus)
        marked = events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]
        assert {tag["Key"]: tag["Value"] for tag in marked} == tags
        url = find_queue(aws, listener.name)
        assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == tags
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "Policy"])[
            "Attributes"
        ]
        (statement,) = json.loads(attributes["Policy"])["Statement"]
        assert statement["Resource"] == attributes["QueueArn"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": rule["Arn"]}}


def gone(aws: Aws, bus: str, name: str) -> bool:
    rules, _ = made_for_listening(aws, bus)
    return name not in rules and find_queue(aws, name) is None


def test_rule_and_queue_are_gone_after_an_error_inside(aws: Aws, bus: str) -> None:
    with contextlib.suppress(ZeroDivisionError), Listener(aws, bus=bus) as listener:
        assert not gone(aws, bus, listener.name)
        raise ZeroDivisionError
    assert gone(aws, bus, listener.name)


@pytest.mark.parametrize("call", ["create_queue", "put_targets"])
def test_rule_and_queue_are_gone_after_an_error_half_way_through_making_them(
    aws: Aws, bus: str, call: str
) -> None:
    broken = Broken(aws, **{call: "AccessDeniedException"})
    listener = Listener(broken, bus=bus)  # type: ignore[arg-type]
    with pytest.raises(AwsRefused, match=r"not allowed to .*temporary"), listener:
        pytest.fail("it was not made")
    assert gone(aws, bus, listener.name)


def test_a_queue_whose_making_was_never_answered_is_removed_too(
    aws: Aws, bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs = aws.client("sqs")
    create = sqs.create_queue

    def lost(**request: Any) -> Any:
        create(**request)
        raise ClientError({"Error": {"Code": "InternalError", "Message": "no"}}, "CreateQueue")

    monkeypatch.setattr(sqs, "create_queue", lost)
    listener = Listener(aws, bus=bus)
    with pytest.raises(AwsRefused, match="InternalError"), listener:
        pytest.fail("it was not made")
    assert gone(aws, bus, listener.name)


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(aws: Aws, bus: str) -> None:
    listener = Listener(Broken(aws, delete_rule="AccessDeniedException"), bus=bus)  # type: ignore[arg-type]
    with pytest.raises(AwsRefused, match=f"{listener.name} is left behind on bus {bus}"), listener:
        pass
    assert find_queue(aws, listener.name) is None
    aws.client("events").delete_rule(Name=listener.name, EventBusName=bus)


def test_an_interrupt_cuts_neither_the_making_nor_the_removal(
    aws: Aws, bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = aws.client("events")
    slow = {"put_rule": events.put_rule, "delete_rule": events.delete_rule}
    interrupted = []

    def interrupting(call: str) -> Callable[..., Any]:
        def run(**request: Any) -> Any:
            interrupted.append(call)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return slow[call](**request)

        return run

    monkeypatch.setattr(events, "put_rule", interrupting("put_rule"))
    monkeypatch.setattr(events, "delete_rule", interrupting("delete_rule"))
    listener = Listener(aws, bus=bus)
    with pytest.raises(KeyboardInterrupt), listener:
        pytest.fail("it was interrupted")
    assert interrupted == ["put_rule", "delete_rule"]
    assert gone(aws, bus, listener.name)


def test_a_missing_bus_is_named(aws: Aws, name: str) -> None:
    with (
        pytest.raises(AwsRefused, match=f'bus "{name}" does not exist') as caught,
        Listener(aws, bus=name),
    ):
        pytest.fail("there is nothing to listen to")
    assert caught.value.hint == f"ddbrelay --local provision --bus {name} makes it"


# --- the command


def test_events_are_printed_then_deleted_and_an_expectation_is_met(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    sent = publish(aws, bus, f"ddbrelay.{name}", *({"id": f"u{n}"} for n in range(4)))
    *events, summary = cli.json("listen", "--expect", "4")
    assert {e["event"]["id"] for e in events} == set(sent)
    assert {e["event"]["detail"]["id"] for e in events} == {"u0", "u1", "u2", "u3"}
    assert all(set(e) == {"type", "event", "receivedAt", "repeated"} for e in events)
    assert all(e["type"] == "event" and not e["repeated"] for e in events)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", e["receivedAt"]) for e in events)
    assert summary.pop("seconds") < 60
    assert summary == {
        "type": "summary",
        "received": 4,
        "distinct": 4,
        "duplicates": 0,
        "notEvents": 0,
        "claimChecks": 0,
        "claimErrors": 0,
        "expected": 4,
        "queue": queue_name(name),
        "temporary": False,
    }
    assert left_in(aws, queue) == 0


@ON_MOTO
def test_an_expectation_that_is_not_met_ends_with_6(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    publish(aws, bus, f"ddbrelay.{name}", {"id": "a"})
    done = cli.run("listen", "--expect", "2", "--timeout", "300ms", "--output", "json")
    assert done.returncode == 6
    assert objects(done.stdout)[-1]["distinct"] == 1
    first, hint = done.stderr.splitlines()
    assert re.fullmatch(
        rf"error: 1 of 2 expected events came in \d\.\d s from queue {queue_name(name)}", first
    )
    assert hint.startswith("  hint: ddbrelay tail --forward")


@ON_MOTO
def test_repeats_are_counted_and_do_not_meet_an_expectation(cli: Cli, aws: Aws, queue: str) -> None:
    body = json.dumps({"id": "e1", "detail-type": "D", "source": "s", "detail": {}})
    for _ in range(2):
        aws.client("sqs").send_message(QueueUrl=queue, MessageBody=body)
    done = cli.run("listen", "--expect", "2", "--timeout", "500ms", "--output", "json")
    assert done.returncode == 6
    *events, summary = objects(done.stdout)
    assert [event["repeated"] for event in events] == [False, True]
    assert (summary["received"], summary["distinct"], summary["duplicates"]) == (2, 1, 1)
    assert left_in(aws, queue) == 0


def test_max_events_leaves_the_rest_in_the_queue(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    publish(aws, bus, f"ddbrelay.{name}", *({"id": str(n)} for n in range(5)))
    *events, summary = cli.json("listen", "--max-events", "3")
    assert len(events) == summary["received"] == 3
    assert visible_in(aws, queue) == 2


@pytest.mark.slow
@ON_MOTO
def test_kept_messages_are_printed_once_and_are_there_for_the_next(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    aws.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
    publish(aws, bus, f"ddbrelay.{name}", *({"id": str(n)} for n in range(3)))
    *events, summary = cli.json("listen", "--keep", "--timeout", "2500ms")
    assert len(events) == 3
    assert summary["duplicates"] == 0
    assert visible_in(aws, queue) == 3
    assert len(cli.json("listen", "--expect", "3")) == 4
    assert left_in(aws, queue) == 0


@ON_MOTO
def test_a_timeout_without_an_expectation_is_success(cli: Cli, name: str, queue: str) -> None:
    done = cli.ok("listen", "--timeout", "0.2s")
    assert done.stdout == ""
    where, count, following = done.stderr.splitlines()
    assert where == (
        f"listening: {name}-bus ─▶ {queue.rpartition('/')[2]}   table {name}   Ctrl-C stops"
    )
    assert re.fullmatch(r"0 events received in 0\.\d s", count)
    assert following == "next: ddbrelay --local tail --forward"


def test_piped_lines_have_time_type_source_key_and_id(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    publish(aws, bus, f"ddbrelay.{name}", {"id": "u1"})
    done = cli.ok("listen", "--expect", "1")
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(
        rf"{moment} UserCreated ddbrelay\.{name} id=u1 [0-9a-f-]{{36}}\n", done.stdout
    )


@ON_MOTO
def test_strangers_text_cannot_move_the_cursor_or_break_a_line(
    cli: Cli, aws: Aws, queue: str
) -> None:
    sqs = aws.client("sqs")
    envelope = {
        "id": "e",
        "detail-type": "a b\nc",
        "source": "s\u009b31m",
        "detail": {"pk": "\x07"},
    }
    for output in ("lines", "rich"):
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(envelope))
        done = cli.ok("listen", "--expect", "1", "--output", output)
        (line,) = done.stdout.splitlines()
        assert line.isprintable()


def test_digits_are_printed_as_they_came(cli: Cli, aws: Aws, queue: str) -> None:
    detail = '{"n": 12345678901234567890.123456789012345678, "i": 123456789012345678901234567890}'
    body = '{"id": "e1",\r\n "detail-type": "D", "source": "s",\n "detail": ' + detail + "}"
    aws.client("sqs").send_message(QueueUrl=queue, MessageBody=body)
    done = cli.ok("listen", "--expect", "1", "--output", "json")
    first, last = done.stdout.splitlines()
    assert detail in first
    assert json.loads(first)["event"]["id"] == "e1"
    assert json.loads(last)["type"] == "summary"


def test_a_claim_check_is_shown_with_its_detail_and_kept_beside(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    number = "12345678901234567890.123456789012345678"
    detail = check_claim(aws, f'{{"id": "a", "n": {number}}}'.encode())
    publish(aws, bus, f"ddbrelay.{name}", detail)
    done = cli.ok("listen", "--expect", "1", "--output", "json", "--follow-claims", "claims")
    event, summary = objects(done.stdout)
    assert f'"n": {number}' in done.stdout
    assert event["event"]["detail"]["id"] == "a"
    assert event["claimCheck"] == detail["claimCheck"]
    assert (summary["claimChecks"], summary["claimErrors"]) == (1, 0)
    assert done.stderr == ""
    publish(aws, bus, f"ddbrelay.{name}", detail)
    cli.environment["DDBRELAY_CLAIM_CHECK"] = "s3://claims/relay"
    assert " id=a " in cli.ok("listen", "--expect", "1").stdout


@ON_MOTO
def test_a_claim_check_in_a_bucket_that_an_event_names_is_not_read(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    cli.environment["DDBRELAY_CLAIM_CHECK"] = "s3://others/relay"
    detail = check_claim(aws, b'{"id": "a"}')
    (number,) = publish(aws, bus, f"ddbrelay.{name}", detail)
    done = cli.ok("listen", "--expect", "1", "--output", "json")
    event, summary = objects(done.stdout)
    assert event["event"]["detail"] == detail
    assert "--follow-claims claims" in event["claimError"]
    assert (summary["claimChecks"], summary["claimErrors"]) == (1, 1)
    assert done.stderr == f"event {number} keeps its claim check: {event['claimError']}\n"
    both = cli.run("listen", "--follow-claims", "claims", "--no-follow-claims")
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)


@ON_MOTO
def test_a_claim_check_that_cannot_be_followed_is_shown_and_counts(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    cli.environment["DDBRELAY_CLAIM_CHECK"] = "s3://claims/relay"
    detail = check_claim(aws, b'{"id": "a"}', stored=b"{}")
    (number,) = publish(aws, bus, f"ddbrelay.{name}", detail)
    done = cli.ok("listen", "--expect", "1", "--output", "json")
    event, summary = objects(done.stdout)
    url = f"s3://claims/{detail['claimCheck']['key']}"
    said = f"{url} has 2 bytes, the event says 11"
    assert event["event"]["detail"] == detail
    assert (event["claimCheck"], event["claimError"]) == (detail["claimCheck"], said)
    assert (summary["claimChecks"], summary["claimErrors"]) == (1, 1)
    assert done.stderr == f"event {number} keeps its claim check: {said}\n"
    assert left_in(aws, queue) == 0
    publish(aws, bus, f"ddbrelay.{name}", detail)
    done = cli.ok("listen", "--max-events", "1")
    assert re.search(r"1 event received in [\d.]+ s \(1 claim check not followed\)", done.stderr)


@ON_MOTO
def test_a_claim_check_can_be_shown_as_it_came(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    detail = check_claim(aws, b'{"id": "a"}')
    publish(aws, bus, f"ddbrelay.{name}", detail)
    event, summary = cli.json("listen", "--expect", "1", "--no-follow-claims")
    assert event["event"]["detail"] == detail
    assert set(event) == {"type", "event", "receivedAt", "repeated"}
    assert summary["claimChecks"] == 0


@ON_MOTO
@pytest.mark.parametrize("output", ["json", "lines", "rich"])
def test_a_message_that_is_no_event_is_shown_in_full(
    cli: Cli, aws: Aws, queue: str, output: str
) -> None:
    body = "no JSON " * 40 + "the end"
    aws.client("sqs").send_message(QueueUrl=queue, MessageBody=body)
    done = cli.ok("listen", "--max-events", "1", "--output", output)
    assert body in done.stdout
    if output == "json":
        first, summary = objects(done.stdout)
        assert set(first) == {"type", "body", "receivedAt"}
        assert (first["type"], summary["notEvents"], summary["received"]) == ("message", 1, 0)


@ON_MOTO
def test_another_queue_can_be_named(cli: Cli, aws: Aws, name: str) -> None:
    url = aws.client("sqs").create_queue(QueueName=f"{name}-other")["QueueUrl"]
    for queue in (url, f"{name}-other"):
        aws.client("sqs").send_message(QueueUrl=url, MessageBody='{"id": "1", "detail": {}}')
        *_, summary = cli.json("listen", "--queue", queue, "--expect", "1")
        assert summary["queue"] == f"{name}-other"


def test_a_named_queue_that_is_missing_ends_with_5(cli: Cli, name: str, bus: str) -> None:
    done = cli.run("listen", "--queue", f"{name}-nope")
    assert done.returncode == 5
    assert done.stderr.splitlines()[0] == (f'error: queue "{name}-nope" does not exist (us-east-1)')
    assert len(done.stderr.splitlines()) == 2


def test_a_missing_bus_ends_with_5_in_one_line_and_a_hint(cli: Cli, name: str) -> None:
    done = cli.run("listen")
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f'error: bus "{name}-bus" does not exist (us-east-1, embedded AWS)',
        f"  hint: ddbrelay --local provision --table {name} --bus {name}-bus makes it",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--timeout", "soon"),
        ("--expect", "0"),
        ("--max-events", "-1"),
        ("--all", "--queue", "q"),
    ],
)
def test_options_that_cannot_be_right_end_with_2(bare_cli: Cli, words: tuple[str, ...]) -> None:
    done = bare_cli.run("listen", "--table", "t", "--region", "us-east-1", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_without_a_table_the_source_is_not_guessed(bare_cli: Cli) -> None:
    done = bare_cli.run("listen", "--bus", "b", "--region", "us-east-1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no table is given")


@contextmanager
def running(cli: Cli, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = cli.start("listen", *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listens_through(process: subprocess.Popen[str]) -> str:
    """The name of the queue, once the command says that it listens."""
    assert process.stderr is not None
    said = process.stderr.readline()
    match = re.match(r"listening: (?:queue|\S+ ─▶) (\S+) ", said)
    assert match, said + process.stderr.read()
    return match[1]


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_cleanly_and_leaves_no_temporary_rule_or_queue(
    cli: Cli, aws: Aws, name: str, bus: str, number: signal.Signals
) -> None:
    with running(cli) as process:
        temporary = listens_through(process)
        assert not gone(aws, bus, temporary)
        publish(aws, bus, f"ddbrelay.{name}", {"id": "u1"})
        assert process.stdout is not None
        assert "UserCreated" in process.stdout.readline()
        process.send_signal(number)
        _, words = process.communicate(timeout=20)
        assert process.returncode == 0, words
        assert re.fullmatch(r"1 event received in [\d.]+ s\n", words)
    assert gone(aws, bus, temporary)


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_at_once_leave_nothing_either(
    cli: Cli, aws: Aws, bus: str, number: signal.Signals
) -> None:
    with running(cli) as process:
        temporary = listens_through(process)
        process.send_signal(number)
        process.send_signal(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
        _, words = process.communicate(timeout=20)
    assert process.returncode == 130, words
    assert words.endswith("error: interrupted\n")
    assert gone(aws, bus, temporary)


@pytest.mark.slow
def test_a_signal_before_an_expectation_is_met_is_no_success(cli: Cli, bus: str) -> None:
    with running(cli, "--expect", "1") as process:
        listens_through(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 6


def test_all_listens_to_every_source_of_the_bus(cli: Cli, aws: Aws, bus: str, queue: str) -> None:
    with running(cli, "--all", "--expect", "2", "--timeout", "30s") as process:
        temporary = listens_through(process)
        publish(aws, bus, "somebody.else", {"id": "1"})
        publish(aws, bus, "another", {"id": "2"})
        out, words = process.communicate(timeout=40)
    assert process.returncode == 0, words
    assert {line.split()[2] for line in out.splitlines()} == {"somebody.else", "another"}
    assert gone(aws, bus, temporary)


def test_a_reader_that_goes_away_leaves_no_temporary_rule_or_queue(
    cli: Cli, aws: Aws, name: str, bus: str, wait_until: Waiter
) -> None:
    with running(cli) as process:
        temporary = listens_through(process)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        publish(aws, bus, f"ddbrelay.{name}", {"id": "u1"})
        wait_until(lambda: process.poll() is not None, 20)
    assert process.returncode == 0
    assert gone(aws, bus, temporary)


def test_a_message_that_could_not_be_printed_is_not_deleted(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str, wait_until: Waiter
) -> None:
    with running(cli) as process:
        listens_through(process)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        publish(aws, bus, f"ddbrelay.{name}", {"id": "u1"})
        wait_until(lambda: process.poll() is not None, 20)
    assert visible_in(aws, queue) == 1


def test_in_a_terminal_a_line_fits_into_80_columns(
    cli: Cli, aws: Aws, name: str, bus: str, queue: str
) -> None:
    cli.environment["COLUMNS"] = "80"
    key = "0b9f7a52-53fd-4d4e-8a0f-1c2d3e4f5a6b"
    (event_id,) = publish(aws, bus, f"ddbrelay.{name}", {"id": key})
    done = cli.ok("listen", "--expect", "1", "--output", "rich")
    (line,) = done.stdout.splitlines()
    assert len(line) <= 80
    assert re.match(r"\d\d:\d\d:\d\d  UserCreated +id=0b9f7a52-53fd-…  ddbrelay\.", line)
    assert line.endswith(event_id[:8])
