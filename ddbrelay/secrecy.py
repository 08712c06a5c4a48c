"""What no text that leaves the process may hold: credentials in use, and passwords of addresses.

A text is asked after, not its origin: AWS repeats a token in an error, a mapper raises with what
it found in the environment. Values that are shorter than eight characters would hide half of all
words, and are left alone.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote
from weakref import ref

HIDDEN = "[redacted]"
_SHORTEST = 8
_MOST = 64
"""Values that are remembered; a relay may run through thousands of tokens."""
_CREDENTIALS = (b"AWS_SECRET_ACCESS_KEY", b"AWS_SESSION_TOKEN", b"AWS_SECURITY_TOKEN")
_PROXIES = (b"HTTP_PROXY", b"HTTPS_PROXY", b"ALL_PROXY")
_ADDRESSES = (
    *(b"DDBRELAY_ENDPOINT_URL", b"AWS_ENDPOINT_URL"),
    *_PROXIES,
    *(name.lower() for name in _PROXIES),
)
# A slash in a password should be %2F; what stands between a colon and it is a port otherwise.
_USER = r"(?:[^/\s\"']*@|[^/\s\"':@]*:(?!\d{1,5}/)[^\s\"']*@)"
_IN_TEXT = re.compile(rf"(?<=://){_USER}")
_ALONE = re.compile(r"\A(?!arn:)[^/\s\"':@]*:(?!//)\S*@(?=[^@\s]+\Z)")
_WHOLE = re.compile(
    r"(?!arn:)(?:[a-z][\w.+-]*://)?([^/]*@|[^/:@]*:(?!//|\d{1,5}/).*@)", re.IGNORECASE
)


class _Known:
    """Values that were in use, the latest last, and the credentials that are."""

    def __init__(self) -> None:
        self.values: tuple[str, ...] = ()
        self.users: tuple[str, ...] = ()
        self.sources: tuple[ref[Any], ...] = ()


_known = _Known()


def hide(*values: str | None) -> None:
    """From now on none of these values stands in a text that was `hidden`."""
    for value in values:
        if value and len(value) >= _SHORTEST and value not in _known.values:
            _known.values = (*_known.values, value)[-_MOST:]


def watch(source: Any) -> None:
    """The same of botocore's credentials, now and whenever they were refreshed."""
    alive = [one for one in _known.sources if one() is not None]
    if not any(one() is source for one in alive):
        _known.sources = (*alive, ref(source))
    hide(*_read(source))


def remember() -> None:
    """What watched credentials hold now is hidden as well once they hold something else."""
    for one in _known.sources:
        hide(*_read(one()))


def hide_address(address: str) -> None:
    """The same of the user and the password of an address."""
    user = _user_of(address)
    if ":" in user and user not in _known.users:
        _known.users = (*_known.users, user)[-_MOST:]


def without_password(address: str) -> str:
    """The text without what stands before the @ of an address in it: `http://me:secret@host`.

    Where the whole text is an address it may lack its scheme.
    """
    if "@" not in address:
        return address
    return _ALONE.sub("", _IN_TEXT.sub("", address), count=1)


def hidden(text: str) -> str:
    """The text with `[redacted]` in place of each credential, and without known passwords.

    Whatever else looks like a password stays: this is for data, which must not be changed.
    """
    remember()
    for value in _forms(_known.values, _environment(_CREDENTIALS)):
        if value in text:
            text = text.replace(value, HIDDEN)
    if "@" in text:
        for user in _users(_known.users, _environment(_ADDRESSES)):
            text = text.replace(user, "")
    return text


def hidden_bytes(data: bytes) -> bytes:
    """The same of UTF-8: many lines are searched at once."""
    remember()
    for value in _as_bytes(_forms(_known.values, _environment(_CREDENTIALS))):
        if value in data:
            data = data.replace(value, HIDDEN.encode())
    if b"@" in data:
        for user in _as_bytes(_users(_known.users, _environment(_ADDRESSES))):
            data = data.replace(user, b"")
    return data


def scrubbed(text: str) -> str:
    """`hidden`, also without the password of any address: for words, errors and logs."""
    text = hidden(text)
    return _IN_TEXT.sub("", text) if "@" in text else text


def scrubbed_value(value: Any) -> Any:
    """The same of every text within a value of JSON."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, dict):
        return {name: scrubbed_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed_value(one) for one in value]
    return value if value is None or isinstance(value, int | float) else scrubbed(str(value))


def _environment(names: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
    if not os.supports_bytes_environ:
        return tuple(os.fsencode(os.environ.get(os.fsdecode(name), "")) for name in names)
    # As bytes, since a line of data must not wait for the decoding of all of them.
    return tuple([os.environb.get(name) for name in names])


def _read(source: Any) -> Iterator[str | None]:
    # The properties of credentials that end would refresh them, over the network.
    for name in ("secret_key", "token"):
        own = getattr(source, "__dict__", {})
        value = own.get(f"_{name}") or own.get(name)
        yield value if isinstance(value, str) else None


@lru_cache(maxsize=8)
def _forms(known: tuple[str, ...], variables: tuple[bytes | None, ...]) -> tuple[str, ...]:
    """Each value as it is, in an address, in JSON, and within a Binary in base64.

    The longest comes first, since one may stand within another.
    """
    values = {*known, *(os.fsdecode(value) for value in variables if value)}
    long = [value for value in values if len(value) >= _SHORTEST]
    forms = {form for one in long for form in (one, quote(one, safe=""), json.dumps(one)[1:-1])}
    forms.update(form for one in long for form in _in_base64(os.fsencode(one)))
    return tuple(sorted(forms, key=len, reverse=True))


def _in_base64(value: bytes) -> Iterator[str]:
    """What every base64 text has in it whose bytes hold the value, and the value's own base64.

    Three bytes make four characters, so there are three ways; a character that also depends on a
    byte beside the value is not part of it.
    """
    yield b64encode(value).decode()
    for ahead in range(3):
        begin, end = -(-8 * ahead // 6), 8 * (ahead + len(value)) // 6
        yield b64encode(bytes(ahead) + value).decode()[begin:end]


@lru_cache(maxsize=8)
def _as_bytes(texts: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(text) for text in texts)


@lru_cache(maxsize=8)
def _users(known: tuple[str, ...], variables: tuple[bytes | None, ...]) -> tuple[str, ...]:
    """`me:secret@` of each address."""
    named = (_user_of(os.fsdecode(value)) for value in variables if value)
    return tuple(dict.fromkeys((*known, *(user for user in named if ":" in user))))


def _user_of(address: str) -> str:
    """`me:secret@` of an address, empty where it has none."""
    found = _WHOLE.match(address)
    return found[1] if found else ""
