"""How a state file is opened: to be written, for its owner alone; to be looked at, as it can be."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ddbrelay.errors import NO_ROOM, StateError
from ddbrelay.private import close_to_others, make_folder, users_folder, warn_of_writers

_log = logging.getLogger(__name__)
_MAGIC = b"SQLite format 3\0"
_WAL, _SHM, _OWNERS = "-wal", "-shm", ".owners"
_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_UNWRITABLE = NO_ROOM | {errno.EACCES, errno.EPERM, errno.EROFS}
_SQLITE_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
}


def primary_code(error: BaseException | None) -> int:
    """SQLite's code of an error; an extended code has the primary one in its low byte."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_unwritable(error: BaseException | None) -> bool:
    """Whether a file could not be opened only because it was to be written."""
    if isinstance(error, OSError):
        return error.errno in _UNWRITABLE
    return primary_code(error) in _SQLITE_UNWRITABLE


def check_kind(path: Path) -> None:
    """StateError for what would hang or swallow everything: a FIFO, a socket, a device."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise StateError(f"the state file {path} is {name}", "choose a file with --state")


def make_private(path: Path) -> None:
    """Make the file where it is missing, or close it to others."""
    check_kind(path)
    make_folder(path.parent)
    warn_of_emptied(path)
    _check_head(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    ours = [path, *(_beside(path, end) for end in (_WAL, _SHM, _OWNERS))]
    if path.parent == users_folder() or _holds_only(path.parent, path.name):
        ours.append(path.parent)
    close_to_others(ours)
    warn_of_writers(path.parent)


def _holds_only(folder: Path, name: str) -> bool:
    """Whether a folder is for the state alone, and nobody has set it up to be shared."""
    if folder.is_mount() or folder.stat().st_mode & (stat.S_ISVTX | stat.S_ISGID):
        return False
    try:
        names = [entry.name for entry in folder.iterdir()]
    except PermissionError:
        return False
    # `ddbrelay local` keeps its own in a folder of that name.
    return all(found.startswith(name) or found == "local" for found in names)


def _check_head(handle: int) -> None:
    # SQLite takes a file of a few bytes for an empty one, and would write over it.
    try:
        head = os.read(handle, len(_MAGIC))
    finally:
        os.close(handle)
    if head not in {b"", _MAGIC}:
        raise sqlite3.DatabaseError("file is not a database")


def warn_of_emptied(path: Path) -> None:
    """Say so where a file that was in use before has nothing in it any more."""
    if _beside(path, _OWNERS).is_dir() and path.exists() and not path.stat().st_size:
        _log.warning(
            "the state file %s was in use before and is empty now: checkpoints and dead letters "
            "are gone, and the next run starts at the trim horizon",
            path,
        )


def read_only(path: Path) -> sqlite3.Connection:
    """Open a file that is there for a look: neither it nor its rights change.

    No file stays beside it that was not there, unless only others may write it.
    """
    check_kind(path)
    warn_of_emptied(path)
    _check_head(os.open(path, os.O_RDONLY))
    wal = _beside(path, _WAL)
    # SQLite makes the files of the write-ahead log for a reader too. Only a connection that may
    # write takes them away at its end; where they are there, another process may be at work.
    look = _connect(path, "mode=ro" if wal.exists() else "mode=rw")
    try:
        look.execute("PRAGMA query_only = ON")
        look.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        look.close()
        if not is_unwritable(error):
            raise
    except BaseException:
        look.close()
        raise
    else:
        return look
    # A write-ahead log is read with a file beside it that does not exist and cannot be made.
    if not wal.exists() or not wal.stat().st_size:
        return _connect(path, "mode=ro&immutable=1")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(wal, _beside(copy, _WAL))
        with closing(_connect(copy, "mode=rw")) as copied:
            return in_memory(copied)


def in_memory(look: sqlite3.Connection) -> sqlite3.Connection:
    """A copy that can be converted, and is gone when it is closed."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    look.backup(copy)
    return copy


def keeps_locks(path: Path) -> bool:
    """Whether the file system has locks at all; some network shares are mounted without."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not lacks_locks(error)
    return True


def lacks_locks(error: OSError) -> bool:
    """Whether that is what the error says."""
    return error.errno in _NO_LOCKS


def _connect(path: Path, options: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?{options}"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _beside(path: Path, ending: str) -> Path:
    # A path such as `.` has no name to put it behind.
    return Path(f"{path}{ending}")
