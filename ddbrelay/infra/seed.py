"""Fake users for a table: inserts in batches, then updates and deletes of some of them.

Users are made one batch at a time, so a million need no more memory than a hundred.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from ddbrelay.aws.errors import THROTTLED, code_of, translated
from ddbrelay.aws.table import describe_table
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.infra.users import Item, Keys, User, users

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

    from ddbrelay.aws.session import Aws

BATCH = 25
"""Items in one BatchWriteItem:
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html"""

ATTEMPTS = 10
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
_LONGEST_CATCH_UP = 1.0
_REQUESTS_PER_SECOND = 10

_CHANGED_BY_UPDATES = ("email", "version")


class Stopper(Protocol):
    """Asked between two requests whether to stop; `threading.Event` is one."""

    def is_set(self) -> bool: ...

    def wait(self, seconds: float, /) -> bool:
        """Sleep, less when it is time to stop; True when it is."""


class _Never:
    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float, /) -> bool:
        time.sleep(seconds)
        return False


@dataclass
class Seeded:
    """How many writes of each kind DynamoDB confirmed."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def total(self) -> int:
        return self.inserted + self.updated + self.deleted

    def add(self, event_name: str) -> None:
        """Count one INSERT, MODIFY or REMOVE."""
        name = {"INSERT": "inserted", "MODIFY": "updated", "REMOVE": "deleted"}[event_name]
        setattr(self, name, getattr(self, name) + 1)


class Pace:
    """A schedule of `rate` writes per second; None is as fast as it goes.

    Write k is due k/rate seconds after the first, however long the writes themselves take, so
    the rate does not drift. What a stall kept back is caught up with for one second's worth only.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._due: float | None = None

    def delay(self, writes: int) -> float:
        """Seconds to wait before a request with so many writes; counts them as made."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        due = now if self._due is None else max(self._due, now - _LONGEST_CATCH_UP)
        self._due = due + writes / self._rate
        return max(0.0, due - now)


def seed(
    aws: Aws,
    table: str,
    *,
    count: int,
    updates: float = 0.0,
    deletes: float = 0.0,
    rate: float | None = None,
    random_seed: int | None = None,
    on_write: Callable[[str], None] | None = None,
    stop: Stopper | None = None,
) -> Seeded:
    """Write `count` users to the table, then change and delete some of them.

    `updates` and `deletes` are fractions of `count`, rounded to whole users; a user is changed at
    most once, and before it is deleted. Each write makes exactly one stream record. `rate` is in
    writes per second. The same `random_seed` gives the same users and the same choice among them.
    `on_write` is called with INSERT, MODIFY or REMOVE for every confirmed write. When `stop` is
    set, the request in hand is finished and what was written so far is returned.

    Raises ConfigError for numbers that cannot be right and for keys that cannot be filled,
    AwsRefused when the table is missing, refuses, or stays throttled.
    """
    check(count, updates, deletes, rate)
    number = random.SystemRandom().getrandbits(64) if random_seed is None else random_seed
    keys = _describe_keys(aws, table)
    if updates:
        for name in _CHANGED_BY_UPDATES:
            if name in keys.names:
                raise ConfigError(
                    f'the key of table "{table}" is {name}, which updates change',
                    "--updates 0, or another table",
                )
    writer = _Writer(
        aws.client("dynamodb"), aws.address_of(table), keys, Pace(rate), on_write, stop or _Never()
    )
    size = BATCH if rate is None else max(1, min(BATCH, math.ceil(rate / _REQUESTS_PER_SECOND)))
    choice = random.Random(f"{number} choice")
    made = zip(
        users(count, number, keys),
        _chosen(count, round(count * updates), choice),
        _chosen(count, round(count * deletes), choice),
        strict=True,
    )
    while not writer.stop.is_set() and (batch := list(islice(made, size))):
        writer.insert([user.item for user, _, _ in batch])
        for user, updated, _ in batch:
            if updated:
                writer.update(user)
        for user, _, deleted in batch:
            if deleted:
                writer.delete(user)
    return writer.seeded


def check(count: int, updates: float, deletes: float, rate: float | None) -> None:
    """Raise ConfigError for numbers that `seed` cannot work with."""
    if count < 0:
        raise ConfigError(f"--count is a number of users from 0 on, not {count}")
    for name, fraction in (("updates", updates), ("deletes", deletes)):
        # Written this way round, the comparison also refuses a NaN.
        if not 0 <= fraction <= 1:
            raise ConfigError(f"--{name} is a fraction from 0 to 1, not {fraction:g}")
    if rate is not None and not 0 < rate < math.inf:
        raise ConfigError(f"--rate is a number of writes per second above 0, not {rate:g}")


