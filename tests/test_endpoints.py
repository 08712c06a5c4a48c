"""Where the transport sends its calls: as boto3 does, and under --local nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from pipeline import ARN
from wire import KEY, OPERATIONS, SECRET, Server, at, call, serving

from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.session import Aws
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import NoAnswerError, Service, Transport
from ddbrelay.config import Settings
from ddbrelay.errors import ConfigError


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def resolved(aws: Aws) -> dict[str, str]:
    """Where each operation of the hot path would go; nothing is sent."""

    async def main() -> dict[str, str]:
        async with Transport(aws) as transport:
            stream = await AwsStream.open(transport, ARN)
            bus = await AwsBus.open(transport, "users-bus")
            return {**stream._service._urls, **bus._service._urls}

    return asyncio.run(main())


def resolved_by_boto3(region: str) -> dict[str, str]:
    """Where boto3 itself sends the same calls, stopped at the last moment."""
    urls: dict[str, str] = {}

    class Stopped(Exception):
        pass

    for operation, (name, parameters) in OPERATIONS.items():
        client = boto3.client(name, region_name=region)

        def stop(request: Any, operation: str = operation, **_: Any) -> None:
            urls[operation] = request.url
            raise Stopped

        client.meta.events.register("before-send", stop)
        method = next(m for m, o in client.meta.method_to_api_mapping.items() if o == operation)
        with pytest.raises(Stopped):
            getattr(client, method)(**parameters)
    return urls


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"AWS_ACCOUNT_ID": "111122223333"},
        {"AWS_ACCOUNT_ID": "111122223333", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {
            "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": "http://127.0.0.1:2",
            "AWS_ENDPOINT_URL_EVENTBRIDGE": "http://127.0.0.1:3",
        },
    ],
)
def test_each_call_goes_where_boto3_would_send_it_and_asking_sends_nothing(
    account: None, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        pytest.fail(f"a connection to {address}")

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    ours = resolved(Aws(Settings(region="eu-west-1")))
    assert ours == resolved_by_boto3("eu-west-1")
    if environment == {"AWS_ACCOUNT_ID": "111122223333"}:
        owner = "https://444455556666.streams-ddb.eu-west-1.amazonaws.com/"
        assert [ours[name] for name in ("DescribeStream", "GetRecords")] == [owner, owner]


def test_a_proxy_is_used_on_the_way_to_aws_and_not_to_an_emulator(
    server: Server, account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "near.invalid")
    call(Aws(Settings(region="eu-west-1", endpoint_url="http://far.invalid")))
    assert server.requests[0][1] == "http://far.invalid/"
    with pytest.raises(NoAnswerError):
        call(Aws(Settings(region="eu-west-1", endpoint_url="http://near.invalid")))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    call(at(server))
    assert len(server.requests) == 2


def test_under_local_no_other_host_is_ever_asked(server: Server) -> None:
    async def main() -> None:
        async with Transport(at(server)) as transport:
            for url in ("http://example.com/", "http://127.0.0.1@example.com/", "http://[::2]/"):
                with pytest.raises(ConfigError, match="--local must not reach"):
                    await transport.post(url, b"{}", {})
            service: Service = await transport.service("events")
            service._urls["PutEvents"], service._proxies["PutEvents"] = "http://10.0.0.1/", None
            with pytest.raises(ConfigError, match="--local must not reach"):
                await service.call("PutEvents", b"{}")

    asyncio.run(main())
    assert server.requests == []
