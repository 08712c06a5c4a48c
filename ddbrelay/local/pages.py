"""What keeps web pages away from a server on this machine that asks nobody who they are.

A page of any site may send requests to 127.0.0.1, and by a name of its own that leads there (DNS
rebinding) it could read the answers too: https://developer.mozilla.org/docs/Web/Security/Attacks.
"""

from __future__ import annotations

from urllib.parse import urlsplit

REFUSAL = "this server is for programs of this machine, not for web pages"
_OURS = {"127.0.0.1", "::1", "localhost"}
_ELSEWHERE = {"cross-site", "same-site"}


def refused(host: str | None, origin: str | None, site: str | None) -> bool:
    """Whether a page of elsewhere may have sent it, by `Host`, `Origin` and `Sec-Fetch-Site`.

    No SDK sends the last two; browsers do, and let no page choose any of the three.
    """
    if host is not None and not _is_ours(f"//{host}"):
        return True
    if origin is not None and origin != f"http://{host}":
        return True
    return site in _ELSEWHERE


def _is_ours(address: str) -> bool:
    try:
        name = urlsplit(address).hostname or ""
    except ValueError:
        return False
    return name in _OURS or name.endswith(".localhost")
