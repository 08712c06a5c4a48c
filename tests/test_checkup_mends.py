"""The mends that the doctor prints: each, run as it is printed, makes away with its finding."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, objects
from test_checkup import KINDS, about, configured, only, plain, rule, seen

from ddbrelay.aws.session import Aws
from ddbrelay.checkup import bus, table, targets
from ddbrelay.checkup.asking import Answer
from ddbrelay.checkup.findings import Subject
from ddbrelay.checkup.kinds import kinds_of
from ddbrelay.infra.names import queue_name, rule_name
from ddbrelay.mappings import rules_of

# Their words


def of_table(**changes: Any) -> Subject:
    """Of a run whose table was seen."""
    return replace(plain(), seen=seen(**changes))


_ORDERS = {
    "AttributeDefinitions": [
        {"AttributeName": "customer", "AttributeType": "S"},
        {"AttributeName": "at", "AttributeType": "N"},
    ],
    "KeySchema": [
        {"AttributeName": "customer", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ],
}
_NEW_ONLY = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}}


def test_provision_is_told_what_the_table_is_like() -> None:
    assert plain().provision() == "ddbrelay provision"
    assert of_table().provision() == "ddbrelay provision --apply-changes"
    keyed = "ddbrelay provision --key customer:S --sort-key at:N"
    assert of_table(**_ORDERS).provision() == f"{keyed} --apply-changes"
    assert (
        of_table(**_ORDERS, **_NEW_ONLY).provision()
        == f"{keyed} --view-type NEW_IMAGE --apply-changes"
    )
    odd = _ORDERS | {"KeySchema": [{"AttributeName": "my key", "KeyType": "HASH"}]}
    assert "--key 'my key:S'" in of_table(**odd).provision()


def test_a_table_on_moto_is_made_anew_where_its_stream_would_have_to_change() -> None:
    on_moto = {"TableArn": "arn:aws:dynamodb:us-east-1:123456789012:table/users"}
    for stream in (
        {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
        {"StreamEnabled": False},
    ):
        made = seen(**on_moto, **_ORDERS, StreamSpecification=stream)
        local = about(plain().config, local=True, emulated=True)
        found = table.judge(local, Answer(made), Answer(None), ())
        (mend,) = {one.mend for one in found if one.mend}
        assert mend is not None
        assert not mend.startswith("ddbrelay")
        for command in ("ddbrelay teardown", "ddbrelay provision --key customer:S --sort-key at:N"):
            assert command in mend
        assert "--apply-changes" not in mend
        real = table.judge(plain(), Answer(made), Answer(None), ())
        assert all("--apply-changes" in (one.mend or "--apply-changes") for one in real)


def test_a_bus_that_is_missing_is_made_by_whoever_can() -> None:
    (own,) = bus.judge(of_table(), "users-bus", Answer())
    assert own.mend == "ddbrelay provision --apply-changes"
    (other,) = bus.judge(of_table(), "ghost-bus", Answer())
    assert other.mend == "aws events create-event-bus --name ghost-bus"
    (foreign,) = bus.judge(of_table(), "arn:aws:events:eu-west-1:1:event-bus/b", Answer())
    assert foreign.mend is None


def test_a_rule_for_another_bus_has_the_sources_of_what_goes_there(tmp_path: Path) -> None:
    text = """
    [[rule]]
    when = { eventName = ["INSERT"] }
    detail_type = "A"
    source = "it's own"
    bus = "ghost-bus"
    [[rule]]
    detail_type = "B"
    source = "of.{keys.id}"
    bus = "ghost-bus"
    """
    config = configured(tmp_path, text)
    kinds = kinds_of(config, "users", rules_of(config, "users"), "users-bus")
    found = bus.judge_rules(about(config), "ghost-bus", Answer([]), kinds)
    words = shlex.split(only(found, "unheard").mend or "")
    assert words[:7] == (
        ["aws", "events", "put-rule", "--name", "ddbrelay-users", "--event-bus-name", "ghost-bus"]
    )
    pattern = json.loads(words[words.index("--event-pattern") + 1])
    assert pattern == {"source": ["it's own", {"wildcard": "of.*"}]}


def test_events_that_provision_s_rule_would_not_match_get_no_provision() -> None:
    strange = {"source": "shop", "detail-type": "UserCreated", "detail": {}}
    ours = strange | {"source": "ddbrelay.users"}
    narrow = rule("narrow", {"source": ["ddbrelay.users"], "detail": {"a": ["b"]}})
    for event, mend in (
        (ours, "ddbrelay provision --apply-changes"),
        (strange, "a rule of your own on users-bus, for the source shop"),
    ):
        found = bus.judge_rules(of_table(), "users-bus", Answer([narrow]), KINDS, [event])
        assert only(found, "unheard").mend == mend


def test_a_rule_that_is_never_fed_and_not_ours_is_told_in_words() -> None:
    typo = {"source": ["ddbrelay.users"], "detail-type": ["UserCreatd"]}
    for name, mend in (
        ("other", "correct its pattern (aws events put-rule), or the mapping"),
        ("ddbrelay-users", "ddbrelay provision --apply-changes"),
    ):
        found = bus.judge_rules(of_table(), "users-bus", Answer([rule(name, typo)]), KINDS)
        assert only(found, "never-fed").mend == mend


def test_a_fifo_queue_is_made_as_one_and_its_target_keeps_what_it_has() -> None:
    arn = "arn:aws:sqs:eu-west-1:444455556666:x.fifo"
    said = {"Id": "7", "Arn": arn, "InputPath": "$.detail"}
    target = targets.Target(rule("own", {}), arn, said, Answer())
    (gone,) = targets.judge_target(plain(), target)
    assert gone.mend == "aws sqs create-queue --queue-name x.fifo --attributes FifoQueue=true"
    there = Answer({"QueueArn": arn, "Policy": None})
    (fifo,) = (
        one
        for one in targets.judge_target(plain(), targets.Target(rule("own", {}), arn, said, there))
        if one.check == "fifo"
    )
    words = shlex.split(fifo.mend or "")
    assert words[:-1] == shlex.split(
        "aws events put-targets --rule own --event-bus-name users-bus --targets"
    )
    assert json.loads(words[-1]) == [said | {"SqsParameters": {"MessageGroupId": "own"}}]


def test_a_target_to_be_filled_in_is_no_redirection_to_a_shell() -> None:
    none = targets.Behind({"own": Answer([])})
    (one,) = targets.judge(plain(), "users-bus", none)
    assert shlex.split(one.mend or "")[-1] == "Id=1,Arn=<arn>"
    done = subprocess.run(["bash", "-n", "-c", one.mend or "("], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "'Id=1,Arn=<arn>'" in (one.mend or "")


def test_a_queue_of_ours_behind_a_rule_of_our_name_on_another_bus_is_not_provision_s() -> None:
    arn = "arn:aws:sqs:eu-west-1:444455556666:ddbrelay-users"
    ours = rule("ddbrelay-users", {})
    elsewhere = replace(ours, arn=ours.arn.replace("users-bus", "ghost-bus"))
    assert (ours.bus, elsewhere.bus) == ("users-bus", "ghost-bus")
    for of, mend in (
        (ours, "ddbrelay provision"),
        (elsewhere, "aws sqs create-queue --queue-name ddbrelay-users"),
    ):
        (one,) = targets.judge_target(plain(), targets.Target(of, arn, {}, Answer()))
        assert one.mend == mend


def test_a_command_of_the_aws_cli_goes_where_local_goes() -> None:
    local = about(plain().config, endpoint_url="http://me:secret@127.0.0.1:1", local=True)
    assert local.aws_cli("sqs x") == (
        "aws --region eu-west-1 --endpoint-url http://127.0.0.1:1 sqs x"
    )


@ON_MOTO
def test_a_keys_only_table_on_the_embedded_moto_is_not_changed(
    cli: Cli, aws: Aws, name: str
) -> None:
    stream = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    aws.client("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", StreamSpecification=stream, **_ORDERS
    )
    found = objects(cli.run("doctor", "--output", "json").stdout)[:-1]
    mend = next(one["mend"] for one in found if one["check"] == "view-type")
    assert mend.startswith("moto cannot give a table a second stream: make it anew")
    assert mend.endswith("ddbrelay --local provision --key customer:S --sort-key at:N")


# Run as they are printed


class World:
    """A run's flags and the embedded AWS, as a situation makes them."""

    def __init__(self, cli: Cli, aws: Aws, name: str) -> None:
        self.cli, self.aws, self.name = cli, aws, name
        self.flags: list[str] = []

    def provisioned(self) -> World:
        Pipeline(self.aws, self.name)
        return self

    def configure(self, text: str) -> World:
        (self.cli.directory / "ddbrelay.toml").write_text(text)
        return self

    def look(self) -> list[dict[str, Any]]:
        done = self.cli.run("doctor", *self.flags, "--output", "json")
        assert done.returncode in (0, 5), done.stderr
        return [one for one in objects(done.stdout) if one["type"] == "finding"]

    def mend(self, command: str) -> None:
        """Run what is printed; a relay ends once it has nothing to do."""
        for part in command.split(" && "):
            program, *words = shlex.split(part)
            if program == "aws":
                self._call(words)
            else:
                ends = ["--until-idle", "0.3s"] if "--forward" in words else []
                assert program == "ddbrelay"
                done = self.cli.run(*words, *ends)
                assert done.returncode in ((0, 4) if ends else (0,)), (part, done.stderr)

    def _call(self, words: list[str]) -> None:
        """What the AWS CLI would do, by its rules for names and values."""
        region, endpoint = words[1], words[3]
        assert (words[0], words[2]) == ("--region", "--endpoint-url")
        service, operation, *rest = words[4:]
        client = boto3.client(
            service,  # type: ignore[call-overload]
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        if (service, operation) == ("s3", "mb"):
            client.create_bucket(Bucket=rest[0].removeprefix("s3://"))
            return
        given = dict(zip(rest[::2], rest[1::2], strict=True))
        method = operation.replace("-", "_")
        shape = client.meta.service_model.operation_model(
            client.meta.method_to_api_mapping[method]
        ).input_shape
        parameters = {
            member: _value(given.pop(flag), kind.type_name)
            for member, kind in shape.members.items()
            if (flag := f"--{boto3.session.botocore.xform_name(member, '-')}") in given
        }
        assert not given
        answer = getattr(client, method)(**parameters)
        assert not answer.get("FailedEntries")


def _value(text: str, kind: str) -> Any:
    if kind == "string":
        return text
    if text[0] in "[{":
        return json.loads(text)
    return dict(pair.split("=", 1) for pair in text.split(","))


def _another_bus(world: World) -> None:
    world.provisioned().flags = ["--bus", f"{world.name}-other"]


def _another_source(world: World) -> None:
    world.provisioned().flags = ["--source", "shop"]


def _a_rule_with_a_bus_of_its_own(world: World) -> None:
    text = f'[[rule]]\ndetail_type = "A"\nsource = "its.own"\nbus = "{world.name}-ghost"\n'
    world.provisioned().configure(text)


def _a_table_of_somebody_else(world: World) -> None:
    world.aws.client("dynamodb").create_table(
        TableName=world.name, BillingMode="PAY_PER_REQUEST", **_ORDERS
    )


def _an_outbox_that_keeps_its_items(world: World) -> None:
    _a_table_of_somebody_else(world)
    world.configure('preset = "outbox"\n[outbox]\nafter = "expire"\n')


def _a_queue_that_is_gone(world: World) -> None:
    sqs = world.provisioned().aws.client("sqs")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=queue_name(world.name))["QueueUrl"])


