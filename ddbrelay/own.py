"""A mapping that is a function of the user's own: found, called, and held to its word."""

from __future__ import annotations

import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ddbrelay import time_limit
from ddbrelay.errors import ConfigError
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event, Mapped, Reject, Several, Skip, refused
from ddbrelay.flow.mapping.document import exact, small_integers
from ddbrelay.flow.mapping.envelopes import Frame, envelope_of
from ddbrelay.flow.mapping.events import JOINT, stable_id
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.flow.mapping.redaction import redaction_paths
from ddbrelay.time_limit import Interrupted, Overdue, interruptible, within
from ddbrelay.times import epoch_of

OWN = "own"
"""The name in the ledger of what the function does."""
_TRACE_LINES = 12
_SHORTEST = 0.1
"""Seconds that a record has however little time is left."""
_IMPORTLIB = importlib.__file__
_TYPES: dict[str, tuple[type, ...]] = {
    "source": (str,),
    "detail_type": (str,),
    "detail": (bytes,),
    "resources": (tuple, list),
    "time": (int, float, type(None)),
    "rule": (str, type(None)),
    "bus": (str, type(None)),
    "trace_header": (str, type(None)),
}


class OwnChange(Change, kw_only=True):
    """A change whose numbers are all numbers, `Digits` where Python would round them."""

    _mapped: Change
    """The relay's own view of the same record, to which redaction and order apply as well."""

    @classmethod
    def of(cls, change: Change) -> OwnChange:
        """The change as the user's function sees it."""
        return cls(change.record, change.shard_id, change.origin, _mapped=change)

    @property
    def keys(self) -> dict[str, Any]:
        keys: dict[str, Any] = exact(super().keys)
        return keys

    @property
    def new(self) -> dict[str, Any] | None:
        image: dict[str, Any] | None = exact(super().new)
        return image

    @property
    def old(self) -> dict[str, Any] | None:
        image: dict[str, Any] | None = exact(super().old)
        return image

    @property
    def changed(self) -> list[str]:
        return self._mapped.changed

    def redact(self, paths: Iterable[Sequence[str]]) -> None:
        paths = list(paths)
        self._mapped.redact(paths)
        super().redact(paths)

    def order_by(self, key: bytes) -> None:
        self._mapped.order_by(key)


class OwnMapper:
    """Calls the function with a change whose redacted attributes are hidden.

    It returns an event, a sequence of them, a Skip, a Reject, or None to skip. What it raises parks
    the record, with the last lines of the traceback; so does what no event can be, and a call that
    takes longer than `limit` seconds (0: no limit).
    """

    def __init__(self, function: Any, defaults: Defaults, limit: float = 0.0) -> None:
        self._function = function
        self._limit = limit
        self._deadline: float | None = None
        self._source = defaults.source or f"ddbrelay.{defaults.table}"
        self._redact = redaction_paths(defaults.redact, ("redact",))
        self._envelope = envelope_of(defaults.envelope)

    def __call__(self, change: Change) -> Mapped:
        change.reveal()
        if self._redact:
            change.redact(self._redact)
        limit = self._seconds()
        try:
            if not limit:
                return interruptible(lambda: self._mapped(change))
            return interruptible(lambda: within(limit, lambda: self._mapped(change)))
        except Interrupted:
            raise
        except Overdue as error:
            late = f"the mapper took longer than {limit:g} s (mapper_timeout)"
            return Reject(_storable(f"{late}\n{_frames(error)}".rstrip()), OWN)
        except BaseException as error:
            # Whatever ends a task or a process ends the mapping of this record only.
            return Reject(_storable(f"{type(error).__name__} in the mapper: {_trace(error)}"), OWN)

    def bound(self, deadline: float) -> None:
        """Leave time for other records before this time of the monotonic clock."""
        self._deadline = deadline

    def _seconds(self) -> float:
        if self._deadline is None or not self._limit:
            return self._limit
        left = (self._deadline - time.monotonic()) / 2
        return min(self._limit, max(left, _SHORTEST))

    def _mapped(self, change: Change) -> Mapped:
        stdout, sys.stdout = sys.stdout, sys.stderr
        try:
            result = self._function(OwnChange.of(change))
        finally:
            # What a function prints must not stand among the data.
            sys.stdout = stdout
        try:
            return self._checked(result, change)
        except Exception as error:
            # A sequence of the function's own may raise anything where it is read.
            return Reject(_storable(f"the mapper made what no event can be: {_said(error)}"), OWN)

    def _checked(self, result: Any, change: Change) -> Mapped:
        if result is None:
            return Skip(OWN)
        if isinstance(result, Skip | Reject):
            if not isinstance(result.reason, str) or not result.reason:
                raise TypeError(f"a {type(result).__name__} without a text as its reason")
            if isinstance(result, Skip):
                if _storable(result.reason) != result.reason:
                    raise ValueError("the reason of a Skip with half a character")
                return result
            return Reject(_storable(result.reason), _rule(result.rule))
        events = result.events if isinstance(result, Several) else result
        events = [events] if isinstance(events, Event) else events
        if not isinstance(events, Sequence) or not all(isinstance(one, Event) for one in events):
            return Reject(
                f"the mapper returned {type(result).__name__}, "
                "not an Event, a sequence of them, a Skip, a Reject or None",
                OWN,
            )
        made = [self._whole(event, change, place) for place, event in enumerate(events)]
        if len({event.rule for event in made}) < len(made):
            raise ValueError("two events of a change with the same rule would have the same id")
        if not made:
            return Skip(OWN)
        return made[0] if len(made) == 1 else Several(tuple(made))

    def _whole(self, event: Event, change: Change, place: int) -> Event:
        for name, kinds in _TYPES.items():
            value = getattr(event, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"its {name} is of type {type(value).__name__}")
        if not all(isinstance(one, str) for one in event.resources):
            raise TypeError("its resources are not all texts")
        try:
            msgspec.json.decode(event.detail, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError):
            raise ValueError("its detail is no JSON object") from None
        rule = _rule(event.rule) or (OWN if place == 0 else f"{OWN}-{place + 1}")
        event_id = stable_id(change.event_id, rule, place)
        source = event.source or self._source
        time = change.time if event.time is None else _time(event.time)
        detail = small_integers(event.detail)
        if self._envelope is not None:
            frame = Frame(event_id, source, event.detail_type, time)
            detail = self._envelope(change, frame, detail)
        whole = msgspec.structs.replace(
            event,
            source=source,
            detail=detail,
            resources=tuple(event.resources) or (change.stream_arn, event_id),
            time=time,
            rule=rule,
        )
        if never := refused(whole):
            raise ValueError(never.reason)
        return whole


