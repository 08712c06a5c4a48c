"""A rule's templates and expressions -> the event of a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping.crud import CrudMapper, image_of
from ddbrelay.flow.mapping.document import Document, encode, small_integers
from ddbrelay.flow.mapping.envelopes import ENVELOPES, Frame, envelope_of
from ddbrelay.flow.mapping.events import (
    MAX_DETAIL_TYPE,
    MAX_TRACE_HEADER,
    Event,
    Reject,
    bad_bus,
    bad_source,
    refused,
)
from ddbrelay.flow.mapping.expressions import EvaluationError, Expression, ExpressionError
from ddbrelay.flow.mapping.templates import Shape, ShapeError, Template
from ddbrelay.times import epoch_of

Validator = Callable[[bytes], "str | None"]
"""What is wrong with a detail, None where it is as it should be."""


class MappingError(ValueError):
    """What is wrong with a mapping.

    `path` says which key of the file it is (`("rule", 0, "detail")`), `offset` which character of
    the text there.
    """

    def __init__(
        self,
        message: str,
        path: tuple[str | int, ...],
        *,
        offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path, self.offset, self.hint = path, offset, hint


@dataclass(frozen=True)
class Defaults:
    """What holds for the events of every rule that does not say otherwise.

    `schema` gives the check of a schema file by its name, and raises ValueError where it cannot.
    """

    table: str
    entity: str | None = None
    source: str | None = None
    envelope: str = "none"
    strict: bool = False
    redact: tuple[str, ...] = ()
    schema: Callable[[str], Validator] | None = None


class Maker:
    """Makes the event of one rule."""

    def __init__(
        self,
        name: str,
        spec: Mapping[str, Any],
        path: tuple[str | int, ...],
        defaults: Defaults,
        crud: CrudMapper,
    ) -> None:
        """MappingError for what can never become an event."""
        self._name, self._spec, self._path, self._crud = name, spec, path, crud
        self.source = self._template("source")
        self._detail_type = self._template("detail_type")
        self._trace = self._template("trace_header")
        self._time = self._expression("time")
        self._bus = self._text("bus")
        if self._bus is not None and (never := bad_bus(self._bus)):
            raise self._wrong(never.reason, "bus")
        self._detail = self._detail_of(spec.get("detail"))
        self._resources = self._resources_of(spec.get("resources"))
        self._envelope = self._envelope_of(self._text("envelope") or defaults.envelope)
        self._valid = self._validator(self._text("schema"), defaults)
        self._check_constants()

    def __call__(self, change: Change, document: Document, event_id: str) -> Event | Reject:
        """The event, or a Reject that names the rule."""
        try:
            return self._event(change, document, event_id)
        except UndecodableError as error:
            reason = f"cannot be read: {error}"
        except EvaluationError as error:
            reason = str(error)
        except (TypeError, ValueError) as error:
            reason = f"the detail cannot be written as JSON: {error}"
        return Reject(f'rule "{self._name}": {reason}', self._name)

    def _event(self, change: Change, document: Document, event_id: str) -> Event:
        if self._detail_type is None:
            detail_type = self._crud.detail_type(change)
            if isinstance(detail_type, Reject):
                raise EvaluationError(detail_type.reason)
        else:
            detail_type = self._detail_type(document, event_id)
        source = self._crud.source if self.source is None else self.source(document, event_id)
        time = self._time_of(change, document, event_id)
        if self._detail is None:
            detail = image_of(change)
        else:
            value = self._detail(document, event_id)
            if not isinstance(value, dict):
                raise EvaluationError(f"the detail is {_kind(value)}, not an object")
            detail = small_integers(encode(value))
        if self._envelope is not None:
            detail = self._envelope(change, Frame(event_id, source, detail_type, time), detail)
        if self._valid is not None and (wrong := self._valid(detail)) is not None:
            raise EvaluationError(f"the detail does not fit its schema: {wrong}")
        event = Event(
            source,
            detail_type,
            detail,
            (change.stream_arn, event_id)
            if self._resources is None
            else tuple(one(document, event_id) for one in self._resources),
            time,
            self._name,
            self._bus,
            None if self._trace is None else self._trace(document, event_id),
        )
        if never := refused(event):
            raise EvaluationError(never.reason)
        return event

    def _time_of(self, change: Change, document: Document, event_id: str) -> float | None:
        if self._time is None:
            return change.time
        value = self._time(document, event_id)
        if value is None:
            raise EvaluationError(f"the time {self._time.on_one_line} is missing")
        try:
            return epoch_of(value)
        except ValueError as error:
            raise EvaluationError(f"the time {self._time.on_one_line}: {error}") from None

    # What the file says

    def _wrong(
        self, message: str, *keys: str | int, offset: int | None = None, hint: str | None = None
    ) -> MappingError:
        return MappingError(message, (*self._path, *keys), offset=offset, hint=hint)

    def _text(self, key: str) -> str | None:
        value = self._spec.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        raise self._wrong(f"{key} must be a text, and not an empty one", key)

    def _template(self, key: str) -> Template | None:
        text = self._text(key)
        try:
            return None if text is None else Template(text)
        except ExpressionError as error:
            raise self._wrong(str(error), key, offset=error.offset, hint=error.hint) from None

    def _expression(self, key: str) -> Expression | None:
        text = self._text(key)
        try:
            return None if text is None else Expression(text)
        except ExpressionError as error:
            raise self._wrong(str(error), key, offset=error.offset, hint=error.hint) from None

    def _detail_of(self, detail: object) -> Expression | Shape | None:
        if detail is not None and not isinstance(detail, str | dict):
            raise self._wrong("detail must be a JMESPath or a table", "detail")
        if not isinstance(detail, dict):
            expression = self._expression("detail")
            if expression is not None and expression.literal_kind not in {None, "an object"}:
                raise self._wrong(
                    f"the detail is {expression.literal_kind}, not an object", "detail"
                )
            return expression
        try:
            return Shape(detail)
        except ShapeError as error:
            raise self._wrong(
                str(error), "detail", *error.path, offset=error.offset, hint=error.hint
            ) from None

    def _resources_of(self, resources: object) -> tuple[Template, ...] | None:
        if resources is None:
            return None
        if not isinstance(resources, list) or not all(isinstance(one, str) for one in resources):
            raise self._wrong("resources must be an array of texts", "resources")
        made = []
        for index, text in enumerate(resources):
            try:
                made.append(Template(text))
            except ExpressionError as error:
                raise self._wrong(
                    str(error), "resources", index, offset=error.offset, hint=error.hint
                ) from None
        return tuple(made)

    def _envelope_of(self, name: str) -> Any:
        try:
            return envelope_of(name)
        except ValueError:
            raise self._wrong(
                f"envelope must be one of {', '.join(ENVELOPES)}", "envelope"
            ) from None

    def _validator(self, name: str | None, defaults: Defaults) -> Validator | None:
        if name is None:
            return None
        if defaults.schema is None:
            raise self._wrong("schemas cannot be read here", "schema")
        try:
            return defaults.schema(name)
        except ValueError as error:
            raise self._wrong(str(error), "schema") from None

    def _check_constants(self) -> None:
        """As far as can be known before there is a change."""
        if (kind := self._detail_type) is not None and kind.shortest > MAX_DETAIL_TYPE:
            raise self._wrong(
                f"the detail type is longer than {MAX_DETAIL_TYPE} characters", "detail_type"
            )
        if (source := self.source) is not None:
            never = bad_source(source.constant if source.constant is not None else source.start)
            if never is not None and (source.constant is not None or source.start):
                raise self._wrong(never.reason, "source")
        if (trace := self._trace) is not None and trace.shortest > MAX_TRACE_HEADER:
            raise self._wrong(
                f"the trace header is longer than {MAX_TRACE_HEADER} characters", "trace_header"
            )


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a text"
    return "null" if value is None else "true or false" if isinstance(value, bool) else "a number"
