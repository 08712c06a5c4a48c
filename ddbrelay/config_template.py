"""A `ddbrelay.toml` to begin with: every setting, its default and what it is for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ddbrelay.config import Settings, effective
from ddbrelay.values import amount

_EXAMPLE = (
    "",
    "# Rules say which change is which event; the first that matches counts, the rest is skipped.",
    "# [[rule]]",
    '# when = { eventName = ["MODIFY"], changed = ["email"] }',
    '# detail_type = "UserEmailChanged"',
    '# detail = "{id: keys.id, before: old.email, after: new.email}"',
)


def render(given: Mapping[str, Any]) -> str:
    """The text of a `ddbrelay.toml` that sets `given`, by field name, and explains every key.

    Keys at their defaults are commented out; an empty text stands for no default.
    """
    settings, defaults = Settings(**given), Settings()
    values = effective(settings)
    lines = [
        "# Settings of ddbrelay. Flags win over DDBRELAY_... variables, which win over this file.",
        "# A key behind a # has the value shown; `ddbrelay config show` tells what is in force.",
    ]
    section = ""
    # TOML has no way back out of a section: keys without one come first.
    for setting in sorted(fields(Settings), key=lambda s: "." in s.metadata["toml"]):
        folder, _, key = str(setting.metadata["toml"]).rpartition(".")
        if folder != section:
            section = folder
            lines += ["", f"[{section}]"]
        else:
            lines.append("")
        changed = getattr(settings, setting.name) != getattr(defaults, setting.name)
        value = _toml_value(values[setting.name], setting.metadata["parse"])
        lines += [f"# {setting.metadata['help']}", f"{'' if changed else '#'}{key} = {value}"]
    return "\n".join([*lines, *_EXAMPLE]) + "\n"


def _toml_value(value: object, parse: Callable[[Any], Any]) -> str:
    if isinstance(value, bool | int) or parse is amount:
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps(list(value), ensure_ascii=False)
    if isinstance(value, float):
        if 0 < value < 1:
            return f'"{value * 1000:g}ms"'
        return f'"{value:.3f}'.rstrip("0").rstrip(".") + 's"'
    if isinstance(value, Path):
        home = Path(os.path.expanduser("~"))
        value = f"~/{value.relative_to(home)}" if value.is_relative_to(home) else str(value)
    # What JSON escapes in a printable text, TOML reads the same way.
    return json.dumps(value or "", ensure_ascii=False)
