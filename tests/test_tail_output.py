"""What `ddbrelay tail` prints: objects, lines, nothing, and into a pipe that closes early."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from typing import Any

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, checkpoint, clear_error, event_ids, objects

from ddbrelay.aws.session import Aws

ONCE = ("--until-idle", "0")
FORWARD = ("tail", "--forward", *ONCE)
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z (INSERT|MODIFY|REMOVE) id=\S+ \w+ "
    r"(preview|published [\w-]+)"
)

pytestmark = ON_MOTO


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


class Digits(str):
    """A JSON number as it was written."""


def exact(text: str) -> Any:
    return json.loads(text, parse_int=Digits, parse_float=Digits)


def expected(value: dict[str, Any]) -> Any:
    """An attribute value of the stream as the mapping must write it; numbers as `Digits`."""
    ((kind, inner),) = value.items()
    match kind:
        case "N":
            number = inner.removeprefix("+")
            whole = re.fullmatch(r"-?\d+", number)
            fits = whole and -(2**63) <= int(number) < 2**63
            return Digits(number) if fits or not whole else number
        case "B":
            return base64.b64encode(inner).decode()
        case "M":
            return {name: expected(item) for name, item in inner.items()}
        case "L":
            return [expected(item) for item in inner]
        case "NS":
            return [expected({"N": item}) for item in inner]
        case "BS":
            return [base64.b64encode(item).decode() for item in inner]
        case "NULL":
            return None
    return inner


EVERY_TYPE: dict[str, dict[str, Any]] = {
    "text": {"S": 'ä\n"\\ \u2028 😀'},
    "empty": {"S": ""},
    "long": {"N": "12345678901234567890123456789012345678"},
    "edge": {"N": "9223372036854775807"},
    "beyond": {"N": "9223372036854775808"},
    "least": {"N": "-9223372036854775808"},
    "digits": {"N": "-0.12345678901234567890123456789012345678"},
    "fraction": {"N": "1.5"},
    "tiny": {"N": "1E-130"},
    "bytes": {"B": b"\x00\xff\x10"},
    "yes": {"BOOL": True},
    "no": {"BOOL": False},
    "nothing": {"NULL": True},
    "map": {"M": {"inner": {"M": {"n": {"N": "0.1"}}}, "none": {"M": {}}}},
    "list": {"L": [{"N": "1"}, {"S": "1"}, {"L": []}]},
    "texts": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2.50000000000000000000000000000000001", "99999999999999999999"]},
    "blobs": {"BS": [b"\x01", b"\x02\x03"]},
}


def test_every_type_of_an_item_and_of_its_update_maps_exactly(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a", **EVERY_TYPE)
    changed = EVERY_TYPE | {"fraction": {"N": "1.25"}, "blobs": {"BS": [b"\x04"]}}
    pipe.put("a", **changed)
    pipe.delete("a")
    lines = cli.ok(*FORWARD, "--output", "json").stdout.split("\n")[:-1]
    # boto3 gives numbers as the text of the wire, so the raw stream is the oracle.
    raw = [record["dynamodb"] for record in pipe.records()]
    images = [raw[0]["NewImage"], raw[1]["NewImage"], raw[2]["OldImage"]]
    details = [{name: expected(value) for name, value in sorted(image.items())} for image in images]
    printed = [exact(line) for line in lines[:-1]]
    for one, detail in zip(printed, details, strict=True):
        got = dict(sorted(one["event"]["detail"].items()))
        assert json.dumps(got) == json.dumps(detail)
        assert [type(value) for value in got.values()] == [type(v) for v in detail.values()]
    assert printed[1]["change"]["changed"] == ["blobs", "fraction"]
    arrived = [event["detail"] for event in pipe.received()]
    assert arrived == [json.loads(line)["event"]["detail"] for line in lines[:-1]]


def test_the_objects_have_their_shape(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a", username={"S": "kaylee"})
    pipe.put("a", username={"S": "frye"})
    pipe.delete("a")
    *events, summary = cli.json(*FORWARD)
    records = pipe.records()
    for event, record in zip(events, records, strict=True):
        assert list(event) == ["type", "change", "event", "receipt"]
        change, sent, receipt = event["change"], event["event"], event["receipt"]
        assert event["type"] == "event"
        assert change["eventID"] == record["eventID"]
        assert change["eventName"] == record["eventName"]
        assert change["sequenceNumber"] == record["dynamodb"]["SequenceNumber"]
        assert (change["shardId"], change["table"]) == (pipe.shard, pipe.table)
        assert (change["streamArn"], change["ttl"]) == (pipe.stream_arn, False)
        assert change["keys"] == {"id": "a"}
        assert sent["resources"] == [pipe.stream_arn, record["eventID"]]
        assert (sent["bus"], sent["source"]) == (pipe.bus, f"ddbrelay.{pipe.table}")
        assert sent["time"] == change["time"]
        assert (receipt["state"], receipt["reason"], receipt["attempts"]) == ("published", None, 1)
    assert [event["event"]["rule"] for event in events] == ["created", "updated", "deleted"]
    assert [event["change"]["old"] for event in events] == [
        None,
        {"id": "a", "username": "kaylee"},
        {"id": "a", "username": "frye"},
    ]
    assert [event["change"]["new"] for event in events] == [
        {"id": "a", "username": "kaylee"},
        {"id": "a", "username": "frye"},
        None,
    ]
    assert events[1]["change"]["changed"] == ["username"]
    assert list(summary) == [
        *("type", "read", "published", "events", "skipped", "skippedBy", "parked", "lost"),
        *("retried", "leftOut", "seconds", "end", "at", "forward", "consumer", "checkpoint"),
    ]
    assert (summary["type"], summary["skippedBy"], summary["lost"]) == ("summary", {}, [])
    assert (summary["forward"], summary["consumer"], summary["parked"]) == (True, "default", 0)


def test_lines_are_one_an_event_without_colour_and_words_go_to_stderr(
    cli: Cli, pipe: Pipeline
) -> None:
    pipe.put("a")
    pipe.put("a")
    pipe.delete("a")
    cli.environment |= {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    preview = cli.ok("tail", *ONCE)
    assert all(LINE.fullmatch(line) for line in preview.stdout.splitlines())
    assert [line.split()[1] for line in preview.stdout.splitlines()] == [
        *("INSERT", "MODIFY", "REMOVE")
    ]
    assert re.fullmatch(
        r"mapping: default mapping\n"
        r"\S+   preview, nothing is sent   consumer default   from trim-horizon .*\n"
        r"Saw 3 changes in \d+\.\d s\. Nothing was sent\.\nnext: ddbrelay .*tail --forward\n",
        preview.stderr,
    )
    forward = cli.ok(*FORWARD)
    assert all(LINE.fullmatch(line) for line in forward.stdout.splitlines())
    assert "\x1b" not in preview.stdout + preview.stderr + forward.stdout + forward.stderr
    assert re.fullmatch(
        r"mapping: default mapping\n"
        r"\S+ ─▶ \S+   consumer default   from trim-horizon .*\n"
        r"Relayed 3 events in \d+\.\d s \([\d,]+/s\)\. Next start: after …(\d{8})\.\n",
        forward.stderr,
    )
    assert forward.stderr.endswith(f"…{str(checkpoint(cli))[-8:]}.\n")
    received = [event["id"] for event in pipe.received()]
    assert [line.split()[-1] for line in forward.stdout.splitlines()] == received


def test_quiet_prints_nothing_and_json_all_the_same(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    quiet = cli.ok(*FORWARD, "-q")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert len(pipe.received()) == 1
    both = cli.ok("tail", *ONCE, "-q", "--from", "trim-horizon", "--output", "json")
    assert [one["type"] for one in objects(both.stdout)] == ["event", "summary"]
    assert both.stderr == ""


def test_no_text_of_an_item_breaks_a_line_or_reaches_the_terminal_as_a_code(
    cli: Cli, pipe: Pipeline
) -> None:
    pipe.put("a\nb\x1b[31m\u202ec")
    (line,) = cli.ok("tail", *ONCE).stdout.splitlines()
    assert LINE.fullmatch(line)
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_filters_and_a_recording_change_nothing_but_what_is_shown(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a", secret={"S": "x"})
    pipe.put("b")
    pipe.delete("a")
    done = cli.ok(*FORWARD, "--show", "*Deleted", "--detail", "--record", "run.html")
    first, *below = done.stdout.splitlines()
    assert first.split()[1:3] == ["REMOVE", "id=a"]
    assert json.loads("\n".join(below))["detail"] == {"id": "a", "secret": "x"}
    assert "\nhidden by --show/--grep: 2\n" in done.stderr
    assert "Relayed 3 events" in done.stderr
    assert len(pipe.received()) == 3
    page = (cli.directory / "run.html").read_text()
    assert "id=a" in page
    assert "id=b" not in page
    found, summary = cli.json("tail", *ONCE, "--from", "trim-horizon", "--grep", "id=b")
    assert found["change"]["keys"] == {"id": "b"}
    assert (summary["type"], summary["read"]) == ("summary", 3)


@pytest.mark.slow
def test_a_replay_has_the_same_filters(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    pipe.put("b")
    done = cli.ok("replay", "--since", "1h", "--grep", "id=b", "--record", "run.svg")
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["id=b"]
    assert "hidden by --show/--grep: 1\n" in done.stderr
    assert "Found 2 events in 2 records" in done.stderr
    assert "id=b" in (cli.directory / "run.svg").read_text().replace("&#160;", " ")


@pytest.mark.slow
@pytest.mark.parametrize("output", ["lines", "json"])
def test_a_relay_whose_reader_leaves_ends_with_the_code_of_a_restart(
    cli: Cli, pipe: Pipeline, output: str
) -> None:
    for number in range(60):
        pipe.put(f"k{number % 7}", n={"N": str(number)}, filler={"S": "x" * 2000})
    done = into_head(cli, "tail", "--forward", "--output", output)
    clear_error(done, 7, "standard output has left", "checkpoint")
    assert len(done.stdout.splitlines()) == 1
    assert "Broken" not in done.stderr
    # What it did send is behind the checkpoint, and nothing else is.
    ids = [record["eventID"] for record in pipe.records()]
    sent = set(event_ids(pipe.received()))
    settled = pipe.sequences().index(str(checkpoint(cli))) + 1
    assert sent.issuperset(ids[:settled])
    cli.ok(*FORWARD)
    assert sent.union(event_ids(pipe.received())) == set(ids)


@pytest.mark.slow
def test_a_preview_whose_reader_leaves_ends_quietly(cli: Cli, pipe: Pipeline) -> None:
    for number in range(60):
        pipe.put(f"k{number % 7}", n={"N": str(number)}, filler={"S": "x" * 2000})
    done = into_head(cli, "tail", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert ("error" in done.stderr, checkpoint(cli)) == (False, None)


def into_head(cli: Cli, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it into a reader that leaves after the first line; the exit code is the command's."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shlex.join(cli.arguments(*words))} | head -1"],
        cwd=cli.directory,
        env=cli.env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
