"""Where the calls go: region, addresses, and the host name of its own that an account has.

The rules of an address: `endpoint-rule-set-1` of botocore's `dynamodb` and `dynamodbstreams`
models, and https://docs.aws.amazon.com/sdkref/latest/guide/feature-account-endpoints.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ddbrelay.checkup.findings import Area, Finding, Subject
from ddbrelay.text import listed

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.config import Config

AREA = Area("endpoints")
SERVICES = ("dynamodb", "dynamodbstreams", "events", "sqs")
_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonwebservices.com.cn")


@dataclass(frozen=True)
class Endpoints:
    """Where each service is reached, by boto3's name of it.

    `region_from` says what named the region, `mode` is botocore's `account_id_endpoint_mode`,
    `account` the account of the credentials, where these know it.
    """

    region: str
    region_from: str
    addresses: Mapping[str, str]
    mode: str
    account: str | None


def look(aws: Aws, config: Config) -> Endpoints:
    """What is in force; makes the clients, which raises ConfigError or botocore's errors."""
    clients = {name: aws.client(name) for name in SERVICES}
    frozen = aws.credentials().get_frozen_credentials()
    return Endpoints(
        aws.region,
        _origin(aws, config),
        {name: client.meta.endpoint_url for name, client in clients.items()},
        str(clients["dynamodb"].meta.config.account_id_endpoint_mode or "preferred"),
        getattr(frozen, "account_id", None) or None,
    )


def _origin(aws: Aws, config: Config) -> str:
    if config.settings.region:
        return config.origins["region"]
    if aws.local:
        return "--local"
    named = [name for name in ("AWS_REGION", "AWS_DEFAULT_REGION") if os.environ.get(name)]
    return named[0] if named else f"the profile {config.settings.profile or 'default'}"


def judge(subject: Subject, seen: Endpoints) -> list[Finding]:
    """Whether all calls go to one place, and whether the host names can be made."""
    found = [AREA.ok("region", f"{seen.region}, from {seen.region_from}")]
    hosts = {name: host_of(address) for name, address in seen.addresses.items()}
    others = {name: host for name, host in hosts.items() if not host.endswith(_AWS)}
    if not others:
        return [*found, _account_mode(subject, seen)]
    if len(others) == len(hosts):
        return [
            *found,
            AREA.ok("address", f"every call goes to {listed(sorted({*others.values()}))}"),
        ]
    rest = sorted(hosts.keys() - others.keys())
    where = listed(f"{name} goes to {host}" for name, host in sorted(others.items()))
    return [
        *found,
        AREA.warning(
            "address",
            f"{where}, and {listed(rest)} to AWS",
            "the table and the bus are then not of one account; DynamoDB and its streams have "
            "variables of their own",
            "set AWS_ENDPOINT_URL_DYNAMODB, _DYNAMODB_STREAMS, _EVENTBRIDGE and _SQS, or none",
        ),
        *(
            []
            if {"dynamodb", "dynamodbstreams"} <= others.keys()
            else [_account_mode(subject, seen)]
        ),
    ]


def _account_mode(subject: Subject, seen: Endpoints) -> Finding:
    """`preferred` is botocore's default; `required` fails where nothing tells the account."""
    if seen.mode == "disabled":
        return AREA.ok("account-host", "host names without the account (mode disabled)")
    host = f"{seen.account or '<account>'}.streams-ddb.{seen.region}.amazonaws.com"
    if seen.mode == "required" and seen.account is None:
        return AREA.error(
            "account-host",
            "account_id_endpoint_mode is required, and the credentials do not tell the account",
            "botocore then makes no address for DynamoDB",
            "AWS_ACCOUNT_ID=<account>, or AWS_ACCOUNT_ID_ENDPOINT_MODE=preferred",
        )
    return AREA.ok("account-host", f"streams are read from {host} (mode {seen.mode})")


def host_of(address: str) -> str:
    """Host and port of an address, without the name and password that may stand before them."""
    return urlsplit(address).netloc.rpartition("@")[2]
