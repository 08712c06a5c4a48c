"""No credential and no redacted attribute in any output, log, error, report or state file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import Cli
from pipeline import ON_MOTO
from wire import Request, http, operation_of, serving

from ddbrelay.cli.main import COMMANDS
from ddbrelay.flow.mapping import Reject, Skip
from ddbrelay.local import engine as engines
from ddbrelay.testing.world import World, simulated

CANARY = "canary"
SECRETS = {
    "AWS_ACCESS_KEY_ID": f"AKIA{CANARY.upper()}KEYID123",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-secret-key",
    "AWS_SESSION_TOKEN": f"{CANARY}-session-token",
}
PROFILE = f"""[shop]
region = eu-west-1
aws_access_key_id = AKIA{CANARY.upper()}PROFILE12
aws_secret_access_key = {CANARY}-profile-secret
aws_session_token = {CANARY}-profile-token
"""
RULES = """
redact = ["card", "address.street"]

[[rule]]
name = "refused"
when = { new = { kind = ["refused"] } }
detail_type = "UserRefused"
schema = "refused.json"

[[rule]]
name = "parked"
when = { new = { kind = ["parked"] } }
detail_type = "{new.missing}Made"

[[rule]]
name = "with-phone"
redact = ["phone"]
detail_type = "UserTold"
detail = "{id: keys.id, card: new.card, phone: new.phone, street: new.address.street, was: old}"
"""
SCHEMA = {
    "type": "object",
    "properties": {"card": {"type": "integer"}, "address": {"type": "array"}},
    "additionalProperties": False,
}
MAPPER = """
def fail(change):
    card = change.new["card"] if change.new else change.old["card"]
    raise ValueError(f"no {card} in {change.new} {change.old} {change.record} {change.diff}")

def hidden(change):
    # What stands in the change itself is hidden as well, not only what it offers.
    raise KeyError(change._of.record, change._of.new, change.__class__.new.fget(change))
"""
SCENARIO = """
timeout = "3s"

[[step]]
put.id = "expected"
put.kind = "told"
put.card = "{canary}-scenario-card"
put.phone = "{canary}-phone"
put.address.street = "{canary}-street"

