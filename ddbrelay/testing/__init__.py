"""Doubles that behave like AWS, faults included, for our tests and those of our users.

The fixtures of the pytest plugin are described in `ddbrelay.testing.plugin`. For annotations:
`Relays`, `RunningRelay`, `Events`, `EmbeddedAws` and `SimulatorProcess`. `SimulatorProcess` and
`serving` run the simulator without pytest. `change` and `record` build what a mapping function of
one's own is given, `attribute` a value as DynamoDB's JSON has it, `aws_environment` the variables
with which AWS code talks to one of these doubles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddbrelay.testing.builders import attribute, change, record
    from ddbrelay.testing.embedded import EmbeddedAws, aws_environment
    from ddbrelay.testing.face.controls import Controls
    from ddbrelay.testing.factory import Relays
    from ddbrelay.testing.limits import Limits
    from ddbrelay.testing.received import Events
    from ddbrelay.testing.relays import RunningRelay
    from ddbrelay.testing.server import LocalSimulator, SimulatorProcess, serving

__all__ = [
    "Controls",
    "EmbeddedAws",
    "Events",
    "Limits",
    "LocalSimulator",
    "Relays",
    "RunningRelay",
    "SimulatorProcess",
    "attribute",
    "aws_environment",
    "change",
    "record",
    "serving",
]

_HOMES = {
    "Controls": "face.controls",
    "EmbeddedAws": "embedded",
    "Events": "received",
    "Limits": "limits",
    "LocalSimulator": "server",
    "Relays": "factory",
    "RunningRelay": "relays",
    "SimulatorProcess": "server",
    "attribute": "builders",
    "aws_environment": "embedded",
    "change": "builders",
    "record": "builders",
    "serving": "server",
}


def __getattr__(name: str) -> Any:
    # pytest imports the plugin, and with it this, in every project.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
