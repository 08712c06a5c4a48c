"""The words of a project: comments at the top of its files, and its README."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence

from ddbrelay import __version__
from ddbrelay.export.choices import NO_LIMIT
from ddbrelay.export.model import Project

_WIDTH = 98


def comment(lines: Iterable[str]) -> str:
    """The lines as comments, wrapped."""
    found = [
        textwrap.fill(
            line, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False
        )
        if line
        else "#"
        for line in lines
    ]
    return "\n".join(found) + "\n"


def heading(project: Project, what: str) -> str:
    """The comment at the top of a template, with what its filters leave out."""
    lines = [what, f"Written by ddbrelay {__version__} for the table {project.table}."]
    if project.choices.filtered and project.filters.notes:
        lines += ["", "About the filters, which let through what a rule may be for:"]
        lines += [f"- {note}" for note in project.filters.notes]
    return comment(lines)


def readme(
    project: Project,
    title: str,
    *,
    deploy: Sequence[str],
    remove: Sequence[str],
    local: str,
    before: str = "",
    also: Sequence[str] = (),
) -> str:
    """How a project with a function is deployed, watched and paid for.

    `local` is how a ddbrelay goes into the function that is not on PyPI.
    """
    parts = [
        f"# {title}: {project.table}",
        _what(project),
        *([before] if before else []),
        "## Deploy",
        block(deploy),
        *also,
        f"The function gets ddbrelay {__version__} from PyPI (`function/requirements.txt`). "
        + local,
        "## Try it",
        trial(project),
        "## Watch",
        _watch(project),
        "## What it costs",
        _costs(),
        "## Settings that matter",
        _settings(project),
        "## Remove",
        block(remove),
        _kept(project),
    ]
    return "\n\n".join(parts) + "\n"


def _what(project: Project) -> str:
    table = "the stream of your table" if project.stream_arn else "a table with its stream"
    bus = "a bus" if project.create_bus else f"the bus {project.bus}"
    others = project.new_buses
    also = f" The buses that rules name ({', '.join(others)}) are made too." if others else ""
    return (
        f"This project deploys {table}, a function that turns each change into an event by the "
        f"rules in `function/ddbrelay.toml`, {bus} for the events, and a rule with a queue behind "
        f"it for their consumer.{also} The function is `ddbrelay.aws_lambda.handler`; the same "
        "file gives the same events with `ddbrelay tail --forward`."
    )


def _watch(project: Project) -> str:
    whole = "a record that no rule can handle, whole; or "
    letters = ""
    if project.letters is not None:
        whole = ""
        letters = (
            f"- A record that no rule can handle goes to your queue `{project.letters}`, which has "
            "no alarm here.\n"
        )
    return (
        "- The alarm on the age of the records rises after "
        f"{duration(project.choices.alarm_age)}: the function is too "
        "slow, or something outside refuses. A stream keeps a record for 24 hours.\n"
        f"- The alarm on `{project.failed}` rises as soon as something is in it: {whole}where "
        "Lambda gave up on a batch, the range of its sequence numbers.\n"
        f"{letters}"
        f"- The alarm on `{project.queue_dead}` rises when the consumer failed on a message five "
        "times.\n"
        "- The alarm on errors rises when the function itself fails.\n\n"
        + block([f"aws logs tail /aws/lambda/{project.function} --follow"])
    )


def _costs() -> str:
    return (
        "Lambda reads the stream free of charge. You pay for the events ($1.00 a million, each "
        "64 KB begun counts as one), for the invocations ($0.20 a million, one for each batch) and "
        "their time, for the table and for the messages in the queues. Alarms are $0.10 each a "
        "month. Prices are those of us-east-1; "
        "https://aws.amazon.com/lambda/pricing/ and https://aws.amazon.com/eventbridge/pricing/ "
        "have the others."
    )


def _settings(project: Project) -> str:
    choices = project.choices
    retries = "until it expires" if choices.retries == NO_LIMIT else f"{choices.retries} times"
    age = (
        "A record is tried for as long as the stream has it, and then it is gone."
        if choices.max_age == NO_LIMIT
        else f"A record is tried for {duration(choices.max_age)}, and then its batch goes to "
        f"`{project.failed}`."
    )
    lanes = choices.parallelization
    at_once = "one batch" if lanes == 1 else f"{lanes} batches"
    return (
        f"- Batches of up to {choices.batch_size} records, gathered for up to {choices.window} s, "
        f"{at_once} at a time for each shard. Changes of one item stay in order.\n"
        f"- A batch that fails is tried again {retries}, halved, from the first record that is not "
        f"settled. {age}\n"
        "- Never more than two readers for one stream: this function is one of them.\n"
        "- Reading starts at the oldest record that the stream still has (TRIM_HORIZON)."
    )


def bundled() -> str:
    """For the projects that have a `bundle.py`."""
    return (
        "Where that version is not there, or another one is meant, give a wheel or a checkout of "
        "it:\n\n" + block(["python3 bundle.py --from ../ddbrelay"]) + "\n\n"
        "The variable `DDBRELAY_PACKAGE` says the same."
    )


def duration(seconds: int) -> str:
    """`23 h`, `15 min` or `90 s`, whichever is exact."""
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _kept(project: Project) -> str:
    if project.stream_arn:
        return "Your table is not touched."
    return f"The table {project.table} stays, with its data: delete it by hand if you mean it."


def _write(project: Project, item: str) -> str:
    return f"aws dynamodb put-item --table-name {project.table} --item {shlex.quote(item)}"


def _receive(project: Project) -> str:
    return (
        "aws sqs receive-message --wait-time-seconds 20 --queue-url "
        f'"$(aws sqs get-queue-url --queue-name {project.queue} --query QueueUrl --output text)"'
    )


def trial(project: Project) -> str:
    """Write an item, and see the event of it."""
    sample = project.sample
    if not sample.heard:
        return sample.words
    write = [] if sample.item is None else [_write(project, sample.item)]
    return f"{sample.words}\n\n{block([*write, _receive(project)])}"


def block(lines: Sequence[str]) -> str:
    """Commands, as Markdown."""
    return "```sh\n" + "\n".join(lines) + "\n```"