def _rule(name: object) -> str | None:
    """The name as the ledger can have it; TypeError and ValueError for any other."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"its rule is of type {type(name).__name__}")
    if JOINT in name:
        raise ValueError(f'its rule has "{JOINT}" in it')
    if not name.isprintable():
        raise ValueError("its rule has characters that cannot be printed")
    return name


def _time(value: float) -> float:
    try:
        return epoch_of(value)
    except ValueError as error:
        raise ValueError(f"its time: {error}") from None


def _said(error: BaseException) -> str:
    """What an exception says of itself, which may go wrong as well."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as another:
        return f"its text cannot be made ({type(another).__name__})"


def _storable(text: str) -> str:
    """The same without halves of surrogate pairs, which no store takes."""
    return text.encode(errors="backslashreplace").decode()


def _trace(error: BaseException) -> str:
    return f"{_said(error)}\n{_frames(error)}".rstrip()


def _frames(error: BaseException) -> str:
    """The last lines of the function's own in the traceback."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in {__file__, time_limit.__file__}
    ]
    return "".join(traceback.format_list(frames[-_TRACE_LINES:])) if frames else ""


def function_of(name: str, folder: Path) -> Any:
    """The function that `module:function` names, looked for in the folder too.

    Raises ConfigError where there is none.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(
            f'mapper "{name}" is not module:function', "such as myapp.events:to_event"
        )
    if str(folder) not in sys.path:
        # Behind the others, so that a file of the user's does not take the place of a library.
        sys.path.append(str(folder))
    try:
        found: Any = interruptible(lambda: importlib.import_module(module_name))
    except Interrupted:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            raise ConfigError(
                f'mapper "{name}": there is no module "{error.name}"',
                f"it is looked for in {folder} and where Python is installed",
            ) from None
        raise ConfigError(
            f'mapper "{name}" cannot be imported: {type(error).__name__}: {error}{_line_of(error)}',
            "-vv shows more",
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(f'mapper "{name}": {module_name} has no function "{attribute}"')
    if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
        raise ConfigError(
            f'mapper "{name}" is asynchronous', "it maps one change at a time: def, not async def"
        )
    return found


def _line_of(error: BaseException) -> str:
    """Where in a file an import failed, in words."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename not in {__file__, _IMPORTLIB}
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