[[expect]]
event.detail.id = ["{wanted}"]
"""


def item(key: str, kind: str, turn: str) -> dict[str, Any]:
    return {
        "id": {"S": key},
        "kind": {"S": kind},
        "card": {"S": f"{CANARY}-card-{turn}"},
        "phone": {"S": f"{CANARY}-phone-{turn}"} if kind == "told" else {"S": "555"},
        "address": {"M": {"street": {"S": f"{CANARY}-street-{turn}"}, "zip": {"S": "01234"}}},
    }


class Place:
    """Files to work with that hold canaries, and beside them the folders in which none may be."""

    def __init__(self, folder: Path, url: str) -> None:
        self.given, self.work = folder / "given", folder / "work"
        for one in (self.given, self.work):
            one.mkdir()
        self.environment = {
            **os.environ,
            **SECRETS,
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "eu-west-1",
            "AWS_SHARED_CREDENTIALS_FILE": str(self.given / "credentials"),
            "DDBRELAY_STATE_DIR": str(self.work / "state"),
            "DDBRELAY_TABLE": "users",
            "GITHUB_ACTIONS": "true",
        }
        (self.given / "credentials").write_text(PROFILE)
        (self.work / "ddbrelay.toml").write_text(RULES)
        (self.work / "refused.json").write_text(json.dumps(SCHEMA))
        (self.work / "own.py").write_text(MAPPER)
        own = 'redact = ["card", "address.street", "phone"]\n'
        for name in ("fail", "hidden"):
            (self.work / f"{name}.toml").write_text(f'{own}mapper = "own:{name}"\n')
        for wanted in ("expected", "never"):
            text = SCENARIO.format(canary=CANARY, wanted=wanted)
            (self.given / f"{wanted}.toml").write_text(text)

    def write(self) -> list[dict[str, Any]]:
        """Insert, update and delete; returns the records as the stream has them."""
        keys = {
            "aws_access_key_id": SECRETS["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": SECRETS["AWS_SECRET_ACCESS_KEY"],
        }
        shared: Any = {"endpoint_url": self.environment["AWS_ENDPOINT_URL"], **keys}
        table = boto3.client("dynamodb", region_name="eu-west-1", **shared)
        for kind in ("told", "refused", "parked"):
            for turn in ("one", "two"):
                table.put_item(TableName="users", Item=item(f"id-{kind}", kind, turn))
            table.delete_item(TableName="users", Key={"id": {"S": f"id-{kind}"}})
        arn = table.describe_table(TableName="users")["Table"]["LatestStreamArn"]
        streams = boto3.client("dynamodbstreams", region_name="eu-west-1", **shared)
        [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator)["Records"]
        (self.given / "changes.json").write_text(json.dumps({"Records": records}, default=str))
        return records

    def run(self, *lines: tuple[str, ...], **environment: str) -> list[tuple[int, str, str]]:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "forked.py")],
            input=json.dumps(lines),
            capture_output=True,
            text=True,
            cwd=self.work,
            env=self.environment | environment,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return [(code, out, err) for code, out, err in json.loads(done.stdout)]

    def leaks(self) -> list[str]:
        """The files below the work folder that hold a canary, in any of the places of SQLite."""
        files = [file for file in self.work.rglob("*") if file.is_file()]
        assert any(file.name == "state.db" for file in files)
        return [str(file) for file in files if CANARY.encode() in file.read_bytes().lower()]


def canonical(request: Request) -> bytes:
    """What AWS answers to a signature that does not match: all that was signed."""
    token = request[2]["x-amz-security-token"]
    said = f"The canonical string should have been\n'POST\n/\nx-amz-security-token:{token}\n'"
    if operation_of(request) == "ListTables":
        said = said.replace("\n", " ")
    body = {"__type": "InvalidSignatureException", "message": said}
    return http(403, json.dumps(body).encode())


@pytest.mark.parametrize(
    "loud", [(), ("-v",), ("-vv",), ("-vv", "--log-format", "json"), ("--output", "json")]
)
def test_a_token_that_aws_repeats_is_not_printed(bare_cli: Cli, loud: tuple[str, ...]) -> None:
    bare_cli.environment |= SECRETS | {"AWS_REGION": "eu-west-1"}
    with serving() as server:
        for answer in (canonical, lambda request: canonical(request).replace(b"\\n", b"  ")):
            server.respond = answer
            done = bare_cli.run("tail", "--table", "users", "--endpoint-url", server.url, *loud)
            assert done.returncode == 5
            assert "InvalidSignatureException" in done.stderr
            assert CANARY not in done.stdout + done.stderr
            if loud:
                assert "json" in loud or "[redacted]" in done.stderr


def test_an_endpoint_that_is_no_address_is_told_without_its_password(bare_cli: Cli) -> None:
    for url in (f"me:{CANARY}@127.0.0.1:1", f"ftp://me:{CANARY}/{CANARY}@127.0.0.1"):
        for words in (("tail", "-vv"), ("doctor",), ("doctor", "--output", "json")):
            done = bare_cli.run(*words, "--table", "users", "--endpoint-url", url)
            assert done.returncode
            assert "127.0.0.1" in done.stdout + done.stderr
            assert CANARY not in done.stdout + done.stderr


@simulated("a")
async def test_what_a_mapper_raises_is_parked_without_the_credentials_in_it(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AWS_SECRET_ACCESS_KEY"])
        secret = SECRETS["AWS_SECRET_ACCESS_KEY"]
        world.mapper = lambda _: Reject(f"KeyError in the mapper: {secret}")
        world.fill("a", 1)
        await world.run()
    with world.database.reading() as cursor:
        stored = cursor.execute("SELECT reason FROM dead_letters").fetchall()
    assert stored == [("KeyError in the mapper: [redacted]",)]
    assert [outcome.reason for outcome in world.log.outcomes] == [stored[0][0]]


@simulated("a")
async def test_what_a_mapper_skips_for_is_counted_without_the_credentials_in_it(
    world: World,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SESSION_TOKEN", SECRETS["AWS_SESSION_TOKEN"])
        world.mapper = lambda _: Skip(f"not {SECRETS['AWS_SESSION_TOKEN']}")
        world.fill("ab", 2)
        tally = await world.run()
    assert tally.skipped_by == {"not [redacted]": 4}
    assert {outcome.reason for outcome in world.log.outcomes} == {"not [redacted]"}


LOUD = ("-vv", "--log-format", "json")
UNTIL = ("--until-idle", "0.3s")


@pytest.mark.slow
@ON_MOTO
def test_no_secret_and_no_redacted_attribute_leaves_the_process(
    tmp_path: Path, engine: engines.Engine
) -> None:
    place = Place(tmp_path, engines.url(engine.port))
    [(code, _, words)] = place.run(("provision", *LOUD))
    assert code == 0, words
    assert len(place.write()) == 9
    changes, given = str(place.given / "changes.json"), place.given
    lines: list[tuple[int, tuple[str, ...]]] = [
        (3, ("tail", *UNTIL)),
        (3, ("tail", *UNTIL, "--output", "json", *LOUD)),
        (3, ("tail", *UNTIL, "--detail", "--grep", CANARY, "--show", "User*")),
        (3, ("tail", "--forward", *UNTIL, "--record", "run.svg", *LOUD)),
        (3, ("tail", "--config", "fail.toml", "--consumer", "fail", "--forward", *UNTIL, *LOUD)),
        (3, ("tail", "--config", "hidden.toml", "--consumer", "hidden", "--forward", *UNTIL)),
        (0, ("listen", "--expect", "3", "--timeout", "10s", "--output", "json", *LOUD)),
        (3, ("map", changes, "--explain", "--detail")),
        (3, ("map", changes, "--output", "json", "-vv")),
        (3, ("map", changes, "--config", "fail.toml", "-vv")),
        (0, ("rules", "-vv")),
        (6, ("schema", changes, "--check")),
        (0, ("schema", changes, "--dir", "schemas", "--output", "json")),
        *((0, ("dead-letters", "list", "--consumer", one)) for one in ("default", "fail")),
        (0, ("dead-letters", "list", "--output", "json")),
        (0, ("dead-letters", "export", "--consumer", "fail", "-vv")),
        (0, ("dead-letters", "export", "--consumer", "hidden")),
        (3, ("dead-letters", "redrive", "--all", "--remap", "--output", "json", *LOUD)),
        (0, ("ledger", "--verify", *LOUD)),
        (0, ("status", *LOUD)),
        (0, ("positions", "export", *LOUD)),
        (3, ("replay", "--since", "1h", "--output", "json", *LOUD)),
        (0, ("export", "sam", "--dir", "sam", "-vv")),
        (0, ("config", "show", "-vv")),
        (0, ("report", "--out", "report.html", *LOUD)),
        (0, ("report", "--output", "json")),
        (0, ("expect", str(given / "expected.toml"), "--relay", "--junit", "met.xml", *LOUD)),
        (6, ("expect", str(given / "never.toml"), "--relay", "--junit", "unmet.xml", *LOUD)),
        (6, ("expect", str(given / "never.toml"), "--relay", "--output", "json")),
        (5, ("tail", "--table", "nobody", *LOUD)),
        (
            5,
            (
                "tail",
                "--table",
                "nobody",
                "-vv",
                "--endpoint-url",
                f"http://me:{CANARY}@127.0.0.1:1",
            ),
        ),
        (2, ("tail", "--endpoint-url", f"ftp://me:{CANARY}@127.0.0.1:1")),
    ]
    free = [("doctor", *LOUD), ("doctor", "--output", "json")]
    done = place.run(*[words for _, words in lines], *free)
    for (code, words), (ended, out, err) in zip(lines, done, strict=False):
        assert ended == code, (words, out[-2000:], err[-2000:])
    profiled = place.run(
        ("status", "--profile", "shop", *LOUD),
        ("doctor", "--profile", "shop", *LOUD),
        AWS_ACCESS_KEY_ID="",
        AWS_SECRET_ACCESS_KEY="",
        AWS_SESSION_TOKEN="",
    )
    all_words = [
        *(words for _, words in lines),
        *free,
        ("status, profiled",),
        ("doctor, profiled",),
    ]
    found = [
        (words, name, line)
        for words, (_, out, err) in zip(all_words, [*done, *profiled], strict=True)
        for name, text in (("stdout", out), ("stderr", err))
        for line in text.splitlines()
        if CANARY in line.lower()
    ]
    assert found == []
    assert place.leaks() == []


PROXY = {"ALL_PROXY": f"http://me:{CANARY}-proxy@127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
IN_ITEMS = {
    "id": {"S": f"id-{SECRETS['AWS_SESSION_TOKEN']}"},
    "kind": {"S": "in use"},
    "name": {"S": SECRETS["AWS_SECRET_ACCESS_KEY"]},
    "note": {
        "S": f"through http://me:{CANARY}-proxy@10.0.0.1/ with {SECRETS['AWS_SESSION_TOKEN']}"
    },
    "list": {"L": [{"M": {"k": {"S": SECRETS["AWS_SECRET_ACCESS_KEY"]}}}]},
}
EXPECTED = f"""
timeout = "3s"

