"""Why a request has no answer, in words for whoever runs the relay."""

from __future__ import annotations

import ssl
from typing import Literal

import aiohttp
from yarl import URL

from ddbrelay.aws.errors import (
    CERTIFICATE_HINT,
    NETWORK_HINT,
    PROXY_HINT,
    certificate_words,
)
from ddbrelay.text import first_line

Kind = Literal["name", "connect", "proxy", "certificate", "timeout", "broken"]
"""The name is unknown, nobody listens, the proxy fails, TLS fails, time is up, it broke midway."""
SET_UP = {"certificate": CERTIFICATE_HINT, "name": NETWORK_HINT, "proxy": PROXY_HINT}
"""What, met by the first call of all, is a fault of the set-up and not of the moment: a way out."""


class NoAnswerError(Exception):
    """The request, or its answer, was lost on the way; AWS may have acted on it.

    `idle` when the connection had served before and broke ahead of any answer: most likely the
    other side closed it while it was idle; `unsent` when it certainly did.
    """

    def __init__(
        self, message: str, kind: Kind = "broken", *, idle: bool = False, unsent: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.idle = idle
        self.unsent = unsent


def without_password(proxy: URL) -> str:
    """A proxy as it may be shown."""
    return str(proxy.with_user(None).origin() if proxy.user else proxy).rstrip("/")


def no_answer(
    error: Exception, url: URL, proxy: URL | None, patience: float, *, reused: bool
) -> NoAnswerError:
    """Our error for one of aiohttp's; `patience` is how long the answer was waited for, in seconds.

    https://docs.aiohttp.org/en/stable/client_reference.html#hierarchy-of-exceptions
    """
    host = url.host_port_subcomponent or ""
    if isinstance(error, aiohttp.ClientProxyConnectionError) and proxy is not None:
        said = f"no connection through the proxy {without_password(proxy)}: {_reason(error)}"
        return NoAnswerError(said, "proxy")
    if isinstance(error, aiohttp.ClientHttpProxyError) and proxy is not None:
        said = f"the proxy {without_password(proxy)} lets nothing through to {host}"
        return NoAnswerError(f"{said}: {error.status} {error.message}", "proxy")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return NoAnswerError(_certificate(host, error.certificate_error), "certificate")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return NoAnswerError(f"no TLS connection to {host}: {_reason(error)}", "certificate")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NoAnswerError(f"the name {url.host} cannot be resolved: {_reason(error)}", "name")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NoAnswerError(f"no connection to {host}: {_reason(error)}", "connect")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        through = f" through the proxy {without_password(proxy)}" if proxy is not None else ""
        return NoAnswerError(f"no connection to {host}{through} in time", "connect")
    if isinstance(error, TimeoutError):
        return NoAnswerError(f"timed out: no answer from {host} within {patience:g} s", "timeout")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        said = f"{host} closed the connection before it answered"
        return NoAnswerError(said, idle=reused)
    if isinstance(error, aiohttp.ClientPayloadError):
        return NoAnswerError(f"the answer of {host} was cut short: {first_line(str(error))}")
    if isinstance(error, aiohttp.ClientResponseError):
        return NoAnswerError(f"{host} answered with something that is not HTTP")
    unsent = isinstance(error.__cause__ or error, aiohttp.ClientConnectionResetError)
    said = f"the connection to {host} broke: {_reason(error)}"
    return NoAnswerError(said, idle=reused, unsent=reused and unsent)


def _certificate(host: str, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_words(host, error)
    return f"the certificate of {host} is not accepted: {error}"


def _reason(error: Exception) -> str:
    inner = getattr(error, "os_error", None) or error.__cause__ or error
    return getattr(inner, "strerror", None) or first_line(str(inner)) or type(inner).__name__
