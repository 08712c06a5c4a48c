"""An EventBridge bus on AWS, or on anything that speaks its protocol."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from ddbrelay.aws.errors import BAD_CREDENTIALS, DENIED, THROTTLED, from_code
from ddbrelay.aws.refusals import ALWAYS_SMALL, ForeignError
from ddbrelay.aws.transport import NoAnswerError, Service, Transport, WireError
from ddbrelay.aws.unanswered import SET_UP
from ddbrelay.errors import AwsRefused, DdbrelayError
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import DENIED_CODES, EntryResult, Receipt, receipt_of

_INVALID = frozenset({"SerializationException", "ValidationException"})
_TOO_LARGE = 413
_TOGETHER = 3
"""Attempts as one request before each entry is sent by itself."""


class _Entry(msgspec.Struct, omit_defaults=True, gc=False):
    bus: str = msgspec.field(name="EventBusName")
    source: str = msgspec.field(name="Source")
    detail_type: str = msgspec.field(name="DetailType")
    detail: str = msgspec.field(name="Detail")
    resources: tuple[str, ...] = msgspec.field(name="Resources", default=())
    time: float | None = msgspec.field(name="Time", default=None)
    trace_header: str | None = msgspec.field(name="TraceHeader", default=None)


class _PutEventsInput(msgspec.Struct, gc=False):
    entries: list[_Entry] = msgspec.field(name="Entries")


class _PutEventsOutput(msgspec.Struct, gc=False):
    entries: list[EntryResult] = msgspec.field(name="Entries")


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_PutEventsOutput).decode


class AwsBus:
    """A `Sink` for one bus, and for the others that events name.

    AWS refuses a request whole when one of its buses does not exist. So the entries of a bus that
    was missing go in requests of their own, until it takes one. Without the bus of the run
    everything is held; the events for another one are to be sent again, and the others go on.
    """

    def __init__(self, service: Service, bus: str) -> None:
        self._service = service
        self._bus = bus
        self._answered = False
        self._accepting: set[str | None] = set()
        self._missing: set[str | None] = set()
        self._refusal: DdbrelayError | None = None

    @classmethod
    async def open(cls, transport: Transport, bus: str) -> AwsBus:
        """A bus whose endpoint is resolved."""
        service = await transport.service("events")
        await service.resolve("PutEvents", Entries=[{"EventBusName": bus}])
        return cls(service, bus)

    async def send(self, items: Sequence[Item]) -> Receipt:
        if self._refusal is not None:
            raise self._refusal
        if self._missing:
            parts = _by_bus(items, self._missing)
            if len(parts) > 1:
                return await self._send_parts(parts)
        own = self._bus
        entries = [
            _Entry(
                e.bus or own,
                e.source,
                e.detail_type,
                e.detail.decode(),
                e.resources,
                e.time,
                e.trace_header,
            )
            for e in [item.event for item in items]
        ]
        try:
            request = _encode(_PutEventsInput(entries))
            results = (await self._service.call("PutEvents", request, _decode)).entries
        except NoAnswerError as error:
            if not self._answered and error.kind in SET_UP:
                raise AwsRefused(
                    f"no answer from AWS, to publish to bus {own}: {error}", SET_UP[error.kind]
                ) from error
            return Receipt(retry=[(item, str(error)) for item in items], crowded=True)
        except WireError as error:
            self._answered = True
            return await self._refused(items, error)
        self._answered = True
        if len(results) != len(items):
            return Receipt(retry=[(item, "an incomplete answer") for item in items], crowded=True)
        receipt = receipt_of(items, results)
        if receipt.accepted:
            took = {item.event.bus for item, _ in receipt.accepted}
            self._accepting |= took
            self._missing -= took
        if receipt.rejected:
            self._hold_denied(receipt, list(zip(items, results, strict=True)))
        return receipt

    def _hold_denied(self, receipt: Receipt, told: Sequence[tuple[Item, EntryResult]]) -> None:
        """Raise when a bus takes nothing from us, which is no fault of its events.

        That it is the events and not the bus, only a bus that takes others can tell. Where other
        buses took some of the request, it is raised with the next one.
        """
        for bus in {item.event.bus for item, _ in told} - self._accepting:
            said = [result for item, result in told if item.event.bus == bus]
            if any(result.code not in DENIED_CODES for result in said):
                continue
            code, message = said[0].code or "", said[0].message or ""
            refusal = from_code(code, message, f"publish to bus {bus or self._bus}")
            if not receipt.accepted:
                raise refusal
            self._refusal = refusal
            receipt.retry += [one for one in receipt.rejected if one[0].event.bus == bus]
            receipt.rejected = [one for one in receipt.rejected if one[0].event.bus != bus]

    async def _refused(self, items: Sequence[Item], error: WireError) -> Receipt:
        buses = dict.fromkeys(item.event.bus or self._bus for item in items)
        doing = f"publish to {'bus' if len(buses) == 1 else 'buses'} {', '.join(buses)}"
        if error.code in BAD_CREDENTIALS or error.code in DENIED:
            raise from_code(error.code, error.message, doing) from error
        if error.code == "ResourceNotFoundException":
            return await self._without_bus(items)
        if error.code in THROTTLED or error.status >= 500:
            return Receipt(retry=[(item, str(error)) for item in items], crowded=True)
        small = sum(item.size for item in items) < ALWAYS_SMALL
        if isinstance(error, ForeignError) or (error.status == _TOO_LARGE and small):
            return await self._turned_away(items, error)
        if error.code not in _INVALID and error.status != _TOO_LARGE:
            raise from_code(error.code, error.message, doing) from error
        if len(items) == 1:
            return Receipt(rejected=[(items[0], str(error))])
        # The request was refused whole for one of its entries: find out which.
        return await self._send_parts([[item] for item in items])

    async def _turned_away(self, items: Sequence[Item], error: WireError) -> Receipt:
        """A proxy or firewall refused the request; retry, then find out which entry it refuses."""
        if len(items) == 1:
            return Receipt(unknown=[(items[0], str(error))], crowded=True)
        if max(item.attempts for item in items) >= _TOGETHER:
            # It may be one of them alone that a firewall does not like.
            return await self._send_parts([[item] for item in items])
        return Receipt(retry=[(item, str(error)) for item in items], crowded=True)

    async def _without_bus(self, items: Sequence[Item]) -> Receipt:
        """One of the buses of these does not exist: find out which."""
        parts = _by_bus(items)
        if len(parts) > 1:
            return await self._send_parts(parts)
        bus = items[0].event.bus
        gone = f'bus "{bus or self._bus}" does not exist'
        again = [(item, gone) for item in items]
        if bus is None:
            return Receipt(retry=again, held=gone)
        self._missing.add(bus)
        return Receipt(retry=again)

    async def _send_parts(self, parts: Sequence[Sequence[Item]]) -> Receipt:
        """Send each part in a request of its own, one after the other."""
        whole = Receipt()
        for number, part in enumerate(parts):
            left = [item for later in parts[number:] for item in later]
            try:
                receipt = await self.send(part)
            except DdbrelayError as refused:
                if not whole.accepted:
                    raise
                # What was accepted must be told first.
                self._refusal = refused
                whole.retry += [(item, refused.message) for item in left]
                return whole
            whole.accepted += receipt.accepted
            whole.unknown += receipt.unknown
            whole.rejected += receipt.rejected
            whole.crowded = whole.crowded or receipt.crowded
            if receipt.held is not None:
                whole.retry += [(item, receipt.held) for item in left]
                if not (whole.accepted or whole.unknown or whole.rejected):
                    whole.held = receipt.held
                return whole
            whole.retry += receipt.retry
        return whole


def _by_bus(items: Sequence[Item], apart: Collection[str | None] | None = None) -> list[list[Item]]:
    """The items of each bus, those of the run's own first; only of those in `apart`, if given."""
    parts: dict[str | None, list[Item]] = {}
    for item in items:
        bus = item.event.bus
        parts.setdefault(bus if apart is None or bus in apart else None, []).append(item)
    return sorted(parts.values(), key=lambda part: part is not parts.get(None))
