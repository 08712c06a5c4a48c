"""Answers held against botocore's service models: every one that a boto3 client gets is checked."""

from __future__ import annotations

import json
import re
from typing import Any

from botocore.model import OperationModel, Shape

COMMON = {
    "InternalFailure",
    "RequestEntityTooLargeException",
    "SerializationException",
    "ServiceUnavailable",
    "ThrottlingException",
    "UnknownOperationException",
    "ValidationException",
}
"""Codes that every operation may answer with; the service models do not repeat them."""


def checked(client: Any) -> Any:
    """The boto3 client; from now on each of its answers must be one that its model has."""
    client.meta.events.register("after-call", _check, unique_id="checked-by-model")
    return client


def _check(http_response: Any, model: OperationModel, **_: Any) -> None:
    body = json.loads(http_response.content)
    headers = {name.lower(): value for name, value in http_response.headers.items()}
    version = model.metadata["jsonVersion"]
    assert headers["content-type"] == f"application/x-amz-json-{version}"
    assert headers["x-amzn-requestid"]
    if http_response.status_code == 200:
        assert model.output_shape is not None
        conforms(body, model.output_shape, model.name)
        return
    code = body["__type"].rpartition("#")[2]
    assert code in {shape.name for shape in model.error_shapes} | COMMON, (model.name, code)
    assert isinstance(body["message"], str)
    wanted = {"InternalServerError": 500, "InternalException": 500, "ServiceUnavailable": 503}
    wanted["RequestEntityTooLargeException"] = 413
    assert http_response.status_code == wanted.get(code, 400)


def conforms(value: Any, shape: Shape, path: str) -> None:
    """Fail unless the value is one that the shape allows, with no member that it does not have."""
    kind, limits = shape.type_name, shape.metadata
    if kind == "structure":
        assert isinstance(value, dict), path
        assert value.keys() <= shape.members.keys(), f"{path}: {value.keys()}"
        assert value.keys() >= set(shape.required_members), path
        for name, inner in value.items():
            conforms(inner, shape.members[name], f"{path}.{name}")
        return
    if kind == "list":
        assert isinstance(value, list), path
        for index, inner in enumerate(value):
            conforms(inner, shape.member, f"{path}[{index}]")
        size = len(value)
    elif kind == "map":
        assert isinstance(value, dict), path
        for name, inner in value.items():
            conforms(inner, shape.value, f"{path}.{name}")
        size = len(value)
    elif kind in {"string", "blob"}:
        assert isinstance(value, str), path
        assert not shape.metadata.get("enum") or value in shape.metadata["enum"], f"{path}: {value}"
        pattern = limits.get("pattern")
        assert pattern is None or re.fullmatch(pattern, value), f"{path}: {value}"
        size = len(value)
    else:
        kinds: dict[str, Any] = {"boolean": bool, "integer": int, "long": int}
        assert isinstance(value, kinds.get(kind, int | float)), f"{path}: {value!r}"
        size = value
    assert size >= limits.get("min", size), f"{path}: {value}"
    assert size <= limits.get("max", size), f"{path}: {value}"
