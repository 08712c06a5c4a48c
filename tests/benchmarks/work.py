"""The changes that every variant relays: ordinary users, in pages as GetRecords answers them.

A page is a template with holes for its shard and its number, since a million records as bytes would
fill the memory and to make them anew would cost more than to relay them. Every image carries a
stamp, `~token~key~`, by which the stand-in knows what arrived; `~` stands nowhere else.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

TABLE, BUS = "users", "users-bus"
REGION, ACCOUNT = "us-east-1", "000000000000"
TABLE_ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{TABLE}"
STREAM_ARN = f"{TABLE_ARN}/stream/2026-01-01T00:00:00.000"
PAGE_RECORDS = 1000
PAGE_BYTES = 1_030_000
"""Of JSON; a little below the megabyte at which GetRecords ends a page."""

HOLE = "@" * 12
"""Where four digits of the shard and eight of the page belong."""

SHARD_HOLE = "%" * 4
SEQUENCE_PREFIX = "7000000"
_TEMPLATES = 6
_HOT = 200
_MODIFIED, _REMOVED = 0.35, 0.05
_WORDS = ["amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "haven", "juniper"]


def token(shard: int, page: int, index: int) -> str:
    """What stands in the stamp of a record, and ends its sequence number; ascends in a shard."""
    return f"{shard:04}{page:08}{index:04}"


@dataclass(frozen=True)
class Template:
    """One page without its numbers; each record is JSON text with `HOLE` and `SHARD_HOLE`."""

    records: tuple[str, ...]

    @cached_property
    def parts(self) -> list[bytes]:
        """The whole page, split at the holes."""
        return ",".join(self.records).encode().split(HOLE.encode())

    def between(self, shard: int, page: int, start: int, stop: int) -> bytes:
        """Some of the records, with commas between them."""
        if start == 0 and stop == len(self.records):
            parts = self.parts
        else:
            parts = ",".join(self.records[start:stop]).encode().split(HOLE.encode())
        return filled(parts, shard, page)


def filled(parts: list[bytes], shard: int, page: int) -> bytes:
    """A template that was split at its holes, with the numbers of a shard and a page."""
    digits = b"%04d" % shard
    return (b"%s%08d" % (digits, page)).join(parts).replace(SHARD_HOLE.encode(), digits)


@dataclass(frozen=True)
class Work:
    """The pages of items of one size; the same ones in every process."""

    templates: tuple[Template, ...]

    @property
    def page_records(self) -> int:
        """Records on a full page; every template has as many."""
        return len(self.templates[0].records)

    def template(self, shard: int, page: int) -> Template:
        return self.templates[(shard * 7 + page) % len(self.templates)]

    def counts(self, records: int, shards: int) -> list[int]:
        """How many of so many records each shard gets: whole pages, dealt in turn."""
        pages, rest = divmod(records, self.page_records)
        counts = [0] * shards
        for page in range(pages):
            counts[page % shards] += self.page_records
        counts[pages % shards] += rest
        return counts


def make(kilobytes: float, seed: int = 7) -> Work:
    """Pages with items of about this size as DynamoDB counts it: names and values."""
    dice = random.Random(f"{seed}/{kilobytes}")
    at = int(time.time()) - 60
    sample = [len(r) + 1 for r in _page(dice, 200 if kilobytes < 100 else 10, kilobytes, at)]
    count = min(PAGE_RECORDS, max(PAGE_BYTES * len(sample) // sum(sample), 1))
    return Work(
        tuple(Template(tuple(_page(dice, count, kilobytes, at))) for _ in range(_TEMPLATES))
    )


def _page(dice: random.Random, count: int, kilobytes: float, at: int) -> list[str]:
    modified, removed = round(count * _MODIFIED), round(count * _REMOVED)
    names = ["MODIFY"] * modified + ["REMOVE"] * removed
    names += ["INSERT"] * (count - len(names))
    dice.shuffle(names)
    records, living = [], []
    for index, name in enumerate(names):
        if name == "INSERT":
            key = f"user-{HOLE}{index:04}"
            living.append(key)
        elif name == "REMOVE" and living:
            key = living.pop(dice.randrange(len(living)))
        elif living and dice.random() < 0.5:
            key = dice.choice(living)
        else:
            key = f"user-hot-{SHARD_HOLE}{dice.randrange(_HOT):08}"
        records.append(_record(dice, index, name, key, kilobytes, at))
    return records


def _record(dice: random.Random, index: int, name: str, key: str, kilobytes: float, at: int) -> str:
    stamp = f"{HOLE}{index:04}"
    image = _item(dice, key, f"~{stamp}~{key}~", kilobytes)
    images: dict[str, Any] = {}
    if name != "REMOVE":
        images["NewImage"] = image
    if name != "INSERT":
        images["OldImage"] = image | {"email": {"S": f"{dice.choice(_WORDS)}@example.org"}}
    record = {
        "eventID": "e" * 16 + stamp,
        "eventName": name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": at,
            "Keys": {"id": {"S": key}},
            **images,
            "SequenceNumber": SEQUENCE_PREFIX + stamp,
            "SizeBytes": int(kilobytes * 1000) * max(len(images), 1),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }
    return json.dumps(record, separators=(",", ":"))


def _item(dice: random.Random, key: str, stamp: str, kilobytes: float) -> dict[str, Any]:
    first, last = dice.choice(_WORDS), dice.choice(_WORDS)
    item: dict[str, Any] = {
        "id": {"S": key},
        "stamp": {"S": stamp},
        "username": {"S": f"{first}.{last}"},
        "email": {"S": f"{first}.{last}{dice.randrange(100)}@example.com"},
        "age": {"N": str(dice.randrange(18, 90))},
        "balance": {"N": f"{dice.randrange(10**6) / 100:.2f}"},
        "verified": {"BOOL": dice.random() < 0.7},
        "address": {
            "M": {
                "street": {"S": f"{last.title()} Street {dice.randrange(1, 200)}"},
                "city": {"S": dice.choice(_WORDS).title()},
                "zip": {"S": f"{dice.randrange(10**5):05}"},
            }
        },
        "tags": {"SS": sorted(dice.sample(_WORDS, 3))},
    }
    left = int(kilobytes * 1000) - 290
    if left > 200:
        orders = max(left * 2 // 5 // 60, 1)
        item["orders"] = {"L": [_order(dice) for _ in range(orders)]}
        item["about"] = {"S": _text(dice, left * 3 // 5)}
    return item


def _order(dice: random.Random) -> dict[str, Any]:
    return {
        "M": {
            "number": {"S": f"ord-{dice.randrange(10**8):08}"},
            "total": {"N": f"{dice.randrange(100, 10**5) / 100:.2f}"},
            "items": {"N": str(dice.randrange(1, 9))},
            "state": {"S": dice.choice(["paid", "sent", "open"])},
        }
    }


def _text(dice: random.Random, length: int) -> str:
    words: list[str] = []
    size = 0
    while size < length:
        words.append(dice.choice(_WORDS))
        size += len(words[-1]) + 1
    return " ".join(words)[:length].strip()
