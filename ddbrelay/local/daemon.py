"""The embedded AWS in the background: its pid, port and log in the state directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddbrelay.local import engine


@dataclass(frozen=True)
class Running:
    """An engine that answers; `started_at` is in epoch seconds."""

    pid: int
    port: int
    engine: str
    started_at: float
    log: Path

    @property
    def url(self) -> str:
        return engine.url(self.port)


def running(state_dir: Path) -> Running | None:
    """The engine that this state directory knows of and that answers, else None."""
    return None
