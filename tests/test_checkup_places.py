"""What the doctor concludes from facts: identity, addresses, permissions, readers, positions."""

from __future__ import annotations

import asyncio
import platform
import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_checkup import ARN, NOW, STREAM, bad, only, plain

from ddbrelay.checkup import (
    clock,
    credentials,
    endpoints,
    permissions,
    positions,
    readers,
    sample,
    settings,
    sizes,
    state,
)
from ddbrelay.checkup.asking import Answer, Clock, asked, epoch_of_date, refused
from ddbrelay.checkup.credentials import Keys
from ddbrelay.checkup.findings import Area, Level
from ddbrelay.checkup.state import Kept, Standing, StateFile
from ddbrelay.errors import AwsRefused, ConfigError, StateError
from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.mapping import CrudMapper, Event
from ddbrelay.flow.mapping.redaction import Sightings
from ddbrelay.relay.backlog import Unread
from ddbrelay.relay.survey import ShardBacklog, State, Survey
from ddbrelay.stores.database import VERSION, Database
from ddbrelay.stores.ownership import Owner
from ddbrelay.stores.sqlite import Bookmark, Bookmarks, SqliteStore
from ddbrelay.testing import builders

HOUR = 3600.0
ME: Answer[dict[str, Any]] = Answer(
    {"Arn": "arn:aws:sts::444455556666:assumed-role/deploy/ci", "Account": "444455556666"}
)
DENIED = AwsRefused("not allowed", "add the permission", code="AccessDeniedException")
NO_ANSWER = AwsRefused("no answer from AWS")


# Asking


@pytest.mark.parametrize(
    ("code", "emulated", "needed", "level"),
    [
        ("AccessDeniedException", False, False, Level.NOTE),
        ("AccessDeniedException", False, True, Level.ERROR),
        ("ExpiredTokenException", False, False, Level.ERROR),
        ("UnknownOperationException", False, True, Level.ERROR),
        ("UnknownOperationException", False, False, Level.NOTE),
        ("InternalFailure", True, True, Level.ERROR),
        ("InternalFailure", True, False, Level.NOTE),
        ("InternalFailure", False, False, Level.WARNING),
        ("ThrottlingException", False, True, Level.NOTE),
    ],
)
def test_a_refusal_is_a_finding(code: str, emulated: bool, needed: bool, level: Level) -> None:
    answer: Answer[None] = Answer(refusal=AwsRefused("said no", "do this", code=code))
    found = refused(Area("bus"), "rules", answer, emulated=emulated, needed=needed)
    assert found.level is level
    assert "said no" in found.what


def test_an_answer_that_lacks_what_aws_always_gives_stops_nothing() -> None:
    empty: dict[str, str] = {}
    answer = asked(lambda: empty["Arn"], "describe the bus b")
    assert isinstance(answer.refusal, AwsRefused)
    assert "describe the bus b" in answer.refusal.message


# Credentials


def test_who_asks_without_the_key() -> None:
    ends = datetime.fromtimestamp(NOW, UTC) + timedelta(minutes=5)
    made = SimpleNamespace(
        method="env",
        _expiry_time=ends,
        get_frozen_credentials=lambda: SimpleNamespace(access_key="AKIASECRET1234", token="t"),
    )
    keys = credentials.keys_of(made, NOW)
    assert keys == Keys("env", "1234", temporary=True, left=300.0)
    found = credentials.judge(plain(), Answer(keys), ME)
    assert bad(found) == [("ending", "warning")]
    words = "assumed-role/deploy/ci of account 444455556666, key …1234 from the environment"
    assert found[0].what == words
    assert "SECRET" not in str(found)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (Keys("env", "1234", temporary=False), []),
        (Keys("env", "1234", temporary=True), [("ending", "note")]),
        (Keys("sso", "1234", temporary=True, left=60.0), []),
        (Keys("sso", "1234", temporary=True, left=-1.0), [("ending", "error")]),
    ],
)
def test_credentials_that_end(keys: Keys, said: list[tuple[str, str]]) -> None:
    assert bad(credentials.judge(plain(profile="dev"), Answer(keys), ME)) == said


