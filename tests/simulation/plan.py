"""What a day will be like: all that is decided before it starts, drawn from its seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from ddbrelay.flow.capture import Pace, Start
from ddbrelay.testing.faults import Rates

HOUR = 3600.0
MINUTE = 60.0
RECORDS = 5000
"""Records of an average day, where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Burst:
    """So many writes from `at` on, spread over `lasts` seconds."""

    at: float
    lasts: float
    writes: int


@dataclass(frozen=True, slots=True)
class Weather:
    """How the ways to the stream and to the bus are from `at` on."""

    at: float
    stream: Rates
    bus: Rates
    stream_latency: tuple[float, float]
    bus_latency: tuple[float, float]
    name: str


@dataclass(frozen=True, slots=True)
class Oddity:
    """What happens once, `at` seconds after the start of the day."""

    at: float
    kind: str
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One day; times in seconds, rates from 0 to 1.

    `style` says how runs come and go: steady ones last for hours, crashing ones for seconds or
    minutes, those of a schedule run until they are idle. Between two runs is a `pause` of at most
    so long, after some a `rest`; `long_pause` is the one of the day that is longer than the stream
    keeps records.
    """

    seed: int
    tree: str
    length: float
    keys: int
    skew: float
    bursts: tuple[Burst, ...]
    deletes: float
    big: float
    skips: float
    several: float
    poison: float
    most_open: int
    looks_open: float
    late: float
    extra_last_page: bool
    knows_timestamps: bool
    disabled: bool
    weather: tuple[Weather, ...]
    oddities: tuple[Oddity, ...]
    consumers: tuple[str, ...]
    start: Start
    style: str
    pause: float
    rest: float
    long_pause: float | None
    pace: Pace
    discovery_interval: float
    checkpoint_interval: float
    beat_interval: float
    max_pending: int
    max_in_flight: int


def draw(seed: int, records: int = RECORDS) -> Plan:
    """The day of a seed, with about so many records."""
    rng = random.Random(f"plan {seed}")
    roots = rng.choice([1, 1, 2, 2, 3, 3, 4, 5, 8])
    length = 24 * HOUR
    start = Start.LATEST if rng.random() < 0.12 else Start.TRIM_HORIZON
    long_pause = rng.uniform(24.5, 30) * HOUR if rng.random() < 0.08 else None
    # Few calls where there are many shards or few records: a day costs mostly its idle polls.
    thrift = min(5.0, max(1.0, math.sqrt(RECORDS / records)))
    idle = math.exp(rng.uniform(math.log(60), math.log(800))) * max(1.0, roots / 3) * thrift
    return Plan(
        seed=seed,
        tree=", ".join(_tree(rng, f"s{n}") for n in range(roots)),
        length=length if long_pause is None else length + long_pause * rng.uniform(0.5, 1.2),
        keys=rng.choice([2, 10, 40, 150, 600]),
        skew=rng.choice([1.0, 2.0, 4.0]),
        bursts=_bursts(rng, length, max(20, int(records * rng.lognormvariate(-0.25, 0.7)))),
        deletes=rng.choice([0.0, 0.05, 0.3]),
        big=rng.choice([0.0, 0.0, 0.0, 0.002, 0.02]) * min(1.0, 2000 / records),
        skips=rng.choice([0.0, 0.03, 0.2]),
        several=random.Random(f"several {seed}").choice([0.0, 0.05, 0.3]),
        poison=rng.choice([0.0, 0.0, 0.01, 0.1]),
        most_open=roots + rng.choice([1, 1, 2, 4, 12]),
        looks_open=rng.choice([0.0, 0.3]),
        late=rng.choice([0.0, 3.0, 60.0, 900.0]),
        extra_last_page=rng.random() < 0.3,
        knows_timestamps=rng.random() < 0.7,
        disabled=rng.random() < 0.3,
        weather=tuple(_with_odd_answers(seed, _weather(rng, length))),
        oddities=tuple(_oddities(rng, length, start)),
        consumers=("default", "audit") if rng.random() < 0.15 else ("default",),
        start=start,
        style=rng.choice(["steady", "crashing", "crashing", "schedule"]),
        pause=rng.choice([5.0, 5.0, 60.0, 40 * MINUTE]),
        rest=rng.choice([1.0, 4.0, 8.0]) * HOUR,
        long_pause=long_pause,
        pace=Pace(
            after_records=rng.choice([0.25, 1.0, 5.0]) * rng.choice([1.0, thrift**2]),
            idle=idle,
            retry_cap=rng.choice([10.0, 60.0, 300.0]) * thrift,
        ),
        discovery_interval=min(HOUR, rng.choice([30.0, 120.0, 300.0, 600.0]) * thrift**2),
        checkpoint_interval=rng.choice([0.1, 1.0, 60.0]),
        beat_interval=min(2 * HOUR, rng.choice([10.0, 60.0, 300.0]) * thrift**2),
        max_pending=rng.choice([10, 100, 2000, 10_000]),
        max_in_flight=rng.choice([1, 2, 16]),
    )


def _tree(rng: random.Random, root: str) -> str:
    dice = rng.random()
    if dice < 0.1:
        return f"{root} -> {root}a"
    if dice < 0.2:
        return f"{root} -> {root}a {root}b"
    return root


def _bursts(rng: random.Random, length: float, writes: int) -> list[Burst]:
    weights = [rng.expovariate(1.0) for _ in range(rng.randint(2, 12))]
    found = []
    for weight in weights:
        lasts = rng.choice([0.0, 5.0, 5 * MINUTE, 2 * HOUR])
        at = rng.uniform(0.0, length - lasts)
        found.append(Burst(at, lasts, max(1, int(writes * weight / sum(weights)))))
    return tuple(sorted(found, key=lambda burst: burst.at))


def _weather(rng: random.Random, length: float) -> list[Weather]:
    quick = (0.001, 0.005)
    found: list[Weather] = []
    at = 0.0
    while at < length:
        rate = rng.choice([0.0, 0.0, 0.02, 0.1])
        common = Rates(
            throttled=rate, internal=rate, lost_before=rate, lost_after=rate, empty_page=rate * 3
        )
        bus = Rates(rate, rate, rate, rate, entry_throttled=rate, entry_failed=rate)
        slow = rng.choice([quick, quick, (0.01, 0.6)])
        found.append(Weather(at, common, bus, quick, slow, f"faults {rate:.0%}"))
        at += rng.uniform(1, 10) * HOUR
        if rng.random() < 0.2:
            whole = rng.choice(
                [
                    Rates(throttled=1.0),
                    Rates(internal=1.0),
                    Rates(lost_before=1.0),
                    Rates(throttled=0.3, internal=0.3, lost_before=0.3),
                ]
            )
            entries = rng.choice([whole, Rates(entry_throttled=1.0), Rates(entry_failed=0.8)])
            where = rng.choice(["stream", "bus", "both"])
            found.append(
                Weather(
                    at,
                    common if where == "bus" else whole,
                    bus if where == "stream" else entries,
                    quick,
                    quick,
                    f"outage of {where}",
                )
            )
            longest = HOUR if rng.random() < 0.2 else 10 * MINUTE
            at += math.exp(rng.uniform(math.log(30.0), math.log(longest)))
        elif rng.random() < 0.15:
            # Requests that hang are how a reader is held up for longer than its iterator lives.
            found.append(Weather(at, common, bus, quick, (300.0, 1500.0), "a bus that hangs"))
            at += rng.uniform(5, 40) * MINUTE
    return [weather for weather in found if weather.at < length]


def _with_odd_answers(seed: int, weathers: list[Weather]) -> list[Weather]:
    """The same weather, with answers that lack what they should have."""
    rng = random.Random(f"odd answers {seed}")
    empty = rng.choice([0.0, 0.0, 0.02, 0.1])
    no_next = rng.choice([0.0, 0.0, 0.02, 0.1, 0.5])
    astray = rng.choice([0.0, 0.0, 0.1, 0.7])
    return [
        replace(
            weather,
            stream=replace(weather.stream, empty_answer=empty, no_next=no_next, astray=astray),
            bus=replace(weather.bus, empty_answer=empty),
        )
        for weather in weathers
    ]


def _oddities(rng: random.Random, length: float, start: Start) -> list[Oddity]:
    def some(kind: str, chance: float, most: int, *amounts: float) -> list[Oddity]:
        times = rng.randint(1, most) if rng.random() < chance else 0
        return [
            Oddity(rng.uniform(0, length), kind, rng.choice(amounts or (0.0,)))
            for _ in range(times)
        ]

    found = [
        *some("splits", 0.7, 6, 1, 1, 2, 4),
        *some("rolls", 0.3, 4, 1, 3),
        *some("listing fault", 0.5, 5, 1, 4, 12),
        *some("records fault", 0.3, 5, 1, 4, 12),
        *some("expired", 0.3, 5, 1, 3),
        *some("refusal of the stream", 0.1, 2),
        *some("refusal of the bus", 0.1, 2),
        *some("trim", 0.08, 5, 1, 10, 1000),
        *some("removal", 0.06, 3),
    ]
    if start is not Start.LATEST:
        # `latest` is a moment of the reader's own clock: what it means while that is wrong by
        # minutes cannot be told from the stream.
        found += some("clock", 0.25, 4, -5 * HOUR, -10 * MINUTE, -1.0, 1.0, 5 * MINUTE, 5 * HOUR)
    return sorted(found, key=lambda oddity: oddity.at)
