"""Relay DynamoDB stream changes to EventBridge as business events.

`Mapper` maps records in Python, without AWS; `Change`, `Event`, `Several`, `Skip` and `Reject` are
what a mapping function of one's own (`OwnFunction`) takes and gives, `event_of` makes an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddbrelay.flow.change import Change
    from ddbrelay.flow.mapping import Event, OwnFunction, Reject, Several, Skip, event_of
    from ddbrelay.library import Mapper

__version__ = "0.1.0"
__all__ = [
    "Change",
    "Event",
    "Mapper",
    "OwnFunction",
    "Reject",
    "Several",
    "Skip",
    "__version__",
    "event_of",
]

_HOMES = {
    "Change": "ddbrelay.flow.change",
    "Event": "ddbrelay.flow.mapping",
    "Mapper": "ddbrelay.library",
    "OwnFunction": "ddbrelay.flow.mapping",
    "Reject": "ddbrelay.flow.mapping",
    "Several": "ddbrelay.flow.mapping",
    "Skip": "ddbrelay.flow.mapping",
    "event_of": "ddbrelay.flow.mapping",
}


def __getattr__(name: str) -> Any:
    # Importing them at once would make every command start later.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