def test_the_root_user_no_credentials_and_those_that_aws_refuses() -> None:
    keys = Answer(Keys("env", "1234", temporary=False))
    root = Answer({"Arn": "arn:aws:iam::444455556666:root", "Account": "444455556666"})
    assert bad(credentials.judge(plain(), keys, root)) == [("root", "warning")]
    none: Answer[Keys] = Answer(refusal=AwsRefused("no AWS credentials were found", "--profile"))
    assert bad(credentials.judge(plain(), none, Answer())) == [("found", "error")]
    expired = AwsRefused("refused", code="ExpiredToken")
    found = credentials.judge(plain(), keys, Answer(refusal=expired))
    assert bad(found) == [("identity", "error")]
    quiet = credentials.judge(plain(), keys, Answer(refusal=NO_ANSWER))
    assert bad(quiet) == [("identity", "warning")]


# Addresses and the clock


def addresses(mode: str = "preferred", account: str | None = None, **own: str) -> Any:
    aws = {
        "dynamodb": "https://dynamodb.eu-west-1.amazonaws.com",
        "dynamodbstreams": "https://streams.dynamodb.eu-west-1.amazonaws.com",
        "events": "https://events.eu-west-1.amazonaws.com",
        "sqs": "https://sqs.eu-west-1.amazonaws.com",
    }
    return endpoints.Endpoints("eu-west-1", "AWS_REGION", aws | own, mode, account)


def test_addresses_of_aws_and_the_host_of_the_account() -> None:
    found = endpoints.judge(plain(), addresses(account="444455556666"))
    assert bad(found) == []
    assert "444455556666.streams-ddb.eu-west-1" in found[1].what
    assert bad(endpoints.judge(plain(), addresses("disabled"))) == []
    assert bad(endpoints.judge(plain(), addresses("required"))) == [("account-host", "error")]


def test_a_table_here_and_a_bus_there() -> None:
    local = "http://user:secret@127.0.0.1:8000"
    found = endpoints.judge(plain(), addresses(dynamodb=local))
    assert bad(found) == [("address", "warning")]
    assert "dynamodb goes to 127.0.0.1:8000, and dynamodbstreams, events and sqs" in found[1].what
    assert "secret" not in str(found)
    all_local = dict.fromkeys(endpoints.SERVICES, local)
    assert bad(endpoints.judge(plain(), addresses(**all_local))) == []


@pytest.mark.parametrize(
    ("ahead", "level"), [(None, "note"), (0.4, None), (-61.0, "warning"), (301.0, "error")]
)
def test_how_far_the_clock_is_off(ahead: float | None, level: str | None) -> None:
    assert [said for _, said in bad(clock.judge(ahead))] == ([] if level is None else [level])


def test_the_date_of_answers_tells_the_time() -> None:
    heard = Clock(lambda: 1_000_000_090.0)
    for date in (
        "Sun, 09 Sep 2001 01:46:40 GMT",
        "Sun, 09 Sep 2001 01:48:00 GMT",
        "nonsense",
        None,
    ):
        heard.heard(SimpleNamespace(headers={"date": date}))
    assert heard.ahead == 10.0
    assert epoch_of_date("Sun, 09 Sep 2001 01:46:40") == 1_000_000_000.0


# Permissions

PUT = permissions.Verdict("events:PutEvents", "arn:aws:events:eu-west-1:444455556666:b", "allowed")
SEND = permissions.Verdict("sqs:SendMessage", "arn:aws:sqs:eu-west-1:444455556666:q", "allowed")


def verdicts(*said: permissions.Verdict, **more: Any) -> list[tuple[str, str]]:
    return bad(permissions.judge(plain(), "444455556666", [Answer([*said])], proven=(), **more))


def test_what_iam_would_refuse() -> None:
    denied = replace(PUT, decision="explicitDeny")
    implicit = replace(PUT, decision="implicitDeny")
    assert verdicts(PUT, SEND) == []
    assert verdicts(denied, SEND) == [("simulation", "error")]
    assert verdicts(implicit) == [("simulation", "error")]
    assert verdicts(implicit, guarded=[PUT.resource]) == [("simulation", "warning")]
    assert verdicts(replace(SEND, decision="implicitDeny")) == [("simulation", "warning")]
    elsewhere = replace(SEND, resource="arn:aws:sqs:eu-west-1:1:q", decision="implicitDeny")
    assert verdicts(elsewhere) == [("simulation", "error")]
    assert verdicts(replace(implicit, missing=("events:detail-type",))) == [
        ("simulation", "warning")
    ]
    answers = [Answer([implicit])]
    proven = permissions.judge(plain(), "444455556666", answers, proven=[PUT.action])
    assert bad(proven) == []


