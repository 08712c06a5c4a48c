"""Files that the user names: what stands there already is never made into something else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ddbrelay.cli.files import check_writable, write_whole
from ddbrelay.errors import ConfigError


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_follows_the_umask_and_a_replaced_one_keeps_its_rights(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "new", "text")
        (tmp_path / "kept").touch()
        (tmp_path / "kept").chmod(0o640)
        write_whole(tmp_path / "kept", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o640


def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 250)
    target.write_text("before")
    with target.open() as reader:
        write_whole(target, "after")
        assert reader.read() == "before"
    assert target.read_text() == "after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link, real = tmp_path / "link", tmp_path / "folder" / "real"
    link.symlink_to("folder/real")
    for text in ("new", "replaced"):
        check_writable(link)
        write_whole(link, text)
        assert link.is_symlink()
        assert real.read_text() == text
    assert list(real.parent.iterdir()) == [real]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "through it")
    reader.join()
    assert read == ["through it"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_whole(link, "nothing")
    assert stat.S_ISCHR(link.stat().st_mode)
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    check_writable(link)
    with pytest.raises(ConfigError, match="No space left"):
        check_writable(full)
    with pytest.raises(ConfigError, match="No space left"):
        write_whole(full, "too much")
    assert stat.S_ISCHR(full.stat().st_mode)


@pytest.mark.parametrize("place", ["/dev/stdout", "out.txt"])
def test_what_stdout_leads_to_gets_it_behind_what_was_printed(tmp_path: Path, place: str) -> None:
    code = (
        "from pathlib import Path; from ddbrelay.cli.files import write_whole\n"
        f"print('before'); write_whole(Path({place!r}), 'report\\n'); print('after')"
    )
    with (tmp_path / "out.txt").open("w") as file:
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=file, check=True)
    assert (tmp_path / "out.txt").read_text() == "before\nreport\nafter\n"
    if place.startswith("/"):
        piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
        assert piped.stdout == b"before\nreport\nafter\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "it is a folder"),
        ("no/such.xml", "there is no folder"),
        ("astray", "there is no folder"),
        ("file/below.xml", "Not a directory"),
        ("y" * 300, "File name too long"),
        ("loop", "symbolic links"),
        ("/proc/report.xml", "cannot write /proc/report.xml"),
        ("socket", "it takes no text"),
    ],
)
def test_what_cannot_be_written_is_known_before_there_is_a_text(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        listener.bind("socket")
    (tmp_path / "astray").symlink_to("no/where")
    with pytest.raises(ConfigError, match=said):
        check_writable(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot write"):
        write_whole(tmp_path / name, "text")


def test_an_interrupt_right_after_the_file_was_replaced_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def interrupted(*places: Any) -> None:
        replace(*places)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "replace", interrupted)
    monkeypatch.setattr(Path, "replace", lambda one, target: interrupted(one, target))
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "report.xml", "text")
    assert [one.name for one in tmp_path.iterdir()] == ["report.xml"]
