"""Web pages get no answer from the servers that emulate AWS on this machine."""

from __future__ import annotations

import asyncio
import http.client
from urllib.parse import urlsplit

import pytest
from pipeline import ON_MOTO

from ddbrelay.local import engine as engines
from ddbrelay.local.pages import refused
from ddbrelay.testing.server import serving

FROM_PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Host": "evil.example"},
    {"Host": "evil.example:4566"},
    {"Host": "127.0.0.1.evil.example"},
]


@pytest.mark.parametrize(
    ("host", "origin", "site", "no"),
    [
        ("127.0.0.1:4566", None, None, False),
        ("localhost:4566", None, None, False),
        ("[::1]:4566", None, None, False),
        ("claims.localhost:4566", None, None, False),
        (None, None, None, False),
        ("127.0.0.1:4566", "http://127.0.0.1:4566", "same-origin", False),
        ("127.0.0.1:4566", None, "none", False),
        ("127.0.0.1:4566", "http://127.0.0.1:8080", None, True),
        ("127.0.0.1:4566", "null", None, True),
        ("127.0.0.1:4566", None, "same-site", True),
        ("evil.example:4566", None, None, True),
        ("[::1", None, None, True),
        ("", None, None, True),
    ],
)
def test_who_may_ask(host: str | None, origin: str | None, site: str | None, no: bool) -> None:
    assert refused(host, origin, site) is no


def asked(url: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


@ON_MOTO
def test_the_embedded_aws_answers_no_page_and_allows_no_origin(engine: engines.Engine) -> None:
    url = engines.url(engine.port)
    for headers in FROM_PAGES:
        for method, path in (("OPTIONS", "/"), ("POST", "/moto-api/reset"), ("GET", "/claims")):
            status, given = asked(url, method, path, headers)
            assert status == 403, (headers, method)
            assert not [name for name in given if name.startswith("access-control")]
    status, given = asked(url, "GET", "/moto-api/data.json", {})
    assert status == 200
    assert not [name for name in given if name.startswith("access-control")]


def test_the_simulator_answers_no_page() -> None:
    async def main() -> None:
        async with serving() as simulator:
            for headers in FROM_PAGES:
                for method, path in (("POST", "/"), ("GET", "/_simulator/report")):
                    status, _ = await asyncio.to_thread(asked, simulator.url, method, path, headers)
                    assert status == 403, (headers, method)
            status, _ = await asyncio.to_thread(asked, simulator.url, "POST", "/", {})
            assert status == 400

    asyncio.run(main())
