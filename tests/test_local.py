"""`ddbrelay local`: one engine for a state directory, and nothing of it left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.local import daemon
from ddbrelay.local import engine as engines
from ddbrelay.local.ministack import program as ministack_program
from ddbrelay.lock import Lifetime, mutex

Wait = Callable[..., None]
Gone = Callable[[int], None]


@pytest.fixture(params=engines.ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "ministack" and ministack_program() is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs ministack, yet it was not found")
        pytest.skip("ministack is not installed (python -m venv, pip install ministack)")
    return name


@pytest.fixture
def local(bare_cli: Cli) -> Iterator[Cli]:
    """The command line; whatever engine a test leaves running is ended."""
    yield bare_cli
    bare_cli.run("local", "stop")


def state_dir(cli: Cli) -> Path:
    return Path(cli.environment["DDBRELAY_STATE_DIR"])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def of_session(leader: int) -> set[int]:
    """The processes of a session that live, without those that only wait to be reaped."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True
    )
    found = set()
    for line in listing.stdout.splitlines():
        pid, stat = line.split()
        try:
            if os.getsid(int(pid)) == leader and not stat.startswith("Z"):
                found.add(int(pid))
        except (ProcessLookupError, PermissionError):
            continue
    return found


def registered(cli: Cli) -> dict[str, Any] | None:
    file = state_dir(cli) / "local" / "running.json"
    return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture
def all_gone(wait_until: Wait) -> Gone:
    """Waits until the kernel has finished with a session whose leader has freed its lock."""
    return lambda leader: wait_until(lambda: of_session(leader) == set(), 2)


def reached(cli: Cli) -> list[str]:
    aws = Aws(Settings(local=True, state_dir=state_dir(cli)))
    return aws.client("dynamodb").list_tables()["TableNames"]


def test_start_status_and_stop_agree_and_nothing_is_left(
    local: Cli, engine_name: str, all_gone: Gone
) -> None:
    [started] = local.json("local", "start", "--engine", engine_name)
    assert started["started"] is True
    assert started["engine"] == engine_name
    assert started["url"] == f"http://127.0.0.1:{started['port']}"
    assert Path(started["log"]).is_file()
    [seen] = local.json("local", "status")
    assert seen == {key: value for key, value in started.items() if key != "started"}
    assert reached(local) == []

    [stopped] = local.json("local", "stop")
    assert stopped == {
        "type": "engine",
        "running": False,
        "stopped": True,
        "pid": started["pid"],
    }
    all_gone(started["pid"])
    assert not answers(started["port"])
    assert registered(local) is None


def test_start_prints_what_a_person_needs_and_the_next_step(local: Cli) -> None:
    done = local.ok("local", "start")
    running = daemon.running(state_dir(local))
    assert running is not None
    for fact in (running.url, f"pid     {running.pid}", str(running.log)):
        assert fact in done.stdout
    assert "next: ddbrelay --local provision" in done.stderr


def test_starting_twice_says_so_and_keeps_the_first(local: Cli) -> None:
    [first] = local.json("local", "start")
    done = local.ok("local", "start", "--engine", first["engine"])
    assert "runs already" in done.stderr
    assert local.json("local", "start")[0] == first | {"started": False}


def test_the_emulator_that_web_pages_can_use_is_named(local: Cli, engine_name: str) -> None:
    done = local.ok("local", "start", "--engine", engine_name)
    assert ("any web page that is open here" in done.stderr) is (engine_name == "ministack")
    assert "any web page can use ministack" in local.ok("local", "run", "--help").stdout


@pytest.mark.parametrize("other", [("--engine", "ministack"), ("--port", "1")])
def test_starting_another_engine_or_port_beside_a_running_one_is_refused(
    local: Cli, other: tuple[str, str]
) -> None:
    [first] = local.json("local", "start")
    done = local.run("local", "start", *other)
    assert done.returncode == 2
    assert f"runs already, as moto at {first['url']}" in done.stderr
    assert "ddbrelay local stop" in done.stderr
    assert local.json("local", "status")[0]["pid"] == first["pid"]


@pytest.mark.slow
def test_concurrent_starts_leave_one_engine(local: Cli, engine_name: str, all_gone: Gone) -> None:
    words = ("local", "start", "--engine", engine_name, "--output", "json")
    together = [local.start(*words) for _ in range(5)]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in together]
    assert [process.returncode for process in together] == [0] * 5
    assert len({result["pid"] for result in results}) == 1
    assert sum(result["started"] for result in results) == 1
    local.ok("local", "stop")
    all_gone(results[0]["pid"])


def test_a_start_beside_a_foreground_run_that_is_starting_leaves_one_engine(local: Cli) -> None:
    foreground = local.start("local", "run")
    [found] = local.json("local", "start")
    if found["started"]:
        assert foreground.wait(timeout=20) == 7
    else:
        assert found["pid"] == foreground.pid
        assert found["log"] is None
    local.ok("local", "stop")
    foreground.communicate(timeout=20)


