"""An EventBridge bus on AWS, or on anything that speaks its protocol."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ddbrelay.aws.errors import BAD_CREDENTIALS, DENIED, THROTTLED, from_code
from ddbrelay.aws.transport import NoAnswerError, Service, Transport, WireError
from ddbrelay.aws.unanswered import SET_UP
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import DENIED_CODES, EntryResult, Receipt, receipt_of

_INVALID = frozenset({"SerializationException", "ValidationException"})
_TOO_LARGE = 413


class _Entry(msgspec.Struct, omit_defaults=True, gc=False):
    bus: str = msgspec.field(name="EventBusName")
    source: str = msgspec.field(name="Source")
    detail_type: str = msgspec.field(name="DetailType")
    detail: str = msgspec.field(name="Detail")
    resources: tuple[str, ...] = msgspec.field(name="Resources", default=())
    time: float | None = msgspec.field(name="Time", default=None)


class _PutEventsInput(msgspec.Struct, gc=False):
    entries: list[_Entry] = msgspec.field(name="Entries")


class _PutEventsOutput(msgspec.Struct, gc=False):
    entries: list[EntryResult] = msgspec.field(name="Entries", default_factory=list)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_PutEventsOutput).decode


class AwsBus:
    """A `Sink`."""

    def __init__(self, service: Service, bus: str) -> None:
        self._service = service
        self._bus = bus
        self._answered = self._accepts = False

    @classmethod
    async def open(cls, transport: Transport, bus: str) -> AwsBus:
        """A bus whose endpoint is resolved."""
        service = await transport.service("events")
        await service.resolve("PutEvents", Entries=[{"EventBusName": bus}])
        return cls(service, bus)

    async def send(self, items: Sequence[Item]) -> Receipt:
        bus = self._bus
        entries = [
            _Entry(bus, e.source, e.detail_type, e.detail.decode(), e.resources, e.time)
            for e in [item.event for item in items]
        ]
        try:
            body = await self._service.call("PutEvents", _encode(_PutEventsInput(entries)))
        except NoAnswerError as error:
            if not self._answered and error.kind in SET_UP:
                raise AwsRefused(
                    f"no answer from AWS, to publish to bus {bus}: {error}", SET_UP[error.kind]
                ) from error
            return Receipt(retry=[(item, str(error)) for item in items], crowded=True)
        except WireError as error:
            self._answered = True
            return await self._refused(items, error)
        self._answered = True
        try:
            results = _decode(body).entries
        except (msgspec.DecodeError, UnicodeDecodeError):
            results = []
        if len(results) != len(items):
            return Receipt(retry=[(item, "an incomplete answer") for item in items], crowded=True)
        receipt = receipt_of(items, results)
        if receipt.accepted:
            self._accepts = True
        elif not self._accepts and all(result.code in DENIED_CODES for result in results):
            # That it is the events and not the bus, only a bus that takes others can tell.
            said = results[0]
            raise from_code(said.code or "", said.message or "", f"publish to bus {bus}")
        return receipt

    async def _refused(self, items: Sequence[Item], error: WireError) -> Receipt:
        if error.code in BAD_CREDENTIALS or error.code in DENIED:
            raise from_code(error.code, error.message, f"publish to bus {self._bus}") from error
        if error.code == "ResourceNotFoundException":
            gone = f'bus "{self._bus}" does not exist'
            return Receipt(retry=[(item, gone) for item in items], held=gone)
        if error.code in THROTTLED or error.status >= 500:
            return Receipt(retry=[(item, str(error)) for item in items], crowded=True)
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
            whole.crowded = whole.crowded or part.crowded
        return whole
