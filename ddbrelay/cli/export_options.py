"""The options of `ddbrelay export`, by what they are about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ddbrelay.cli.options import setting_options
from ddbrelay.errors import ConfigError
from ddbrelay.export.choices import (
    ARCHITECTURES,
    DEFAULT_LIMIT,
    MAX_LIMIT,
    NO_LIMIT,
    RUNTIMES,
    Choices,
)

_Function = Callable[..., Any]


class Seconds(click.ParamType[int]):
    """Whole seconds between two bounds, from `90`, `15m` or `4h`; -1 where that is no limit."""

    name = "duration"

    def __init__(self, low: int, high: int, *, unlimited: bool = False) -> None:
        self._low, self._high, self._unlimited = low, high, unlimited

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ddbrelay.values import parse_duration

        if self._unlimited and str(value).strip() == str(NO_LIMIT):
            return NO_LIMIT
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds != int(seconds) or not self._low <= seconds <= self._high:
            also = ", or -1 for no limit" if self._unlimited else ""
            self.fail(
                f"{value} is not between {self._low} s and {self._high} s, in whole seconds{also}",
                param,
                ctx,
            )
        return int(seconds)


class Folder(click.Path):
    """A folder to write to. An empty text is none: it would be this one."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty text names no folder (. is this one)", param, ctx)
        return super().convert(value, param, ctx)


def _together(*options: _Function) -> Callable[[_Function], _Function]:
    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


folder_options = _together(
    click.option(
        "--dir",
        "folder",
        metavar="DIR",
        type=Folder(),
        help="where to write (default: ddbrelay-FORMAT)",
    ),
    click.option("--force", is_flag=True, help="replace files that differ"),
)
stdout_option = click.option("--stdout", is_flag=True, help="print the template and write nothing")


def _refuse_stdout(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        raise ConfigError(
            f"export {ctx.info_name} writes several files, which cannot go to stdout",
            "--dir DIR says where they go; export sam has one template, and --stdout",
        )


no_stdout_option = click.option(
    "--stdout", is_flag=True, hidden=True, expose_value=False, callback=_refuse_stdout
)
source_options = _together(
    click.option("--stream-arn", metavar="ARN", help="read this stream, make no table"),
    click.option(
        "--existing-table",
        is_flag=True,
        help="the table is there: ask AWS for its stream, make no table",
    ),
    click.option(
        "--existing-bus",
        is_flag=True,
        help="the bus is there, and those that rules name: make none",
    ),
    click.option(
        "--key", metavar="NAME[:S|N|B]", help="partition key of the table (default: id:S)"
    ),
    click.option("--sort-key", metavar="NAME[:S|N|B]", help="sort key of the table"),
    click.option(
        "--attribute",
        "attributes",
        multiple=True,
        metavar="NAME:TYPE",
        help="DynamoDB type of an attribute, such as email:S or address.city:S, again and again: "
        "filters are tighter for it, and pipes can hand it on",
    ),
)
reading_options = _together(
    click.option(
        "--batch-size",
        type=click.IntRange(1, 10000),
        default=Choices.batch_size,
        metavar="N",
        show_default=True,
        help="records in a batch, at most; a larger one makes fewer calls",
    ),
    click.option(
        "--window",
        type=Seconds(0, 300),
        default=f"{Choices.window}s",
        metavar="DURATION",
        show_default=True,
        help="how long records may wait for a batch to fill; an event is that much later",
    ),
    click.option(
        "--parallelization",
        type=click.IntRange(1, 10),
        default=Choices.parallelization,
        metavar="N",
        show_default=True,
        help="batches of one shard at the same time; changes of an item stay in order, those of an "
        "outbox's aggregate do not: 1 for the preset outbox",
    ),
    click.option(
        "--max-age",
        type=Seconds(60, 7 * 86400, unlimited=True),
        default="23h",
        metavar="DURATION",
        show_default=True,
        help="give up on a record after this time and report its batch to the queue of failures; "
        "a stream keeps it for 24 h. -1: never",
    ),
    click.option(
        "--retries",
        type=click.IntRange(NO_LIMIT, 10000),
        default=Choices.retries,
        metavar="N",
        show_default=True,
        help="give up on a batch after this many retries. -1: never, an outbox must not lose",
    ),
    click.option(
        "--alarm-age",
        type=Seconds(60, 86400),
        default="15m",
        metavar="DURATION",
        show_default=True,
        help="alarm when records wait for longer than this",
    ),
    click.option("--alarm-topic", metavar="ARN", help="SNS topic that hears of the alarms"),
)
function_options = _together(
    click.option(
        "--runtime",
        type=click.Choice(RUNTIMES),
        default=Choices.runtime,
        metavar="PYTHON",
        show_default=True,
        help=f"runtime of the function: {', '.join(RUNTIMES)}",
    ),
    click.option(
        "--architecture",
        type=click.Choice(ARCHITECTURES),
        default=Choices.architecture,
        metavar="|".join(ARCHITECTURES),
        show_default=True,
        help="processor of the function",
    ),
    click.option(
        "--memory",
        type=click.IntRange(128, 10240),
        default=Choices.memory,
        metavar="MB",
        show_default=True,
        help="memory of the function",
    ),
    click.option(
        "--timeout",
        type=Seconds(5, 900),
        default=f"{Choices.timeout}s",
        metavar="DURATION",
        show_default=True,
        help="longest time for a batch",
    ),
    click.option(
        "--filters",
        "filter_limit",
        type=click.IntRange(0, MAX_LIMIT),
        default=DEFAULT_LIMIT,
        metavar="N",
        show_default=True,
        help="filters made from the rules, at most; over 5 takes a raised quota, 0 is no filter",
    ),
)
mapping_options = setting_options("entity", "source", "preset", "mapper", "claim_check")
