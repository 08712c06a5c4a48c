"""What GitHub Actions shows of a run: annotations of the file's lines, and the job's summary.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ddbrelay.scenario.model import Spot
from ddbrelay.scenario.results import Outcome

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = _DATA | {":": "%3A", ",": "%2C"}


def is_running(environ: Mapping[str, str]) -> bool:
    """Whether a workflow of GitHub Actions runs this."""
    return environ.get("GITHUB_ACTIONS") == "true"


def annotate(outcome: Outcome, environ: Mapping[str, str]) -> Iterator[str]:
    """A workflow command for each thing that is wrong; the runner reads them off either stream."""
    scenario = outcome.scenario
    root = environ.get("GITHUB_WORKSPACE")
    if outcome.error is not None and outcome.interrupted_step is None:
        yield _error(
            outcome.spot or Spot(scenario.file, 1, 1), root, scenario.name, [outcome.error]
        )
    failed = outcome.failed_step
    if failed is not None:
        lines = [f"{failed.step.title}: {failed.error}", *failed.lines]
        yield _error(failed.step.spot, root, scenario.name, lines)
    for verdict in outcome.failures:
        lines = [f"{verdict.about.title} {verdict.what}", *verdict.lines]
        yield _error(verdict.about.spot, root, scenario.name, lines)


def _error(spot: Spot, root: str | None, title: str, lines: Sequence[str]) -> str:
    file = spot.file.resolve()
    # GitHub finds the line only by a path within the repository.
    if root and file.is_relative_to(root):
        file = file.relative_to(root)
    properties = {"file": str(file), "line": spot.line, "col": spot.column, "title": title}
    said = ",".join(f"{name}={_escape(str(one), _PROPERTY)}" for name, one in properties.items())
    message = "\n".join(lines)
    return f"::error {said}::{_escape(message, _DATA)}"


def _escape(text: str, characters: Mapping[str, str]) -> str:
    return "".join(characters.get(one, one) for one in text)


def append_summary(outcomes: Sequence[Outcome], environ: Mapping[str, str]) -> None:
    """Add to the file that GITHUB_STEP_SUMMARY names, if it names one; OSError as `open` has it."""
    if file := environ.get("GITHUB_STEP_SUMMARY"):
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(markdown(outcomes))


def markdown(outcomes: Sequence[Outcome]) -> str:
    """A heading, a row for each step and expectation, and what is wrong in full."""
    lines: list[str] = []
    for outcome in outcomes:
        scenario = outcome.scenario
        wrong = outcome.begun or outcome.error is not None
        mark = "✅" if outcome.met else "❌" if wrong else "⏭️"
        lines += [f"### {mark} {_inline(scenario.name)}", ""]
        lines += [f"`{scenario.file}` · {_state(outcome)}", ""]
        rows = [
            *(("❌" if one.error else "✔️", one.step.title, one.seconds) for one in outcome.steps),
            *(
                ("❌" if one.reason else "✅", one.about.title, one.seconds)
                for one in outcome.verdicts
            ),
        ]
        if rows:
            lines += ["| | | seconds |", "|---|---|--:|"]
            lines += [f"| {sign} | {_inline(name)} | {at:.1f} |" for sign, name, at in rows]
            lines.append("")
        details = list(_wrong(outcome))
        if details:
            fence = "`" * (max(3, _longest_run(details) + 1))
            lines += [f"{fence}text", *details, fence, ""]
    return "\n".join(lines)


def _state(outcome: Outcome) -> str:
    if not outcome.begun:
        return "not run"
    return f"{'met' if outcome.met else 'not met'} in {outcome.seconds:.1f} s"


def _wrong(outcome: Outcome) -> Iterator[str]:
    if outcome.placed_error is not None:
        yield outcome.placed_error
    if (failed := outcome.failed_step) is not None:
        yield f"{failed.step.spot}: {failed.step.title} {failed.error}"
        yield from (f"  {one}" for one in failed.lines)
    for verdict in outcome.failures:
        yield f"{verdict.about.spot}: {verdict.about.title} {verdict.what}"
        yield from (f"  {line}" for line in verdict.lines)
    yield from (f"relay: {words}" for words in outcome.words)


def _inline(text: str) -> str:
    """A text that Markdown leaves as it is, within a cell of a table too."""
    escaped = "".join(f"\\{one}" if one in "\\`*_{}[]<>#|~" else one for one in text)
    return " ".join(escaped.split())


def _longest_run(lines: Sequence[str]) -> int:
    longest = run = 0
    for one in "\n".join(lines):
        run = run + 1 if one == "`" else 0
        longest = max(longest, run)
    return longest
