"""The table, its stream, and where it is wanted the attribute by which its items expire.

Calls: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html and
API_UpdateTimeToLive.html: a table has one such attribute, and within an hour of a change no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbrelay.errors import AwsRefused, DdbrelayError
from ddbrelay.infra.calls import ALREADY_EXISTS, NOT_FOUND, attempt, call, listing, wait_for
from ddbrelay.infra.plan import Found, Key, Place, Wanted, tag_map

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

_DEAD = {"DELETING", "ARCHIVING", "ARCHIVED", "INACCESSIBLE_ENCRYPTION_CREDENTIALS"}

_TTL_ON = {"ENABLED", "ENABLING"}
_TTL_GONE = NOT_FOUND | {"ResourceNotFound"}
_TTL_ALREADY_SO = frozenset({"ValidationException"})
_OLD_STREAM = "what was not read of the old one stays there for 24 h"


class Table:
    """The table of a relay; `stream_arn` is known once the table was found with a stream."""

    kind = "table"

    def __init__(self, aws: Aws, wanted: Wanted) -> None:
        self.name = wanted.table
        self.stream_arn = ""
        self._wanted = wanted
        self._made = self._expiring = False
        self._dynamodb = aws.client("dynamodb")
        self._streams = aws.client("dynamodbstreams")

    def planned(self) -> str:
        """What a new one gets."""
        return self._described(self._wanted.view_type)

    def inspect(self) -> Found | None:
        """The table as it is; AwsRefused while it is being deleted or cannot be used."""
        description = self._describe()
        if description is None:
            return None
        differences: list[str] = []
        fixed: list[str] = []
        keys, wanted_keys = _keys(description), _wanted_keys(self._wanted)
        if keys != wanted_keys:
            fixed.append(f"key {_spell(keys)}, wanted {_spell(wanted_keys)}")
        view, wanted_view = _view_type(description), self._wanted.view_type
        consequence = None
        if view is None:
            differences.append(f"stream off, wanted {wanted_view}")
        else:
            self.stream_arn = str(description.get("LatestStreamArn", ""))
        if view is not None and view != wanted_view:
            differences.append(f"stream {view}, wanted {wanted_view}")
            consequence = f"a new stream with a new ARN; {_OLD_STREAM}"
        flags = " ".join(f"{flag} {key}" for flag, key in _flags(keys))
        advice = f"a key cannot be changed: {flags}, or another --table"
        arn, unfinished = str(description["TableArn"]), []
        expiry = self._wanted.ttl_attribute
        if expiry is not None and (has := self._ttl()) != expiry:
            if has is not None:
                advice = advice if fixed else _one_ttl(has)
                fixed.append(f"TTL {has}, wanted {expiry}")
            elif self._is_ours(arn):
                unfinished.append(f"TTL off, wanted {expiry}")
            else:
                differences.append(f"TTL off, wanted {expiry}")
                expires = f"items whose {expiry} has passed are deleted"
                consequence = expires if consequence is None else f"{consequence}; {expires}"
        return Found(
            arn=arn,
            detail=self._described(view),
            related=(self.stream_arn,) if self.stream_arn else (),
            differences=tuple(differences),
            consequence=consequence,
            fixed=tuple(fixed),
            advice=advice,
            unfinished=tuple(unfinished),
        )

    def create(self, place: Place | None) -> bool:
        """Create it; False when it already exists."""
        keys = _wanted_keys(self._wanted)
        made = attempt(
            self._dynamodb,
            "create_table",
            f"create the table {self.name}",
            ALREADY_EXISTS,
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": key.name, "AttributeType": key.type} for key in keys.values()
            ],
            KeySchema=[{"AttributeName": key.name, "KeyType": role} for role, key in keys.items()],
            StreamSpecification={
                "StreamEnabled": True,
                "StreamViewType": self._wanted.view_type,
            },
            Tags=self._wanted.tag_list,
        )
        self._made = made is not None
        return self._made

    def change(self, found: Found, timeout: float) -> str:
        """Turn the wanted stream on, in place of another one if need be, and TTL; what was done."""
        before = self._active(timeout)
        done = []
        if _view_type(before) != self._wanted.view_type:
            done.append(self._change_stream(before, timeout))
        expiry = self._wanted.ttl_attribute
        if expiry is not None and self._ttl() is None:
            self._active(timeout)
            self._expire(expiry)
            done.append(f"TTL {expiry} turned on")
        return "; ".join(done)

    def _change_stream(self, before: dict[str, Any], timeout: float) -> str:
        view = _view_type(before)
        if view is None:
            self._turn_on()
            return f"stream {self._wanted.view_type} turned on"
        try:
            self._turn_off()
            wait_for(self._seen_off, f"the stream of {self.name} to be off", timeout)
        finally:
            # An interrupt here must not leave the table without a stream: its changes would go
            # unrecorded.
            self._turn_on_again(timeout)
        old = before.get("LatestStreamArn")
        return (
            f"stream {view} replaced by {self._wanted.view_type}, with a new ARN; {_OLD_STREAM}, "
            f"{old}"
        )

    def ready(self, timeout: float) -> Found:
        """Wait until the table is active, its stream enabled, and turn TTL on in a new one."""

        def look() -> Found | None:
            description = self._describe()
            arn = (description or {}).get("LatestStreamArn")
            if not arn or (description or {}).get("TableStatus") != "ACTIVE":
                return None
            stream = attempt(
                self._streams,
                "describe_stream",
                f"describe the stream of {self.name}",
                NOT_FOUND,
                StreamArn=arn,
                Limit=1,
            )
            status = (stream or {}).get("StreamDescription", {}).get("StreamStatus")
            found = self.inspect() if status == "ENABLED" else None
            if found and found.unfinished and self._wanted.ttl_attribute is not None:
                self._expire(self._wanted.ttl_attribute)
                return None
            # DescribeTable is eventually consistent: for a moment it may show the stream before.
            return found if found and not found.differences else None

        return wait_for(look, f"the table {self.name} and its stream", timeout)

    def _described(self, view: str | None) -> str:
        expiry = self._wanted.ttl_attribute
        return f"stream {view}" if expiry is None else f"stream {view}, TTL {expiry}"

    def _ttl(self) -> str | None:
        """The attribute by which items expire."""
        answer = attempt(
            self._dynamodb,
            "describe_time_to_live",
            f"look at the TTL of the table {self.name}",
            _TTL_GONE,
            TableName=self.name,
        )
        description = (answer or {}).get("TimeToLiveDescription", {})
        on = description.get("TimeToLiveStatus") in _TTL_ON
        return str(description["AttributeName"]) if on else None

    def _expire(self, attribute: str) -> None:
        # DescribeTimeToLive may not show it yet, and a second call would be refused.
        if self._expiring:
            return
        self._expiring = True
        parameters = {
            "TableName": self.name,
            "TimeToLiveSpecification": {"Enabled": True, "AttributeName": attribute},
        }
        doing = f"turn on the TTL of the table {self.name}"
        method = "update_time_to_live"
        if attempt(self._dynamodb, method, doing, _TTL_ALREADY_SO, **parameters) is None:
            # Another run may have been quicker; else AWS says again what is wrong.
            if self._ttl() == attribute:
                return
            call(self._dynamodb, method, doing, **parameters)

    def _is_ours(self, arn: str) -> bool:
        if self._made:
            return True
        doing = f"read the tags of the table {self.name}"
        tags = listing(self._dynamodb, "list_tags_of_resource", doing, "Tags", ResourceArn=arn)
        return self._wanted.tags.items() <= tag_map([*tags]).items()

    def _describe(self) -> dict[str, Any] | None:
        answer = attempt(
            self._dynamodb,
            "describe_table",
            f"describe the table {self.name}",
            NOT_FOUND,
            TableName=self.name,
        )
        if answer is None:
            return None
        description: dict[str, Any] = answer["Table"]
        status = description.get("TableStatus")
        if status == "DELETING":
            raise AwsRefused(f"the table {self.name} is being deleted", "run again once it is gone")
        if status in _DEAD:
            raise AwsRefused(f"the table {self.name} cannot be used: it is {status}")
        return description

    def _active(self, timeout: float) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            description = self._describe()
            return description if description and description["TableStatus"] == "ACTIVE" else None

        return wait_for(look, f"the table {self.name}", timeout)

    def _turn_on(self) -> None:
        self._update(
            f"turn on the stream of {self.name}",
            {"StreamEnabled": True, "StreamViewType": self._wanted.view_type},
        )

    def _turn_off(self) -> None:
        self._update(f"turn off the stream of {self.name}", {"StreamEnabled": False})

    def _seen_off(self) -> bool | None:
        description = self._describe()
        if description is None or _view_type(description) is not None:
            return None
        return True if description["TableStatus"] == "ACTIVE" else None

    def _turn_on_again(self, timeout: float) -> None:
        try:
            if _view_type(self._active(timeout)) is None:
                self._turn_on()
        except DdbrelayError as error:
            raise AwsRefused(
                f"the stream of {self.name} was turned off and could not be turned on again: "
                f"{error.message}",
                "no change of the table is recorded now: run again with --apply-changes",
            ) from error

    def _update(self, doing: str, stream: dict[str, Any]) -> None:
        call(self._dynamodb, "update_table", doing, TableName=self.name, StreamSpecification=stream)


def _one_ttl(attribute: str) -> str:
    return (
        f'a table has one TTL attribute: ttl_attribute = "{attribute}" below [outbox], or another '
        "--table"
    )


def _view_type(description: dict[str, Any]) -> str | None:
    stream = description.get("StreamSpecification") or {}
    return str(stream["StreamViewType"]) if stream.get("StreamEnabled") else None


def _keys(description: dict[str, Any]) -> dict[str, Key]:
    types = {a["AttributeName"]: a["AttributeType"] for a in description["AttributeDefinitions"]}
    return {
        element["KeyType"]: Key(element["AttributeName"], types[element["AttributeName"]])
        for element in description["KeySchema"]
    }


def _wanted_keys(wanted: Wanted) -> dict[str, Key]:
    return {"HASH": wanted.key} | ({"RANGE": wanted.sort_key} if wanted.sort_key else {})


def _spell(keys: dict[str, Key]) -> str:
    return " + ".join(str(key) for key in (keys.get("HASH"), keys.get("RANGE")) if key)


def _flags(keys: dict[str, Key]) -> list[tuple[str, Key]]:
    flags = {"HASH": "--key", "RANGE": "--sort-key"}
    return [(flag, keys[role]) for role, flag in flags.items() if role in keys]
