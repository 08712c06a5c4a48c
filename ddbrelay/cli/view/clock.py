"""Where a view has its times from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """`monotonic` in seconds, `now` in epoch seconds."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
