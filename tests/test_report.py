"""`ddbrelay report`: the numbers of a period, the page that shows them, and the command."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import report_day
from conftest import Cli
from pipeline import clear_error, state_file

from ddbrelay.config import Settings
from ddbrelay.cost import Prices
from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import Fate
from ddbrelay.output.report import ReportSummary, lines
from ddbrelay.outputs import schema_of
from ddbrelay.report.numbers import Report, gather
from ddbrelay.report.page import page
from ddbrelay.report.period import Period
from ddbrelay.report.reasons import kind_of
from ddbrelay.report.scales import count_ticks, duration_ticks, time_ticks
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing.clock import EPOCH

NOW = EPOCH + 40 * 86400 + 12 * 3600 + 34 * 60 + 5.0
ARNS = [report_day.arn(label=label) for label in reversed(report_day.LABELS)]
PRICES = Prices.of(Settings())


def numbers(path: Path, now: float, since: float = 86400.0) -> Report:
    with closing(Database(path)) as database:
        return gather(
            database,
            "default",
            ARNS,
            table="orders",
            bus="orders-bus",
            prices=PRICES,
            since=now - since,
            now=lambda: now,
        )


def report_of(path: Path, now: float) -> Report:
    """The report of a day that is written into this file."""
    report_day.write(path, now)
    return numbers(path, now)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "state.db"
    report_day.write(path, NOW)
    return path


@pytest.fixture(scope="module")
def report(state: Path) -> Report:
    return numbers(state, NOW)


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return page(report)


# The numbers


def test_every_event_of_the_period_is_in_one_bucket_and_under_one_name(
    state: Path, report: Report
) -> None:
    with closing(sqlite3.connect(state)) as raw:
        kept = Counter(
            dict(
                raw.execute(
                    "SELECT fate, sum(count) FROM timeline WHERE start >= ? GROUP BY fate",
                    (report.period.start,),
                )
            )
        )
    found = report.all
    assert kept["published"] == found.published.total() > 10_000
    assert (kept["skipped"], kept["parked"]) == (found.skipped, found.parked)
    assert sum(name.count for name in report.names) == kept.total()
    assert {name.name for name in report.names} >= report_day.TYPES.keys()
    assert [name.count for name in report.names] == sorted(
        (name.count for name in report.names), reverse=True
    )


def test_streams_of_earlier_tables_of_the_name_are_in_all_of_it(report: Report) -> None:
    assert report.all.published["OrderPlaced"] > 120
    assert report.buckets[0].published["OrderPlaced"] >= 120
    assert [run.stream_arn for run in report.runs] == ARNS
    assert report.finished == 2


def test_the_verdict_is_one_sentence(report: Report) -> None:
    assert re.fullmatch(
        r"[\d,]+ events published, [\d,]+ skipped, 3 parked, records lost in 1 gap", report.verdict
    )
    assert [bad for _, bad in report.said] == [False, False, True, True]


def test_the_most_urgent_shard_comes_first_and_one_not_begun_last(report: Report) -> None:
    found = [(one.position.shard_id[-1], one.left and round(one.left)) for one in report.shards]
    assert found == [("3", 86_400 - 70_000), ("2", 86_396), ("4", None)]


def test_the_cost_is_that_of_the_usage_at_the_prices_that_are_set(report: Report) -> None:
    assert report.total.usage.reads == 86_900
    assert report.total.cost == PRICES.cost(report.total.usage)
    assert report.total.cost == sum(run.bill.cost for run in report.runs)


def test_a_gap_that_was_found_before_the_period_is_told_and_not_counted(state: Path) -> None:
    report = numbers(state, NOW, since=3600.0)
    assert report.verdict.endswith("nothing lost")
    assert [one.in_period for one in report.lost] == [False]
    assert "1 of them before this period" in page(report)


@pytest.mark.parametrize(
    ("length", "step"),
    [(600, 60), (2 * 3600, 60), (86400, 600), (2 * 86400, 3600), (7 * 86400, 7200)],
)
def test_a_period_has_whole_buckets_that_are_not_too_many(length: int, step: int) -> None:
    period = Period.of(NOW - length, NOW, None)
    assert period.step == step
    assert period.buckets <= 151
    assert period.start % step == 0
    assert period.start <= NOW - length
    assert NOW <= period.end < NOW + step
    for most in (26, 60):
        assert period.buckets / period.together(most) <= most


def test_a_period_begins_where_something_is_known_and_never_is_a_moment() -> None:
    assert Period.of(NOW - 86400, NOW, NOW - 3600).start > NOW - 3700
    assert Period.of(NOW - 86400, NOW, NOW - 5).buckets >= 10
    assert Period.of(NOW - 86400, NOW, NOW - 10**7).start <= NOW - 86400
    assert Period.of(0.0, NOW, None).buckets <= 151


@pytest.mark.parametrize("seconds", [0, 1, 60, 300])
def test_a_short_period_is_as_short_as_it_was_asked_for(state: Path, seconds: int) -> None:
    for first in (NOW - 86400, NOW - seconds / 2, NOW):
        period = Period.of(NOW - seconds, NOW, first)
        assert NOW - seconds - 60 < period.start <= NOW - seconds
        assert period.buckets <= seconds / 60 + 2
    report = numbers(state, NOW, since=float(seconds))
    assert Reader(page(report)).of("svg")


@pytest.mark.parametrize("most", [0, 1, 3, 7, 99, 1021, 48_112, 10**9])
def test_an_axis_reaches_what_it_shows_in_a_few_steps(most: int) -> None:
    for ticks in (count_ticks(most, 6), duration_ticks(most, 4)):
        assert most <= ticks[-1][0]
        assert 2 <= len(ticks) <= 7
        assert len({text for _, text in ticks}) == len(ticks)
    times = time_ticks(Period.of(NOW - 600 - most, NOW, None))
    assert 1 <= len(times) <= 9
    assert all(0 <= place <= 1 for place, _ in times)


# The page


class Reader(HTMLParser):
    """Elements, their attributes and their texts; fails where an end has no beginning."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in {"script", "style"})


