"""What the doctor concludes from facts: mappings, tables, buses and what is behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ddbrelay.checkup import bus, settings, table, targets
from ddbrelay.checkup.asking import Answer
from ddbrelay.checkup.findings import Finding, Level, Subject, hours, kilobytes
from ddbrelay.checkup.kinds import UNKNOWN, Kind, Name, kinds_of, may_match
from ddbrelay.config import Config, Settings, load
from ddbrelay.config_file import MappingSource
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.mapping.patterns import compile_pattern
from ddbrelay.flow.mapping.templates import Template
from ddbrelay.infra.plan import Key
from ddbrelay.mappings import rules_of
from ddbrelay.text import listed
from ddbrelay.view_types import Harm, needs_of, unmet

NOW = 1_795_430_000.0
ARN = "arn:aws:dynamodb:eu-west-1:444455556666:table/users"
STREAM = f"{ARN}/stream/2026-11-23T10:31:02.123"


def configured(folder: Path, text: str = "", **flags: Any) -> Config:
    """A configuration with this file."""
    (folder / "ddbrelay.toml").write_text(text)
    return load({"table": "users", **flags}, {}, folder)


def about(config: Config, **more: Any) -> Subject:
    return Subject(config, "users", lambda words: f"ddbrelay {words}", NOW, "eu-west-1", **more)


def plain(**settings: Any) -> Subject:
    """Of a configuration without a file."""
    made = Settings(table="users", **settings)
    return about(Config(made, {"region": "default"}, None))


def bad(found: Sequence[Finding]) -> list[tuple[str, str]]:
    """Check and level of what is not ok."""
    return [(one.check, one.level.value) for one in found if one.level is not Level.OK]


def only(found: Sequence[Finding], check: str) -> Finding:
    (one,) = [one for one in found if one.check == check]
    return one


# What a mapping needs

_MAIL = """
[[rule]]
name = "mail"
when = { eventName = ["MODIFY"], changed = ["email"] }
detail_type = "EmailChanged"
detail = "{before: old.email}"
"""
_PLACED = """
[[rule]]
name = "placed"
when = { eventName = ["INSERT"] }
detail_type = "{new.kind}Placed"
"""
_LAMBDA = """
[[rule]]
name = "typed"
when = { dynamodb = { OldImage = { state = { S = ["open"] } } } }
detail_type = "Closed"
detail = { id = "{keys.id}" }
"""
_KEYS = """
[[rule]]
name = "keys"
when = { "$or" = [ { eventName = ["INSERT"] }, { ttl = [true] } ] }
detail_type = "Touched"
detail = "{id: keys.id}"
"""
_OUTBOX = 'preset = "outbox"'


@pytest.mark.parametrize(
    ("text", "view", "harms"),
    [
        ("", "NEW_AND_OLD_IMAGES", []),
        ("", "NEW_IMAGE", [Harm.ONLY_KEYS]),
        ("", "KEYS_ONLY", [Harm.ONLY_KEYS, Harm.ONLY_KEYS]),
        ("", "something new", []),
        (_OUTBOX, "NEW_IMAGE", []),
        (_OUTBOX, "OLD_IMAGE", [Harm.PARKED]),
        (_MAIL, "NEW_IMAGE", [Harm.NEVER_MATCHES]),
        (_MAIL, "NEW_AND_OLD_IMAGES", []),
        (_PLACED, "NEW_IMAGE", []),
        (_PLACED, "KEYS_ONLY", [Harm.PARKED, Harm.ONLY_KEYS]),
        (_LAMBDA, "NEW_IMAGE", [Harm.NEVER_MATCHES]),
        (_LAMBDA, "OLD_IMAGE", []),
        (_KEYS, "KEYS_ONLY", []),
    ],
)
def test_what_a_view_type_leaves_out_of_a_mapping(
    tmp_path: Path, text: str, view: str, harms: list[Harm]
) -> None:
    config = configured(tmp_path, text)
    needs = needs_of(config, rules_of(config, "users"))
    assert [need.harm for need in unmet(needs, view)] == harms


def test_a_rule_that_can_never_match_is_not_said_to_park(tmp_path: Path) -> None:
    text = """
    [[rule]]
    when = { eventName = ["MODIFY"], changed = ["email"] }
    detail_type = "{old.kind}Changed"
    detail = { id = "{keys.id}" }
    """
    config = configured(tmp_path, text + _PLACED)
    needs = needs_of(config, rules_of(config, "users"))
    found = [(need.who, need.harm) for need in unmet(needs, "KEYS_ONLY")]
    assert [harm for who, harm in found if "Changed" in who] == [Harm.NEVER_MATCHES]
    assert ('rule "placed"', Harm.PARKED) in found


def test_nothing_is_said_of_a_function_of_ones_own() -> None:
    config = Config(Settings(table="users", mapper="m:f"), {}, None)
    assert needs_of(config, ()) == []


# The table


def seen(**changes: Any) -> table.Table:
    said = {
        "TableName": "users",
        "TableArn": ARN,
        "TableStatus": "ACTIVE",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "LatestStreamArn": STREAM,
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }
    return table.Table.of(said | changes)


def judged(subject: Subject, made: table.Table, ttl: str | None = None) -> list[Finding]:
    rules = rules_of(subject.config, "users")
    return table.judge(subject, Answer(made), Answer(ttl), rules)


def test_a_table_that_can_be_followed() -> None:
    found = judged(plain(), seen())
    assert bad(found) == []
    assert "ACTIVE, account 444455556666" in found[0].what
    assert seen().keys == (Key("id", "S"),)


def test_a_table_without_a_stream_and_one_that_goes(tmp_path: Path) -> None:
    off = only(judged(plain(), seen(StreamSpecification=None)), "stream")
    assert (off.level, off.mend) == (Level.ERROR, "ddbrelay provision --apply-changes")
    assert "the old one" in (off.why or "")
    states = {"CREATING": "warning", "DELETING": "error", "UPDATING": None}
    for state, level in states.items():
        expected = [] if level is None else [("table", level)]
        assert bad(judged(plain(), seen(TableStatus=state))) == expected
    config = configured(tmp_path, 'redact = ["id"]\n' + _MAIL)
    made = seen(StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"})
    found = judged(about(config), made)
    assert bad(found) == [
        ("view-type", "error"),
        ("redaction", "error"),
    ]
    mend = "ddbrelay provision --view-type NEW_AND_OLD_IMAGES --apply-changes"
    assert {one.mend for one in found if one.check == "view-type"} == {mend}


@pytest.mark.parametrize(
    ("has", "level"), [("expiresAt", []), (None, ["warning"]), ("other", ["warning"])]
)
def test_an_outbox_whose_items_expire_wants_that_of_the_table(
    tmp_path: Path, has: str | None, level: list[str]
) -> None:
    config = configured(tmp_path, 'preset = "outbox"\n[outbox]\nafter = "expire"\n')
    assert [said for _, said in bad(judged(about(config), seen(), has))] == level


def test_a_table_that_is_not_there_and_one_that_may_not_be_described() -> None:
    gone = AwsRefused("does not exist", "provision", code="ResourceNotFoundException")
    (one,) = table.judge(plain(), Answer(refusal=gone), Answer(), ())
    assert (one.level, one.mend) == (Level.ERROR, "ddbrelay provision")
    denied = AwsRefused("not allowed to describe", "add it", code="AccessDeniedException")
    (one,) = table.judge(plain(), Answer(refusal=denied), Answer(), ())
    assert (one.level, one.what) == (Level.ERROR, "not allowed to describe")


# Which events there are


def names(config: Config) -> list[tuple[str, str]]:
    kinds = kinds_of(config, "users", rules_of(config, "users"), "users-bus")
    return [(str(kind.source), kind.name) for kind in kinds]


def test_the_events_of_a_mapping_by_name(tmp_path: Path) -> None:
    own = "ddbrelay.users"
    verbs = ("Created", "Updated", "Deleted", "Expired")
    assert names(configured(tmp_path)) == [(own, f"User{verb}") for verb in verbs]
    assert names(configured(tmp_path, _MAIL + _PLACED)) == [
        (own, "EmailChanged"),
        (own, "…Placed"),
    ]
    assert names(configured(tmp_path, _OUTBOX)) == [
        (own, "events of any type"),
        ("…", "events of any type"),
    ]
    entities = 'preset = "single-table"\n[single_table]\nentities = { USER = "User" }\n'
    assert names(configured(tmp_path, entities))[0] == (own, "UserCreated")
    assert names(configured(tmp_path, 'preset = "single-table"')) == [(own, "events of any type")]
    plain_rule = '[[rule]]\nwhen = { eventName = ["REMOVE"] }\nsource = "s.{table}"\nbus = "b"\n'
    assert names(configured(tmp_path, plain_rule)) == [
        ("s.…", "UserDeleted"),
        ("s.…", "UserExpired"),
    ]


def test_a_name_with_holes_is_a_wildcard() -> None:
    made = {text: Name.of(Template(text)) for text in ("A{id}{table}*", "{{a}}{id}b", "X")}
    assert made["A{id}{table}*"] == Name(None, r"A*\*")
    assert made["{{a}}{id}b"] == Name(None, "{a}*")
    assert made["X"] == Name("X")


@pytest.mark.parametrize(
    ("pattern", "may"),
    [
        ({"source": ["shop"]}, True),
        ({"source": [{"prefix": "sh"}], "detail": {"total": [{"numeric": [">", 5]}]}}, True),
        ({"source": ["other"]}, False),
        ({"source": ["shop"], "detail-type": ["OrderPlaced"]}, True),
        ({"source": ["shop"], "detail-type": ["OrderPlacd"]}, False),
        ({"$or": [{"source": ["other"]}, {"detail-type": [{"suffix": "Placed"}]}]}, True),
        ({"source": ["shop"], "account": ["111122223333"]}, False),
        ({"source": [{"prefix": ""}]}, True),
    ],
)
def test_whether_a_rule_may_match_events_of_a_kind(pattern: dict[str, Any], may: bool) -> None:
    kind = Kind("bus", Name("shop"), Name(None, "*Placed"))
    assert may_match(compile_pattern(pattern), kind, "444455556666") is may


def test_no_event_of_ours_comes_from_aws() -> None:
    pattern = compile_pattern({"source": ["aws.ec2"]})
    assert not may_match(pattern, Kind("bus", UNKNOWN, UNKNOWN))


# Rules


def rule(name: str, pattern: Mapping[str, Any] | None, **more: Any) -> bus.Rule:
    arn = f"arn:aws:events:eu-west-1:444455556666:rule/users-bus/{name}"
    said = {"Name": name, "Arn": arn, "State": "ENABLED", **more}
    made = bus.Rule.of(said | {"EventPattern": json.dumps(pattern)})
    assert made is not None
    return made


KINDS = tuple(
    Kind("users-bus", Name("ddbrelay.users"), Name(f"User{verb}"))
    for verb in ("Created", "Deleted")
)
ALL = {"source": ["ddbrelay.users"]}


def on_bus(*rules: bus.Rule, events: Sequence[Mapping[str, Any]] = ()) -> list[Finding]:
    return bus.judge_rules(plain(), "users-bus", Answer([*rules]), KINDS, events, "444455556666")


def test_every_event_has_a_rule() -> None:
    found = on_bus(rule("all", ALL), rule("bills", {"source": ["billing"]}))
    assert bad(found) == [("others", "note")]
    assert only(found, "heard").what.endswith("all")


def test_a_schedule_an_archive_and_a_listener_receive_nothing() -> None:
    assert bus.Rule.of({"Name": "nightly", "ScheduleExpression": "rate(1 day)"}) is None
    found = on_bus(rule("Events-Archive-users", ALL), rule("ddbrelay-listen-1a2b3c4d", ALL))
    assert bad(found) == [("unheard", "warning")]
    assert found[0].mend == "ddbrelay provision"


def test_an_event_that_no_rule_matches_by_its_name_or_by_its_detail() -> None:
    created = {"source": ["ddbrelay.users"], "detail-type": ["UserCreated"]}
    found = on_bus(rule("created", created))
    assert only(found, "unheard").what == "no enabled rule on users-bus matches UserDeleted"
    adults = rule(
        "adults", {"source": ["ddbrelay.users"], "detail": {"age": [{"numeric": [">", 17]}]}}
    )
    sampled = [
        {"source": "ddbrelay.users", "detail-type": "UserCreated", "detail": {"age": age}}
        for age in (3, 12, 40)
    ]
    assert bad(on_bus(adults)) == []
    words = "2 of 3 sampled UserCreated match no enabled rule on users-bus"
    assert only(on_bus(adults, events=sampled), "unheard").what == words


def test_rules_that_nobody_feeds_are_told_apart_from_those_of_others() -> None:
    typo = {"source": ["ddbrelay.users"], "detail-type": ["UserCreatd"]}
    found = on_bus(
        rule("all", ALL), rule("typo", typo), rule("slip", {"source": ["ddbrelay.user"]})
    )
    assert bad(found) == [("never-fed", "warning"), ("never-fed", "warning")]
    assert [one.why for one in found[:2]] == [
        "it wants the detail-type UserCreatd, did it mean UserCreated?",
        "it wants the source ddbrelay.user, did it mean ddbrelay.users?",
    ]
    strange = on_bus(
        rule("all", ALL), rule("x", {"source": ["ddbrelay.users"], "detail-type": ["Q"]})
    )
    why = "it wants the detail-type Q, ours are UserCreated and UserDeleted"
    assert only(strange, "never-fed").why == why


def test_a_bus_that_no_rule_of_the_mapping_names_lacks_no_receiver() -> None:
    found = bus.judge_rules(plain(), "users-bus", Answer([rule("all", ALL)]), ())
    assert [one.level for one in found] == [Level.NOTE, Level.NOTE]
    assert only(found, "heard").what == "the mapping sends nothing to users-bus"


def test_a_disabled_rule_and_one_whose_pattern_cannot_be_read() -> None:
    found = on_bus(rule("all", ALL, State="DISABLED"))
    assert bad(found) == [("disabled", "warning"), ("unheard", "warning")]
    mend = "aws events enable-rule --name all --event-bus-name users-bus"
    assert found[0].mend == mend
    assert bad(on_bus(rule("new", {"source": [{"newest-operator": 1}]}))) == [("pattern", "note")]


def test_a_bus_that_is_missing_denied_or_not_to_be_reached() -> None:
    subject = plain()
    (one,) = bus.judge(subject, "users-bus", Answer())
    assert (one.level, one.mend) == (Level.ERROR, "ddbrelay provision")
    for code, level in (("AccessDeniedException", Level.NOTE), (None, Level.ERROR)):
        refusal = AwsRefused("no", code=code)
        (one,) = bus.judge(subject, "users-bus", Answer(refusal=refusal))
        assert one.level is level
    (one,) = bus.judge_rules(subject, "b", Answer(refusal=AwsRefused("no")), KINDS)
    assert one.check == "rules"


# What is behind the rules

QUEUE = "arn:aws:sqs:eu-west-1:444455556666:ddbrelay-users"
OURS = rule("ddbrelay-users", ALL)


def policy(arn: str = OURS.arn, **more: Any) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": QUEUE,
        "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
    }
    return json.dumps({"Statement": [statement | more]})


def behind(
    queue: dict[str, str] | None, of: bus.Rule = OURS, arn: str = QUEUE, **said: Any
) -> list[Finding]:
    queue = None if queue is None else {"QueueArn": arn, "QueueUrl": "https://q", **queue}
    return targets.judge_target(plain(), targets.Target(of, arn, said, Answer(queue)))


def test_a_queue_that_takes_what_its_rule_sends() -> None:
    assert bad(behind({"Policy": policy()})) == []
    assert bad(behind({}, RoleArn="arn:aws:iam::444455556666:role/sender")) == []


def test_a_queue_that_is_missing_closed_or_open_to_another_rule() -> None:
    (gone,) = behind(None)
    assert (gone.check, gone.mend) == ("queue", "ddbrelay provision")
    for text in (None, "no JSON", "[]", policy("arn:aws:events:eu-west-1:444455556666:rule/x")):
        made = {} if text is None else {"Policy": text}
        found = behind(made)
        if text is not None and text.startswith('{"S'):
            assert bad(found) == [("queue-policy", "note")]
        else:
            assert bad(found) == [("queue-policy", "error")]
            assert found[0].mend == "ddbrelay provision --apply-changes"
    (closed,) = behind({}, rule("own", ALL))
    assert "aws:SourceArn is arn:aws:events" in (closed.mend or "")


def test_encrypted_and_ordered_queues() -> None:
    managed = behind({"Policy": policy(), "KmsMasterKeyId": "alias/aws/sqs"})
    assert bad(managed) == [("encryption", "warning")]
    own = behind({"Policy": policy(), "KmsMasterKeyId": "arn:aws:kms:eu-west-1:4:key/1a2b"})
    assert bad(own) == [("encryption", "note")]
    fifo = f"{QUEUE}.fifo"
    allowed = {"Policy": policy(Resource=fifo)}
    assert bad(behind(allowed, arn=fifo)) == [("fifo", "error")]
    assert bad(behind(allowed, arn=fifo, SqsParameters={"MessageGroupId": "g"})) == []


def test_targets_of_other_kinds_rules_without_any_and_a_dead_letter_queue_that_is_gone() -> None:
    function = targets.Target(OURS, "arn:aws:lambda:eu-west-1:4:function:f", {})
    assert "not looked at" in targets.judge_target(plain(), function)[0].what
    said = {"DeadLetterConfig": {"Arn": f"{QUEUE}-dead"}}
    queue = Answer({"QueueArn": QUEUE, "Policy": policy()})
    dead = targets.Target(OURS, QUEUE, said, queue, Answer())
    (one,) = targets.judge_target(plain(), dead)
    assert (one.check, one.level) == ("undelivered", Level.WARNING)
    assert dead.fate.endswith("goes to ddbrelay-users-dead")
    both = targets.Target(OURS, QUEUE, said, Answer(), Answer())
    assert bad(targets.judge_target(plain(), both)) == [
        ("queue", "error"),
        ("undelivered", "warning"),
    ]
    called = targets.Target(OURS, function.arn, said, None, Answer())
    assert bad(targets.judge_target(plain(), called)) == [("undelivered", "warning")]
    none = targets.Behind({"ddbrelay-users": Answer([])}, left_out=7)
    assert bad(targets.judge(plain(), "users-bus", none)) == [
        ("targets", "warning"),
        ("targets", "note"),
    ]


def test_words_for_lists_sizes_and_ages() -> None:
    assert listed("a") == "a"
    assert listed("abc") == "a, b and c"
    assert listed("abcdefgh") == "a, b, c, d and 4 more"
    assert [kilobytes(n) for n in (812, 2048, 65_536, 1_400_000)] == [
        "812 bytes",
        "2.0 KB",
        "64 KB",
        "1.3 MB",
    ]
    assert [hours(n) for n in (120, 7200, 400_000)] == ["2 min", "2.0 h", "5 days"]


def test_a_command_of_the_aws_cli_goes_to_the_same_place() -> None:
    subject = about(Config(Settings(table="users", profile="p", region="r"), {}, None))
    assert subject.aws_cli("sqs x") == "aws --profile p --region r sqs x"
    local = about(subject.config, endpoint_url="http://127.0.0.1:1", local=True)
    assert local.aws_cli("sqs x") == "aws --region r --endpoint-url http://127.0.0.1:1 sqs x"


@pytest.mark.parametrize(
    ("preset", "rules", "level", "words"),
    [
        (None, 1, Level.NOTE, "rules (1), everything else skipped"),
        ("crud", 2, Level.OK, "rules (2), everything else mapped by preset crud"),
        (None, 0, Level.OK, "default mapping"),
    ],
)
def test_that_rules_switch_off_default_events_is_said_and_no_fault(
    preset: str | None, rules: int, level: Level, words: str
) -> None:
    mapping = MappingSource(({"detail_type": "UserCreated"},) * rules)
    config = Config(Settings(table="users", preset=preset), {}, None, mapping)
    found = settings.judge_mapping(config)
    assert (found.level, found.what) == (level, words)
    assert ("default events" in (found.why or "")) == (level is Level.NOTE)