def test_a_simulation_that_is_not_allowed_or_not_possible() -> None:
    for refusal in (DENIED, NO_ANSWER):
        answers: list[Answer[list[permissions.Verdict]]] = [Answer(refusal=refusal)]
        (one,) = permissions.judge(plain(), "444455556666", answers, proven=())
        assert one.level is Level.NOTE
    assert permissions.not_asked(plain(), None) is not None
    assert permissions.not_asked(plain(), "arn") is None


def test_the_questions_are_those_of_the_relay_s_own_policy() -> None:
    made = permissions.questions(plain(claim_check="s3://bucket/details"), ARN, STREAM)
    by_action = {action: one for one in made for action in one.actions}
    assert by_action["dynamodb:GetRecords"].resources == (STREAM,)
    put = by_action["events:PutEvents"]
    assert put.context == {"events:source": ("ddbrelay.users",)}
    assert by_action["s3:PutObject"].resources[0].startswith("arn:aws:s3:::bucket/details")
    assert not any("*" in resource for one in made for resource in one.resources)


# Sizes


def sampled(*details: int, **more: Any) -> sample.Mapped:
    events = [Event("s", "T", b'{"a":"' + b"x" * (size - 8) + b'"}') for size in details]
    return sample.Mapped(sample.STREAM, len(details), events, **more)


def test_sizes_and_what_they_cost() -> None:
    read = sample.Read()
    assert bad(sizes.judge(plain(), read, sampled(100, 2000))) == []
    dear = sizes.judge(plain(), read, sampled(100, 200_000))
    assert bad(dear) == [("price", "note")]
    assert "2 are billed as 5, the largest (195 KB) as 4" in dear[0].what
    near = bad(sizes.judge(plain(), read, sampled(900_000)))
    assert near == [("entry-size", "note"), ("price", "note")]
    over = sampled(1_100_000)
    assert bad(sizes.judge(plain(), read, over))[0] == ("entry-size", "warning")
    claims = plain(claim_check="s3://bucket/x")
    assert bad(sizes.judge(claims, read, over))[0] == ("entry-size", "note")


def test_what_is_billed_is_what_would_be_sent() -> None:
    read = sample.Read()
    parked = sizes.judge(plain(), read, sampled(100, 200_000, 1_100_000))
    assert bad(parked) == [("entry-size", "warning"), ("price", "note")]
    said = "1 of 3 sampled events (changes in the stream) are larger than 64 KB: 2 are billed as 5"
    assert parked[1].what.startswith(said)
    claimed = sizes.judge(plain(claim_check="s3://our-bucket/x"), read, sampled(100, 1_100_000))
    assert bad(claimed) == [("entry-size", "note")]


def test_changes_that_become_no_events() -> None:
    read = sample.Read([builders.change("a"), builders.change("b", event_name="BOGUS")])
    mapped = sample.mapped(read, CrudMapper("users"), Sightings(()))
    assert (mapped.count, len(mapped.events), mapped.rejected.total()) == (2, 1, 1)
    found = sizes.judge(plain(), read, mapped)
    assert bad(found) == [("parked", "warning")]
    mapped = sample.Mapped(sample.STREAM, 5)
    mapped.skipped["no rule"] = 5
    assert bad(sizes.judge(plain(), read, mapped)) == [("skipped", "warning")]
    assert bad(sizes.judge(plain(), read, sample.Mapped(sample.ITEMS))) == [("sample", "note")]
    denied = sample.Read(scan=Answer(refusal=DENIED))
    assert bad(sizes.judge(plain(), denied, sample.Mapped(sample.ITEMS))) == [("sample", "note")]


def test_a_redacted_name_that_no_sampled_change_has() -> None:
    read = sample.Read([builders.change("a", new={"id": "a", "ssn": "5"})])
    mapped = sample.mapped(read, CrudMapper("users"), Sightings(("ssn", "sssn")))
    found = [one for one in sizes.judge(plain(), read, mapped) if one.check == "redaction"]
    assert bad(found) == [("redaction", "warning")]
    assert found[0].what == 'redact: no change has "sssn"; did you mean "ssn"?'


def test_an_event_as_a_rule_sees_it() -> None:
    event = Event("s", "T", b'{"n":1.50}', ("r",), 0.0)
    made = sample.envelope(event, "444455556666", "eu-west-1")
    assert made["time"].startswith("1970-01-01T00:00:00")
    assert str(made["detail"]["n"]) == "1.50"


def test_a_stream_that_may_not_be_read() -> None:
    assert bad(sizes.judge_reading(plain(), sample.Read(stream_refusal=DENIED))) == [
        ("reading", "error")
    ]


