"""The account behind HTTP: AWS's JSON protocol at `/`, the control face at `/_simulator/<action>`.

https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html. No signature is checked.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from ddbrelay.errors import ConfigError
from ddbrelay.local import pages
from ddbrelay.testing.face.account import SimulatedAccount
from ddbrelay.testing.face.action import Action
from ddbrelay.testing.face.control import ACTIONS, READING
from ddbrelay.testing.face.operations import OPERATIONS, Operation
from ddbrelay.testing.face.requests import refuse_unsupported
from ddbrelay.testing.faults import ApiError, EmptyAnswer, NoAnswer
from ddbrelay.testing.simulator import TOO_LARGE

CONTROL = "/_simulator"
_MOST_BYTES = 64 * 1024 * 1024
_STATUS = {
    "InternalException": 500,
    "InternalFailure": 500,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    TOO_LARGE: 413,
}
_VERSIONS = {"dynamodb": "1.0", "dynamodbstreams": "1.0", "events": "1.1"}
_NAMESPACES = {
    "SerializationException": "com.amazon.coral.service#",
    "UnknownOperationException": "com.amazon.coral.service#",
    "ThrottlingException": "com.amazon.coral.availability#",
    "ValidationException": "com.amazon.coral.validate#",
}
_DYNAMODB = "com.amazonaws.dynamodb.v20120810#"


def application(account: SimulatedAccount) -> web.Application:
    """The account as an application of aiohttp."""
    face = _Face(account)
    made = web.Application(client_max_size=_MOST_BYTES, middlewares=[_without_pages])
    made.router.add_post("/", face.aws)
    made.router.add_get(f"{CONTROL}/{{action}}", face.read)
    made.router.add_post(f"{CONTROL}/{{action}}", face.act)
    return made


@web.middleware
async def _without_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    names = ("Host", "Origin", "Sec-Fetch-Site")
    if pages.refused(*(request.headers.get(name) for name in names)):
        return _said(403, {"error": pages.REFUSAL})
    return await handler(request)


class _Face:
    def __init__(self, account: SimulatedAccount) -> None:
        self._account = account

    async def aws(self, request: web.Request) -> web.StreamResponse:
        """One call of one operation."""
        operation = OPERATIONS.get(request.headers.get("X-Amz-Target", ""))
        try:
            if operation is None:
                raise ApiError("UnknownOperationException", "the simulator does not have it")
            said = await self._answer(operation, await request.read())
        except ApiError as error:
            return _refused(error, operation)
        except ConfigError as error:
            # What was to happen before the call cannot happen any more.
            return _refused(ApiError("InternalServerError", error.message), operation)
        except EmptyAnswer:
            said = b"{}"
        except NoAnswer:
            # Nobody is there to read what is returned.
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return _response(200, said, operation)

    async def _answer(self, operation: Operation, body: bytes) -> bytes:
        try:
            asked = msgspec.json.decode(body or b"{}", type=operation.request)
            members = _members(asked)
        except msgspec.ValidationError as error:
            raise ApiError("ValidationException", f"1 validation error detected: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ApiError("SerializationException", str(error)) from None

        def effect() -> bytes:
            refuse_unsupported(asked)
            return msgspec.json.encode(operation.effect(self._account, asked))

        faults = self._account.faults[operation.service]
        return await faults.call(operation.name, effect, members)

    async def read(self, request: web.Request) -> web.Response:
        """One of the actions that change nothing, its members in the query."""
        name = request.match_info["action"]
        if name not in READING:
            return _said(405, {"error": f"GET takes {', '.join(sorted(READING))}"})
        return self._act(name, dict(request.query))

    async def act(self, request: web.Request) -> web.Response:
        """One action, its members in the body."""
        return self._act(request.match_info["action"], await request.read() or b"{}")

    def _act(self, name: str, members: bytes | Mapping[str, str]) -> web.Response:
        kind = ACTIONS.get(name)
        if kind is None:
            hint = ", ".join(sorted(ACTIONS))
            return _said(404, {"error": f'no action is called "{name}"', "hint": hint})
        try:
            action: Action[Any] = (
                msgspec.json.decode(members, type=kind)
                if isinstance(members, bytes)
                else msgspec.convert(members, kind, strict=False)
            )
            return _said(200, action.apply(self._account))
        except ConfigError as error:
            return _said(400, {"error": error.message, "hint": error.hint})
        except (ApiError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return _said(400, {"error": str(error)})


def _members(asked: msgspec.Struct) -> dict[str, Any]:
    """What is kept of a request: not the items and entries, which may be large."""
    return {
        wire: value
        for name, wire in zip(asked.__struct_fields__, asked.__struct_encode_fields__, strict=True)
        if isinstance(value := getattr(asked, name), str | int | float)
    }


def _response(status: int, body: bytes, operation: Operation | None) -> web.Response:
    version = _VERSIONS["dynamodb" if operation is None else operation.service]
    return web.Response(
        status=status,
        body=body,
        headers={
            "Content-Type": f"application/x-amz-json-{version}",
            "x-amzn-RequestId": str(uuid.uuid4()),
        },
    )


def _refused(error: ApiError, operation: Operation | None) -> web.Response:
    code, namespace = error.code, ""
    if operation is not None and operation.service == "events":
        code = "InternalException" if code == "InternalServerError" else code
    else:
        namespace = _NAMESPACES.get(code, _DYNAMODB)
    said = {"__type": namespace + code, "message": error.message}
    return _response(_STATUS.get(code, 400), msgspec.json.encode(said), operation)


def _said(status: int, what: Any) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(what), content_type="application/json"
    )
