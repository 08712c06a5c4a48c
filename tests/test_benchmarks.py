"""The benchmark works: every variant relays everything, and its books would notice if not.

Nothing is said here about times.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from benchmarks import bare, work
from benchmarks.books import Books

from ddbrelay.flow.change import decode_page

ROOT = Path(__file__).parent.parent

VARIANTS = ["a", "b", "c", "d", "dj", "e"]


def benchmark(tmp_path: Path, *words: str) -> dict[str, Any]:
    """The JSON of a run."""
    file = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *words, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def request(*events: tuple[str, str]) -> bytes:
    """A PutEvents request with events of (token, key)."""
    entries = [
        {"DetailType": "UserCreated", "Detail": json.dumps({"stamp": f"~{token}~{key}~"})}
        for token, key in events
    ]
    return json.dumps({"Entries": entries}).encode()


@pytest.mark.slow
def test_every_variant_relays_each_change_once_and_ddbrelay_in_order(tmp_path: Path) -> None:
    grid = ["--latency", "2", "--shards", "3", "--items", "0.3", "--records", "300"]
    (cell,) = benchmark(tmp_path, *grid)["cells"]
    assert list(cell["variants"]) == VARIANTS
    for variant, result in cell["variants"].items():
        assert result["accepted"] == result["records"] == 300
        assert result["events_per_second"] > 0
        assert set(result["ratio"]) == {"b", "c", "e"}
        assert not result["wrong"].keys() & {"missing", "repeated", "unstamped"}, variant
    for variant in ("a", "b", "d", "dj"):
        assert cell["variants"][variant]["wrong"] == {}
    assert cell["variants"]["a"]["requests"]["PutEvents"] == 300
    assert cell["variants"]["e"]["requests"]["PutEvents"] == 30


@pytest.mark.slow
def test_pages_that_are_cut_by_their_size_arrive_too(tmp_path: Path) -> None:
    grid = ["--latency", "0", "--shards", "101", "--items", "30", "--records", "190"]
    (cell,) = benchmark(tmp_path, *grid, "--variants", "d,e")["cells"]
    for result in cell["variants"].values():
        assert result["accepted"] == result["records"] == 190
        assert "missing" not in result["wrong"]


@pytest.mark.slow
def test_the_time_to_an_accepted_event_is_told_for_each_write(tmp_path: Path) -> None:
    (told,) = benchmark(tmp_path, "--latency-test", "--shards", "2", "--records", "10")[
        "latency_test"
    ]
    assert told["events"] == 10
    assert 0 < told["p50_ms"] <= told["p99_ms"]


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [0.3, 3, 30])
def test_items_are_as_large_as_asked_and_pages_below_what_getrecords_answers(
    kilobytes: float,
) -> None:
    pages = work.make(kilobytes)
    body = b'{"Records":[%s]}' % pages.template(1, 2).between(1, 2, 0, pages.page_records)
    page = decode_page(body)
    assert len(page.records) == pages.page_records
    assert page.full, "a reader would wait before the next page"
    assert len(body) < 1_100_000
    new = [r.dynamodb.new_image for r in page.records if r.event_name == "INSERT"]
    sizes = [size_of(msgspec.json.decode(image)) for image in new if image is not msgspec.UNSET]
    assert 0.7 < sum(sizes) / len(sizes) / (kilobytes * 1000) < 1.3


def size_of(value: Any) -> int:
    """About what DynamoDB counts: names and values without their types."""
    if isinstance(value, dict):
        return sum(
            size_of(inner) + (0 if name in {"S", "N", "M", "L", "BOOL", "SS"} else len(name))
            for name, inner in value.items()
        )
    if isinstance(value, list):
        return sum(size_of(inner) for inner in value)
    return len(str(value))


def test_sequence_numbers_ascend_within_a_shard_and_event_ids_are_unique() -> None:
    pages = work.make(0.3)
    records = [
        record
        for shard in (0, 7)
        for page in (0, 1, 10)
        for record in decode_page(
            b'{"Records":[%s]}'
            % pages.template(shard, page).between(shard, page, 0, pages.page_records)
        ).records
    ]
    assert len({record.event_id for record in records}) == len(records) == 6000
    half = len(records) // 2
    for of_shard in (records[:half], records[half:]):
        numbers = [int(record.sequence_number) for record in of_shard]
        assert numbers == sorted(set(numbers))
    keys = [bytes(record.dynamodb.keys) for record in records]
    assert len(set(keys)) < len(keys), "no item changes twice"
    assert not set(keys[:half]) & set(keys[half:]), "an item is in two shards"


@pytest.mark.slow
def test_every_record_is_dealt_to_a_shard() -> None:
    pages = work.make(30)
    for records in (10, pages.page_records * 7, pages.page_records * 7 + 3):
        assert sum(pages.counts(records, 4)) == records


def test_the_bodies_of_the_bound_hold_as_many_entries_as_they_say() -> None:
    pages = work.make(3)
    for size, parts in bare.prepared(pages.template(3, 4)):
        entries = json.loads(work.filled(parts, 3, 4))["Entries"]
        assert len(entries) == size
        assert all(json.loads(entry["Detail"])["id"] for entry in entries)


def test_the_books_notice_what_is_repeated_swapped_together_and_unstamped() -> None:
    books = Books()
    first = books.arrive(request(("01", "x"), ("03", "y")))
    books.arrive(request(("02", "x")))
    assert (books.swapped, books.together) == (0, 1)
    books.accept(*first)
    books.arrive(request(("04", "z"), ("01", "x")))
    assert (books.repeated, books.swapped) == (1, 0)
    books.arrive(request(("00", "y")))
    assert books.swapped == 1
    books.arrive(json.dumps({"Entries": [{"DetailType": "t", "Detail": "{}"}]}).encode())
    assert books.unstamped == 1
    assert books.accepted == 2
