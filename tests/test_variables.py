"""Variables named DDBRELAY_… that do nothing: a misspelt one is said, Kubernetes's own are not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Cli
from lambda_runtime import Context

from ddbrelay.aws_lambda import Function
from ddbrelay.config import ignored_variables, load
from ddbrelay.errors import ConfigError

ROOT = Path(__file__).parent.parent
LINK = "tcp://10.0.0.1:9464"
OF_SERVICES = {
    "DDBRELAY_SERVICE_HOST": "10.0.0.1",
    "DDBRELAY_SERVICE_PORT": "9464",
    "DDBRELAY_SERVICE_PORT_METRICS": "9464",
    "DDBRELAY_PORT": LINK,
    "DDBRELAY_PORT_9464_TCP": LINK,
    "DDBRELAY_PORT_9464_TCP_PROTO": "tcp",
    "DDBRELAY_PORT_9464_TCP_PORT": "9464",
    "DDBRELAY_PORT_9464_TCP_ADDR": "10.0.0.1",
    "DDBRELAY_METRICS_SERVICE_HOST": "10.0.0.1",
    "DDBRELAY_METRICS_SERVICE_PORT": "9464",
    "DDBRELAY_METRICS_PORT_9464_TCP": LINK,
}
READ = re.compile(r"(?:environ(?:\.get\(|\[)|\$\{?|for=)\"?(DDBRELAY_[A-Z_]+)")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DDBRELAY_TABEL", "DDBRELAY_TABLE"),
        ("DDBRELAY_DEADLETTER_QUEUE", "DDBRELAY_DEAD_LETTER_QUEUE"),
        ("DDBRELAY_METRIC_PORT", "DDBRELAY_METRICS_PORT"),
        ("DDBRELAY_CONFIGS", "DDBRELAY_CONFIG"),
        ("DDBRELAY_DEPLOY", None),
    ],
)
def test_a_misspelt_variable_is_said_with_the_nearest_one(name: str, meant: str | None) -> None:
    hint = "" if meant is None else f'; did you mean "{meant}"?'
    assert ignored_variables({name: "9464"}) == [
        f"{name} is not a variable of ddbrelay: it is ignored{hint}"
    ]


def test_empty_variables_and_those_of_others_are_not_looked_at() -> None:
    assert (
        ignored_variables({"DDBRELAY_TABEL": "", "AWS_LAMBDA_TABEL": "x", "DDBRELAYS": "x"}) == []
    )


def test_every_variable_that_the_project_reads_is_known() -> None:
    files = [
        *(ROOT / "ddbrelay").rglob("*.py"),
        *(ROOT / "ddbrelay").rglob("*.txt"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "examples").rglob("*.sh"),
    ]
    names = {name for file in files for name in READ.findall(file.read_text())}
    assert {"DDBRELAY_MINISTACK", "DDBRELAY_PACKAGE", "DDBRELAY_VENV"} <= names
    names |= {"DDBRELAY_EXPECT_RUN", "DDBRELAY_CONFIG", "DDBRELAY_TABLE"}
    assert ignored_variables(dict.fromkeys(names, "x")) == []


def test_what_kubernetes_sets_for_a_service_is_no_mistake(tmp_path: Path) -> None:
    assert ignored_variables(OF_SERVICES) == []
    taken = OF_SERVICES | {"DDBRELAY_METRICS_PORT": LINK}
    assert ignored_variables(taken) == [
        f"DDBRELAY_METRICS_PORT={LINK} is the address of a Kubernetes Service: it is ignored"
    ]
    assert load({}, taken, tmp_path).settings.metrics_port is None
    (tmp_path / "ddbrelay.toml").write_text("relay.metrics_port = 9464\n")
    loaded = load({}, taken, tmp_path)
    assert loaded.settings.metrics_port == 9464
    assert loaded.origins["metrics_port"].startswith("file")
    with pytest.raises(ConfigError, match="DDBRELAY_METRICS_PORT"):
        load({}, {"DDBRELAY_METRICS_PORT": "http://10.0.0.1:9464"}, tmp_path)


def test_a_run_says_it_before_anything_else(bare_cli: Cli) -> None:
    bare_cli.environment |= OF_SERVICES
    bare_cli.environment |= {"DDBRELAY_TABEL": "users", "DDBRELAY_METRICS_PORT": LINK}
    said = [
        f"DDBRELAY_METRICS_PORT={LINK} is the address of a Kubernetes Service: it is ignored",
        "DDBRELAY_TABEL is not a variable of ddbrelay: it is ignored; "
        'did you mean "DDBRELAY_TABLE"?',
    ]
    done = bare_cli.run("tail")
    assert done.returncode == 2
    assert done.stderr.splitlines()[:3] == [*said, "error: no table is given"]
    done = bare_cli.run("positions", "list", "--log-format", "json")
    objects = [json.loads(line) for line in done.stderr.splitlines()[:2]]
    assert [(one["level"], one["message"]) for one in objects] == [("warning", w) for w in said]


def test_a_function_logs_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"LAMBDA_TASK_ROOT": str(tmp_path), "DDBRELAY_BUSS": "users-bus"}
    environ |= {"DDBRELAY_REGION": "eu-west-1"}
    function = Function(environ)
    for _ in range(2):
        assert function({"Records": []}, Context()) == {"batchItemFailures": []}
    function.close()
    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["level"] == "WARN"
    assert line["message"] == (
        'DDBRELAY_BUSS is not a variable of ddbrelay: it is ignored; did you mean "DDBRELAY_BUS"?'
    )
