"""Rules that a pipe can carry out become pipes; of the others it is said why not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from exporting import STREAM_ARN, config_of, lay_out, lint

from ddbrelay.config import Config
from ddbrelay.errors import ConfigError
from ddbrelay.export.model import Choices, project_of, types_of
from ddbrelay.export.pipes import (
    NoPipesError,
    Pipes,
    pipe_name,
    pipes_document,
    pipes_of,
    pipes_project,
    pipes_template,
)

TYPES = types_of(
    [
        "id:S",
        "email:S",
        "name:S",
        "age:N",
        "active:BOOL",
        "address.city:S",
        "type:S",
        "ok:NULL",
        "deep:M",
    ]
)
HEAD = '[source]\ntable = "users"\n'
CREATED = """
[[rule]]
name = "created"
when = { eventName = ["INSERT"], new = { type = ["user"] } }
source = "myapp.users"
detail_type = "UserCreated"
detail = "{meta: {id: eventID, v: `1`}, id: keys.id, city: new.address.city, on: new.active}"
"""


def pipes(folder: Path, text: str, **more: Any) -> Pipes:
    config: Config = config_of(folder, HEAD + text)
    return pipes_of(config, project_of(config, Choices(types=TYPES, **more)))


def rule(detail: str = "{id: keys.id}", **more: str) -> str:
    lines = [f"{key} = {value}" for key, value in more.items()]
    when = [] if "when" in more else ['when = { eventName = ["INSERT"] }']
    named = [] if "detail_type" in more else ['detail_type = "Made"']
    return "\n".join(["[[rule]]", 'name = "it"', *when, *named, f"detail = '{detail}'", *lines, ""])


def test_a_rule_becomes_a_filter_and_a_template(tmp_path: Path) -> None:
    made = pipes(tmp_path, CREATED)
    assert made.others == ()
    [one] = made.rules
    assert one.filters == (
        {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"type": {"S": ["user"]}}}},
    )
    assert one.template == (
        '{"meta": {"id": "<$.eventID>", "v": 1}, "id": "<$.dynamodb.Keys.id.S>", '
        '"city": "<$.dynamodb.NewImage.address.M.city.S>", '
        '"on": <$.dynamodb.NewImage.active.BOOL>}'
    )
    properties = pipes_document(made)["Resources"]["Pipe1"]["Properties"]
    assert properties["TargetParameters"]["EventBridgeEventBusParameters"] == {
        "Source": "myapp.users",
        "DetailType": "UserCreated",
        "Resources": ["$.eventSourceARN", "$.eventID"],
    }
    stream = properties["SourceParameters"]["DynamoDBStreamParameters"]
    assert stream["BatchSize"] == 10
    assert stream["OnPartialBatchItemFailure"] == "AUTOMATIC_BISECT"
    assert stream["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["FailedQueue", "Arn"]}}


def test_a_table_of_the_file_becomes_a_template_too(tmp_path: Path) -> None:
    text = (
        '[[rule]]\nname = "it"\nwhen = { eventName = ["INSERT"] }\ndetail_type = "{new.type}"\n'
        'source = "{new.name}"\nresources = ["{keys.id}"]\n'
        '[rule.detail]\nid = "{keys.id}"\nkind = "user"\nparts = [1, true, "{new.email}"]\n'
        'table = "{table}"\n'
    )
    [one] = pipes(tmp_path, text).rules
    assert one.template == (
        '{"id": "<$.dynamodb.Keys.id.S>", "kind": "user", '
        '"parts": [1, true, "<$.dynamodb.NewImage.email.S>"], "table": "users"}'
    )
    assert (one.source, one.detail_type) == (
        "$.dynamodb.NewImage.name.S",
        "$.dynamodb.NewImage.type.S",
    )
    assert one.resources == ("$.dynamodb.Keys.id.S",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (rule("{n: length(new.email)}"), "beyond plain paths"),
        (rule("new"), "has all of new only with DynamoDB's types"),
        (rule("new.email"), "not written as an object"),
        (rule("{n: new.phone}"), r"the type of phone is not known \(--attribute phone:S\)"),
        (rule("{n: new.age}"), "new.age is a number, which a pipe makes a text"),
        (rule("{n: time}"), "a pipe does not know time"),
        (rule('{n: `"<$.x>"`}'), "would take for a path"),
        (rule(detail_type='"{new.type}Made"'), "its detail_type .* is neither a text nor one"),
        (rule(when='{ changed = ["email"] }'), "cannot filter on changed"),
        (rule(when="{ new = { age = [{ numeric = ['>', 5] }] } }"), "cannot filter new.age"),
        (rule(when="{ new = { name = [{ suffix = 'x' }] } }"), "cannot filter new.name"),
        (rule(when="{ new = { phone = [{ exists = true }] } }"), "the type of phone is not known"),
        (rule(when="{ new = { name = [{ wildcard = 'a*b' }] } }"), "filter new.name by wildcard"),
        (rule(when="{ new = { name = ['a', { wildcard = 'b*' }] } }"), "new.name by wildcard"),
        (
            rule(when="{ new = { 'address.city' = ['Oslo'] } }"),
            "new.address.city is a path or a name, a pipe takes one",
        ),
        (rule(when="{ new = { ok = ['x'] } }"), "cannot filter new.ok in this way"),
        (rule(when="{ new = { deep = [{ exists = true }] } }"), "cannot filter new.deep by exists"),
        (rule(envelope='"metadata"'), "its events have the envelope metadata: a pipe cannot"),
        (rule(redact='["email", "phone"]'), "it redacts email, phone: a pipe cannot"),
        (rule(time='"new.at"'), "it sets the time of its events: a pipe sets its own"),
        (rule(trace_header='"{new.email}"'), "it sets a trace header: a pipe cannot"),
        (rule().replace("detail = '{id: keys.id}'", ""), "it has no detail, and a pipe has the"),
    ],
)
def test_what_no_pipe_can_do_is_named_with_the_reason(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(NoPipesError, match="no rule can be exported as a pipe") as refused:
        pipes(tmp_path, text)
    [(name, said)] = refused.value.others
    assert name == "it"
    assert re.search(why, said)
    assert "\n" not in said


def test_the_other_rules_are_exported_and_the_template_says_what_is_missing(
    tmp_path: Path,
) -> None:
    text = CREATED + rule("{n: length(new.email)}", when='{ eventName = ["REMOVE"] }')
    made = pipes(tmp_path, text)
    assert [one.name for one in made.rules] == ["created"]
    assert made.others == (("it", "its detail has JMESPath beyond plain paths"),)
    assert '# - rule "it": its detail has JMESPath beyond plain paths' in pipes_template(made)
    assert "JMESPath beyond plain paths" in pipes_project(made)["README.md"].decode()


def test_a_rule_that_an_earlier_one_may_hide_is_not_exported(tmp_path: Path) -> None:
    later = rule(when="{ new = { active = [true] } }")
    made = pipes(tmp_path, CREATED + later)
    assert [name for name, _ in made.others] == ["it"]
    assert 'rule "created" before it may match the same change' in made.others[0][1]
    skip = '[[rule]]\nname = "no"\nwhen = { eventName = ["REMOVE"] }\nskip = true\n'
    assert pipes(tmp_path, skip + CREATED).others == ()
    assert pipes(tmp_path, CREATED + rule(when='{ new = { type = ["x"] } }')).others == ()


def test_a_rule_behind_one_that_continues_is_exported_where_it_does_not_ask_for_its_id(
    tmp_path: Path,
) -> None:
    first = CREATED + "continue = true\n"
    made = pipes(tmp_path, first + rule(resources='["{streamArn}", "{eventID}"]'))
    assert [one.name for one in made.rules] == ["created", "it"]
    assert made.others == ()
    [note] = made.notes
    assert note.startswith("where a rule continues, each pipe sends its own event of a change")
    [(name, why)] = pipes(tmp_path, first + rule()).others
    assert name == "it"
    assert why.startswith('its id depends on whether rule "created" raised an event of the same')
    assert 'resources = ["{streamArn}", "{eventID}"]' in why
    apart = rule(when='{ eventName = ["REMOVE"] }')
    assert pipes(tmp_path, first + apart).others == ()


def test_buses_of_rules_that_are_pipes_are_made_and_no_others(tmp_path: Path) -> None:
    removed = rule(when='{ eventName = ["REMOVE"] }', bus='"audit-bus"')
    other = removed.replace('"it"', '"other"').replace("audit", "else").replace("REMOVE", "MODIFY")
    text = CREATED + removed + other.replace("keys.id", "length(new.email)")
    found = pipes_document(pipes(tmp_path, text))["Resources"]
    buses = {name for name, one in found.items() if one["Type"] == "AWS::Events::EventBus"}
    assert buses == {"Bus", "BusAuditBus"}
    assert found["Pipe2"]["Properties"]["Target"] == {"Fn::GetAtt": ["BusAuditBus", "Arn"]}
    [publish] = [
        one
        for one in found["PipeRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        if one["Sid"] == "PublishTheEvents"
    ]
    assert publish["Resource"] == [
        {"Fn::GetAtt": ["Bus", "Arn"]},
        {"Fn::GetAtt": ["BusAuditBus", "Arn"]},
    ]


def test_the_item_to_try_is_for_a_rule_that_is_a_pipe(tmp_path: Path) -> None:
    first = rule("{n: length(new.email)}", when='{ eventName = ["INSERT"], new.type = ["a"] }')
    made = pipes(tmp_path, first.replace('"it"', '"other"') + CREATED)
    assert [one.name for one in made.rules] == ["created"]
    assert json.loads(made.project.sample.item or "")["type"] == {"S": "user"}


def test_more_than_two_readers_of_a_stream_are_said(tmp_path: Path) -> None:
    rules = "".join(
        rule(when=f'{{ eventName = ["{name}"] }}').replace('"it"', f'"{name}"')
        for name in ("INSERT", "MODIFY", "REMOVE")
    )
    [note] = pipes(tmp_path, rules).notes
    assert note.startswith("3 pipes read one stream, and AWS allows 2 readers")


def test_the_users_own_code_is_for_a_function(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a mapping without rules cannot be exported") as refused:
        pipes(tmp_path, "")
    assert refused.value.hint == "ddbrelay export sam makes a function of it"


@pytest.mark.slow
@pytest.mark.parametrize("stream", [None, STREAM_ARN], ids=["a new table", "an existing table"])
def test_cfn_lint_has_nothing_against_the_template(tmp_path: Path, stream: str | None) -> None:
    text = CREATED + rule(when='{ eventName = ["REMOVE"] }', bus='"audit-bus"')
    lay_out(tmp_path, pipes_project(pipes(tmp_path, text, stream_arn=stream)))
    assert lint(tmp_path / "template.yaml") == ""


def test_names_of_pipes_fit_and_do_not_meet() -> None:
    rules = ["short", "with spaces", "with-spaces", "x" * 100, "x" * 101]
    names = [pipe_name("users", one) for one in rules]
    assert names[0] == "ddbrelay-users-short"
    assert len(set(names)) == len(names)
    assert all(len(name) <= 64 for name in names)
