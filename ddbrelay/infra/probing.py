"""Waiting until a rule that was just made really delivers.

A rule takes effect some time after PutRule and PutTargets have answered ("allow a short period of
time for changes to take effect"), and what is published before that is gone:
https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ddbrelay.errors import AwsRefused
from ddbrelay.infra.calls import call
from ddbrelay.infra.listener import Listener, Received
from ddbrelay.infra.plan import DEFAULT_BUS

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

_DETAIL_TYPE = "ddbrelay probe"
_IN_A_ROW = 3
"""Probes that must arrive one after the other: the rule reaches EventBridge's machines one by one.
"""
_PATIENCE = 2.0
"""Seconds after which a probe counts as not delivered, and the next one is sent."""
_BATCH = 10


class ProbedListener(Listener):
    """A listener at a temporary rule and queue, whose rule also matches probes of its own.

    Probes are published with the source `probe_source`, which no other listener has, and never
    given out. What came while probes were waited for is given out by the next `receive`.
    """

    def __init__(
        self, aws: Aws, *, bus: str = DEFAULT_BUS, sources: Sequence[Any] | None = None
    ) -> None:
        self.probe_source = f"ddbrelay-probe.{uuid4().hex[:12]}"
        own = None if sources is None else [*sources, self.probe_source]
        super().__init__(aws, bus=bus, sources=own)
        self._waiting: deque[Received] = deque()
        self._probes: set[str] = set()

    def receive(self, wait: float, limit: int = _BATCH) -> list[Received]:
        if not self._waiting:
            self._waiting.extend(self._poll(wait, limit))
        return [self._waiting.popleft() for _ in range(min(max(limit, 1), len(self._waiting)))]

    def probe_arrives(self, number: str, wait: float) -> bool:
        """Whether the probe of this number has come, after a poll of at most `wait` seconds."""
        if number not in self._probes:
            self._waiting.extend(self._poll(wait, _BATCH))
        return number in self._probes

    def _poll(self, wait: float, limit: int) -> list[Received]:
        found = super().receive(wait, limit)
        probes = [one for one in found if one.event.get("source") == self.probe_source]
        if probes:
            self.done(probes)
            self._probes |= {str(one.event["detail"]["number"]) for one in probes}
        return [one for one in found if one.event.get("source") != self.probe_source]


def wait_until_delivering(
    aws: Aws,
    listener: ProbedListener,
    bus: str,
    *,
    timeout: float,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Return once three probes in a row, each sent after the one before it, came through the rule.

    `bus` is the bus of the listener, which must have been entered. AwsRefused when PutEvents takes
    no probe, and when they do not arrive within `timeout` seconds. Returns early when `stopped`
    says so.
    """
    deadline = time.monotonic() + timeout
    arrived = 0
    while arrived < _IN_A_ROW:
        number = uuid4().hex
        _send(aws, bus, listener.probe_source, number)
        arrived = arrived + 1 if _arrives(listener, number, deadline, stopped) else 0
        if stopped():
            return
        if arrived < _IN_A_ROW and time.monotonic() >= deadline:
            raise AwsRefused(
                f"the temporary rule {listener.name} on bus {bus} delivers nothing after "
                f"{timeout:g} s",
                "the queue's policy or a service control policy may forbid it: ddbrelay doctor",
            )


def _arrives(
    listener: ProbedListener, number: str, deadline: float, stopped: Callable[[], bool]
) -> bool:
    until = min(deadline, time.monotonic() + _PATIENCE)
    while not listener.probe_arrives(number, 1.0):
        if stopped() or time.monotonic() >= until:
            return False
        # Not every endpoint holds a long poll back.
        time.sleep(0.02)
    return True


def _send(aws: Aws, bus: str, source: str, number: str) -> None:
    doing = f"publish a probe to bus {bus}"
    entry = {
        "Source": source,
        "DetailType": _DETAIL_TYPE,
        "Detail": json.dumps({"number": number}),
        "EventBusName": bus,
    }
    answer = call(aws.client("events"), "put_events", doing, Entries=[entry])
    for one in answer.get("Entries", ()):
        if one.get("ErrorCode"):
            raise AwsRefused(
                f"cannot {doing}: {one['ErrorCode']}: {one.get('ErrorMessage')}",
                code=one["ErrorCode"],
            )
