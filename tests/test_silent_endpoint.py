"""An endpoint that takes connections and never answers: a word soon, and an end in time."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator

import pytest
from conftest import Cli
from pipeline import clear_error
from wire import KEY, SECRET, remote

import ddbrelay.aws.session
from ddbrelay.errors import AwsRefused


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "words",
    [
        ("tail",),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ("tail", "--forward", "--until-idle", "1s"),
                ("replay", "--since", "1h"),
                ("schema",),
                ("listen",),
                ("listen", "--queue", "letters"),
                ("listen", "--expect", "1"),
            )
        ),
    ],
)
def test_the_time_out_bounds_the_start_too(
    bare_cli: Cli, silent: str, words: tuple[str, ...]
) -> None:
    bare_cli.environment |= {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }
    began, attempts = time.monotonic(), 4
    done = bare_cli.run(*words, "--table", "users", "--endpoint-url", silent, "--timeout", "300ms")
    clear_error(done, 6, "--timeout is 0.3 s", "--endpoint-url")
    assert time.monotonic() - began < attempts * ddbrelay.aws.session._PATIENCE


def test_a_call_without_an_answer_is_said_to_go_on_and_ends(
    silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(ddbrelay.aws.session, "_PATIENCE", 0.1)
    monkeypatch.setattr(ddbrelay.aws.session, "_SILENT", 0.05)
    from ddbrelay.aws.table import stream_of

    with caplog.at_level(logging.WARNING, "ddbrelay"), pytest.raises(AwsRefused) as refused:
        stream_of(remote(silent), "users")
    assert "no answer from AWS" in refused.value.message
    host = silent.removeprefix("http://")
    assert {record.getMessage() for record in caplog.records} == {
        f"still waiting for DescribeTable at {host}"
    }


def test_the_first_word_comes_within_ten_seconds_and_the_end_within_a_minute() -> None:
    attempts, pauses = 4, 1 + 2 + 4
    patience = ddbrelay.aws.session._PATIENCE
    assert patience > ddbrelay.aws.session._SILENT
    assert patience + 1 < 10
    assert attempts * patience + pauses < 45
