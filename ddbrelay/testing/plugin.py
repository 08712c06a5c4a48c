"""The pytest plugin: what a table's writes come out as, behind the bus, in a test of one's own.

    def test_a_new_user_is_announced(relay, events):
        relay(table="users")
        create_user(name="Kaylee")                  # the code under test, with plain boto3
        event = events.expect({"detail-type": ["UserCreated"]})
        assert event["detail"]["name"] == "Kaylee"

Where there is no code to test yet, what `relay` returns writes itself, plain values to its table:

        users = relay(table="users")
        users.put({"id": "u1", "name": "Kaylee"})
        users.update({"id": "u1"}, {"name": "Kaylee Frye"})
        users.delete({"id": "u1"})

It needs `pip install "ddbrelay[local]"`, and neither an account nor Docker. pytest loads it by
itself; `-p no:ddbrelay` leaves it out. `ddbrelay_engine = ministack` in the configuration of pytest
chooses the other embedded AWS. Nothing heavy is imported before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ddbrelay.testing.embedded import EmbeddedAws
    from ddbrelay.testing.factory import Relays
    from ddbrelay.testing.received import Events
    from ddbrelay.testing.server import SimulatorProcess


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one setting, in `pytest.ini` and its like."""
    parser.addini(
        "ddbrelay_engine",
        "the embedded AWS behind the fixtures of ddbrelay: moto (the default) or ministack",
        default="moto",
    )


@pytest.fixture(scope="session")
def ddbrelay_local(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedAws]:
    """An embedded AWS on a free port of 127.0.0.1: one for the session, or for each xdist worker.

    `url`, `client("dynamodb")`, `resource("dynamodb")`, `environment` for processes, and
    `patch(monkeypatch)` for the code of this one. It stays as it is between tests: `reset()`
    empties it.
    """
    from ddbrelay.errors import ConfigError
    from ddbrelay.testing.embedded import EmbeddedAws

    engine = str(pytestconfig.getini("ddbrelay_engine"))
    refused = ""
    with ExitStack() as stack:
        try:
            local = EmbeddedAws(engine, tmp_path_factory.mktemp("ddbrelay"))
            stack.enter_context(local)
        except ConfigError as error:
            refused = f"{error.message}\n  hint: {error.hint}" if error.hint else error.message
        if refused:
            pytest.fail(refused, pytrace=False)
        yield local


@pytest.fixture
def relay(
    ddbrelay_local: EmbeddedAws,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Relays]:
    """A function that starts the relay on a table and a bus: `relay(table="users")`.

    What it returns writes to the table (`put`, `update`, `delete`, `get`) and says what became of
    it (`settle`, `dead_letters`). While the test runs, the AWS code of this process finds the
    embedded AWS, and nothing else.
    """
    from ddbrelay.testing.factory import Relays

    with pytest.MonkeyPatch.context() as patch:
        ddbrelay_local.patch(patch)
        folder = tmp_path_factory.mktemp("relay")
        relays = Relays(ddbrelay_local, request.config.rootpath, request.path.parent, folder)
        try:
            yield relays
        finally:
            relays.close()


@pytest.fixture
def events(relay: Relays) -> Events:
    """What came out behind the buses of the test's relays: `events.expect(pattern)`."""
    from ddbrelay.testing.factory import Relays
    from ddbrelay.testing.received import Events

    if not isinstance(relay, Relays):
        pytest.fail("the fixture relay is one of your own: events needs that of ddbrelay")
    return Events(relay)


@pytest.fixture
def stream_simulator() -> Iterator[SimulatorProcess]:
    """DynamoDB Streams and EventBridge with the faults of the real ones, at `url`.

    Splits, expired iterators, trimmed records, throttles, cut connections, entries that fail: the
    methods of `ddbrelay.testing.Controls`.
    """
    from ddbrelay.testing.server import SimulatorProcess

    with SimulatorProcess() as simulator:
        yield simulator
