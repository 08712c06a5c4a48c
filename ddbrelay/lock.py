"""Lock files: what the kernel says about who is alive.

A pid alone proves nothing, because pids are used again. A lock taken with flock(2) is freed by the
kernel when its holder dies, kill -9 included, so a pid that stands in a locked file is its holder.
Lock files are never removed: a second process could lock a file that no longer has a name.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ddbrelay.errors import TemporaryFailure
from ddbrelay.private import make_folder

_MOUNTS = Path("/proc/self/mounts")
_OCTAL = re.compile(rb"\\([0-7]{3})")
"""How a space, a tab, a line break and a backslash stand in the list of mounts."""
_OF_ONE_KERNEL = frozenset(
    {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
)
"""File systems that only one kernel can have mounted, whatever its containers are called."""


@contextmanager
def mutex(path: Path, timeout: float, busy: str) -> Iterator[None]:
    """Hold the lock for the block; TemporaryFailure `busy` after `timeout` seconds without it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + timeout
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise TemporaryFailure(busy, "wait for it, or end it")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


class Lifetime:
    """A lock that a process keeps until it releases it or dies, with its pid inside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take it; False when another one has it."""
        make_folder(self.path.parent)
        with self._examining():
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if not _locked(descriptor, fcntl.LOCK_EX):
                    os.close(descriptor)
                    return False
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            except OSError:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back, if it was taken."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """The pid of the process that has it, None when nobody has."""
        if not self.path.exists():
            return None
        with self._examining():
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                if _locked(descriptor, fcntl.LOCK_SH):
                    return None
                return int(os.read(descriptor, 20))
            finally:
                os.close(descriptor)

    def while_free(self, act: Callable[[], None]) -> None:
        """Call `act` if nobody has the lock; nobody can take it meanwhile."""
        if not self.path.exists():
            return
        with self._examining():
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                if _locked(descriptor, fcntl.LOCK_SH):
                    act()
            finally:
                os.close(descriptor)

    @contextmanager
    def _examining(self) -> Iterator[None]:
        # Without it, looking whether the lock is taken would get in the way of taking it, and a
        # pid could be read that the new holder has not replaced yet.
        with mutex(self.path.with_suffix(".guard"), 5.0, f"{self.path} is in use"):
            yield


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_of_one_kernel(path: Path) -> bool:
    """Whether all who can have a lock on the file have it from the kernel that runs here."""
    return filesystem_of(path) in _OF_ONE_KERNEL


def filesystem_of(path: Path) -> str | None:
    """The kind of the file system that holds the path, as Linux tells it."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    found: tuple[int, str] | None = None
    for line in lines:
        _, mounted, kind, *_ = line.split(b" ")
        folder = Path(os.fsdecode(_OCTAL.sub(lambda code: bytes([int(code[1], 8)]), mounted)))
        if resolved.is_relative_to(folder) and (found is None or len(folder.parts) >= found[0]):
            found = len(folder.parts), os.fsdecode(kind)
    return None if found is None else found[1]
