"""The SAM project is one that AWS's own tools take, and what it makes is what was asked for."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from exporting import RULES, STREAM_ARN, TOPIC, config_of, lay_out, lint, project

from ddbrelay.config import load
from ddbrelay.errors import ConfigError
from ddbrelay.export.model import Choices, Project, name_of
from ddbrelay.export.sam import sam_document, sam_project, sam_template

FULL = Choices(
    key="pk:S",
    sort_key="at:N",
    batch_size=500,
    window=2,
    parallelization=10,
    max_age=-1,
    retries=7,
    architecture="x86_64",
    runtime="python3.12",
    alarm_age=3600,
    alarm_topic=TOPIC,
)


def resources(one: Project) -> dict[str, Any]:
    found: dict[str, Any] = sam_document(one)["Resources"]
    return found


def statements(one: Project) -> dict[str, dict[str, Any]]:
    policies = resources(one)["FunctionRole"]["Properties"]["Policies"]
    return {said["Sid"]: said for said in policies[0]["PolicyDocument"]["Statement"]}


def transformed(one: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    from samtranslator.translator.transform import transform

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    document = yaml.safe_load(sam_template(one))
    # What sam package puts there.
    document["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://bucket/package.zip"

    class NoPolicies:
        def load(self) -> dict[str, str]:
            return {}

    made: dict[str, Any] = transform(document, {}, NoPolicies())
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [Choices(), FULL, Choices(stream_arn=STREAM_ARN, existing_bus=True)],
    ids=["as it is", "every choice", "an existing table"],
)
def test_cfn_lint_has_nothing_against_the_template(tmp_path: Path, choices: Choices) -> None:
    made = project(tmp_path, choices=choices, claim_check="s3://bucket-x/claims")
    lay_out(tmp_path, sam_project(made))
    assert lint(tmp_path / "template.yaml") == ""


def test_the_translator_makes_the_event_source_mapping_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transformed(project(tmp_path, choices=FULL), monkeypatch)["Resources"]
    [mapping] = [one for one in made.values() if one["Type"] == "AWS::Lambda::EventSourceMapping"]
    asked = mapping["Properties"]
    patterns = [one["Pattern"] for one in asked.pop("FilterCriteria")["Filters"]]
    assert patterns == [
        '{"eventName":["INSERT"],"dynamodb":{"NewImage":{"type":{"S":["user",{"exists":false}]}}}}',
        '{"eventName":["MODIFY"]}',
    ]
    assert asked == {
        "EventSourceArn": {"Fn::GetAtt": ["Table", "StreamArn"]},
        "FunctionName": {"Ref": "Function"},
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 500,
        "MaximumBatchingWindowInSeconds": 2,
        "ParallelizationFactor": 10,
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 7,
        "MaximumRecordAgeInSeconds": -1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["FailedQueue", "Arn"]}}},
    }


def test_the_translator_adds_no_role_and_no_managed_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transformed(project(tmp_path), monkeypatch)["Resources"]
    roles = {name: one for name, one in made.items() if one["Type"] == "AWS::IAM::Role"}
    assert roles.keys() == {"FunctionRole"}
    assert "ManagedPolicyArns" not in roles["FunctionRole"]["Properties"]
    assert "AWS::IAM::Policy" not in {one["Type"] for one in made.values()}


def test_the_role_may_do_what_the_function_does_and_nothing_else(tmp_path: Path) -> None:
    said = statements(project(tmp_path, claim_check="s3://bucket-x/claims"))
    assert said.keys() == {
        "ReadTheStream",
        "ListTheStreams",
        "PublishTheEvents",
        "ReportFailures",
        "WriteTheLog",
        "WriteClaimChecks",
        "LookAtTheBucket",
    }
    assert said["ReadTheStream"]["Resource"] == {"Fn::GetAtt": ["Table", "StreamArn"]}
    assert said["WriteClaimChecks"]["Resource"] == {
        "Fn::Sub": "arn:${AWS::Partition}:s3:::bucket-x/claims/*"
    }
    assert not any("*" in one["Action"] or one["Resource"] == "*" for one in said.values())


def test_publishing_is_allowed_for_the_sources_and_buses_of_the_rules(tmp_path: Path) -> None:
    said = statements(project(tmp_path))["PublishTheEvents"]
    assert said["Condition"] == {
        "StringLike": {"events:source": ["myapp.users", "ddbrelay.users", "shop.*"]}
    }
    assert said["Resource"] == [
        {"Fn::GetAtt": ["Bus", "Arn"]},
        {"Fn::GetAtt": ["BusAuditBus", "Arn"]},
    ]


def test_buses_that_are_there_are_named_and_not_made(tmp_path: Path) -> None:
    there = project(tmp_path, choices=Choices(existing_bus=True))
    audit = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/audit-bus"
    assert statements(there)["PublishTheEvents"]["Resource"][1] == {"Fn::Sub": audit}
    assert not [one for one in resources(there).values() if one["Type"] == "AWS::Events::EventBus"]
    arn = "arn:aws:events:eu-west-1:444455556666:event-bus/theirs"
    theirs = project(tmp_path, RULES.replace("audit-bus", arn))
    assert statements(theirs)["PublishTheEvents"]["Resource"][1] == arn
    assert theirs.new_buses == ()


def test_buses_of_alike_names_stay_apart_whatever_the_order(tmp_path: Path) -> None:
    text = RULES + (
        '[[rule]]\nname = "more"\nwhen = { eventName = ["MODIFY"], new = { kind = ["x"] } }\n'
        'detail_type = "More"\nbus = "audit.bus"\n'
    )
    swapped = text.replace("audit-bus", "x").replace("audit.bus", "audit-bus")
    found = []
    for one in (text, swapped.replace('"x"', '"audit.bus"')):
        made = resources(project(tmp_path, one))
        found.append(
            {
                name: bus["Properties"]["Name"]
                for name, bus in made.items()
                if bus["Type"] == "AWS::Events::EventBus"
            }
        )
    assert found[0] == found[1]
    assert sorted(found[0].values()) == ["audit-bus", "audit.bus", "users-bus"]


def test_the_rule_behind_the_bus_is_for_the_same_sources(tmp_path: Path) -> None:
    rule = resources(project(tmp_path))["Rule"]["Properties"]
    assert rule["EventPattern"] == {
        "source": ["myapp.users", "ddbrelay.users", {"prefix": "shop."}]
    }
    assert rule["Name"] == "ddbrelay-users"


def test_an_existing_table_is_not_made_again(tmp_path: Path) -> None:
    made = resources(project(tmp_path, choices=Choices(stream_arn=STREAM_ARN, existing_bus=True)))
    assert "Table" not in made
    assert "Bus" not in made
    assert made["Function"]["Properties"]["Events"]["Stream"]["Properties"]["Stream"] == STREAM_ARN
    assert made["Rule"]["Properties"]["EventBusName"] == "users-bus"


def test_a_table_that_is_made_outlives_its_stack(tmp_path: Path) -> None:
    table = resources(project(tmp_path, choices=FULL))["Table"]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ]
    assert table["Properties"]["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_an_outbox_gets_its_filter_and_its_expiry(tmp_path: Path) -> None:
    text = 'preset = "outbox"\n[source]\ntable = "outbox"\n[outbox]\nafter = "expire"\n'
    made = project(tmp_path, text)
    assert made.filters.patterns == ({"eventName": ["INSERT"]},)
    table = resources(made)["Table"]["Properties"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}
    assert statements(made)["SettleItems"]["Action"] == ["dynamodb:UpdateItem"]
    assert "Condition" not in statements(made)["PublishTheEvents"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[source]\ntable = "users"\n', "crud"),
        (RULES.replace("[source]", "strict = true\n[source]", 1), "strict"),
        (RULES.replace("[source]", 'preset = "crud"\n[source]', 1), "crud"),
    ],
    ids=["no rules", "strict", "a preset"],
)
def test_where_every_record_counts_there_is_no_filter(tmp_path: Path, text: str, why: str) -> None:
    made = project(tmp_path, text)
    assert made.filters.patterns == ()
    assert why in made.filters.notes[0]
    properties = resources(made)["Function"]["Properties"]["Events"]["Stream"]["Properties"]
    assert "FilterCriteria" not in properties


def test_a_single_table_is_filtered_by_the_prefixes_of_its_entities(tmp_path: Path) -> None:
    text = (
        'preset = "single-table"\n[source]\ntable = "app"\n[single_table]\nkey = "PK"\n'
        '[single_table.entities]\nUSER = "User"\n'
    )
    made = project(tmp_path, text, choices=Choices(key="PK:S", sort_key="SK:S"))
    assert made.filters.patterns == (
        {"dynamodb": {"Keys": {"PK": {"S": ["USER", {"prefix": "USER#"}]}}}},
    )


def test_the_function_gets_the_file_without_the_account_of_who_wrote_it(tmp_path: Path) -> None:
    text = RULES + '\n[aws]\nprofile = "dev" # mine\nregion = "eu-west-1"\nlocal = true\n'
    files = sam_project(project(tmp_path, text, table="users"))
    packaged = files["function/ddbrelay.toml"].decode()
    assert tomllib.loads(packaged) == tomllib.loads(text) | {"aws": {}}
    assert len(packaged.splitlines()) == len(text.splitlines())
    assert files["function/requirements.txt"].startswith(b"ddbrelay==")


def test_schemas_and_the_users_own_module_go_into_the_package(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "user.json").write_text('{"type": "object"}')
    text = RULES.replace("bus = ", 'schema = "schemas/user.json"\nbus = ')
    assert b"object" in sam_project(project(tmp_path, text))["function/schemas/user.json"]
    (tmp_path / "own_of_export.py").write_text("def to_event(change):\n    return None\n")
    own = 'mapper = "own_of_export:to_event"\n[source]\ntable = "users"\n'
    made = project(tmp_path, own)
    assert b"to_event" in sam_project(made)["function/own_of_export.py"]
    assert made.filters.patterns == ()
    assert made.pattern == {"source": [{"anything-but": {"prefix": "aws."}}]}


def test_a_schema_outside_of_the_folder_cannot_be_packaged(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "user.json").write_text('{"type": "object"}')
    with pytest.raises(ConfigError, match="outside of the folder"):
        project(inner, RULES.replace("bus = ", 'schema = "../user.json"\nbus = '))


def test_what_flags_and_variables_say_stands_in_the_environment_of_the_function(
    tmp_path: Path,
) -> None:
    config_of(tmp_path)
    config = load({"table": "users"}, {"DDBRELAY_REDACT": "ssn,card"}, tmp_path)
    from ddbrelay.export.model import project_of

    made = project_of(config, Choices())
    assert made.variables == {
        "DDBRELAY_TABLE": "users",
        "DDBRELAY_BUS": "users-bus",
        "DDBRELAY_REDACT": "ssn,card",
    }


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (Choices(stream_arn="arn:aws:dynamodb:x"), "not the ARN of a stream"),
        (Choices(stream_arn=STREAM_ARN.replace("users", "orders")), 'of table "orders"'),
        (Choices(alarm_topic="alarms"), "not the ARN of an SNS topic"),
        (Choices(key="id:X"), "not a key"),
        (Choices(runtime="python3.11"), "python3.11 on arm64 has a Linux that is older"),
        (Choices(window=0, batch_size=11), "more than 10 records for one second at least"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(tmp_path: Path, choices: Choices, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        project(tmp_path, choices=choices)


def test_the_same_configuration_gives_the_same_bytes(tmp_path: Path) -> None:
    one = project(tmp_path)
    assert sam_project(one) == sam_project(replace(one))


@pytest.mark.parametrize("table", ["a" * 255, "dots.in.it", "users"])
def test_names_fit_the_limits_of_their_services(table: str) -> None:
    names = {name_of(table, suffix, limit) for suffix, limit in [("", 64), ("-dead", 80)]}
    assert all(len(name) <= 80 and "." not in name for name in names)
    assert len(name_of(table, "", 64)) <= 64
    assert len(names) == 2


@pytest.mark.parametrize("text", [RULES, RULES.replace("audit-bus", "audit/bus")])
def test_a_bus_with_a_slash_can_be_there_and_cannot_be_made(tmp_path: Path, text: str) -> None:
    bus = "aws.partner/example.com/shop" if text == RULES else "users-bus"
    with pytest.raises(ConfigError, match="cannot be made: only a partner's bus has a slash"):
        project(tmp_path, text, bus=bus)
    assert project(tmp_path, text, bus=bus, choices=Choices(existing_bus=True)).new_buses == ()
    with pytest.raises(ConfigError, match='"shop/users" is not a name of a bus'):
        project(tmp_path, bus="shop/users", choices=Choices(existing_bus=True))
