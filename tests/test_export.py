"""`ddbrelay export` as a command: what it writes, what it refuses, and its policies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from exporting import RULES

from ddbrelay.aws.session import Aws
from ddbrelay.errors import ConfigError
from ddbrelay.export.existing import of_table
from ddbrelay.export.iam import Scope
from ddbrelay.export.model import Choices
from ddbrelay.infra.plan import Key, Wanted
from ddbrelay.infra.provision import provision


@pytest.fixture
def exporter(bare_cli: Cli) -> Cli:
    (bare_cli.directory / "ddbrelay.toml").write_text(RULES)
    return bare_cli


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sam", {"template.yaml", "samconfig.toml"}),
        ("cdk", {"app.py", "stack.py", "cdk.json", "relay.json", "requirements.txt", "bundle.py"}),
        (
            "terraform",
            {
                *("main.tf", "function.tf", "alarms.tf", "outputs.tf", "variables.tf"),
                *("versions.tf", "relay.auto.tfvars.json", "bundle.py"),
            },
        ),
    ],
)
def test_a_project_is_written_and_a_second_time_nothing_changes(
    exporter: Cli, kind: str, expected: set[str]
) -> None:
    done = exporter.ok("export", kind)
    folder = exporter.directory / f"ddbrelay-{kind}"
    packaged = {"function/ddbrelay.toml", "function/requirements.txt"}
    assert files(folder) == expected | packaged | {"README.md"}
    assert 'rule "email-changed": changed cannot be in a filter' in done.stderr
    assert f"next: cd ddbrelay-{kind} && " in done.stderr
    lines = exporter.json("export", kind)
    assert {line["state"] for line in lines if line["type"] == "file"} == {"unchanged"}
    assert lines[-1] == {
        "type": "summary",
        "format": kind,
        "directory": f"ddbrelay-{kind}",
        "written": 0,
    }


@pytest.mark.slow
def test_what_somebody_changed_is_not_overwritten(exporter: Cli) -> None:
    exporter.ok("export", "sam")
    template = exporter.directory / "ddbrelay-sam" / "template.yaml"
    template.write_text("mine")
    refused = exporter.run("export", "sam", "--batch-size", "7")
    assert refused.returncode == 2
    assert "template.yaml" in refused.stderr
    assert "differ from what would be written" in refused.stderr
    assert "hint: --force replaces what is there" in refused.stderr
    assert template.read_text() == "mine"
    exporter.ok("export", "sam", "--batch-size", "7", "--force", "-q")
    assert "BatchSize: 7" in template.read_text()


@pytest.mark.slow
def test_the_template_alone_is_printed(exporter: Cli) -> None:
    done = exporter.ok("export", "sam", "--stdout")
    assert done.stdout.startswith("# A DynamoDB stream relayed to EventBridge")
    assert files(exporter.directory) == {"ddbrelay.toml"}


@pytest.mark.slow
def test_a_rule_that_is_no_pipe_fails_a_strict_export_only(exporter: Cli) -> None:
    words = ("export", "pipes", "--attribute", "name:S", "--attribute", "type:S")
    done = exporter.ok(*words)
    assert 'note: rule "email-changed" is left out: ' in done.stderr
    assert files(exporter.directory / "ddbrelay-pipes") == {"template.yaml", "README.md"}
    refused = exporter.run(*words, "--strict-export", "--dir", "strict")
    assert refused.returncode == 2
    assert "2 rules cannot be exported as pipes" in refused.stderr
    assert not (exporter.directory / "strict").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sam", "--attribute", "email"), '"email" is not an attribute with its type'),
        (("sam", "--max-age", "5s"), "5s is not between 60 s and 604800 s"),
        (("iam-policy", "--account", "12"), '"12" is not an AWS account'),
        (("iam-policy", "--config-at", "ssm:/x"), "--config-at is about the function, not relay"),
        (("cdk", "--dir", ""), "an empty text names no folder"),
    ],
)
@pytest.mark.slow
def test_a_wrong_option_is_one_line(exporter: Cli, words: tuple[str, ...], message: str) -> None:
    refused = exporter.run("export", *words)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_mistake_in_the_mapping_is_told_before_anything_is_written(bare_cli: Cli) -> None:
    (bare_cli.directory / "ddbrelay.toml").write_text(RULES.replace("detail = ", "detial = ", 1))
    refused = bare_cli.run("export", "terraform")
    assert refused.returncode == 2
    assert "ddbrelay.toml:10:1" in refused.stderr
    assert files(bare_cli.directory) == {"ddbrelay.toml"}


def test_the_stream_and_the_key_of_an_existing_table_are_asked_for(aws: Aws, name: str) -> None:
    wanted = Wanted(table=name, bus=f"{name}-bus", source="x", key=Key("pk"), sort_key=Key("at"))
    made = provision(aws, wanted)
    found = of_table(aws, name, Choices(batch_size=7))
    assert found == Choices(batch_size=7, stream_arn=made.stream_arn, key="pk:S", sort_key="at:S")
    assert of_table(aws, name, Choices(key="pk:N")).key == "pk:N"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "where"),
    [
        ({"DDBRELAY_LOCAL": "1"}, "the embedded AWS"),
        ({"DDBRELAY_ENDPOINT_URL": "http://127.0.0.1:9"}, "the emulator at http://127.0.0.1:9"),
        (
            {"AWS_ENDPOINT_URL_DYNAMODB": "http://localhost:9"},
            "the emulator at http://localhost:9",
        ),
    ],
)
def test_the_stream_of_an_emulator_is_for_no_deployment(
    exporter: Cli, environment: dict[str, str], where: str
) -> None:
    account = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"}
    exporter.environment |= account | environment
    refused = exporter.run("export", "sam", "--existing-table")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: --existing-table would ask {where}, whose streams no deployment can read\n"
        "  hint: --stream-arn arn:aws:dynamodb:REGION:ACCOUNT:table/users/stream/LABEL\n"
    )


@pytest.mark.slow
def test_several_files_do_not_go_to_stdout(exporter: Cli) -> None:
    refused = exporter.run("export", "terraform", "--stdout")
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "error: export terraform writes several files, which cannot go to stdout\n  hint: --dir DIR"
    )


@pytest.mark.slow
def test_preset_and_mapper_are_flags_of_an_export_too(exporter: Cli) -> None:
    file = exporter.directory / "ddbrelay.toml"
    file.write_text('[source]\ntable = "users"\n')
    (exporter.directory / "mine.py").write_text("def to_event(change):\n    return None\n")
    exporter.ok("export", "sam", "--mapper", "mine:to_event", "--dir", "one", "-q")
    assert (exporter.directory / "one" / "function" / "mine.py").is_file()
    template = (exporter.directory / "one" / "template.yaml").read_text()
    assert "DDBRELAY_MAPPER: mine:to_event" in template
    file.write_text('[source]\ntable = "users"\n')
    many = exporter.run("export", "terraform", "--preset", "outbox", "--parallelization", "2")
    assert many.returncode == 2
    assert "hint: --parallelization 1" in many.stderr
    refused = exporter.run("export", "pipes", "--mapper", "mine:to_event")
    assert "the mapper mine:to_event cannot be exported as pipes" in refused.stderr


@pytest.mark.slow
def test_every_rule_that_is_no_pipe_has_a_line_and_the_next_command_can_be_typed(
    exporter: Cli,
) -> None:
    words = ("--attribute", "name:S", "--attribute", "type:S", "--dir", "with space")
    done = exporter.ok("export", "pipes", *words)
    *notes, following = done.stderr.splitlines()
    assert [note.partition(": ")[2].partition(":")[0] for note in notes] == [
        'rule "email-changed" is left out',
        'rule "placed" is left out',
    ]
    assert following == (
        "next: cd 'with space' && aws cloudformation deploy --template-file template.yaml "
        "--stack-name ddbrelay-users-pipes --capabilities CAPABILITY_IAM"
    )
    (exporter.directory / "ddbrelay.toml").write_text("redact = ['ssn']\n" + RULES)
    refused = exporter.run("export", "pipes")
    assert refused.returncode == 2
    assert refused.stderr.count("is left out: it redacts ssn: a pipe cannot\n") == 3
    assert "error: no rule can be exported as a pipe\n  hint: " in refused.stderr


def statements(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["Sid"]: one for one in document["Statement"]}


@pytest.fixture
def policy(tmp_path: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    from exporting import config_of

    from ddbrelay.export.policies import policy_for

    def made(role: str, scope: Scope, **flags: Any) -> dict[str, dict[str, Any]]:
        config = config_of(tmp_path, **flags)
        return statements(policy_for(role, config, "users", scope))

    return made


HERE = Scope.of("eu-west-1", "123456789012")


def test_the_relay_may_read_the_stream_and_publish_its_events(
    policy: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/letters"
    said = policy("relay", HERE, dead_letter_queue=url, claim_check="s3://bucket-x/claims")
    assert said.keys() == {
        "LookAtTheTable",
        "ReadTheStream",
        "ListTheStreams",
        "PublishTheEvents",
        "LookAtTheBus",
        "CopyDeadLetters",
        "WriteClaimChecks",
        "LookAtTheBucket",
    }
    assert said["ReadTheStream"]["Resource"] == (
        "arn:aws:dynamodb:eu-west-1:123456789012:table/users/stream/*"
    )
    assert said["PublishTheEvents"]["Resource"] == [
        "arn:aws:events:eu-west-1:123456789012:event-bus/users-bus",
        "arn:aws:events:eu-west-1:123456789012:event-bus/audit-bus",
    ]
    assert said["CopyDeadLetters"]["Resource"] == "arn:aws:sqs:eu-west-1:123456789012:letters"


@pytest.mark.parametrize("role", ["relay", "lambda", "provision"])
def test_no_policy_allows_every_action_or_every_resource(
    policy: Callable[..., dict[str, dict[str, Any]]], role: str
) -> None:
    for one in policy(role, HERE).values():
        resources = one["Resource"] if isinstance(one["Resource"], list) else [one["Resource"]]
        assert not any(action.endswith("*") for action in one["Action"])
        assert all(resource.startswith("arn:aws:") for resource in resources)
        assert "*" not in resources


def test_who_provisions_may_make_the_buses_of_rules_and_turn_on_the_expiry(
    tmp_path: Path,
) -> None:
    from exporting import config_of

    from ddbrelay.export.policies import policy_for

    head = 'preset = "outbox"\n'
    text = head + RULES + '[outbox]\nafter = "expire"\n'
    said = statements(policy_for("provision", config_of(tmp_path, text), "users", HERE))
    assert "dynamodb:UpdateTimeToLive" in said["Table"]["Action"]
    assert said["OtherBuses"]["Action"] == [
        "events:DescribeEventBus",
        "events:CreateEventBus",
        "events:TagResource",
    ]
    assert said["OtherBuses"]["Resource"] == [HERE.bus("audit-bus")]
    plain = config_of(tmp_path, RULES.replace("audit-bus", "default"))
    said = statements(policy_for("provision", plain, "users", HERE))
    assert "dynamodb:UpdateTimeToLive" not in said["Table"]["Action"]
    assert said["OtherBuses"]["Action"] == ["events:DescribeEventBus"]


def test_where_region_or_account_is_not_known_the_policy_counts_in_all() -> None:
    assert Scope.of(None, None).bus("b") == "arn:aws:events:*:*:event-bus/b"
    assert Scope.of("cn-north-1", None).arn("sqs", "q") == "arn:aws-cn:sqs:cn-north-1:*:q"


@pytest.mark.parametrize(
    ("address", "action", "resources"),
    [
        (
            "s3://configs/app/relay.toml",
            "s3:GetObject",
            ["arn:aws:s3:::configs/app/relay.toml", "arn:aws:s3:::configs/app/schemas/user.json"],
        ),
        (
            "ssm:/app/relay.toml",
            "ssm:GetParameter",
            [
                "arn:aws:ssm:eu-west-1:123456789012:parameter/app/relay.toml",
                "arn:aws:ssm:eu-west-1:123456789012:parameter/app/schemas/user.json",
            ],
        ),
    ],
)
def test_a_function_may_read_its_configuration_where_it_is_and_nothing_beside(
    tmp_path: Path, address: str, action: str, resources: list[str]
) -> None:
    from exporting import config_of

    from ddbrelay.export.policies import policy_for

    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "user.json").write_text('{"type": "object"}')
    config = config_of(tmp_path, RULES.replace("bus = ", 'schema = "schemas/user.json"\nbus = '))
    said = statements(policy_for("lambda", config, "users", HERE, config_at=address))
    assert said["ReadTheConfiguration"]["Action"] == [action]
    assert said["ReadTheConfiguration"]["Resource"] == resources
    assert "ReadTheConfiguration" not in statements(policy_for("lambda", config, "users", HERE))


@pytest.mark.parametrize(
    "address", ["relay.toml", "s3://configs", "s3://configs/*", "ssm:", "ssm:a*"]
)
def test_what_is_no_address_of_a_configuration_gets_no_policy(tmp_path: Path, address: str) -> None:
    from exporting import config_of

    from ddbrelay.export.policies import policy_for

    with pytest.raises(ConfigError, match="is not where a configuration can be"):
        policy_for("lambda", config_of(tmp_path), "users", HERE, config_at=address)


@pytest.mark.slow
def test_the_policy_is_json_on_stdout(exporter: Cli) -> None:
    done = exporter.ok("export", "iam-policy", "--for", "lambda", "--region", "eu-west-1", "-q")
    assert json.loads(done.stdout)["Version"] == "2012-10-17"
    exporter.ok("export", "iam-policy", "--dir", ".")
    assert (exporter.directory / "policy-relay.json").is_file()