[[step]]
put.id = "{SECRETS["AWS_SESSION_TOKEN"]}"
put.name = "{SECRETS["AWS_SECRET_ACCESS_KEY"]}"

[[expect]]
event.detail.name = ["never"]
"""


def with_credentials(place: Place) -> None:
    """Items that hold credentials in use: one that is relayed, one that is parked."""
    shared: Any = {
        "endpoint_url": place.environment["AWS_ENDPOINT_URL"],
        "aws_access_key_id": SECRETS["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": SECRETS["AWS_SECRET_ACCESS_KEY"],
    }
    table = boto3.client("dynamodb", region_name="eu-west-1", **shared)
    for kind in ("in use", "parked"):
        one = {**IN_ITEMS, "kind": {"S": kind}}
        one["id"] = {"S": f"{kind} {one['id']['S']}"}
        for turn in ("one", "two"):
            table.put_item(TableName="users", Item={**one, "turn": {"S": turn}})
    arn = table.describe_table(TableName="users")["Table"]["LatestStreamArn"]
    streams = boto3.client("dynamodbstreams", region_name="eu-west-1", **shared)
    [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = streams.get_records(ShardIterator=iterator)["Records"]
    (place.given / "changes.json").write_text(json.dumps({"Records": records}, default=str))
    (place.given / "never.toml").write_text(EXPECTED)


def of_every_command(place: Place, letter: str, form: str) -> Iterator[tuple[str, ...]]:
    """Each command, in this form of its output; `letter` is the id of a dead letter."""
    changes, given = str(place.given / "changes.json"), place.given
    lines: list[tuple[str, ...]] = [
        ("tail", "--forward", *UNTIL, "--detail", "--consumer", "{form}"),
        ("tail", *UNTIL, "--detail", "--record", "run-{form}.html"),
        ("replay", "--since", "1h", "--detail"),
        ("listen", "--max-events", "4", "--timeout", "10s", "--detail", "--keep"),
        ("map", changes, "--explain", "--detail"),
        ("rules",),
        ("schema", changes),
        ("status", "--consumer", "{form}"),
        ("positions", "list"),
        ("positions", "show", "--consumer", "{form}"),
        ("positions", "export", "--consumer", "{form}"),
        ("ledger", "--verify", "--consumer", "{form}"),
        ("dead-letters", "list", "--consumer", "{form}"),
        ("dead-letters", "show", letter),
        ("dead-letters", "export", "--consumer", "{form}"),
        ("dead-letters", "redrive", "--all", "--remap", "--consumer", "{form}"),
        ("dead-letters", "drop", "--all", "--yes", "--consumer", "{form}"),
        ("report", "--consumer", "{form}", "--out", "report-{form}.html"),
        ("expect", str(given / "never.toml"), "--relay"),
        ("export", "sam", "--dir", "sam-{form}"),
        ("doctor",),
        ("config", "show"),
        ("provision",),
        ("local", "status"),
        ("init", "--config", "new-{form}.toml"),
        ("seed", "--count", "1"),
        ("completion", "bash"),
        ("help", "output"),
        ("teardown", "--dry-run"),
    ]
    # A demo has fake items only.
    assert {words[0] for words in lines} == set(COMMANDS) - {"demo"}
    for words in lines:
        yield (*(word.replace("{form}", form) for word in words), "--output", form)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["rich", "lines", "json"])
@ON_MOTO
def test_a_credential_in_use_that_stands_in_an_item_is_in_no_output_of_any_command(
    tmp_path: Path, engine: engines.Engine, form: str
) -> None:
    place = Place(tmp_path, engines.url(engine.port))
    [(code, _, words)] = place.run(("provision", *LOUD))
    assert code == 0, words
    with_credentials(place)
    first = [("tail", "--forward", *UNTIL), ("dead-letters", "list", "--output", "json")]
    *_, (_, listed, _) = place.run(*first, **PROXY)
    letter = json.loads(listed.splitlines()[0])["id"]
    lines = [*of_every_command(place, letter, form)]
    done = place.run(*lines, **PROXY)
    if form == "json":
        spoke = {words[0] for words, (_, out, _) in zip(lines, done, strict=True) if out}
        assert spoke == set(COMMANDS) - {"demo"}
    assert "[redacted]" in "".join(out for _, out, _ in done)
    found = [
        (words, name, line)
        for words, (_, out, err) in zip(lines, done, strict=True)
        for name, text in (("stdout", out), ("stderr", err))
        for line in text.splitlines()
        if CANARY in line.lower()
    ]
    assert found == []
    # What could not be asked for says nothing: each of these must have run.
    assert [words for words, (code, _, _) in zip(lines, done, strict=True) if code in {1, 2}] == []
    assert CANARY not in (place.work / f"run-{form}.html").read_text().lower()
