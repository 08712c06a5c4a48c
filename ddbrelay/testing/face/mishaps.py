"""Actions: what goes wrong, by script and by chance."""

from __future__ import annotations

from ddbrelay.errors import ConfigError
from ddbrelay.testing.face.account import SERVICES, SimulatedAccount
from ddbrelay.testing.face.action import Action
from ddbrelay.testing.face.operations import SERVICE_OF
from ddbrelay.testing.face.scenes import (
    Advance,
    Close,
    DeleteTable,
    DisableStream,
    RemoveShard,
    Roll,
    Split,
    Trim,
    Write,
)
from ddbrelay.testing.faults import LOST_AFTER, LOST_BEFORE, SLOW, Faults, Rates
from ddbrelay.testing.limits import Limits

Scene = Write | Roll | Split | Close | Trim | RemoveShard | DisableStream | DeleteTable | Advance
"""What can happen right before a call."""


class SetRates(Action[None]):
    """What goes wrong by chance on the way to a service, from now on.

    Rates are from 0 to 1, latencies ranges of seconds.
    """

    service: str
    rates: Rates
    latency: tuple[float, float] = (0.0, 0.0)
    slow_latency: tuple[float, float] = (5.0, 30.0)

    def apply(self, account: SimulatedAccount) -> None:
        if self.service not in SERVICES:
            raise ConfigError(f'no service is called "{self.service}"', ", ".join(SERVICES))
        faults = account.faults[self.service]
        faults.rates, faults.latency = self.rates, self.latency
        faults.slow_latency = self.slow_latency


class SetLimits(Action[None]):
    """How many calls a second are taken; None for no limit."""

    limits: Limits

    def apply(self, account: SimulatedAccount) -> None:
        for name in ("describe_stream", "get_records", "list_streams", "put_events"):
            setattr(account.limits, name, getattr(self.limits, name))


class FailNext(Action[None]):
    """The next calls of an operation end with an error code of AWS."""

    operation: str
    code: str
    times: int = 1

    def apply(self, account: SimulatedAccount) -> None:
        _way_to(account, self.operation).fail_next(self.operation, self.code, self.times)


class Cut(Action[None]):
    """The connections of the next calls are cut, `after` their effect or before it."""

    operation: str
    after: bool
    times: int = 1

    def apply(self, account: SimulatedAccount) -> None:
        fault = LOST_AFTER if self.after else LOST_BEFORE
        _way_to(account, self.operation).fail_next(self.operation, fault, self.times)


class SlowDown(Action[None]):
    """The next calls of an operation have their effect, and are answered very late."""

    operation: str
    times: int = 1

    def apply(self, account: SimulatedAccount) -> None:
        _way_to(account, self.operation).fail_next(self.operation, SLOW, self.times)


class FailEntries(Action[None]):
    """Entries of PutEvents with this text in their Detail fail, `times` of them or all."""

    code: str
    bus: str | None = None
    times: int | None = None
    containing: str = ""

    def apply(self, account: SimulatedAccount) -> None:
        account.entry_scripts.fail(
            self.code, bus=self.bus, times=self.times, containing=self.containing
        )


class Recover(Action[None]):
    """Nothing goes wrong any more, neither by script nor by chance."""

    def apply(self, account: SimulatedAccount) -> None:
        account.entry_scripts.recover()
        for faults in account.faults.values():
            faults.recover()
            faults.latency = (0.0, 0.0)


class Before(Action[None]):
    """Do something right before the next call of an operation.

    With `having`, before the next one whose request has this member: with ExclusiveStartShardId a
    shard appears between two pages of a listing.
    """

    operation: str
    then: Scene
    having: str | None = None

    def apply(self, account: SimulatedAccount) -> None:
        _way_to(account, self.operation).before_next(
            self.operation,
            lambda: self.then.apply(account),
            lambda members: self.having is None or members.get(self.having) is not None,
        )


def _way_to(account: SimulatedAccount, operation: str) -> Faults:
    if operation not in SERVICE_OF:
        raise ConfigError(f'no operation is called "{operation}"', ", ".join(SERVICE_OF))
    return account.faults[SERVICE_OF[operation]]
