"""Every error that ddbrelay raises on purpose, one family per thing that an operator can do.

    DdbrelayError                1  unexpected: report it
     ├ ConfigError               2  correct the command, the environment or the file
     │  └ StateError             2  the state file cannot be used
     │     └ StateUnavailable    7  for now: it is full, locked or owned by another run
     ├ RecordsParked             3  finished, but some records are parked
     ├ DataLost                  4  records left the stream before they were read
     ├ AwsRefused                5  credentials, permissions, a missing table or bus, no answer
     ├ ExpectationNotMet         6  `--expect` or a time-out
     └ TemporaryFailure          7  what a restart can cure
        └ StateUnavailable

The number is the exit code of the command. `message` says what happened and where; `hint` says
what to do next, in one line.
"""

from __future__ import annotations

import errno

INTERRUPTED = 130
"""Exit code after the second interrupt (128 + SIGINT, as shells count it)."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What an OSError has where the disk, or the quota on it, takes no more for now."""
PASSING = NO_ROOM | {errno.EMFILE, errno.ENFILE, errno.ESTALE}
"""What an OSError of a file has where a later try can succeed."""


class DdbrelayError(Exception):
    """Base of all; `exit_code` is what the command ends with."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(DdbrelayError):
    """A flag, a variable or a line of the file that cannot be right."""

    exit_code = 2


class StateError(ConfigError):
    """The state file is damaged, of another program or written by a newer version."""


class RecordsParked(DdbrelayError):
    """The run ended, and some records wait as dead letters."""

    exit_code = 3


class DataLost(DdbrelayError):
    """Records left the stream before they were read, or cannot be shown not to have."""

    exit_code = 4


class AwsRefused(DdbrelayError):
    """AWS said no, or did not answer; `code` is its error code where it gave one."""

    exit_code = 5

    def __init__(self, message: str, hint: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code


class ExpectationNotMet(DdbrelayError):
    """What `--expect` or a deadline asked for did not happen."""

    exit_code = 6


class TemporaryFailure(DdbrelayError):
    """What stopped the command can pass: a supervisor should start it again."""

    exit_code = 7


class StateUnavailable(TemporaryFailure, StateError):
    """The state file is locked, owned by another live run, or the disk under it is full."""
