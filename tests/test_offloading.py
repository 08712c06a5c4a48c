"""Claim checks: what goes to S3, what goes to the bus, and how the one is found from the other."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.mapping import MAX_DETAIL_TYPE, MAX_SOURCE, Event, refused
from ddbrelay.flow.offloading import (
    MAX_OBJECT_KEY,
    Reference,
    billed_chunks,
    claim_of,
    offload,
    place_of,
    restore,
)
from ddbrelay.flow.packing import MAX_BYTES, oversize

ARN = "arn:aws:dynamodb:eu-west-1:444455556666:table/users/stream/2026-11-23T10:31:02.123"
ID = "c4ca4238a0b923820dcc509a6f75849b"
ADDRESS = "s3://claims.example/relay/users"
HUGE = Event(
    "ddbrelay.users", "UserCreated", b'{"id":"' + b"x" * MAX_BYTES + b'"}', (ARN, ID), 1e9, "r"
)


def reference(event: Event) -> Reference:
    found = claim_of(json.loads(event.detail))
    assert found is not None
    return found


def claim(**changed: Any) -> dict[str, Any]:
    return {"bucket": "claims", "key": "a/b.json", "size": 3, "sha256": "0" * 64} | changed


# There and back

texts = st.text(st.characters(exclude_categories=["Cs"]))
addresses = st.builds(
    "s3://{}/{}".format,
    st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True),
    st.from_regex(r"([^\s?#/.\ud800-\udfff]{1,8}/){0,12}", fullmatch=True).filter(
        lambda prefix: len(prefix.encode()) < 800
    ),
)
events = st.builds(
    Event,
    source=texts.filter(bool).map(lambda text: text[:MAX_SOURCE]),
    detail_type=texts.filter(bool).map(lambda text: text[:MAX_DETAIL_TYPE]),
    detail=st.dictionaries(texts, texts | st.integers() | st.none()).map(msgspec.json.encode),
    resources=st.lists(texts, max_size=3).map(tuple),
    time=st.none() | st.floats(0, 4e9),
)


@given(events, addresses, texts)
def test_the_reference_is_small_and_leads_back_to_the_same_event(
    event: Event, address: str, event_id: str
) -> None:
    small, claim = offload(event, address, event_id)
    assert len(small.detail) < 8 * 1024
    assert not oversize(small)
    assert msgspec.structs.replace(small, detail=event.detail) == event
    if refused(event) is None:
        assert refused(small) is None

    found = reference(small)
    assert found == Reference(claim.bucket, claim.key, len(claim.body), claim.sha256)
    assert claim.body == event.detail
    assert claim.sha256 == hashlib.sha256(event.detail).hexdigest()
    assert f"s3://{claim.bucket}/{claim.key}".startswith(address.rstrip("/") + "/")
    assert len(claim.key.encode()) <= MAX_OBJECT_KEY

    envelope = msgspec.json.encode({"id": "e", "detail": msgspec.Raw(small.detail)}).decode()
    back = restore(envelope, claim.body)
    assert json.loads(back) == {"id": "e", "detail": json.loads(event.detail)}


@pytest.mark.slow
@given(events, events, addresses, texts, texts)
def test_an_object_is_overwritten_only_with_itself(
    one: Event, other: Event, address: str, its_id: str, other_id: str
) -> None:
    first, second = offload(one, address, its_id)[1], offload(other, address, other_id)[1]
    assert offload(one, address, its_id)[1] == first
    if first.key == second.key:
        assert first.body == second.body


def test_the_longest_prefix_id_and_names_still_fit() -> None:
    prefix = "é" * 436
    event = Event("s" * MAX_SOURCE, "d" * MAX_DETAIL_TYPE, HUGE.detail, (ARN, "i" * 500), 1e9)
    small, claim = offload(event, f"s3://{'b' * 63}/{prefix}", "\u0001" * 5000)
    assert not oversize(small)
    assert len(claim.key.encode()) <= MAX_OBJECT_KEY
    with pytest.raises(ValueError, match="longer than"):
        offload(event, f"s3://{'b' * 63}/{prefix}é", "i")


def test_an_object_is_named_after_the_record_and_the_detail() -> None:
    small, claim = offload(HUGE, ADDRESS, ID)
    digest = hashlib.sha256(HUGE.detail).hexdigest()
    assert claim.key == f"relay/users/{ID}-{digest[:16]}.json"
    assert json.loads(small.detail) == {
        "claimCheck": {
            "bucket": "claims.example",
            "key": claim.key,
            "size": len(HUGE.detail),
            "sha256": digest,
        }
    }
    assert reference(small).url == f"s3://claims.example/{claim.key}"
    assert small.resources == (ARN, ID)
    assert (oversize(HUGE), oversize(small)) == (True, False)


def test_an_id_cannot_leave_the_prefix() -> None:
    _, claim = offload(HUGE, "s3://claims", "../../other/ü?#x")
    assert claim.key.startswith("------other----x-")


@pytest.mark.parametrize(
    ("address", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/a", "bucket", "a/"),
        ("s3://bucket/a/b/", "bucket", "a/b/"),
        ("s3://bucket//a", "bucket", "a/"),
        ("s3://bucket/.a/..b", "bucket", ".a/..b/"),
    ],
)
def test_an_address_is_a_bucket_and_a_folder(address: str, bucket: str, prefix: str) -> None:
    assert place_of(address) == (bucket, prefix)


@pytest.mark.parametrize(
    "address",
    ["bucket", "http://bucket/a", "s3:///a", "s3://B/a", "s3://b", "s3://bucket/../other/a"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"no|dots"):
        offload(HUGE, address, ID)


# What is a reference


def test_a_reference_is_recognised() -> None:
    assert claim_of({"claimCheck": claim()}) == Reference("claims", "a/b.json", 3, "0" * 64)


@pytest.mark.parametrize(
    "detail",
    [
        None,
        [],
        "claimCheck",
        {},
        {"claimCheck": None},
        {"claimCheck": {}},
        {"claimCheck": claim(), "id": "a"},
        {"claimCheck": claim(more=1)},
        {"claimCheck": {k: v for k, v in claim().items() if k != "size"}},
        *(
            {"claimCheck": claim(**{name: value})}
            for name, value in [
                ("bucket", 1),
                ("bucket", "Bucket"),
                ("bucket", "a/b"),
                ("bucket", "arn:aws:s3:us-east-1:111122223333:accesspoint/x"),
                ("key", None),
                ("key", ""),
                ("key", "a/../../other/b"),
                ("key", "./b"),
                ("key", "\ud800"),
                ("key", "k" * 1025),
                ("size", -1),
                ("size", True),
                ("size", "3"),
                ("size", 3.0),
                ("sha256", "0" * 63),
                ("sha256", "A" * 64),
                ("sha256", 0),
            ]
        ),
    ],
)
def test_a_detail_of_any_other_form_is_itself(detail: Any) -> None:
    assert claim_of(detail) is None


# Putting the detail back


def test_every_digit_of_envelope_and_detail_is_kept() -> None:
    envelope = '{"id": "e",\n "n": 12345678901234567890.123456789012345678, "detail": {"a": 1}}'
    back = restore(envelope, b'{"i": 123456789012345678901234567890}')
    assert '"n":12345678901234567890.123456789012345678' in back
    assert '"detail":{"i": 123456789012345678901234567890}' in back


@pytest.mark.parametrize("detail", [b"", b"[]", b"no", b'{"a":1', b"\xff", b'{"a":NaN}'])
def test_only_a_json_object_is_a_detail(detail: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        restore('{"detail": {}}', detail)
    with pytest.raises(ValueError, match="not a JSON object"):
        restore("[]", b"{}")


# What is billed


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, 1), (1, 1), (65536, 1), (65537, 2), (131072, 2), (131073, 3), (MAX_BYTES - 1, 16)],
)
def test_each_64_kb_begun_is_billed_as_an_event(size: int, chunks: int) -> None:
    assert billed_chunks(size) == chunks