def _a_queue_without_a_policy(world: World) -> None:
    sqs = world.provisioned().aws.client("sqs")
    url = sqs.get_queue_url(QueueName=queue_name(world.name))["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})


def _a_rule_without_a_target(world: World) -> None:
    events, on = world.provisioned().aws.client("events"), f"{world.name}-bus"
    found = events.list_targets_by_rule(Rule=rule_name(world.name), EventBusName=on)["Targets"]
    ids = [one["Id"] for one in found]
    events.remove_targets(Rule=rule_name(world.name), EventBusName=on, Ids=ids)


def _a_rule_that_is_off(world: World) -> None:
    events = world.provisioned().aws.client("events")
    events.disable_rule(Name=rule_name(world.name), EventBusName=f"{world.name}-bus")


def _a_fifo_queue_that_is_gone(world: World) -> None:
    described = world.provisioned().aws.client("dynamodb").describe_table(TableName=world.name)
    place = described["Table"]["TableArn"].split(":table/")[0].replace("dynamodb", "sqs")
    dead = {"Arn": f"{place}:{world.name}-dead"}
    world.aws.client("events").put_targets(
        Rule=rule_name(world.name),
        EventBusName=f"{world.name}-bus",
        Targets=[
            {
                "Id": "f",
                "Arn": f"{place}:{world.name}.fifo",
                "SqsParameters": {"MessageGroupId": "g"},
                "DeadLetterConfig": dead,
            }
        ],
    )


def _settings_that_name_what_is_not_there(world: World) -> None:
    world.provisioned().flags = [
        *("--dead-letter-queue", f"{world.name}-letters"),
        *("--claim-check", f"s3://{world.name}-bucket/x"),
    ]


_SITUATIONS: dict[str, tuple[Callable[[World], object], set[str]]] = {
    "nothing is there": (lambda _: None, {"table", "bus"}),
    "another bus": (_another_bus, {"bus"}),
    "another source": (_another_source, {"unheard"}),
    "a rule with a bus of its own": (_a_rule_with_a_bus_of_its_own, {"bus", "unheard"}),
    "a table of somebody else": (_a_table_of_somebody_else, {"stream", "bus"}),
    "an outbox that keeps its items": (_an_outbox_that_keeps_its_items, {"stream", "ttl", "bus"}),
    "a queue that is gone": (_a_queue_that_is_gone, {"queue"}),
    "a queue without a policy": (_a_queue_without_a_policy, {"queue-policy"}),
    "a rule without a target": (_a_rule_without_a_target, {"targets"}),
    "a rule that is off": (_a_rule_that_is_off, {"disabled", "unheard"}),
    "a FIFO queue that is gone": (_a_fifo_queue_that_is_gone, {"queue", "undelivered"}),
    "settings": (_settings_that_name_what_is_not_there, {"dead-letter-queue", "claim-check"}),
}
_ROUNDS = 3
"""One mend may bring up what could not be seen before it."""


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize("situation", _SITUATIONS)
def test_a_mend_that_is_run_makes_away_with_its_finding(
    cli: Cli, aws: Aws, name: str, situation: str
) -> None:
    stage, expected = _SITUATIONS[situation]
    world = World(cli, aws, name)
    stage(world)
    mended: set[str] = set()
    for _ in range(_ROUNDS):
        found = [one for one in world.look() if _runnable(one["mend"])]
        if not found:
            break
        for command in dict.fromkeys(one["mend"] for one in found):
            world.mend(command)
        left = {(one["check"], one["what"]) for one in world.look()}
        for one in found:
            assert (one["check"], one["what"]) not in left, one
        mended |= {one["check"] for one in found}
    assert expected <= mended


def _runnable(mend: str | None) -> bool:
    return mend is not None and mend.startswith(("ddbrelay ", "aws ")) and "<" not in mend
