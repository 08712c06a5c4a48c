"""An EventBridge bus on AWS, or on anything that speaks its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ddbrelay.aws.errors import BAD_CREDENTIALS, DENIED, THROTTLED, from_code
from ddbrelay.aws.transport import NoAnswerError, Service, Transport, WireError
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import EntryResult, Receipt, receipt_of

_INVALID = frozenset({"SerializationException", "ValidationException"})
_TOO_LARGE = 413


class _Result(msgspec.Struct):
    event_id: str | None = msgspec.field(name="EventId", default=None)
    code: str | None = msgspec.field(name="ErrorCode", default=None)
    message: str | None = msgspec.field(name="ErrorMessage", default=None)


class _PutEventsOutput(msgspec.Struct):
    entries: list[_Result] = msgspec.field(name="Entries", default_factory=list)


class AwsBus:
    """A `Sink`."""

    def __init__(self, service: Service, bus: str) -> None:
        self._service = service
        self._bus = bus

    @classmethod
    async def open(cls, transport: Transport, bus: str) -> AwsBus:
        """A bus whose endpoint is resolved."""
        service = await transport.service("events")
        await service.resolve("PutEvents", Entries=[{"EventBusName": bus}])
        return cls(service, bus)

    async def send(self, items: Sequence[Item]) -> Receipt:
        entries = [self._entry(item) for item in items]
        try:
            body = await self._service.call("PutEvents", msgspec.json.encode({"Entries": entries}))
        except NoAnswerError as error:
            return Receipt(retry=[(item, str(error)) for item in items])
        except WireError as error:
            return await self._refused(items, error)
        try:
            results = msgspec.json.decode(body, type=_PutEventsOutput).entries
        except (msgspec.DecodeError, UnicodeDecodeError):
            results = []
        if len(results) != len(items):
            return Receipt(retry=[(item, "an incomplete answer") for item in items])
        return receipt_of(items, [EntryResult(r.event_id, r.code, r.message) for r in results])

    def _entry(self, item: Item) -> dict[str, Any]:
        event = item.event
        entry: dict[str, Any] = {
            "EventBusName": self._bus,
            "Source": event.source,
            "DetailType": event.detail_type,
            "Detail": event.detail.decode(),
            "Resources": event.resources,
        }
        if event.time is not None:
            entry["Time"] = event.time
        return entry

    async def _refused(self, items: Sequence[Item], error: WireError) -> Receipt:
        if error.code in BAD_CREDENTIALS or error.code in DENIED:
            raise from_code(error.code, error.message, f"publish to bus {self._bus}") from error
        if error.code == "ResourceNotFoundException":
            raise AwsRefused(
                f'bus "{self._bus}" does not exist', "ddbrelay provision makes it", code=error.code
            ) from error
        if error.code in THROTTLED or error.status >= 500:
            return Receipt(retry=[(item, str(error)) for item in items])
        if error.code not in _INVALID and error.status != _TOO_LARGE:
            raise from_code(error.code, error.message, f"publish to bus {self._bus}") from error
        if len(items) == 1:
            return Receipt(rejected=[(items[0], str(error))])
        # The request was refused whole for one of its entries: find out which.
        whole = Receipt()
        for item in items:
            part = await self.send([item])
            whole.accepted += part.accepted
            whole.retry += part.retry
            whole.rejected += part.rejected
        return whole
