"""What the tests of `ddbrelay export` share: mappings, and templates checked by AWS's linter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ddbrelay.config import Config, load
from ddbrelay.export.model import Choices, Project, project_of

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/users/stream/2026-11-23T10:00:00.000"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
RULES = """
[source]
table = "users"

[[rule]]
name = "created"
when = { eventName = ["INSERT"], new = { type = ["user"] } }
source = "myapp.users"
detail_type = "UserCreated"
detail = "{id: keys.id, name: new.name, at: table}"

[[rule]]
name = "email-changed"
when = { eventName = ["MODIFY"], changed = ["email"] }
detail_type = "UserEmailChanged"
detail = "{id: keys.id, before: old.email, after: new.email}"
bus = "audit-bus"

[[rule]]
name = "placed"
when = { eventName = ["MODIFY"], new = { type = [{ prefix = "order#" }] } }
source = "shop.{new.region}"
detail_type = "{new.kind}Placed"

[[rule]]
name = "gone"
when = { eventName = ["REMOVE"] }
skip = "deletes are not events here"
"""


def config_of(folder: Path, text: str = RULES, **flags: Any) -> Config:
    """The configuration of a file with this text."""
    (folder / "ddbrelay.toml").write_text(text, encoding="utf-8")
    return load(flags, {}, folder)


AS_IT_IS = Choices()


def project(
    folder: Path, text: str = RULES, *, choices: Choices = AS_IT_IS, **flags: Any
) -> Project:
    """The deployment of such a configuration."""
    return project_of(config_of(folder, text, **flags), choices)


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files of a project."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def lint(template: Path, *options: str) -> str:
    """What cfn-lint has against a template."""
    words = (str(Path(sys.executable).with_name("cfn-lint")), "--regions", "eu-west-1", *options)
    done = subprocess.run(
        [*words, "--template", str(template)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr
