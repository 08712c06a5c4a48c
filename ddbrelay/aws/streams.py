"""A DynamoDB stream on AWS, or on anything that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from ddbrelay.aws.errors import BAD_CREDENTIALS, DENIED, THROTTLED, from_code
from ddbrelay.aws.transport import (
    ForeignError,
    NoAnswerError,
    Service,
    Transport,
    WireError,
    reconnected,
)
from ddbrelay.aws.unanswered import SET_UP
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Fault, IteratorType, Page, Shard, ShardPage, StreamFault
from ddbrelay.flow.change import decode_page
from ddbrelay.secrecy import scrubbed
from ddbrelay.text import first_line

_T = TypeVar("_T")
_FAULTS = {
    "ExpiredIteratorException": Fault.EXPIRED,
    "TrimmedDataAccessException": Fault.TRIMMED,
    "ResourceNotFoundException": Fault.NOT_FOUND,
}


class _SequenceRange(msgspec.Struct):
    starting: str | None = msgspec.field(name="StartingSequenceNumber", default=None)
    ending: str | None = msgspec.field(name="EndingSequenceNumber", default=None)


class _Shard(msgspec.Struct):
    id: str = msgspec.field(name="ShardId")
    parent_id: str | None = msgspec.field(name="ParentShardId", default=None)
    range: _SequenceRange = msgspec.field(
        name="SequenceNumberRange", default_factory=_SequenceRange
    )


class _Description(msgspec.Struct, kw_only=True):
    status: str = msgspec.field(name="StreamStatus", default="ENABLED")
    shards: list[_Shard] = msgspec.field(name="Shards")
    last_id: str | None = msgspec.field(name="LastEvaluatedShardId", default=None)


class _DescribeStreamOutput(msgspec.Struct):
    description: _Description = msgspec.field(name="StreamDescription")


class _GetShardIteratorOutput(msgspec.Struct):
    iterator: str = msgspec.field(name="ShardIterator")


_described = msgspec.json.Decoder(_DescribeStreamOutput).decode
_iterator_given = msgspec.json.Decoder(_GetShardIteratorOutput).decode


class AwsStream:
    """A `StreamSource`."""

    def __init__(self, service: Service, stream_arn: str) -> None:
        self._service = service
        self._arn = stream_arn
        self._answered = False

    @classmethod
    async def open(cls, transport: Transport, stream_arn: str) -> AwsStream:
        """A stream whose endpoints are resolved."""
        service = await transport.service("dynamodbstreams")
        await service.resolve("DescribeStream", StreamArn=stream_arn)
        await service.resolve(
            "GetShardIterator",
            StreamArn=stream_arn,
            ShardId="shardId-00000000000000000000-00000000",
            ShardIteratorType="LATEST",
        )
        # Iterators begin with the stream's ARN, from which boto3 takes the account of the endpoint.
        await service.resolve("GetRecords", ShardIterator=f"{stream_arn}|1|none")
        return cls(service, stream_arn)

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        request: dict[str, Any] = {"StreamArn": self._arn}
        if after is not None:
            request["ExclusiveStartShardId"] = after
        if children_of is not None:
            request["ShardFilter"] = {"Type": "CHILD_SHARDS", "ShardId": children_of}
        doing = "list the shards of the stream"
        said = (await self._call("DescribeStream", request, doing, _described)).description
        return ShardPage(
            [
                Shard(s.id, s.parent_id, s.range.ending is not None, s.range.starting)
                for s in said.shards
            ],
            said.last_id,
            said.status in {"DISABLED", "DISABLING"},
        )

    async def iterator(
        self,
        shard_id: str,
        kind: IteratorType,
        *,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        request: dict[str, Any] = {
            "StreamArn": self._arn,
            "ShardId": shard_id,
            "ShardIteratorType": kind.value,
        }
        if sequence is not None:
            request["SequenceNumber"] = sequence
        if timestamp is not None:
            request["Timestamp"] = timestamp
        by_time = kind is IteratorType.AT_TIMESTAMP
        doing, decode = "read the stream", _iterator_given
        output = await self._call("GetShardIterator", request, doing, decode, by_time=by_time)
        return output.iterator

    async def records(self, iterator: str) -> Page:
        request = {"ShardIterator": iterator}
        page = await self._call("GetRecords", request, "read the stream", decode_page)
        return replace(page, reconnected=True) if reconnected() else page

    async def _call(
        self,
        operation: str,
        request: dict[str, Any],
        doing: str,
        decode: Callable[[bytes], _T],
        *,
        by_time: bool = False,
    ) -> _T:
        try:
            answer = await self._service.call(operation, msgspec.json.encode(request), decode)
            self._answered = True
            return answer
        except NoAnswerError as error:
            if not self._answered and error.kind in SET_UP:
                raise AwsRefused(
                    f"no answer from AWS, to {doing}: {error}", self._way_out(error.kind)
                ) from error
            raise StreamFault(Fault.NO_ANSWER, str(error)) from error
        except ForeignError as error:
            raise StreamFault(Fault.TRANSIENT, str(error)) from error
        except WireError as error:
            if error.code in BAD_CREDENTIALS or error.code in DENIED:
                raise from_code(error.code, error.message, doing) from error
            fault = _fault(error, operation, by_time)
            if fault is None:
                raise from_code(error.code, error.message, doing) from error
            said = first_line(scrubbed(error.message))
            raise StreamFault(fault, f"{error.code}: {said}" if said else error.code) from error

    def _way_out(self, kind: str) -> str:
        if ".streams-ddb." in self._service.url("DescribeStream"):
            # A host name of its own for each account, which firewalls and resolvers may not know.
            return f"{SET_UP[kind]}; or set AWS_ACCOUNT_ID_ENDPOINT_MODE=disabled"
        return SET_UP[kind]


def _fault(error: WireError, operation: str, by_time: bool) -> Fault | None:
    """None for a refusal that trying again cannot mend."""
    if error.code in THROTTLED:
        return Fault.THROTTLED
    if error.code in _FAULTS:
        return _FAULTS[error.code]
    if by_time:
        # Endpoints from before AT_TIMESTAMP refuse it with a ValidationException, or crash on it.
        return Fault.REFUSED
    if error.status >= 500:
        return Fault.TRANSIENT
    # An iterator that GetRecords cannot read is as good as expired: a fresh one is asked for.
    return Fault.EXPIRED if operation == "GetRecords" else None