# Readers


def test_more_than_two_readers_throttle_each_other() -> None:
    one = Answer([readers.Reader("the function resize")])
    none: Answer[list[readers.Reader]] = Answer([])
    assert bad(readers.judge(plain(), [none, none], ())) == []
    assert bad(readers.judge(plain(), [one, none], ())) == []
    crowded = readers.judge(plain(), [one, none], ["audit"])
    assert bad(crowded) == [("readers", "warning")]
    words = '3 readers of one stream: the function resize and the consumer "audit", and this relay'
    assert crowded[0].what == words
    denied: Answer[list[readers.Reader]] = Answer(refusal=DENIED)
    assert bad(readers.judge(plain(), [denied, none], ())) == [("readers", "note")]


# Positions

OLD = f"{ARN}/stream/2026-01-01T00:00:00.000"
HERE = Kept(STREAM, [Position("s", sequence="1")], NOW - HOUR)


def stands(
    *kept: Kept, survey: Survey | None = None, listed: list[str] | None = None, **more: Any
) -> list[tuple[str, str]]:
    found = positions.judge(
        plain(),
        STREAM,
        Standing(kept, **more),
        Answer(listed),
        None if survey is None else Answer(survey),
    )
    return bad(found)


def survey(since: float | None = None, *gaps: Gap) -> Survey:
    unread = None if since is None else Unread("s", since)
    return Survey([ShardBacklog(HERE.positions[0], State.BEHIND, unread)], gaps)


def test_where_a_consumer_stands() -> None:
    assert stands() == []
    assert stands(HERE, survey=survey()) == []
    assert stands(HERE, survey=survey(NOW - 2 * HOUR)) == []
    assert stands(HERE, survey=survey(NOW - 20 * HOUR)) == [("hours-left", "warning")]
    gap = Gap("s", "1", "trimmed")
    assert stands(HERE, survey=survey(None, gap)) == [("trimmed", "error")]
    reopened = replace(survey(), reopened=["s"])
    assert stands(HERE, survey=reopened) == [("reopened", "warning")]
    everything = replace(survey(NOW - 20 * HOUR, gap), reopened=["s"])
    assert stands(HERE, survey=everything) == [
        ("reopened", "warning"),
        ("trimmed", "error"),
        ("hours-left", "warning"),
    ]
    stale = Kept(STREAM, HERE.positions, NOW - 30 * HOUR)
    assert stands(stale) == [("checkpoint", "warning")]


def test_a_checkpoint_on_a_stream_that_the_table_no_longer_has() -> None:
    older = Kept(OLD, HERE.positions, NOW - 30 * HOUR)
    done = Kept(OLD, [Position("s", finished=True)], NOW)
    for listed in (None, [STREAM], [OLD, STREAM]):
        assert stands(older, listed=listed) == [("stale-stream", "warning")]
    assert stands(done, listed=[STREAM]) == []


def test_bookmarks_that_nothing_can_be_replayed_from_and_a_relay_that_runs() -> None:
    def mark(name: str, arn: str, age: float, *, automatic: bool = False) -> Bookmark:
        return Bookmark(name, "default", arn, [], NOW - age, automatic)

    marks = [
        mark("fresh", STREAM, HOUR),
        mark("old", STREAM, 30 * HOUR),
        mark("gone", OLD, 30 * HOUR),
        mark("run", OLD, 99 * HOUR, automatic=True),
    ]
    owner = Owner("host", 12, NOW, NOW, alive=True)
    assert stands(marks=marks, owner=owner, listed=[STREAM]) == [
        ("owner", "note"),
        ("bookmarks", "note"),
        ("bookmarks", "note"),
    ]


def test_bookmarks_are_deleted_in_the_place_where_they_were_found() -> None:
    subject = replace(plain(), again=lambda words: f"ddbrelay --local {words} --state s")
    marks = [Bookmark(name, "default", OLD, [], NOW) for name in ("a", "b c")]
    found = positions.judge(subject, STREAM, Standing((), marks), Answer([STREAM]), None)
    assert only(found, "bookmarks").mend == (
        "ddbrelay --local positions delete a --state s && "
        "ddbrelay --local positions delete 'b c' --state s"
    )


# The state file


