"""Our signatures are those of botocore, whatever is signed."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from ddbrelay.aws.signing import Signer, host_header

PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)
SAFE = st.characters(categories=(), include_characters="abcXYZ019-._~%/ é:@!$*()+,'&=")
HOSTS = st.one_of(
    st.sampled_from(
        [
            "events.eu-west-1.amazonaws.com",
            "444455556666.streams-ddb.us-east-1.amazonaws.com",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "UPPER.Example.com",
        ]
    ),
    st.from_regex(r"[a-z0-9]{1,12}(\.[a-z]{2,8}){0,3}", fullmatch=True),
)
PORTS = st.one_of(st.none(), st.sampled_from([80, 443]), st.integers(1, 65535))
PATHS = st.lists(st.text(SAFE, max_size=8), max_size=4).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.lists(
    st.from_regex(r"[A-Za-z0-9%._~-]{0,6}(=[A-Za-z0-9%._~=-]{0,6})?", fullmatch=True), max_size=4
).map("&".join)
KEYS = st.builds(
    ReadOnlyCredentials,
    st.text(PRINTABLE, min_size=1, max_size=40),
    st.text(PRINTABLE, min_size=1, max_size=60),
    st.one_of(st.none(), st.just(""), st.text(PRINTABLE, min_size=1, max_size=300)),
)
TIMES = st.floats(0, 4_000_000_000)


def signed_by_botocore(
    url: str, region: str, service: str, headers: dict[str, str], body: bytes, keys: Any, at: float
) -> dict[str, str]:
    request = AWSRequest("POST", url, headers=headers, data=body)
    moment = datetime.datetime.fromtimestamp(int(at), datetime.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: moment)
        auth.SigV4Auth(keys, service, region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.slow
@settings(max_examples=400)
@given(
    scheme=st.sampled_from(["http", "https"]),
    host=HOSTS,
    port=PORTS,
    path=PATHS,
    query=QUERIES,
    target=st.text(PRINTABLE, min_size=1, max_size=60),
    spaced=st.text(PRINTABLE | st.just(" "), max_size=20),
    region=st.sampled_from(["us-east-1", "cn-north-1", "us-gov-west-1"]),
    service=st.sampled_from(["events", "dynamodb"]),
    calls=st.lists(st.tuples(st.binary(max_size=200), KEYS, TIMES), min_size=1, max_size=4),
)
def test_a_request_is_signed_as_botocore_signs_it(
    scheme: str,
    host: str,
    port: int | None,
    path: str,
    query: str,
    target: str,
    spaced: str,
    region: str,
    service: str,
    calls: list[tuple[bytes, ReadOnlyCredentials, float]],
) -> None:
    url = (
        f"{scheme}://{host}{'' if port is None else f':{port}'}{path}{'?' if query else ''}{query}"
    )
    named = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": target,
        "X-Amz-Extra": spaced,
    }
    agent = {"User-Agent": "ddbrelay"}
    signer = Signer(url, region, service, named, agent)
    for body, keys, at in calls:
        # The second request of a second takes what the first prepared.
        for again in (at, int(at) + 0.999):
            ours = {name.lower(): value for name, value in signer.sign(body, keys, again).items()}
            assert ours.pop("host") == auth._host_from_url(url)
            assert ours == signed_by_botocore(
                url, region, service, named | agent, body, keys, again
            )


def test_a_day_that_ends_between_two_requests_changes_the_scope() -> None:
    keys = ReadOnlyCredentials("AKIA", "secret", None)
    midnight = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC).timestamp()
    signer = Signer("https://events.eu-west-1.amazonaws.com/", "eu-west-1", "events", {})
    before, after = (signer.sign(b"{}", keys, midnight + step) for step in (-0.5, 0.5))
    assert "/20261123/" in before["Authorization"]
    assert "/20261124/" in after["Authorization"]
    for headers, at in ((before, midnight - 0.5), (after, midnight + 0.5)):
        theirs = signed_by_botocore(
            "https://events.eu-west-1.amazonaws.com/", "eu-west-1", "events", {}, b"{}", keys, at
        )
        assert headers["Authorization"] == theirs["authorization"]


def test_what_one_request_is_given_does_not_reach_the_next() -> None:
    keys = ReadOnlyCredentials("AKIA", "secret", None)
    signer = Signer("https://example.com/", "eu-west-1", "events", {})
    first = signer.sign(b"{}", keys, 1.0)
    first["X-Other"] = "1"
    assert "X-Other" not in signer.sign(b"{}", keys, 1.0)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://events.eu-west-1.amazonaws.com/", "events.eu-west-1.amazonaws.com"),
        ("https://h:443/", "h"),
        ("http://h:443/", "h:443"),
        ("http://user:secret@h:8000/", "h:8000"),
        ("http://[::1]:4566/", "[::1]:4566"),
    ],
)
def test_the_host_header_has_a_port_where_it_is_not_the_usual_one(url: str, host: str) -> None:
    assert host_header(url) == host
