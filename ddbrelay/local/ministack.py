"""ministack in a process of its own: more faithful, and it runs Lambda functions.

It pins an older botocore, so it lives in a virtual environment of its own and is found as a
program: `DDBRELAY_MINISTACK`, else `ministack` on the PATH.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time

from ddbrelay.errors import ConfigError

_READY_TIMEOUT = 30.0
_STOP_TIMEOUT = 5.0


def program() -> str | None:
    """The path of the program, None where it is not installed."""
    return os.environ.get("DDBRELAY_MINISTACK") or shutil.which("ministack")


class Ministack:
    """An `Engine`."""

    name = "ministack"

    def __init__(self, port: int = 0) -> None:
        path = program()
        if path is None:
            raise ConfigError(
                "ministack is not installed",
                "pipx install ministack, or name the program in DDBRELAY_MINISTACK",
            )
        self.port = port or _free_port()
        if _answers(self.port):
            raise ConfigError(
                f"port {self.port} of 127.0.0.1 is already in use", "choose another --port"
            )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [path],
                env=_environment(self.port),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            self._log.close()
            raise ConfigError(f"cannot start {path}: {error.strerror}") from None
        deadline = time.monotonic() + _READY_TIMEOUT
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = self._last_words()
                self.stop()
                raise ConfigError(f"ministack did not start: {last}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._log.close()


def _environment(port: int) -> dict[str, str]:
    # AWS variables of the caller would lead its own boto3 to a real account.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON"))}
    return kept | {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "WARNING"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