def test_what_it_says_is_there_without_the_script(html: str, report: Report) -> None:
    reader = Reader(html)
    said = "".join(text for _, text in reader.texts)
    assert report.verdict in said
    for text in (
        "orders",
        "orders-bus",
        "Consumer default",
        "Events every 10 minutes",
        "deletes are not events here",
        "an earlier event of this item is parked",
        report.lost[0].gap.after,
        report.shards[0].position.sequence,
        "about, for all runs",
        "Made by ddbrelay",
    ):
        assert str(text) in said, text
    assert not any("hidden" in attributes for _, attributes in reader.found)


def test_a_name_is_text_whatever_it_holds(html: str) -> None:
    assert "<script>alert" not in html
    assert report_day.HOSTILE in Reader(html).text()
    assert html.count("<script") == 1
    assert html.count("</script>") == 1


def test_nothing_of_a_record_is_in_it(report: Report, html: str) -> None:
    assert "SECRET" not in html
    assert "SECRET" not in msgspec.json.encode(list(lines(report))).decode()


def test_it_asks_for_nothing_and_runs_no_script_but_its_own(html: str) -> None:
    reader = Reader(html)
    for _, attributes in reader.found:
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "action", "poster", "xlink:href"}
            assert not name.startswith("on"), name
            assert name != "href" or value == "data:,"
    assert not re.search(r"https?:|url\(|@import", html)
    (policy,) = (one["content"] for one in reader.of("meta") if "http-equiv" in one)
    (script,) = (text for tag, text in reader.texts if tag == "script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)


def test_whoever_does_not_see_the_charts_is_told_what_is_in_them(html: str) -> None:
    reader = Reader(html)
    ids = [attributes["id"] for _, attributes in reader.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert reader.of("html") == [{"lang": "en"}]
    assert len(reader.of("svg")) == 4
    for svg in reader.of("svg"):
        assert svg["role"] == "img"
        assert set(str(svg["aria-labelledby"]).split()) <= set(ids)
    assert all("scope" in one for one in reader.of("th"))
    boxes = [one for one in reader.of("div") if one.get("class") == "scroll"]
    assert all(one["aria-label"] and one["tabindex"] == "0" for one in boxes)
    assert len(boxes) == 2


def test_eight_types_have_a_colour_and_the_rest_share_one(html: str) -> None:
    fills = {str(one["class"]) for one in Reader(html).of("path") if "fill" in str(one["class"])}
    types = {f"fill t{n}" for n in range(1, 9)}
    assert fills == types | {"fill other", "fill skipped", "fill parked"}


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_stand_out_by_day_and_by_night() -> None:
    css = resources.files("ddbrelay.report").joinpath("page.css").read_text("utf-8")
    schemes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        paper = luminance(colours.pop("paper"))
        for name, colour in colours.items():
            if name == "hair":
                continue
            one, other = sorted((paper, luminance(colour)))
            least = 4.5 if name in {"ink", "quiet", "ok", "wait", "bad"} else 3.0
            # https://www.w3.org/TR/WCAG22/#contrast-minimum and #non-text-contrast
            assert (other + 0.05) / (one + 0.05) >= least, (name, colour)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("an earlier event of this item is parked", None),
        ("the entry has 1,363,148 bytes, PutEvents takes less than 1 MB", "the entry has N bytes"),
        ("MalformedDetail: Detail is malformed: {4711}", "MalformedDetail"),
        ('rule "a": {new.n} cannot be evaluated: invalid: 4711', 'rule "a": {new.n} cannot be'),
        ('rule "a": the detail does not fit its schema: "x" is no', 'rule "a": the detail does'),
        ("KeyError in the mapper: 'x' (map.py:3)\n  trace", "KeyError in the mapper"),
        ('outbox: attribute "at": 4711 is no time', 'outbox: attribute "at"'),
        ("cannot be read: not an attribute value: {'S': 1}: x", "cannot be read: not an attribute"),
        ("x" * 500, "x" * 100),
    ],
)
def test_a_reason_ends_where_it_may_quote_from_a_record(reason: str, kind: str | None) -> None:
    said = kind_of(reason)
    assert said.startswith(kind or reason)
    assert "4711" not in said
    assert "'x'" not in said
    assert len(said) <= 160


