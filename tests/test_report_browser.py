"""The report in a browser, on a phone and on a desk, by day and by night."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import chromium, console, processes, requests, show
from test_report import NOW, report_of

from ddbrelay.report.page import page

pytestmark = pytest.mark.slow

_BEYOND = """
const inBox = (one) => one.closest('.scroll') && !one.matches('.scroll');
return [...document.body.querySelectorAll('*')]
  .filter((one) => !inBox(one) && !one.closest('thead') && one.checkVisibility())
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.outerHTML.slice(0, 120));
"""
_MARKS = """
return [...document.querySelectorAll('svg')].map((svg) => {
  const seen = [...svg.querySelectorAll('.fill, .line, .cell')].filter((one) => {
    const box = one.getBoundingClientRect();
    const style = getComputedStyle(one);
    return box.width > 1 && box.height > 0
      && (style.fill !== 'none' || style.stroke !== 'none');
  });
  return [svg.id, seen.length, svg.getBoundingClientRect().height];
});
"""
_COLOURS = """
const style = getComputedStyle(document.body);
return [style.backgroundColor, style.color];
"""
_POINT = """
const hit = document.querySelectorAll('#events .hit')[5];
const box = hit.getBoundingClientRect();
hit.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right, clientY: box.top}));
const tip = document.getElementById('tip');
return [tip.hidden, tip.firstChild.textContent, tip.getBoundingClientRect().right <= innerWidth];
"""


def test_it_is_readable_everywhere_and_asks_for_nothing(tmp_path: Path) -> None:
    file, folder = tmp_path / "report.html", tmp_path / "profile"
    file.write_text(page(report_of(tmp_path / "state.db", NOW)), encoding="utf-8")
    colours: dict[bool, Any] = {}
    with chromium(folder) as browser:
        for width, dark in ((360, True), (360, False), (1280, False), (1280, True)):
            show(browser, file, width=width, dark=dark)
            run = browser.execute_script
            assert run("return document.documentElement.scrollWidth <= innerWidth"), width
            assert run("return innerWidth") == width
            assert run(_BEYOND) == []
            marks = {id: (seen, height) for id, seen, height in run(_MARKS)}
            assert marks.keys() == {"uptime", "events", "lag", "held-back"}
            assert all(seen and height > 30 for seen, height in marks.values()), marks
            assert marks["events"][0] == 9
            colours.setdefault(dark, run(_COLOURS))
            assert run(_COLOURS) == colours[dark]
            hidden, said, inside = run(_POINT)
            assert not hidden
            assert inside
            assert " to " in said
        assert colours[True] != colours[False]
        entry = browser.find_elements("css selector", "#events-legend li")[1]
        entry.click()
        lit = "return document.querySelectorAll('.chart.lit .fill.on').length"
        assert browser.execute_script(lit) == 1
        entry.send_keys(" ")
        assert browser.execute_script(lit) == 0
        assert console(browser) == []
        asked = set(requests(browser))
        assert asked <= {file.as_uri(), "data:,"}, asked
        assert file.as_uri() in asked
    assert processes(folder) == []
