"""The `ddbrelay.toml` of the function: beside its code, in S3, or in the Parameter Store.

S3: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html. Parameter Store:
https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html.
"""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from ddbrelay import config
from ddbrelay.aws.errors import translated
from ddbrelay.aws.session import Aws
from ddbrelay.config import Config
from ddbrelay.errors import ConfigError

VARIABLE = "DDBRELAY_CONFIG"
_CODE = "LAMBDA_TASK_ROOT"
_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)")
_SSM = "ssm:"
_HINT = f"{VARIABLE}=FILE, s3://bucket/key or ssm:/parameter/name"
_Read = Callable[[str], bytes]


def load(environ: Mapping[str, str]) -> Config:
    """The configuration that DDBRELAY_CONFIG names, by default `ddbrelay.toml` beside the code.

    A file in S3 or in the Parameter Store, and the schemas that its rules name relative to it, are
    fetched to the temporary directory; this takes s3:GetObject or ssm:GetParameter. Raises
    ConfigError for a file that cannot be right, AwsRefused when it cannot be fetched.
    """
    named, code = environ.get(VARIABLE, ""), Path(environ.get(_CODE) or os.curdir)
    file: Path | None = None
    if named.startswith("s3:"):
        file = _from_s3(named, environ)
    elif named.startswith(_SSM):
        file = _from_parameters(named.removeprefix(_SSM), environ)
    elif named:
        file = code / Path(named).expanduser()
    return config.load({"config": file}, environ, code.absolute())


def _from_s3(address: str, environ: Mapping[str, str]) -> Path:
    match = _S3.fullmatch(address)
    if match is None:
        raise ConfigError(f"{VARIABLE}: {address!r} is no address of an object in S3", _HINT)
    bucket, key = match.groups()
    client = _aws(environ).client("s3")

    def read(name: str) -> bytes:
        with translated(f"read the configuration s3://{bucket}/{name} (s3:GetObject)"):
            body: bytes = client.get_object(Bucket=bucket, Key=name)["Body"].read()
            return body

    return _fetched(key, read, _folder() / bucket)


def _from_parameters(name: str, environ: Mapping[str, str]) -> Path:
    client = _aws(environ).client("ssm")

    def read(name: str) -> bytes:
        with translated(f"read the configuration in parameter {name} (ssm:GetParameter)"):
            answer = client.get_parameter(Name=name, WithDecryption=True)
        return str(answer["Parameter"]["Value"]).encode()

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


def _aws(environ: Mapping[str, str]) -> Aws:
    """Clients by the environment alone, since the file is not known yet."""
    return Aws(config.load({"config": os.devnull}, environ).settings)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="ddbrelay-"))
