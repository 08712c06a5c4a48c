"""The actions of the control face, by name."""

from __future__ import annotations

from typing import Any

from ddbrelay.testing.face import mishaps, reports, scenes
from ddbrelay.testing.face.action import Action, kebab

_MODULES = (scenes, mishaps, reports)

ACTIONS: dict[str, type[Action[Any]]] = {
    kebab(kind.__name__): kind for kind in Action.__subclasses__()
}
"""By name, as in `/_simulator/<name>`."""
READING = {name for name, kind in ACTIONS.items() if kind.__module__ == reports.__name__}
"""Those that change nothing, and can be asked for with GET."""
