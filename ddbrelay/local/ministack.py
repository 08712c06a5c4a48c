"""ministack in a process of its own: more faithful, and it runs Lambda functions.

It pins an older botocore, so it lives in a virtual environment of its own and is found as a
program: `DDBRELAY_MINISTACK`, else `ministack` on the PATH. It cannot outlive this process, not
even its kill -9: leash.py holds it. It allows every origin, and has no setting against that: while
it runs, web pages can use it, as they cannot use moto.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from ddbrelay.errors import ConfigError
from ddbrelay.local import engine, leash

_READY_TIMEOUT = 30.0
_STOP_TIMEOUT = leash.GRACE + 2
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "USER")


def program() -> str | None:
    """The path of the program, None where it is not installed."""
    return os.environ.get("DDBRELAY_MINISTACK") or shutil.which("ministack")


class Ministack:
    """An `Engine`."""

    name = "ministack"

    def __init__(self, port: int = 0) -> None:
        path = shutil.which(program() or "ministack")
        if path is None:
            raise ConfigError(
                f"{program()} cannot be run" if program() else "ministack is not installed",
                "pipx install ministack, or name the program in DDBRELAY_MINISTACK",
            )
        self.port = port or _free_port()
        if engine.answers(self.port):
            raise ConfigError(
                f"port {self.port} of 127.0.0.1 is already in use", "choose another --port"
            )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, path],
            env=_environment(self.port),
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT
        while not _healthy(self.port):
            if not self.alive() or time.monotonic() > deadline:
                raise ConfigError(f"ministack did not start: {self._last_words()}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _environment(port: int) -> dict[str, str]:
    # Left to the caller's environment, AWS_… would lead its own boto3 to a real account, and
    # settings meant for another emulator would make it keep its data or choose its services.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith("MINISTACK_")
    }
    return kept | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        "SFTP_ENABLED": "0",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
