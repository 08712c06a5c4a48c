"""A headless Chromium of the system, which asks the network for nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """The browser with a profile in this folder; all of its processes are gone afterwards.

    The test is skipped where Chromium or its driver is missing, and fails in CI.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs chromium and chromedriver, yet they were not found")
        pytest.skip("chromium and chromedriver are not installed")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the path of the driver Selenium looks for none, and downloads none.
    browser = Chrome(options=options, service=Service(driver))
    try:
        # What the browser's own first page did is of no interest.
        browser.get("about:blank")
        console(browser)
        requests(browser)
        yield browser
    finally:
        browser.quit()


def show(browser: Chrome, page: Path, *, width: int, dark: bool) -> None:
    """Open a page in a window of this width that prefers dark colours or light ones."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(page.as_uri())


def console(browser: Chrome) -> list[str]:
    """What was written to the console since the last time."""
    return [str(entry["message"]) for entry in browser.get_log("browser")]


def requests(browser: Chrome) -> list[str]:
    """The addresses that pages asked for since the last time."""
    entries: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    return [
        entry["params"]["request"]["url"]
        for entry in entries
        if entry["method"] == "Network.requestWillBeSent"
    ]


def processes(folder: Path) -> list[str]:
    """The command lines of the processes that run on a profile."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_text(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words.replace("\0", " "))
    return found
