"""The embedded AWS as a process of its own, one for each state directory.

In `<state directory>/local/`:

- `engine.lock` is held by the process that serves, for as long as it lives, with its pid inside;
  lock.py says why that is to be trusted, which a pid in a file is not;
- `running.json` says how to reach it. It is written when the engine answers and removed when it
  stops; one that kill -9 left behind counts for nothing and goes at the next start, stop or status;
- `start.lock` lets one `start` or `stop` work at a time;
- `engine.log` is what a background process wrote, since its start;
- `state.db` holds the positions of runs against it, and goes when an engine starts.

ministack is a child of the serving process and ends with it, after kill -9 too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ddbrelay.config import local_state
from ddbrelay.errors import PASSING, ConfigError, DdbrelayError, TemporaryFailure
from ddbrelay.local import engine as engines
from ddbrelay.lock import Lifetime, mutex
from ddbrelay.private import make_folder

START_TIMEOUT = 45.0
"""Seconds until a process that does not answer is given up."""
STOP_TIMEOUT = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_BUSY = "another `ddbrelay local start` or `stop` is at work"
_PAUSE = 0.02
_WATCH = 0.5


@dataclass(frozen=True)
class Running:
    """An engine that answers; `started_at` is in epoch seconds, `log` None in the foreground."""

    pid: int
    port: int
    engine: str
    started_at: float
    log: Path | None

    @property
    def url(self) -> str:
        return engines.url(self.port)


def running(state_dir: Path) -> Running | None:
    """The engine that this state directory knows of and that answers, else None."""
    with _usable(state_dir):
        pid = _lifetime(state_dir).holder()
        found = _read(state_dir)
    if pid is None or found is None or found.pid != pid or not engines.answers(found.port):
        return None
    return found


def serve(
    state_dir: Path,
    engine: str,
    port: int,
    ready: Callable[[Running], None],
    wait: Callable[[float], bool],
) -> None:
    """Run an engine in this process until `wait`, given seconds to pass, returns True.

    The process keeps the lock until it ends, so that `stop` returns only then. `ready` is called
    once, when the engine answers and is registered. Raises TemporaryFailure when one serves this
    state directory already, and DdbrelayError when the engine ends by itself.
    """
    with ExitStack() as undo:
        with _usable(state_dir):
            make_folder(_folder(state_dir))
            _take(state_dir, _lifetime(state_dir))
            _registration(state_dir).unlink(missing_ok=True)
            # Positions in the tables of an engine that is no more mean nothing to a new one.
            for suffix in ("", "-wal", "-shm"):
                state = local_state(state_dir)
                state.with_name(state.name + suffix).unlink(missing_ok=True)
        started = engines.start(engine, port)
        undo.callback(started.stop)
        if wait(0):
            return
        found = Running(os.getpid(), started.port, engine, time.time(), _own_log(state_dir))
        undo.callback(_registration(state_dir).unlink, missing_ok=True)
        with _usable(state_dir):
            _write(state_dir, found)
        ready(found)
        while not wait(_WATCH):
            if not started.alive():
                raise DdbrelayError(f"{engine} ended by itself", "ddbrelay local run starts it")


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def start(
    state_dir: Path,
    engine: str | None = None,
    port: int | None = None,
    wait: Callable[[float], bool] = _sleep,
) -> tuple[Running, bool]:
    """An engine in the background, and whether this call started it; it answers on return.

    When `wait`, given seconds to pass, returns True, what was started is ended again and
    KeyboardInterrupt raised. A handler that raises by itself would not do: in the middle of
    `Popen.poll` it leaves a lock behind for which `Popen.wait` then waits for ever.
    `engine` is moto and `port` a free one unless given. Raises ConfigError when another engine, or
    one on another port, runs already, and with the last words of a process that did not start.
    """
    state_dir = state_dir.absolute()
    with _usable(state_dir):
        make_folder(_folder(state_dir))
        with mutex(_folder(state_dir) / "start.lock", START_TIMEOUT, _BUSY):
            found = running(state_dir)
            if found is not None:
                return _as_asked(found, engine, port), False
            process = _spawn(state_dir, engine or engines.ENGINES[0], port or 0)
            try:
                found = _wait_for(state_dir, process, wait)
                if found.pid == process.pid:
                    return found, True
                return _as_asked(found, engine, port), False
            except BaseException:
                _end(process)
                raise


def stop(state_dir: Path) -> int | None:
    """End the engine, in the background or not, and return its pid; None when none runs."""
    if not _folder(state_dir).is_dir():
        return None
    with _usable(state_dir), mutex(_folder(state_dir) / "start.lock", START_TIMEOUT, _BUSY):
        lifetime = _lifetime(state_dir)
        pid = lifetime.holder()
        if pid is not None:
            _signal(pid, signal.SIGTERM)
            if not _gone(lifetime, pid, STOP_TIMEOUT):
                _signal(pid, signal.SIGKILL)
                if not _gone(lifetime, pid, STOP_TIMEOUT):
                    raise DdbrelayError(f"process {pid} does not end, not even by kill -9")
        forget(state_dir)
        return pid


def forget(state_dir: Path) -> bool:
    """Remove the registration of an engine that is no more; whether there was one."""
    stale = _registration(state_dir).exists()
    with _usable(state_dir):
        _lifetime(state_dir).while_free(lambda: _registration(state_dir).unlink(missing_ok=True))
    return stale and not _registration(state_dir).exists()


def _folder(state_dir: Path) -> Path:
    return state_dir / "local"


def _lifetime(state_dir: Path) -> Lifetime:
    return Lifetime(_folder(state_dir) / "engine.lock")


def _registration(state_dir: Path) -> Path:
    return _folder(state_dir) / "running.json"


def _log(state_dir: Path) -> Path:
    return _folder(state_dir) / "engine.log"


@contextmanager
def _usable(state_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = TemporaryFailure if error.errno in PASSING else ConfigError
        raise kind(
            f"cannot use the state directory {state_dir}: {error.strerror or error}",
            "DDBRELAY_STATE_DIR, or relay.state_dir in ddbrelay.toml, names another one",
        ) from error


def _read(state_dir: Path) -> Running | None:
    try:
        stored = json.loads(_registration(state_dir).read_bytes())
        log = stored.pop("log")
        return Running(**stored, log=Path(log) if log else None)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write(state_dir: Path, found: Running) -> None:
    target = _registration(state_dir)
    temporary = target.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(found), default=str), encoding="utf-8")
    os.replace(temporary, target)


def _take(state_dir: Path, lifetime: Lifetime) -> None:
    # The one that has it may be on its way out, or still on its way to answering.
    deadline = time.monotonic() + STOP_TIMEOUT
    while not lifetime.take():
        found = running(state_dir)
        if found is not None:
            raise TemporaryFailure(
                f"the embedded AWS runs already: {found.engine} at {found.url}, pid {found.pid}",
                "ddbrelay local stop ends it",
            )
        if time.monotonic() > deadline:
            raise TemporaryFailure(
                f"process {lifetime.holder()} holds {_folder(state_dir)} and does not answer",
                "ddbrelay local stop ends it",
            )
        time.sleep(_PAUSE)


def _own_log(state_dir: Path) -> Path | None:
    log = _log(state_dir).absolute()
    return log if log.exists() and os.path.samestat(os.fstat(2), log.stat()) else None


def _as_asked(found: Running, engine: str | None, port: int | None) -> Running:
    if engine not in {None, found.engine} or port not in {None, 0, found.port}:
        raise ConfigError(
            f"the embedded AWS runs already, as {found.engine} at {found.url}",
            "ddbrelay local stop, then start again",
        )
    return found


def _spawn(state_dir: Path, engine: str, port: int) -> subprocess.Popen[bytes]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "DDBRELAY_")) or name == "DDBRELAY_MINISTACK"
    }
    words = ["--config", os.devnull, "local", "run", "--engine", engine, "--port", str(port)]
    with _log(state_dir).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ddbrelay", *words],
            env=environment | {"DDBRELAY_STATE_DIR": str(state_dir)},
            cwd=_folder(state_dir),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_for(
    state_dir: Path, process: subprocess.Popen[bytes], wait: Callable[[float], bool]
) -> Running:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        ended = process.poll() is not None
        found = running(state_dir)
        if found is not None:
            if found.pid != process.pid:
                _end(process)
            return found
        if ended:
            raise _last_words(_log(state_dir))
        if time.monotonic() > deadline:
            raise DdbrelayError(
                f"the embedded AWS did not answer within {START_TIMEOUT:.0f} s",
                f"its log: {_log(state_dir)}",
            )
        if wait(_PAUSE):
            raise KeyboardInterrupt


def _last_words(log: Path) -> ConfigError:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    hint = None
    if len(lines) > 1 and lines[-1].startswith("  hint: "):
        hint = lines.pop().removeprefix("  hint: ")
    last = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    return ConfigError(f"the embedded AWS did not start: {last}", hint or f"its log: {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise ConfigError(f"process {pid} belongs to another user") from None


def _gone(lifetime: Lifetime, pid: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while lifetime.holder() == pid:
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True
