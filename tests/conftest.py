"""Fixtures: the embedded AWS on both engines, and the command line as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import zygote
from hypothesis import settings
from outputs import asks_json, check

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.local import engine as engines
from ddbrelay.local.ministack import program as ministack_program

# The same examples every time, and no failure because another process was busy.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `moto_first` runs on ministack only where slow tests run, as in CI."""
    for item in items:
        engine = getattr(item, "callspec", None) and item.callspec.params.get("shared_engine")
        if engine == "ministack" and item.get_closest_marker("moto_first"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that a test starts, can see credentials, settings or state."""
    home = tmp_path_factory.mktemp("home")
    foreign = {
        name
        for name in os.environ
        if name.startswith(("AWS_", "DDBRELAY_")) and name != "DDBRELAY_MINISTACK"
    } | {"NO_COLOR", "FORCE_COLOR", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"}
    # What the caller ignores (a shell SIGINT for a job behind `&`, nohup SIGHUP), every process
    # that a test sends it to would ignore too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with pytest.MonkeyPatch.context() as patch:
        for name in foreign:
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("DDBRELAY_STATE_DIR", str(home / "state"))
        yield


_OF_CI = {"CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"}
_RESET = {"moto": "/moto-api/reset", "ministack": "/_ministack/reset"}


@pytest.fixture
def engine(shared_engine: engines.Engine) -> Iterator[engines.Engine]:
    """An embedded AWS that is empty: both emulators grow slow with what earlier tests left."""
    yield shared_engine
    address = engines.url(shared_engine.port) + _RESET[shared_engine.name]
    with urllib.request.urlopen(urllib.request.Request(address, method="POST")) as answer:
        assert answer.status == 200


@pytest.fixture(scope="session", params=engines.ENGINES)
def shared_engine(request: pytest.FixtureRequest) -> Iterator[engines.Engine]:
    """The process behind `engine`, one for each worker."""
    if request.param == "ministack" and ministack_program() is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs ministack, yet it was not found")
        pytest.skip("ministack is not installed (python -m venv, pip install ministack)")
    started = engines.start(request.param)
    yield started
    started.stop()


@pytest.fixture
def aws(engine: engines.Engine) -> Aws:
    """Clients for the embedded AWS, as `--local` makes them."""
    return Aws(Settings(local=True, endpoint_url=engines.url(engine.port)))


@pytest.fixture
def name() -> str:
    """A name that no other test uses, for tables, buses, queues and consumers."""
    return f"t{uuid4().hex[:12]}"


@cache
def forks() -> zygote.Zygote:
    """What runs the command line for the tests of this worker."""
    return zygote.Zygote()


@pytest.fixture(scope="session", autouse=True)
def no_forks_are_left() -> Iterator[None]:
    yield
    if forks.cache_info().currsize:
        forks().close()


_forking = threading.Lock()
"""Forks run one at a time; a command beside another, from a second thread, is a process."""


@dataclass
class Cli:
    """Runs `ddbrelay` as a process, as a user or a CI job does (`zygote` says how)."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def arguments(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ddbrelay", *words]

    def env(self) -> dict[str, str]:
        """What a process gets; that tests run in CI is none of its business."""
        ours = {name: value for name, value in os.environ.items() if name not in _OF_CI}
        return {**ours, **self.environment}

    def run(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run to the end, whatever the exit code; what is JSON on stdout must fit its schema."""
        if zygote.needs_an_interpreter(self.environment) or not _forking.acquire(blocking=False):
            done = subprocess.run(
                self.arguments(*words),
                cwd=self.directory,
                env=self.env(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        else:
            try:
                done = forks().run(self.arguments(*words), self.directory, self.env(), timeout)
            finally:
                _forking.release()
        if asks_json(words, self.environment):
            check(words, done.stdout)
        return done

    def ok(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run to the end; fail the test, with what it printed, unless it exits with 0."""
        done = self.run(*words, timeout=timeout)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str, timeout: float = 60) -> list[dict[str, Any]]:
        """The objects that a run with `--output json` prints; it must exit with 0."""
        done = self.ok(*words, "--output", "json", timeout=timeout)
        return [json.loads(line) for line in done.stdout.split("\n")[:-1]]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start in the background; the test ends it."""
        return subprocess.Popen(
            self.arguments(*words),
            cwd=self.directory,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def bare_cli(tmp_path: Path) -> Cli:
    """The command line in an empty directory, with a state directory of its own."""
    return Cli(tmp_path, {"DDBRELAY_STATE_DIR": str(tmp_path / "state")})


@pytest.fixture
def cli(bare_cli: Cli, engine: engines.Engine, name: str) -> Cli:
    """The command line against the embedded AWS, with table and bus names of its own."""
    bare_cli.environment |= {
        "DDBRELAY_LOCAL": "1",
        "DDBRELAY_ENDPOINT_URL": engines.url(engine.port),
        "DDBRELAY_TABLE": name,
        "DDBRELAY_BUS": f"{name}-bus",
    }
    return bare_cli


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], float], None]:
    """Poll a condition until it holds; fail the test when it never does."""
    import time

    def wait(condition: Callable[[], bool], timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"still not so after {timeout} s")
            time.sleep(0.02)

    return wait
