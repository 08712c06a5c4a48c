"""What can be chosen for a deployment; the command line reads it without loading the mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ARCHITECTURES = ("arm64", "x86_64")
RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
OLD_LINUX = RUNTIMES[0]
"""The last runtime on Amazon Linux 2, whose C library is older than most wheels want."""
MOST_AT_ONCE = 10
"""Records of a batch that is not waited for."""
TYPES = ("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "M", "L")
ROLES = ("relay", "lambda", "provision")
"""Who can be given a policy."""
NO_LIMIT = -1
DEFAULT_LIMIT = 5
MAX_LIMIT = 10
"""Filters of an event source mapping; more than five take a raised quota."""

FieldPath = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the person chose; times are in seconds, -1 is no limit.

    `types` are the DynamoDB types of attributes, by name or by path into maps.
    """

    stream_arn: str | None = None
    existing_bus: bool = False
    key: str | None = None
    sort_key: str | None = None
    batch_size: int = 100
    window: int = 1
    parallelization: int = 1
    max_age: int = 23 * 3600
    retries: int = NO_LIMIT
    architecture: str = ARCHITECTURES[0]
    runtime: str = "python3.13"
    memory: int = 256
    timeout: int = 60
    filtered: bool = True
    filter_limit: int = DEFAULT_LIMIT
    types: Mapping[FieldPath, str] = field(default_factory=dict)
    alarm_age: int = 900
    alarm_topic: str | None = None

    @property
    def keys_known(self) -> bool:
        """Whether the key is certain: the table is made here, or its key was given."""
        return self.stream_arn is None or self.key is not None
