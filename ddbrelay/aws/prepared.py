"""What boto3 would send for a call, asked of it without a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from ddbrelay.aws.session import PREPARED


@dataclass(frozen=True, slots=True)
class Prepared:
    """What boto3 would send: where, in which scope signed, and with which headers signed."""

    url: str
    region: str
    service: str
    headers: Mapping[str, str]


def prepared(client: Any, operation: str, parameters: Mapping[str, Any]) -> Prepared:
    """The request that boto3 prepares and signs for a call, but does not send."""
    seen: list[Any] = []

    def intercept(**event: Any) -> AWSResponse:
        seen.append(event["request"])
        answer = HTTPHeaders()
        answer[PREPARED] = "yes"
        return AWSResponse(event["request"].url, 200, answer, _Empty())

    events = client.meta.events
    service = client.meta.service_model.service_id.hyphenize()
    event_name = f"before-send.{service}.{operation}"
    events.register_first(event_name, intercept, unique_id="ddbrelay-endpoint")
    try:
        method = next(
            m for m, name in client.meta.method_to_api_mapping.items() if name == operation
        )
        getattr(client, method)(**parameters)
    finally:
        events.unregister(event_name, unique_id="ddbrelay-endpoint")
    headers = {name: _text(value) for name, value in seen[0].headers.items()}
    scope = headers["Authorization"].partition("Credential=")[2].partition(",")[0].split("/")
    signed = {name: headers[name] for name in ("Content-Type", "X-Amz-Target")}
    return Prepared(seen[0].url, scope[-3], scope[-2], signed)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _Empty:
    """The body of an answer that boto3 reads as an empty object."""

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return [b"{}"]