def test_what_is_kept_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    assert state.standing(path, "default", ARN, NOW) == Standing()
    with closing(Database(path)) as database:
        for consumer, arn in (("default", STREAM), ("default", OLD), ("audit", STREAM)):
            store = SqliteStore(database, consumer, arn)
            asyncio.run(store.save([Position("s", sequence="1")]))
        elsewhere = STREAM.replace("users", "orders")
        asyncio.run(SqliteStore(database, "default", elsewhere).save([Position("s")]))
        running = SqliteStore(database, "audit", STREAM)
        asyncio.run(running.claim())
        Bookmarks(database).save(Bookmark("here", "default", STREAM, [], NOW))
        seen = state.standing(path, "default", ARN, NOW)
        asyncio.run(running.release())
    assert [kept.stream_arn for kept in seen.kept] == [OLD, STREAM]
    assert [mark.name for mark in seen.marks] == ["here"]
    assert (seen.owner, seen.others) == (None, ["audit"])
    file = state.look(path)
    assert (file.version, file.writable, state.readable(file)) == (VERSION, True, True)
    assert bad(state.judge(plain(), file)) == []


def test_a_relay_that_was_killed_here_reads_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddbrelay.lock.filesystem_of", lambda _: "nfs4")
    path = tmp_path / "state.db"
    with closing(Database(path)) as database:
        for consumer, host, beat in (
            ("killed here", platform.node(), NOW - 1.0),
            ("quiet elsewhere", "another", NOW - HOUR / 2),
            ("gone elsewhere", "another", NOW - 2 * HOUR),
        ):
            store = SqliteStore(database, consumer, STREAM)
            asyncio.run(store.save([Position("s", sequence="1")]))
            with database.transaction() as cursor:
                cursor.execute(
                    "INSERT INTO owners VALUES (?, ?, 'token', ?, 1, ?, ?)",
                    (consumer, STREAM, host, beat, beat),
                )
        assert state.standing(path, "default", ARN, NOW).others == ["quiet elsewhere"]


def test_a_state_file_is_not_made_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "state.db"
    seen = state.look(path)
    assert (seen.exists, seen.writable, seen.version) == (False, True, None)
    assert not path.parent.exists()
    assert "made by the first run" in state.judge(plain(), seen)[0].what


def test_a_state_file_of_another_version_or_place(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    assert not state.readable(state.look(path))
    assert bad(state.judge(plain(), state.look(path))) == [("state-file", "note")]
    newer = StateFile(path, True, True, "ext4", VERSION + 1)
    assert bad(state.judge(plain(), newer)) == [("state-file", "error")]
    remote = StateFile(path, False, False, "nfs4")
    assert bad(state.judge(plain(), remote)) == [("state-file", "error"), ("state-disk", "warning")]
    path.write_text("no database, but long enough to be taken for one" * 9)
    with pytest.raises(StateError, match="cannot be read"):
        state.look(path)


# What settings name


def test_the_queue_for_dead_letters_and_the_bucket() -> None:
    no_queue = AwsRefused("does not exist", code="QueueDoesNotExist")
    (one,) = settings.judge_queue(plain(), "dead.fifo", Answer(refusal=no_queue))
    mend = "aws sqs create-queue --queue-name dead.fifo --attributes FifoQueue=true"
    assert (one.level, one.mend) == (Level.ERROR, mend)
    small: Answer[bool] = Answer(refusal=ConfigError("too small", "make it larger"))
    assert bad(settings.judge_queue(plain(), "q", small)) == [("dead-letter-queue", "error")]
    assert bad(settings.judge_queue(plain(), "q", Answer(True))) == []
    buckets = {
        settings.Bucket("b"): [],
        settings.Bucket("b", region="eu-west-1"): [],
        settings.Bucket("b", region="us-east-1"): [("claim-check", "warning")],
        settings.Bucket("b", denied=True): [("claim-check", "note")],
        settings.Bucket("b", exists=False): [("claim-check", "error")],
    }
    for bucket, said in buckets.items():
        assert bad(settings.judge_bucket(plain(), "s3://b/x", Answer(bucket))) == said


def test_the_port_for_metrics() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not settings.port_is_free("127.0.0.1", port)
    assert settings.port_is_free("127.0.0.1", port)
    taken = settings.judge_port("127.0.0.1", port, free=False, relaying=False)
    assert bad(taken) == [("metrics-port", "error")]
    unknown = settings.judge_port("127.0.0.1", port, free=False, relaying=None)
    assert bad(unknown) == [("metrics-port", "warning")]
    assert bad(settings.judge_port("127.0.0.1", port, free=False, relaying=True)) == []
    assert only(settings.judge_port("::1", port, free=True, relaying=False), "metrics-port")