def _chosen(count: int, wanted: int, choice: random.Random) -> Iterator[bool]:
    """Exactly `wanted` of `count` at random without keeping them (Knuth's selection sampling)."""
    for left in range(count, 0, -1):
        taken = choice.random() * left < wanted
        wanted -= taken
        yield taken


def _describe_keys(aws: Aws, table: str) -> Keys:
    """The key of a table that can be written to; AwsRefused when it is missing or not ready."""
    described = describe_table(aws, table)
    if described["TableStatus"] not in {"ACTIVE", "UPDATING"}:
        raise AwsRefused(
            f'table "{table}" is {described["TableStatus"]} ({aws.region})',
            "try again when it is ACTIVE",
        )
    types = {a["AttributeName"]: str(a["AttributeType"]) for a in described["AttributeDefinitions"]}
    names = {str(k["KeyType"]): k["AttributeName"] for k in described["KeySchema"]}
    partition, sort = names["HASH"], names.get("RANGE")
    return Keys((partition, types[partition]), (sort, types[sort]) if sort else None)


class _Writer:
    """The writes of one run, counted as DynamoDB confirms them."""

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        keys: Keys,
        pace: Pace,
        on_write: Callable[[str], None] | None,
        stop: Stopper,
    ) -> None:
        self.seeded = Seeded()
        self.stop = stop
        self._client = client
        self._table = table
        self._keys = keys
        self._pace = pace
        self._on_write = on_write

    def insert(self, items: list[Item]) -> None:
        """One BatchWriteItem, and again with what it left unprocessed."""
        waiting: list[Any] = [{"PutRequest": {"Item": item}} for item in items]

        def write() -> bool:
            nonlocal waiting
            answer = self._client.batch_write_item(RequestItems={self._table: waiting})
            # Under its name or its ARN: there is only one table.
            left = [one for some in answer.get("UnprocessedItems", {}).values() for one in some]
            for _ in range(len(waiting) - len(left)):
                self._count("INSERT")
            waiting = list(left)
            return not waiting

        self._until_done(write, len(items), "write users")

    def update(self, user: User) -> None:
        """Give the user a new address and the next version.

        The condition on the version makes a request that botocore repeated, because its answer
        got lost, fail instead of counting twice; the item that comes back tells this apart from
        a foreign change.
        """

        def write() -> bool:
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key(user),
                    UpdateExpression="SET #email = :email, #version = :next",
                    ConditionExpression="attribute_exists(#key) AND #version = :current",
                    ExpressionAttributeNames={
                        "#email": "email",
                        "#version": "version",
                        "#key": self._keys.partition[0],
                    },
                    ExpressionAttributeValues={
                        ":email": {"S": user.new_email},
                        ":current": {"N": "1"},
                        ":next": {"N": "2"},
                    },
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                found: dict[str, Any] = dict(error.response).get("Item", {})  # type: ignore[assignment]
                if found.get("email") != {"S": user.new_email}:
                    raise AwsRefused(
                        f'user {self._key(user)} of table "{self._table}" was changed by '
                        f"someone else; {self._so_far()}",
                        "seed a table that nobody else writes to",
                    ) from error
            return True

        if self._until_done(write, 1, "update a user"):
            self._count("MODIFY")

    def delete(self, user: User) -> None:
        """Delete the user; repeated by botocore it makes no second stream record."""

        def write() -> bool:
            self._client.delete_item(TableName=self._table, Key=self._key(user))
            return True

        if self._until_done(write, 1, "delete a user"):
            self._count("REMOVE")

    def _key(self, user: User) -> Item:
        return {name: user.item[name] for name in self._keys.names}

    def _count(self, event_name: str) -> None:
        self.seeded.add(event_name)
        if self._on_write is not None:
            self._on_write(event_name)

    def _so_far(self) -> str:
        done = self.seeded
        return f"written: {done.inserted} inserts, {done.updated} updates, {done.deleted} deletes"

    def _until_done(self, write: Callable[[], bool], writes: int, doing: str) -> bool:
        """Paced; repeated with growing, jittered pauses while throttled. False: told to stop.

        The pauses are those of https://docs.aws.amazon.com/prescriptive-guidance/latest/cloud-design-patterns/retry-backoff.html
        """
        delay = self._pace.delay(writes)
        if self.stop.is_set() or (delay and self.stop.wait(delay)):
            return False
        for number in range(ATTEMPTS):
            if number:
                longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**number)
                if self.stop.wait(random.uniform(longest / 2, longest)):
                    return False
            try:
                with translated(f'{doing} in table "{self._table}"'):
                    if write():
                        return True
            except AwsRefused as error:
                if error.code not in THROTTLED:
                    raise
        raise AwsRefused(
            f'table "{self._table}" still throttles after {ATTEMPTS} attempts; {self._so_far()}',
            "--rate writes more slowly; or give the table more write capacity",
        )
