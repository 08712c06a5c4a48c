"""Words that cannot be written end nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("local", "status"), 5),
        (("config", "show"), 0),
        (("tail",), 2),
        (("no-such-command",), 2),
        ((), 2),
    ],
)
def test_words_on_a_full_disk_change_no_exit_code(
    tmp_path: Path, form: str, words: tuple[str, ...], code: int
) -> None:
    environment = os.environ | {
        "DDBRELAY_STATE_DIR": str(tmp_path),
        "DDBRELAY_LOG_FORMAT": form,
        "DDBRELAY_STRANGE": "a warning of the log",
        "AWS_REGION": "us-east-1",
    }
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ddbrelay", *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=60,
            check=False,
        )
    assert done.returncode == code
