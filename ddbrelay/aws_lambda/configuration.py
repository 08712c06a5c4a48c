"""The `ddbrelay.toml` of the function: beside its code, in S3, or in the Parameter Store.

S3: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html. Parameter Store:
https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ddbrelay import config
from ddbrelay.aws.errors import translated
from ddbrelay.aws.session import Aws
from ddbrelay.aws.threads import off_loop
from ddbrelay.config import Config
from ddbrelay.errors import AwsRefused, ConfigError

VARIABLE = "DDBRELAY_CONFIG"
_CODE = "LAMBDA_TASK_ROOT"
_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)")
_SSM = "ssm:"
_HINT = f"{VARIABLE}=FILE, s3://bucket/key or ssm:/parameter/name"
_PATIENCE = 60.0
"""Seconds, where nobody says how long there is."""
_LONGEST, _SHORTEST = 5.0, 0.1
"""Seconds for one answer."""
_ATTEMPTS = 4
_THREAD = "ddbrelay-configuration"
_Read = Callable[[str], bytes]


def load(environ: Mapping[str, str], left: float = _PATIENCE) -> Config:
    """The configuration that DDBRELAY_CONFIG names, by default `ddbrelay.toml` beside the code.

    A file in S3 or in the Parameter Store, and the schemas that its rules name relative to it, are
    fetched to the temporary directory; this takes s3:GetObject or ssm:GetParameter. Raises
    ConfigError for a file that cannot be right, AwsRefused when it cannot be fetched, which is
    within the seconds that are `left`.
    """
    named, code = environ.get(VARIABLE, ""), Path(environ.get(_CODE) or os.curdir)
    file: Path | None = None
    if named.startswith("s3:"):
        file = _from_s3(named, _Patient(environ, left))
    elif named.startswith(_SSM):
        file = _from_parameters(named.removeprefix(_SSM), _Patient(environ, left))
    elif named:
        file = code / config.named_file(named)
    elif (code / config.FILE_NAME).is_file():
        # It is named here, since it may belong to whoever built the package.
        file = code.absolute() / config.FILE_NAME
    return config.load({"config": file}, environ, code.absolute())


def _from_s3(address: str, aws: _Patient) -> Path:
    match = _S3.fullmatch(address)
    if match is None:
        raise ConfigError(f"{VARIABLE}: {address!r} is no address of an object in S3", _HINT)
    bucket, key = match.groups()

    def read(name: str) -> bytes:
        doing = f"read the configuration s3://{bucket}/{name} (s3:GetObject)"

        def body(client: Any) -> bytes:
            content: bytes = client.get_object(Bucket=bucket, Key=name)["Body"].read()
            return content

        return aws.ask("s3", doing, body)

    return _fetched(key, read, _folder() / bucket)


def _from_parameters(name: str, aws: _Patient) -> Path:

    def read(name: str) -> bytes:
        doing = f"read the configuration in parameter {name} (ssm:GetParameter)"

        def value(client: Any) -> bytes:
            answer = client.get_parameter(Name=name, WithDecryption=True)
            return str(answer["Parameter"]["Value"]).encode()

        return aws.ask("ssm", doing, value)

    return _fetched(name, read, _folder() / "ssm")


def _fetched(name: str, read: _Read, folder: Path) -> Path:
    """Copy the file, and the schemas that its rules name, under the folder; where the file is."""
    file = _keep(name, read(name), folder)
    for schema in _schemas(file):
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(name), schema))
        _keep(beside, read(beside), folder)
    return file


def _keep(name: str, content: bytes, folder: Path) -> Path:
    parts = name.strip("/").split("/")
    if not all(parts) or {".", ".."} & set(parts) or not name.isprintable():
        raise ConfigError(f"{name!r} cannot be the name of a configuration file", _HINT)
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _schemas(file: Path) -> list[str]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # Whoever loads it says what is wrong, and where.
        return []
    rules = document.get("rule", [])
    if not isinstance(rules, list):
        return []
    found = [rule.get("schema") for rule in rules if isinstance(rule, dict)]
    return [schema for schema in found if isinstance(schema, str)]


class _Patient:
    """Asks AWS by the environment alone, since the file is not known yet, and not for too long."""

    def __init__(self, environ: Mapping[str, str], left: float) -> None:
        self._environ, self._left = environ, left
        self._deadline = time.monotonic() + left
        self._client: Any = None

    def ask(self, service: str, doing: str, call: Callable[[Any], bytes]) -> bytes:
        """What the call gets; AwsRefused when AWS refuses, or does not answer in time.

        boto3's time-outs are for an attempt and for a piece of a body, and looking for credentials
        has others: the whole is waited for, and left to itself after that.
        """

        def work() -> bytes:
            with translated(doing):
                if self._client is None:
                    self._client = self._new_client(service)
                return call(self._client)

        async def answer() -> bytes:
            async with asyncio.timeout(max(self._deadline - time.monotonic(), 0)):
                return await off_loop(work, _THREAD)

        try:
            return asyncio.run(answer())
        except TimeoutError:
            raise AwsRefused(
                f"cannot {doing}: AWS did not answer in the time of the invocation",
                "more timeout; in a VPC, endpoints of S3 and SSM",
            ) from None

    def _new_client(self, service: str) -> Any:
        aws = Aws(config.load({"config": os.devnull}, self._environ).settings)
        patience = min(max(self._left / _ATTEMPTS, _SHORTEST), _LONGEST)
        return aws.new_client(
            service,
            connect_timeout=patience,
            read_timeout=patience,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        )


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="ddbrelay-"))
