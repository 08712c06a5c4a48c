"""An embedded AWS for a test session, in a process of its own.

In the test's own process it would be emptied by moto's `mock_aws`, stopped by a frozen clock and
measured by a coverage tool.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import msgspec

from ddbrelay.errors import ConfigError
from ddbrelay.local import leash
from ddbrelay.local.engine import ENGINES

if TYPE_CHECKING:
    import pytest

    from ddbrelay.aws.session import Aws

_REGION = "us-east-1"
_FAKE = "ddbrelay-test"
_RESET = {"moto": "/moto-api/reset", "ministack": "/_ministack/reset"}
_RESET_TIMEOUT = 30.0
_STOP_TIMEOUT = leash.GRACE + 2
_NOT_FOR_THE_ENGINE = ("AWS_", "DDBRELAY_", "COV_CORE_", "COVERAGE_", "PYTHONWARNINGS")
_KEPT = "DDBRELAY_MINISTACK"


def aws_environment(url: str) -> dict[str, str]:
    """Variables with which every AWS SDK talks to this address, with keys that are none.

    No profile and no shared file is read. Variables that lead elsewhere must be taken out beside:
    `AWS_PROFILE`, `AWS_SESSION_TOKEN`, `AWS_ENDPOINT_URL_DYNAMODB` and the like.
    """
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": _REGION,
        "AWS_DEFAULT_REGION": _REGION,
        "AWS_ACCESS_KEY_ID": _FAKE,
        "AWS_SECRET_ACCESS_KEY": _FAKE,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class EmbeddedAws:
    """DynamoDB with streams, EventBridge, SQS and S3 on a free port of 127.0.0.1.

    A context: it answers inside, and cannot outlive this process, not even its kill -9. `engine` is
    moto or ministack, `folder` an empty directory of its own. Entering raises ConfigError where
    that engine is not installed.
    """

    def __init__(self, engine: str, folder: Path) -> None:
        if engine not in ENGINES:
            raise ConfigError(f'no engine is called "{engine}"', f"engines: {', '.join(ENGINES)}")
        self.engine = engine
        self.url = ""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._aws: Aws | None = None

    def __enter__(self) -> Self:
        run = [sys.executable, "-m", "ddbrelay", "--output", "json", "local", "run"]
        with (self._folder / "engine.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, *run, "--engine", self.engine],
                # No configuration of the project that is tested, and none of its modules.
                cwd=self._folder,
                env=_environment(self._folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=0,
            )
        assert self._process.stdout is not None
        line = b""
        try:
            line = self._process.stdout.readline()
        finally:
            if not line:
                self._stop()
        if not line:
            raise self._why()
        self.url = str(msgspec.json.decode(line)["url"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.engine} at {self.url}>"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the code under test, as `aws_environment` has them."""
        return aws_environment(self.url)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let all AWS code of this process find it, and nothing else, until that is undone.

        Clients that were made before stay as they are.
        """
        import boto3

        for name in [*os.environ]:
            if name.startswith("AWS_"):
                monkeypatch.delenv(name)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        # It keeps the credentials and the profile with which it was made.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    @property
    def aws(self) -> Aws:
        """The session for it, as `ddbrelay --local` has it."""
        if self._aws is None:
            from ddbrelay.aws.session import Aws
            from ddbrelay.config import Settings

            self._aws = Aws(Settings(local=True, endpoint_url=self.url))
        return self._aws

    def client(self, service: str) -> Any:
        """A boto3 client, the same one each time: `client("dynamodb")`."""
        return self.aws.client(service)

    def resource(self, service: str) -> Any:
        """A boto3 resource: `resource("dynamodb").Table("users")`."""
        resources: Any = self.aws.session.resource
        return resources(service, endpoint_url=self.url)

    def reset(self) -> None:
        """Empty it: no tables, no buses, no queues."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_RESET_TIMEOUT)
        try:
            connection.request("POST", _RESET[self.engine])
            status = connection.getresponse().status
        finally:
            connection.close()
        if status != 200:
            raise ConfigError(f"{self.engine} cannot be emptied: HTTP {status}")

    def _stop(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _why(self) -> ConfigError:
        said = (self._folder / "engine.log").read_text(errors="replace").strip()
        message, _, hint = said.partition("\n  hint: ")
        return ConfigError(
            message.removeprefix("error: ") or f"{self.engine} did not start", hint or None
        )


def _environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == _KEPT or not name.startswith(_NOT_FOR_THE_ENGINE)
    }
    return kept | {"DDBRELAY_STATE_DIR": str(folder)}
