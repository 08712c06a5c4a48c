"""What an answer that is no success says: AWS's error code, or who else may have answered."""

from __future__ import annotations

import re

import msgspec

from ddbrelay.secrecy import scrubbed
from ddbrelay.text import cut, first_line, printable

ALWAYS_SMALL = 256 * 1024
"""Bytes of a request that no endpoint finds too large: AWS's limit of old for PutEvents."""
_TOO_LARGE = 413
_BUSY = frozenset({408, 429})
_SHOWN = 120
_READ = 4096
_TAG = re.compile(r"<(?:style|script)\b.*?</\w*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class WireError(Exception):
    """AWS answered with an error; `code` is its error code, else the HTTP status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.status = status
        self.code = code
        self.message = message

    @property
    def bare(self) -> bool:
        """Whether there was no error code in it, as AWS gives one."""
        return self.code == f"HTTP {self.status}"


class ForeignError(WireError):
    """The answer is not of AWS's form: a proxy or a firewall may have given it.

    `message` is the media type and the first words of what was answered.
    """


class _ErrorBody(msgspec.Struct):
    type: str = msgspec.field(name="__type", default="")
    lower: str | None = msgspec.field(name="message", default=None)
    upper: str | None = msgspec.field(name="Message", default=None)


def refusal_of(status: int, body: bytes, media_type: str = "", sent: int = 0) -> WireError:
    """The error of an answer to a request of `sent` bytes."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _ErrorBody()
    message = error.lower or error.upper or ""
    code = error.type.partition(":")[0].rpartition("#")[2]
    if code:
        return WireError(status, code, message)
    # Load balancers of AWS answer so too, when it is busy or down.
    known = status >= 500 or status in _BUSY
    if known or (status == _TOO_LARGE and sent >= ALWAYS_SMALL):
        return WireError(status, f"HTTP {status}", message)
    return ForeignError(status, f"HTTP {status}", _words(media_type, message, body))


def _words(media_type: str, message: str, body: bytes) -> str:
    text = message or _TAG.sub(" ", body[:_READ].decode(errors="replace"))
    # Before anything is cut: half a token would not be known as one.
    line = first_line(printable(scrubbed(" ".join(text.split()))))
    kind = media_type.partition(";")[0].strip()
    return ", ".join(part for part in (kind, cut(line, _SHOWN)) if part)
