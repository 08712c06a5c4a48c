"""Files and folders that are only their owner's, whatever the umask: what is stored holds items."""

from __future__ import annotations

import logging
import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from ddbrelay.errors import ConfigError

_log = logging.getLogger(__name__)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_warned: set[Path] = set()
"""Folders that a warning has named."""


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        # Not `parents`: that gives those above the rights that the umask leaves.
        one.mkdir(mode=0o700, exist_ok=True)


def close_to_others(paths: Iterable[Path]) -> None:
    """Take away what others may do with these files and folders of ours, with a warning."""
    closed = [path for path in paths if _close(path)]
    if closed:
        _log.warning(
            "others could use %s; from now on only its owner can",
            ", ".join(str(path) for path in closed),
        )


def warn_of_writers(folder: Path) -> None:
    """Warn, once a process, of a folder in which others can replace our files."""
    mode = folder.stat().st_mode
    # In a folder with the sticky bit, as /tmp is, each can replace only what is his.
    if not mode & (stat.S_IWGRP | stat.S_IWOTH) or mode & stat.S_ISVTX or folder in _warned:
        return
    _warned.add(folder)
    _log.warning(
        "others can write in %s and could replace the state file there: chmod go-w %s, or choose "
        "another folder with DDBRELAY_STATE_DIR or --state",
        folder,
        shlex.quote(str(folder)),
    )


def _close(path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    if found.st_uid != os.geteuid() or not found.st_mode & _OTHERS:
        return False
    path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    return True


def users_folder() -> Path | None:
    """The directory for state that the user has by convention; None for a user without a home."""
    import platformdirs

    try:
        found = platformdirs.user_state_path("ddbrelay", appauthor=False)
    except RuntimeError:
        return None
    # Older versions leave the tilde as it is.
    return found if found.is_absolute() else None


def users_state() -> Path:
    """The folder of this user's state; ConfigError for a user who has none."""
    found = users_folder()
    if found is None:
        raise ConfigError(
            "there is no place for state: HOME is not set, and this user has no home directory",
            "set DDBRELAY_STATE_DIR (or --state for the state file alone), or HOME",
        )
    return found
