"""The port behind which an emulator serves as the embedded AWS, and the choice of one."""

from __future__ import annotations

import socket
from typing import Protocol

from ddbrelay.errors import ConfigError

ENGINES = ("moto", "ministack")


class Engine(Protocol):
    """An emulator that answers on 127.0.0.1 from when it was made until `stop` returns.

    `stop` may be called twice. Nothing is kept: a new engine starts empty.
    """

    name: str
    port: int

    def alive(self) -> bool:
        """Whether it still runs; False when it ended by itself."""

    def stop(self) -> None:
        """End it and free its port."""


def start(name: str, port: int = 0) -> Engine:
    """Start an emulator and return once it answers; port 0 takes a free one.

    Raises ConfigError when it is not installed, or when the port is taken.
    """
    if name == "moto":
        from ddbrelay.local.moto import Moto

        return Moto(port)
    if name == "ministack":
        from ddbrelay.local.ministack import Ministack

        return Ministack(port)
    raise ConfigError(f"no engine is called {name}", f"engines: {', '.join(ENGINES)}")


def url(port: int) -> str:
    """The address of an engine on this machine."""
    return f"http://127.0.0.1:{port}"


def answers(port: int) -> bool:
    """Whether anything on this machine takes connections at the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
