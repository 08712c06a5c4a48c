"""What the users of `app.py` come out as behind the bus. Copy the folder and begin with your own.

    pip install "ddbrelay[local]" pytest
    pytest

No AWS account and no Docker: the fixtures come with ddbrelay, and pytest finds them by itself.

- `relay` starts the relay on a table, by the rules of the nearest `ddbrelay.toml`. It makes table,
  stream and bus, and takes them down again. While the test runs, boto3 talks to the embedded AWS.
- `events` is what came out behind the bus. `expect` waits for an event by an EventBridge pattern,
  and says what came instead.
- A test fails when a record was parked (the rules could make no event of it), unless it says that
  it expects so.
- `ddbrelay_local` is the embedded AWS itself, for what else a test needs of it.
- `stream_simulator` is DynamoDB Streams and EventBridge with the faults of the real ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import app

from ddbrelay import Mapper, Skip
from ddbrelay.testing import Events, Relays, SimulatorProcess, aws_environment

HERE = Path(__file__).parent


def test_a_new_user_is_announced(relay: Relays, events: Events) -> None:
    relay()
    user = app.register("kaylee@example.com")

    event = events.expect({"detail-type": ["UserRegistered"], "detail": {"id": [user]}})

    assert event["source"] == "shop.users"
    assert event["detail"] == {"id": user, "email": "kaylee@example.com", "plan": "free"}


def test_the_events_of_a_user_come_in_the_order_of_the_changes(
    relay: Relays, events: Events
) -> None:
    relay()
    user = app.register("kaylee@example.com")
    app.change_email(user, "kaylee@example.org")
    app.close(user)

    _, changed, _ = events.expect_in_order(
        [
            {"detail-type": ["UserRegistered"]},
            {"detail-type": ["UserEmailChanged"]},
            {"detail-type": ["UserClosed"]},
        ]
    )

    assert changed["detail"]["before"] == "kaylee@example.com"


def test_a_login_is_nobodys_business(relay: Relays, events: Events) -> None:
    relay()
    user = app.register("kaylee@example.com")
    app.log_in(user)

    assert [event["detail-type"] for event in events] == ["UserRegistered"]


def test_a_changed_email_is_announced_once(relay: Relays, events: Events) -> None:
    relay()
    user = app.register("kaylee@example.com")
    app.change_email(user, "kaylee@example.org")

    changed = {"detail-type": ["UserEmailChanged"]}
    events.expect(changed)
    events.never(changed)


def test_what_is_no_user_is_parked_and_holds_up_nobody(relay: Relays, events: Events) -> None:
    running = relay(allow_parked=True)
    running.table.put({"id": "settings", "theme": "dark"})
    user = app.register("kaylee@example.com")

    events.expect({"detail": {"id": [user]}})
    (letter,) = running.dead_letters()
    assert letter["keys"] == {"id": "settings"}


def test_the_rules_alone_need_no_aws() -> None:
    mapper = Mapper.load(HERE / "ddbrelay.toml")
    record = {
        "eventID": "1",
        "eventName": "MODIFY",
        "dynamodb": {
            "SequenceNumber": "111",
            "Keys": {"id": {"S": "7f3a"}},
            "OldImage": {"id": {"S": "7f3a"}, "logins": {"N": "1"}},
            "NewImage": {"id": {"S": "7f3a"}, "logins": {"N": "2"}},
        },
    }
    assert mapper.map(record) == Skip("logins")


def test_nothing_is_lost_on_a_bad_day(stream_simulator: SimulatorProcess, tmp_path: Path) -> None:
    aws = stream_simulator
    aws.create_table("users", shards=1)
    aws.create_bus("users-bus")
    users = [f"user-{number}" for number in range(40)]
    aws.put("users", *({"id": user, "email": f"{user}@example.com"} for user in users[:20]))
    aws.split("users", aws.shards("users")[0].id)
    aws.put("users", *({"id": user, "email": f"{user}@example.com"} for user in users[20:]))
    aws.fail_next("GetRecords", "ExpiredIteratorException")
    aws.fail_entries("ThrottlingException", times=5)

    tail = [sys.executable, "-m", "ddbrelay", "tail", "--forward", "--until-idle", "500ms"]
    surroundings = {"DDBRELAY_STATE_DIR": str(tmp_path), "DDBRELAY_CONFIG": "ddbrelay.toml"}
    subprocess.run(
        [*tail, "--quiet"],
        cwd=HERE,
        env={**os.environ, **aws_environment(aws.url), **surroundings},
        check=True,
    )

    taken = [json.loads(event.entry["Detail"])["id"] for event in aws.events("users-bus")]
    assert sorted(taken) == sorted(users)
