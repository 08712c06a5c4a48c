"""`python -m tests.benchmarks.mapping`: what mapping costs for each record, in microseconds.

The records are those of the other benchmarks. The best of several rounds is shown, since the rest
of it is the machine's, and beside it the ratio to the default mapping in the same run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ddbrelay.flow.capture import Record
from ddbrelay.flow.change import Change, Origin, decode_record
from ddbrelay.flow.mapping import CrudMapper, MapFunction
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.flow.mapping.rules import RuleMapper, compile_rules

from . import work

_RULES = 20
_DETAIL = "{id: keys.id, at: time, email: new.email, city: new.address.city, changed: changed}"


def rules() -> list[dict[str, Any]]:
    """Twenty rules with patterns, of which the last one takes what the others left."""
    made: list[dict[str, Any]] = [
        {
            "name": f"rule-{number}",
            "when": {
                "eventName": ["INSERT", "MODIFY"],
                "new": {
                    "username": [{"prefix": f"nobody-{number:02}"}],
                    "age": [{"numeric": [">", 18, "<=", 90]}],
                },
            },
            "detail_type": f"Never{number}",
        }
        for number in range(_RULES - 1)
    ]
    last = {"name": "all", "when": {"eventName": [{"anything-but": ["NEVER"]}]}}
    return [*made, last | {"detail_type": "UserChanged", "detail": _DETAIL}]


def mappers() -> dict[str, MapFunction]:
    """What is measured, by name; the default mapping comes first."""
    defaults, crud = Defaults(work.TABLE), CrudMapper(work.TABLE)

    def ruled(*specs: dict[str, Any]) -> MapFunction:
        return RuleMapper(compile_rules(specs, defaults, crud), defaults)

    return {
        "default mapping": crud,
        "20 rules, one JMESPath detail": ruled(*rules()),
        "one rule on eventName skips": ruled(
            {"when": {"eventName": ["INSERT", "MODIFY", "REMOVE"]}, "skip": True}
        ),
        "one rule on a key skips": ruled(
            {"when": {"keys": {"id": [{"prefix": "user-"}]}}, "skip": True}
        ),
        "one rule on an attribute": ruled(
            {"when": {"new": {"age": [{"numeric": [">", 50]}]}}, "detail_type": "Old"}
        ),
    }


def records(kilobytes: float) -> Sequence[Record]:
    """A page of them."""
    template = work.make(kilobytes).templates[0]
    return [decode_record(text) for text in template.records]


def microseconds(mapper: MapFunction, page: Sequence[Record], rounds: int) -> float:
    """CPU time for one record, its `Change` included: the best of so many rounds."""
    origin, best = Origin(work.TABLE, work.STREAM_ARN), float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for record in page:
            mapper(Change(record, "shard", origin))
        best = min(best, time.process_time() - began)
    return best / len(page) * 1e6


@click.command()
@click.option("--items", default=0.3, show_default=True, help="size of an item in KB")
@click.option("--rounds", default=60, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="also write this file")
def main(items: float, rounds: int, json_file: Path | None) -> None:
    """Measure each mapping on the same records."""
    page = records(items)
    found = {name: microseconds(mapper, page, rounds) for name, mapper in mappers().items()}
    base = next(iter(found.values()))
    click.echo(f"{'':32}{'µs a record':>12}{'ratio':>8}")
    for name, took in found.items():
        click.echo(f"{name:32}{took:>12.2f}{took / base:>8.2f}")
    if json_file is not None:
        json_file.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
