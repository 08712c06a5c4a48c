"""Variables named DDBRELAY_…: those that mean something here, and those that are somebody else's.

Kubernetes sets variables for each Service, in the form of Docker's links, so a Service called
`ddbrelay` or `ddbrelay-metrics` makes names that begin like ours:
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

PREFIX = "DDBRELAY_"
CONFIG = f"{PREFIX}CONFIG"
ENDPOINT_ID = f"{PREFIX}ENDPOINT_ID"
"""Is refused, as `bus.endpoint_id` is."""
_NOT_SETTINGS = frozenset(
    {
        CONFIG,
        ENDPOINT_ID,
        # The commands of a scenario get it.
        f"{PREFIX}EXPECT_RUN",
        # The embedded AWS and bundle.py of an export read these.
        *(f"{PREFIX}MINISTACK", f"{PREFIX}PACKAGE"),
        # The tests of the project do.
        *(f"{PREFIX}CDK_PYTHON", f"{PREFIX}DYNAMODB_LOCAL", f"{PREFIX}FAKETIME"),
        *(f"{PREFIX}PLAIN_PYTHON", f"{PREFIX}VENV"),
    }
)
_OF_SERVICE = re.compile(
    rf"{PREFIX}(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)"
)
_LINK = re.compile(r"(?:tcp|udp|sctp)://\S+")


def is_link(name: str, value: str) -> bool:
    """Whether a variable is the address of a Kubernetes Service, and not a port of ours."""
    return name.endswith("_PORT") and _LINK.fullmatch(value) is not None


def strangers(environ: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """A sentence about each variable that is not used although it begins like ours.

    `settings` are the variables of settings. An empty variable counts as absent, and what
    Kubernetes sets for a Service is no mistake unless it takes the name of a setting.
    """
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or not value:
            continue
        if name in settings:
            if is_link(name, value):
                yield f"{name}={value} is the address of a Kubernetes Service: it is ignored"
        elif name not in _NOT_SETTINGS and not _of_kubernetes(name, value):
            yield f"{name} is not a variable of ddbrelay: it is ignored{_hint(name, settings)}"


def _of_kubernetes(name: str, value: str) -> bool:
    return is_link(name, value) or _OF_SERVICE.fullmatch(name) is not None


def _hint(name: str, settings: Collection[str]) -> str:
    # Imported here: nobody needs it where all is well.
    from ddbrelay.text import near

    words = [one.removeprefix(PREFIX) for one in {*settings, CONFIG}]
    close = near(name.removeprefix(PREFIX), sorted(words))
    return "" if close is None else f'; did you mean "{PREFIX}{close}"?'
