"""What AWS may say in the middle of a run, and what becomes of the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Cli
from gateway import Gateway, gateway_to
from pipeline import Pipeline, checkpoint, clear_error, running, seen_keys

from ddbrelay.aws.session import Aws
from ddbrelay.local import engine as engines

Waiter = Callable[[Callable[[], bool], float], None]
# What the gateway answers is the same before either engine.
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("shared_engine", ["moto"], indirect=True)]
FORWARD = ("tail", "--forward", "--until-idle", "0")


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    pipe = Pipeline(aws, name)
    pipe.put("a")
    return pipe


@pytest.fixture
def gateway(engine: engines.Engine, cli: Cli) -> Iterator[Gateway]:
    with gateway_to(engine) as gateway:
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        yield gateway


@pytest.mark.parametrize(
    ("operation", "code", "says"),
    [
        ("DescribeStream", "UnrecognizedClientException", "AWS refused the credentials"),
        ("GetRecords", "AccessDeniedException", "not allowed to read the stream"),
        ("PutEvents", "UnrecognizedClientException", "AWS refused the credentials"),
        ("PutEvents", "AccessDeniedException", "not allowed to publish to bus"),
    ],
)
def test_a_refusal_ends_the_run_and_moves_no_checkpoint(
    cli: Cli, pipe: Pipeline, gateway: Gateway, operation: str, code: str, says: str
) -> None:
    gateway.answers[operation] = (400, code)
    clear_error(cli.run(*FORWARD), 5, says, f"the gateway says {code}", "--profile")
    assert gateway.calls[operation] == 1
    assert checkpoint(cli) is None
    assert pipe.received() == []


def test_after_a_refusal_the_next_run_sends_what_was_refused(
    cli: Cli, pipe: Pipeline, gateway: Gateway
) -> None:
    gateway.answers["PutEvents"] = (400, "AccessDeniedException")
    clear_error(cli.run(*FORWARD), 5, "not allowed to publish")
    gateway.answers.clear()
    assert seen_keys(cli.json(*FORWARD)) == ["a"]


@pytest.mark.parametrize("answer", [(500, "InternalFailure"), (400, "ThrottlingException")])
def test_a_bus_that_fails_for_ever_is_tried_until_the_timeout(
    cli: Cli, pipe: Pipeline, gateway: Gateway, answer: tuple[int, str]
) -> None:
    gateway.answers["PutEvents"] = answer
    done = cli.run("tail", "--forward", "--max-records", "1", "--timeout", "2s", "--grace", "0")
    clear_error(done, 6, "error: the time-out came before the end that was asked for")
    assert f"the bus did not take an event, trying again: {answer[1]}" in done.stderr
    assert "1 event was not acknowledged in time" in done.stderr
    assert (done.stdout, checkpoint(cli), pipe.received()) == ("", None, [])
    assert gateway.calls["PutEvents"] >= 3


@pytest.mark.parametrize("operation", ["DescribeStream", "GetShardIterator", "GetRecords"])
def test_a_stream_that_fails_for_a_while_is_tried_until_it_answers(
    cli: Cli, pipe: Pipeline, gateway: Gateway, wait_until: Waiter, operation: str
) -> None:
    gateway.answers[operation] = (500, "InternalServerError")
    with running(cli, "tail", "--forward", "--max-records", "1") as tail:
        wait_until(lambda: gateway.calls[operation] >= 3, 30)
        gateway.answers.clear()
        code, words = tail.wait(30)
    assert code == 0
    assert "trying again: InternalServerError" in words
    assert len(pipe.received()) == 1


def test_an_iterator_that_is_never_taken_is_not_asked_for_without_pause(
    cli: Cli, pipe: Pipeline, gateway: Gateway
) -> None:
    gateway.answers["GetRecords"] = (400, "ExpiredIteratorException")
    cli.ok("tail", "--timeout", "2s")
    assert 2 <= gateway.calls["GetRecords"] <= 20


def test_a_bus_that_goes_away_pauses_the_run_until_it_is_there_again(
    cli: Cli, pipe: Pipeline, gateway: Gateway, wait_until: Waiter
) -> None:
    gateway.answers["PutEvents"] = (400, "ResourceNotFoundException")
    with running(cli, "tail", "--forward", "--max-records", "1") as tail:
        wait_until(lambda: gateway.calls["PutEvents"] >= 2, 30)
        gateway.answers.clear()
        code, words = tail.wait(30)
    assert code == 0
    gone = f'bus "{pipe.bus}" does not exist: nothing is sent until it takes events again'
    assert words.count(gone) == 1
    assert "the bus takes events again" in words
    assert len(pipe.received()) == 1


def test_a_bus_that_does_not_come_back_in_time_is_a_refusal_and_parks_nothing(
    cli: Cli, pipe: Pipeline, gateway: Gateway
) -> None:
    gateway.answers["PutEvents"] = (400, "ResourceNotFoundException")
    done = cli.run(*FORWARD, "--timeout", "2s")
    clear_error(done, 5, f'error: bus "{pipe.bus}" does not exist', "provision")
    assert (done.stdout, checkpoint(cli), pipe.received()) == ("", None, [])


def test_a_bus_that_may_not_be_described_is_believed(
    cli: Cli, pipe: Pipeline, gateway: Gateway
) -> None:
    gateway.answers["DescribeEventBus"] = (400, "AccessDeniedException")
    assert cli.json(*FORWARD)[-1]["published"] == 1


def test_an_entry_that_is_never_valid_is_parked(cli: Cli, pipe: Pipeline, gateway: Gateway) -> None:
    gateway.answers["PutEvents"] = (400, "ValidationException")
    done = cli.run(*FORWARD)
    clear_error(done, 3, "1 record is parked as a dead letter")
    assert "parked (ValidationException: the gateway says ValidationException)" in done.stdout