@pytest.mark.slow
def test_kill_9_is_noticed_leaves_no_process_and_the_next_start_works(
    local: Cli, engine_name: str, all_gone: Gone, wait_until: Wait
) -> None:
    [first] = local.json("local", "start", "--engine", engine_name)
    os.kill(first["pid"], signal.SIGKILL)
    all_gone(first["pid"])
    wait_until(lambda: not answers(first["port"]), 2)
    assert daemon.running(state_dir(local)) is None
    refused = local.run("--local", "provision", "--table", "users")
    assert refused.returncode == 5

    status = local.run("local", "status")
    assert status.returncode == 5
    assert "ended without saying so" in status.stdout
    assert registered(local) is None
    [second] = local.json("local", "start", "--engine", engine_name)
    assert second["started"] is True
    assert reached(local) == []


def test_a_process_that_got_the_pid_of_a_dead_engine_is_left_alone(local: Cli) -> None:
    [dead] = local.json("local", "start")
    os.kill(dead["pid"], signal.SIGKILL)
    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stale = registered(local)
    assert stale is not None
    folder = state_dir(local) / "local"
    (folder / "running.json").write_text(json.dumps(stale | {"pid": innocent.pid}))
    (folder / "engine.lock").write_text(str(innocent.pid))

    assert local.run("local", "status").returncode == 5
    assert "not running" in local.ok("local", "stop").stderr
    assert innocent.poll() is None
    innocent.communicate(b"\n")


def test_a_stop_during_a_start_ends_what_was_started(
    local: Cli, engine_name: str, all_gone: Gone, wait_until: Wait
) -> None:
    start = local.start("local", "start", "--engine", engine_name, "--output", "json")
    wait_until((state_dir(local) / "local" / "engine.lock").exists)
    local.ok("local", "stop")
    started = json.loads(start.communicate(timeout=60)[0])
    all_gone(started["pid"])
    assert local.run("local", "status").returncode == 5


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(
    local: Cli, engine_name: str, number: signal.Signals, all_gone: Gone, wait_until: Wait
) -> None:
    start = local.start("local", "start", "--engine", engine_name)
    lock = state_dir(local) / "local" / "engine.lock"
    wait_until(lambda: lock.exists() and lock.read_text())
    pid = int(lock.read_text())
    start.send_signal(number)
    start.communicate(timeout=30)
    if start.returncode == 0:
        local.ok("local", "stop")
    else:
        assert start.returncode == 130
    all_gone(pid)
    assert registered(local) is None


def test_status_and_stop_without_an_engine_say_so(local: Cli) -> None:
    status = local.run("local", "status")
    assert (status.returncode, status.stdout) == (5, "not running\n")
    assert "next: ddbrelay local start" in status.stderr
    silent = local.run("local", "status", "--output", "json")
    assert (silent.returncode, silent.stdout) == (5, '{"type":"engine","running":false}\n')
    assert "not running" in local.ok("local", "stop").stderr
    assert not state_dir(local).exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_registers_itself_and_stops_cleanly(
    local: Cli, engine_name: str, number: signal.Signals
) -> None:
    process = local.start("local", "run", "--engine", engine_name)
    assert process.stderr is not None
    line = process.stderr.readline()
    running = daemon.running(state_dir(local))
    assert running is not None
    assert (running.pid, running.engine, running.log) == (process.pid, engine_name, None)
    assert f"at {running.url} " in line
    assert "ddbrelay --local provision" in line
    if engine_name == "ministack":
        assert "any web page" in process.stderr.readline()
    assert reached(local) == []

    process.send_signal(number)
    output, words = process.communicate(timeout=20)
    assert (process.returncode, output, words) == (0, "", "")
    assert registered(local) is None
    assert not answers(running.port)


def test_stop_ends_a_foreground_run_and_a_second_run_is_refused(local: Cli) -> None:
    process = local.start("local", "run", "--output", "json")
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    second = local.run("local", "run")
    assert second.returncode == 7
    assert f"runs already: moto at {found['url']}, pid {process.pid}" in second.stderr
    local.ok("local", "stop")
    assert process.wait(timeout=20) == 0
    process.communicate()


