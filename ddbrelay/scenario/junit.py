"""The report that CI systems read.

The form is the one that Jenkins, GitLab and the actions for GitHub share:
https://github.com/testmoapp/junitxml and https://docs.gitlab.com/ci/testing/unit_test_reports/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ddbrelay.scenario.model import Expect, Never
from ddbrelay.scenario.results import Done, Outcome, Verdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""https://www.w3.org/TR/xml/#charsets"""


def report(outcomes: Sequence[Outcome], started: str) -> str:
    """One `testsuite` for each scenario, with a `testcase` for each step and expectation.

    What failed has a `failure`, what AWS refused or an interrupt ended an `error`, and what was not
    come to is `skipped`. `started` is the time of the run, ISO 8601.
    """
    root = Element("testsuites", name="ddbrelay expect")
    suites = [_suite(root, outcome, started) for outcome in outcomes]
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    root.set("time", f"{sum(outcome.seconds for outcome in outcomes):.3f}")
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(root: Element, outcome: Outcome, started: str) -> Element:
    scenario = outcome.scenario
    suite = SubElement(root, "testsuite", name=_clean(scenario.name), timestamp=started)
    class_name = _clean(str(scenario.file))

    def case(name: str, seconds: float = 0.0) -> Element:
        return SubElement(
            suite,
            "testcase",
            name=_clean(name),
            classname=class_name,
            file=class_name,
            time=f"{seconds:.3f}",
        )

    for done in outcome.steps:
        _add_step(case(done.step.title, done.seconds), done)
    for verdict in outcome.verdicts:
        _add_verdict(case(verdict.about.title, verdict.seconds), verdict)
    if outcome.error is not None and outcome.interrupted_step is None:
        error = SubElement(case("run"), "error", message=_clean(outcome.error), type="error")
        error.text = _clean(outcome.placed_error or "")
    for name in _not_reached(outcome):
        SubElement(case(name), "skipped")
    if outcome.words:
        SubElement(suite, "system-err").text = _clean("\n".join(outcome.words))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("time", f"{outcome.seconds:.3f}")
    return suite


def _add_step(case: Element, done: Done) -> None:
    if done.error is not None:
        tag = "failure" if done.fault == "failed" else "error"
        wrong = SubElement(case, tag, message=_clean(done.error), type="step")
        place = f"{done.step.spot}: {done.error}"
        wrong.text = _clean("\n".join([place, *done.lines]))


def _add_verdict(case: Element, verdict: Verdict) -> None:
    if verdict.reason is not None:
        failure = SubElement(case, "failure", message=_clean(verdict.what), type=verdict.reason)
        place = f"{verdict.about.spot}: {verdict.what}"
        failure.text = _clean("\n".join([place, *verdict.lines]))


def _not_reached(outcome: Outcome) -> Iterable[str]:
    scenario = outcome.scenario
    done = {one.step.number for one in outcome.steps}
    judged = {one.about.title for one in outcome.verdicts}
    for step in scenario.steps:
        if step.number not in done:
            yield step.title
    abouts: list[Expect | Never] = [*scenario.expects, *scenario.nevers]
    for about in abouts:
        if about.title not in judged:
            yield about.title


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
