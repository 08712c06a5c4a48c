"""The lines of `config show` and `init`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ddbrelay.output import Printed


class Setting(Printed):
    """One setting."""

    value: Annotated[
        str | float | bool | tuple[str, ...] | None,
        Meta(description="durations are in seconds; null where it is not set"),
    ]
    origin: Annotated[
        str,
        Meta(
            description="where the value came from: default, the file with its line, the "
            "variable, or the flag"
        ),
    ]


class Settings(Printed, tag_field="type", tag="settings"):
    """All settings."""

    file: Annotated[
        str | None,
        Meta(description="path of the file that was read; null where there is none"),
    ]
    settings: Annotated[
        dict[str, Setting],
        Meta(description="by their names in ddbrelay.toml, such as relay.grace"),
    ]


class Written(Printed, tag_field="type", tag="file"):
    """The file that was written."""

    path: Annotated[str, Meta(description="absolute")]
    state: Literal["written"]