@pytest.mark.slow
def test_a_signal_while_run_is_starting_ends_it_cleanly(
    local: Cli, engine_name: str, wait_until: Wait
) -> None:
    process = local.start("local", "run", "--engine", engine_name)
    wait_until((state_dir(local) / "local" / "engine.lock").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert registered(local) is None


def test_run_ends_when_its_engine_does(local: Cli, tmp_path: Path) -> None:
    server = tmp_path / "shortlived"
    server.write_text(
        f"#!{sys.executable}\n"
        "import http.server, os\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers()\n"
        "    def do_POST(self): os._exit(1)\n"
        "port = int(os.environ['GATEWAY_PORT'])\n"
        "http.server.HTTPServer(('127.0.0.1', port), Handler).serve_forever()\n"
    )
    server.chmod(0o755)
    local.environment["DDBRELAY_MINISTACK"] = str(server)
    process = local.start("local", "run", "--engine", "ministack", "--output", "json")
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST / HTTP/1.0\r\n\r\n")
    assert process.wait(timeout=20) == 1
    assert "error: ministack ended by itself" in process.communicate()[1]
    assert registered(local) is None


@pytest.mark.parametrize("words", [("run",), ("start",)])
def test_a_port_in_use_is_one_clear_line_and_registers_nothing(
    local: Cli, engine_name: str, words: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = local.run("local", *words, "--engine", engine_name, "--port", str(port))
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert f"port {port} of 127.0.0.1" in error
    assert error.startswith("error: ")
    assert hint == "  hint: choose another --port"
    assert registered(local) is None


def test_the_last_words_of_an_engine_that_dies_at_start_are_in_the_error(
    local: Cli, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho first\necho the disk is on fire >&2\nexit 3\n")
    broken.chmod(0o755)
    local.environment["DDBRELAY_MINISTACK"] = str(broken)
    done = local.run("local", "start", "--engine", "ministack")
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.endswith("ministack did not start: the disk is on fire")
    assert hint == f"  hint: its log: {state_dir(local) / 'local' / 'engine.log'}"
    assert local.run("local", "status").returncode == 5


def test_an_engine_that_is_not_installed_says_how_to_install_it(local: Cli) -> None:
    local.environment["DDBRELAY_MINISTACK"] = "/nowhere/ministack"
    done = local.run("local", "start", "--engine", "ministack")
    assert done.returncode == 2
    assert "/nowhere/ministack cannot be run" in done.stderr
    assert "  hint: pipx install ministack" in done.stderr


@pytest.mark.slow
def test_the_callers_aws_and_ddbrelay_variables_do_not_matter(local: Cli, engine_name: str) -> None:
    local.environment |= {
        "AWS_PROFILE": "missing",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_CA_BUNDLE": "/nowhere",
        "DDBRELAY_LOCAL": "1",
        "DDBRELAY_ENDPOINT_URL": "http://127.0.0.1:1",
        "DDBRELAY_OUTPUT": "json",
        "PERSIST_STATE": "1",
        "SERVICES": "s3",
    }
    for words in (("start", "--engine", engine_name), ("status",)):
        local.ok("local", *words)
    assert reached(local) == []
    local.ok("local", "stop")
    process = local.start("local", "run", "--engine", engine_name)
    assert process.stdout is not None
    process.stdout.readline()
    assert reached(local) == []
    local.ok("local", "stop")
    process.communicate(timeout=20)


def test_a_broken_file_in_the_directory_is_reported_by_start_itself(local: Cli) -> None:
    (local.directory / "ddbrelay.toml").write_text("[aws]\nregoin = 1\n")
    done = local.run("local", "start")
    assert done.returncode == 2
    assert 'unknown key "aws.regoin"' in done.stderr
    assert "did not start" not in done.stderr


def test_a_relative_state_directory_is_the_same_one_for_the_background_process(local: Cli) -> None:
    local.environment["DDBRELAY_STATE_DIR"] = "here"
    local.ok("local", "start")
    assert local.json("local", "status")[0]["log"] == str(
        local.directory / "here" / "local" / "engine.log"
    )


@pytest.mark.parametrize("word", ["start", "run", "status"])
def test_a_state_directory_that_cannot_be_used_is_named(local: Cli, word: str) -> None:
    in_the_way = local.directory / "file"
    in_the_way.write_text("")
    local.environment["DDBRELAY_STATE_DIR"] = str(in_the_way)
    done = local.run("local", word)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: cannot use the state directory {in_the_way}: ")
    assert "DDBRELAY_STATE_DIR" in hint


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"pid": 1, "log": null}'])
def test_a_damaged_registration_counts_for_nothing(local: Cli, text: str) -> None:
    folder = state_dir(local) / "local"
    folder.mkdir(parents=True)
    (folder / "running.json").write_text(text)
    assert daemon.running(state_dir(local)) is None
    local.ok("local", "start")
    assert reached(local) == []


def test_a_lifetime_lock_names_its_holder_until_that_dies(tmp_path: Path) -> None:
    lock = Lifetime(tmp_path / "a.lock")
    assert lock.holder() is None
    program = (
        "import sys; from pathlib import Path; from ddbrelay.lock import Lifetime;"
        "print(Lifetime(Path(sys.argv[1])).take(), flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "a.lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert lock.holder() == holder.pid
        assert not lock.take()
        calls: list[str] = []
        lock.while_free(lambda: calls.append("while held"))
        holder.kill()
        holder.wait()
    lock.while_free(lambda: calls.append("free"))
    assert calls == ["free"]
    assert lock.holder() is None


def test_a_mutex_that_stays_taken_is_an_error(tmp_path: Path) -> None:
    from ddbrelay.errors import TemporaryFailure

    with (
        mutex(tmp_path / "m", 1, "busy"),
        pytest.raises(TemporaryFailure, match="somebody"),
        mutex(tmp_path / "m", 0.05, "somebody is at work"),
    ):
        pass
    with mutex(tmp_path / "m", 0.05, "busy"):
        pass
