"""Fake users as DynamoDB items, the same ones for the same seed.

A user carries every DynamoDB type, so a mapping meets all of them. Addresses lie in the domains
that RFC 2606 reserves.
"""

from __future__ import annotations

import random
from base64 import b32encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from faker import Faker

_BORN = (date(1945, 1, 1).toordinal(), date(2006, 12, 31).toordinal())
_REGISTERED = (1_420_070_400_000, 1_767_225_600_000)  # 2015 to 2025, in epoch milliseconds

Item = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class User:
    """An item in DynamoDB's JSON, and the address that an update would give it."""

    item: Item
    new_email: str


@dataclass(frozen=True)
class Keys:
    """A table's key attributes as (name, type), the type one of S, N and B."""

    partition: tuple[str, str]
    sort: tuple[str, str] | None = None

    @property
    def names(self) -> list[str]:
        return [self.partition[0], *([self.sort[0]] if self.sort else [])]

    def of(self, identity: UUID, registered: datetime) -> Item:
        """Key attributes of a user: the id, and as a sort key the time of registration."""
        name, kind = self.partition
        key = {name: _key_value(kind, str(identity), identity.int >> 65, identity.bytes)}
        if self.sort is not None:
            name, kind = self.sort
            text = _iso(registered)
            key[name] = _key_value(kind, text, int(registered.timestamp()), text.encode())
        return key


def _key_value(kind: str, text: str, number: int, binary: bytes) -> dict[str, Any]:
    values: Item = {"S": {"S": text}, "N": {"N": str(number)}, "B": {"B": binary}}
    return values[kind]


BY_ID = Keys(("id", "S"))


def users(count: int, random_seed: int, keys: Keys = BY_ID) -> Iterator[User]:
    """Users one at a time, for a table with these keys; neither clock nor time zone matters."""
    from faker import Faker

    fake = Faker("en_US")
    fake.seed_instance(random_seed)
    for _ in range(count):
        yield _user(fake, keys)


def _user(fake: Faker, keys: Keys) -> User:
    dice = fake.random
    identity = UUID(fake.uuid4())
    registered = datetime.fromtimestamp(dice.randrange(*_REGISTERED) / 1000, UTC)
    email = fake.safe_email()
    local, _, domain = email.partition("@")
    item: Item = {
        "id": {"S": str(identity)},
        "username": {"S": fake.user_name()},
        "email": {"S": email},
        "avatar": {"S": f"https://avatars.example.com/{identity}.png"},
        "birthdate": {"S": date.fromordinal(dice.randint(*_BORN)).isoformat()},
        "registeredAt": {"S": _iso(registered)},
        "version": {"N": "1"},
        "balance": {"N": _long_number(dice)},
        "logins": {"N": str(dice.randrange(10_000))},
        "newsletter": {"BOOL": dice.random() < 0.5},
        "deactivatedAt": {"NULL": True},
        "publicKey": {"B": dice.randbytes(32)},
        "address": {
            "M": {
                "street": {"S": fake.street_address()},
                "city": {"S": fake.city()},
                "position": {
                    "M": {"lat": {"N": str(fake.latitude())}, "lon": {"N": str(fake.longitude())}}
                },
            }
        },
        "lastSeen": {"L": [{"S": fake.ipv4_private()}, {"N": str(dice.randrange(65_536))}]},
        "roles": {"SS": sorted({"user", dice.choice(["admin", "author", "editor"])})},
        "luckyNumbers": {"NS": [str(n) for n in sorted(dice.sample(range(1, 50), 6))]},
        "devices": {"BS": sorted({dice.randbytes(8), dice.randbytes(8)})},
    }
    item |= keys.of(identity, registered)
    tag = b32encode(dice.randbytes(5)).decode().lower()
    return User(item, f"{local}+{tag}@{domain}")


def _long_number(dice: random.Random) -> str:
    """30 significant digits: within DynamoDB's 38, beyond what a float keeps."""
    whole, fraction = dice.randrange(10**11, 10**12), dice.randrange(10**17, 10**18 - 1)
    # A zero at the end is not significant, so DynamoDB would drop it.
    return f"{whole}.{fraction if fraction % 10 else fraction + 1}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
