"""The simulator as something that runs: in this event loop, or as a process of its own.

Either way it listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar, get_type_hints
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from ddbrelay.errors import ConfigError
from ddbrelay.local import leash
from ddbrelay.testing.face.account import SimulatedAccount
from ddbrelay.testing.face.action import Action, kebab
from ddbrelay.testing.face.controls import Controls
from ddbrelay.testing.face.web import CONTROL, application

T = TypeVar("T")
HOST = "127.0.0.1"
_TIMEOUT = 60.0
_STOP_TIMEOUT = leash.GRACE + 2


class Ready(msgspec.Struct):
    """The line that a process prints when it is ready."""

    url: str
    pid: int


class _Failure(msgspec.Struct):
    error: str
    hint: str | None = None


class LocalSimulator(Controls):
    """One that runs in this process; `account` is all that it has."""

    def __init__(self, account: SimulatedAccount, url: str) -> None:
        self.account, self.url = account, url

    def do(self, action: Action[T]) -> T:
        return action.apply(self.account)


@asynccontextmanager
async def serving(
    account: SimulatedAccount | None = None, port: int = 0
) -> AsyncIterator[LocalSimulator]:
    """Serve an account in this event loop until the block is left; port 0 takes a free one.

    Raises ConfigError when the port is taken.
    """
    served = account or SimulatedAccount()
    runner = web.AppRunner(
        application(served), access_log=None, handle_signals=False, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port, backlog=1024).start()
        except OSError as error:
            raise ConfigError(
                f"port {port} of {HOST} cannot be used: {os.strerror(error.errno or 0)}",
                "choose another --port",
            ) from None
        yield LocalSimulator(served, f"http://{HOST}:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


class SimulatorProcess(Controls):
    """One in a process of its own: a context manager, and a client of its control face.

    It cannot outlive this process, not even its kill -9. Methods may be called from any thread.
    """

    def __init__(self, *, seed: int = 0, speed: float = 1.0) -> None:
        self._arguments = ["--port", "0", "--seed", str(seed), "--speed", str(speed)]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> SimulatorProcess:
        module = [sys.executable, "-m", "ddbrelay.testing", *self._arguments]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__(None, None, None)
            raise ConfigError("the simulator did not start", "what it said stands on stderr")
        self.url = msgspec.json.decode(line, type=Ready).url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def do(self, action: Action[T]) -> T:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_TIMEOUT)
        try:
            path = f"{CONTROL}/{kebab(type(action).__name__)}"
            connection.request("POST", path, msgspec.json.encode(action))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            failure = msgspec.json.decode(body, type=_Failure)
            raise ConfigError(failure.error, failure.hint)
        wanted: Any = get_type_hints(type(action).apply)["return"]
        said: T = msgspec.json.decode(body, type=wanted)
        return said


async def run(
    account: SimulatedAccount, port: int, stop: asyncio.Event, tell: Callable[[str], None]
) -> None:
    """Serve until `stop`; `tell` gets one line with the address when it is ready."""
    async with serving(account, port) as simulator:
        ready = msgspec.json.encode(Ready(simulator.url, os.getpid())).decode()
        tell(ready)
        await stop.wait()
