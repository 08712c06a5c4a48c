"""Signature Version 4 for requests of one shape: POST, one address, the same headers, a JSON body.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
botocore's signer takes any request, and four times as long.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote, urlsplit

from botocore.utils import normalize_url_path
from multidict import CIMultiDict, istr

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = istr("Authorization")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Keys(Protocol):
    """What botocore calls frozen credentials; a signer knows them again by their identity."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class Signer:
    """Signs bodies for one address; `signed` and `unsigned` are sent as headers with each of them.

    What a proxy may change on the way (User-Agent, Accept-Encoding) belongs to `unsigned`.
    """

    def __init__(
        self,
        url: str,
        region: str,
        service: str,
        signed: Mapping[str, str],
        unsigned: Mapping[str, str] | None = None,
    ) -> None:
        self._region, self._service = region, service
        self._host = host_header(url)
        self._signed = dict(signed)
        self._unsigned = dict(unsigned or {})
        parts = urlsplit(url)
        path = quote(normalize_url_path(parts.path), safe="/~")
        self._request_line = f"POST\n{path}\n{_canonical_query(parts.query)}\n"
        self._keys: Keys | None = None
        self._second = -1

    def sign(self, body: bytes, keys: Keys, at: float) -> CIMultiDict[str]:
        """The headers of a request that is sent `at` this time, in epoch seconds."""
        second = int(at)
        if second != self._second or keys is not self._keys:
            self._prepare(second, keys)
        request = sha256(self._canonical + sha256(body).hexdigest().encode()).hexdigest()
        signature = hmac.digest(self._key, self._to_sign + request.encode(), "sha256").hex()
        headers = self._headers.copy()
        headers[_AUTHORIZATION] = self._authorization + signature
        return headers

    def _prepare(self, second: int, keys: Keys) -> None:
        """Everything that is the same for all requests of one second."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        headers = {"Host": self._host, **self._signed, "X-Amz-Date": stamp}
        if keys.token:
            headers["X-Amz-Security-Token"] = keys.token
        lines = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
        names = ";".join(name for name, _ in lines)
        text = "".join(f"{name}:{value}\n" for name, value in lines)
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        key = f"AWS4{keys.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key
        self._canonical = f"{self._request_line}{text}\n{names}\n".encode()
        self._to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n".encode()
        self._authorization = (
            f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature="
        )
        self._headers: CIMultiDict[str] = CIMultiDict(
            {istr(name): value for name, value in (headers | self._unsigned).items()}
        )
        self._keys, self._second = keys, second


def host_header(url: str) -> str:
    """The Host header that belongs to an address: a port only where it is not the usual one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme):
        return host
    return f"{host}:{parts.port}"


def _canonical_query(query: str) -> str:
    pairs = sorted(part.partition("=")[::2] for part in query.split("&") if query)
    return "&".join(f"{name}={value}" for name, value in pairs)