# JSON


def test_the_objects_fit_the_schema_and_come_to_the_summary(report: Report) -> None:
    found: list[dict[str, Any]] = json.loads(msgspec.json.encode(list(lines(report))))
    validator = jsonschema_rs.Draft202012Validator(
        json.loads(schema_of("report")), validate_formats=True
    )
    for one in found:
        validator.validate(one)
    *parts, summary = found
    assert {one["type"] for one in parts} == {
        *("bucket", "name", "deadLetters", "lost", "shard", "run")
    }
    buckets = [one for one in parts if one["type"] == "bucket"]
    assert sum(sum(one["published"].values()) for one in buckets) == summary["published"]
    assert sum(one["parked"] for one in buckets) == summary["parked"] == 3
    assert summary["verdict"] == report.verdict
    assert summary["deadLetters"] == 3
    assert summary["usage"]["cost"] == float(report.total.cost)


# Files without minutes, and the command


def test_a_ledger_of_an_earlier_version_is_told_in_all(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    report_day.write(path, NOW, every=60)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DELETE FROM timeline")
        raw.commit()
    report = numbers(path, NOW)
    assert not report.kept
    assert not report.empty
    assert f"{report.ever[Fate.PUBLISHED]:,} published" in Reader(page(report)).text()
    *_, summary = lines(report)
    assert isinstance(summary, ReportSummary)
    assert summary.published == 0


def test_who_has_relayed_nothing_is_told_what_to_do(bare_cli: Cli) -> None:
    done = bare_cli.run("report", "--table", "orders")
    clear_error(done, 2, 'consumer "default" has relayed nothing yet on table "orders"')
    assert "ddbrelay tail --forward" in done.stderr
    assert not state_file(bare_cli).exists()


def test_a_consumer_that_has_begun_and_settled_nothing_has_no_report(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "state.db")) as database:
        asyncio.run(SqliteStore(database, "default", ARNS[0]).begin([Position("s")]))
    assert numbers(tmp_path / "state.db", NOW).empty


def test_the_command_writes_a_file_prints_the_page_and_prints_the_numbers(bare_cli: Cli) -> None:
    report_day.write(state_file(bare_cli), time.time(), every=20)
    done = bare_cli.ok("report", "--table", "orders", "--bus", "orders-bus")
    file = bare_cli.directory / "ddbrelay-report.html"
    written = file.read_text("utf-8")
    assert done.stdout == ""
    assert re.fullmatch(
        r"[\d,]+ events published, .* in 1 gap: ddbrelay-report.html\n", done.stderr
    )
    assert Reader(written).of("svg")
    file.unlink()
    printed = bare_cli.ok("report", "-q", "--since", "3h", "--out", "-")
    assert printed.stderr == ""
    assert Reader(printed.stdout).of("svg")
    *_, summary = bare_cli.json("report", "--out", "kept.html")
    assert summary["table"] == "orders"
    assert sorted(one.name for one in bare_cli.directory.glob("*.html")) == ["kept.html"]
    clear_error(bare_cli.run("report", "--out", "no/such.html"), 2, "cannot write no/such.html")
    half = bare_cli.run("report", "--out", "no/such.html", "--output", "json")
    clear_error(half, 2, "cannot write no/such.html")
    assert half.stdout == ""
    clear_error(bare_cli.run("report", "--table", "users"), 2, 'has no ledger on table "users"')


def test_a_time_that_is_none_is_told(bare_cli: Cli) -> None:
    clear_error(bare_cli.run("report", "--since", "soon"), 2, "--since: 'soon' is neither")
