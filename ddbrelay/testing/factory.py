"""Starts relays for one test, and takes everything down behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from ddbrelay.aws.session import LOCAL_REGION
from ddbrelay.config import Config, find_file, load
from ddbrelay.config_file import MappingSource
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.infra.listener import Listener
from ddbrelay.infra.plan import Key, Wanted, names_among
from ddbrelay.infra.provision import provision
from ddbrelay.infra.teardown import teardown
from ddbrelay.mappings import buses_of, sources_of, tidying_of
from ddbrelay.testing import arguments
from ddbrelay.testing.relays import RunningRelay

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.testing.embedded import EmbeddedAws

_POLL = 0.02
"""Seconds between two looks at the stream: a test waits for them."""
_GRACE = 1.0


class Relays:
    """Starts relays: `relay(table="users")`.

    `root` is where relative paths begin, `near` the directory from which upwards `ddbrelay.toml` is
    looked for, `folder` a new directory for the state of these relays.
    """

    def __init__(self, local: EmbeddedAws, root: Path, near: Path, folder: Path) -> None:
        self.aws: Aws = local.aws
        self._local, self._root, self._near, self._folder = local, root, near, folder
        self._running: list[RunningRelay] = []
        self._listeners: dict[str, Listener] = {}
        self._undo = ExitStack()

    def __call__(
        self,
        table: str | None = None,
        bus: str | None = None,
        *,
        config: str | PathLike[str] | None = None,
        rules: Sequence[Mapping[str, Any]] | None = None,
        provision: bool = True,
        key: str | None = None,
        sort_key: str | None = None,
        start: Literal["trim-horizon", "latest"] = "trim-horizon",
        allow_parked: bool = False,
        **settings: Any,
    ) -> RunningRelay:
        """Start the relay from a table to a bus; it stops when the test ends.

        The mapping is that of `config` (a relative path begins at pytest's root directory), by
        default of the nearest `ddbrelay.toml` from the directory of the test's module upwards.
        `rules` are `[[rule]]` tables in the place of the file's, `settings` further settings by
        their names in Settings: `entity`, `preset`, `strict`, `redact`, `consumer`, ... The
        environment has no say, nor has the file where the test decides (address, state, port); as
        arguments such settings are refused.

        What is missing of table (`key` is `id:S` unless given, also `sort_key`), stream, bus, rule,
        queue and dead-letter queue is made and removed at the end, unless `provision` is False. A
        table that was there stays, and from the `trim-horizon` all is read that was ever written to
        it. A second relay of a table that runs needs another `consumer`.

        The test fails at its end when records were parked, unless `allow_parked`, or lost.
        """
        __tracebackhide__ = True
        started = None
        try:
            begin = arguments.start_of(start)
            loaded = self._config(table, bus, config, rules, settings)
            self._refuse_second(loaded)
            if provision:
                self._provision(loaded, key, sort_key)
            self._listen(loaded)
            started = RunningRelay(self.aws, loaded, begin, allow_parked=allow_parked)
        except DdbrelayError as error:
            hint = error.hint
            if isinstance(error, AwsRefused) and not provision:
                hint = "relay makes what is missing, unless told provision=False"
            refused = arguments.said(error.message, hint)
        if started is None:
            pytest.fail(refused)
        self._running.append(started)
        if start == "latest":
            # What is written from now on comes behind it.
            started.settle()
        return started

    @property
    def listeners(self) -> Sequence[Listener]:
        """At the queue of each bus."""
        return [*self._listeners.values()]

    def check(self) -> None:
        """Fail the test where a run has failed."""
        __tracebackhide__ = True
        for one in self._running:
            one.check()

    def settle(self) -> None:
        """Wait until every relay has come to the end of its stream."""
        __tracebackhide__ = True
        for one in self._running:
            one.settle()

    def accounts(self) -> list[str]:
        """What became of the records of each relay."""
        return [one.account() for one in self._running]

    def close(self) -> None:
        """Stop them, remove what was made, and fail for parked and lost records."""
        __tracebackhide__ = True
        said: list[str] = []
        with self._undo:
            said += [complaint for one in self._running if (complaint := one.end())]
        if said:
            pytest.fail("\n".join(said), pytrace=False)

    def _config(
        self,
        table: str | None,
        bus: str | None,
        config: str | PathLike[str] | None,
        rules: Sequence[Mapping[str, Any]] | None,
        settings: Mapping[str, Any],
    ) -> Config:
        arguments.check(settings)
        written = None if rules is None else arguments.rules_of(rules)
        file = find_file(self._near) if config is None else self._root / config
        given = {
            "poll_interval": _POLL,
            "idle_interval": _POLL,
            "grace": _GRACE,
            "linger": 0.0,
            **settings,
            "local": True,
            "endpoint_url": self._local.url,
            "region": LOCAL_REGION,
            "state": str(self._folder / "state.db"),
            "config": str(file or self._nothing()),
            "table": table,
            "bus": bus,
        }
        loaded = load(given, {})
        if loaded.settings.table is None:
            raise ConfigError(
                "no table is given", 'relay(table="users"), or source.table in ddbrelay.toml'
            )
        queue = loaded.settings.dead_letter_queue
        if queue is not None and "://" in queue:
            # The file may name that of an account: here it is the one of the same name.
            named = replace(loaded.settings, dead_letter_queue=queue.rpartition("/")[2])
            loaded = replace(loaded, settings=named)
        source = MappingSource() if file is None else loaded.mapping
        if written is not None:
            # Their mistakes have no line in a file; schemas lie where they lie for the file's.
            folder = self._near if file is None else file.parent
            source = replace(source, rules=written, text="", file=folder / "relay(rules=...)")
        return replace(loaded, mapping=source)

    def _refuse_second(self, config: Config) -> None:
        table, consumer = config.settings.table, config.settings.consumer
        for one in self._running:
            if one.running and (one.table.name, one.consumer) == (table, consumer):
                raise ConfigError(
                    f'a relay of {table} runs already, under the name "{consumer}"',
                    "stop() it first, or give this one another name with consumer=",
                )

    def _nothing(self) -> Path:
        empty = self._folder / "ddbrelay.toml"
        empty.touch()
        return empty

    def _provision(self, config: Config, key: str | None, sort_key: str | None) -> None:
        settings = config.settings
        tidying = tidying_of(config)
        wanted = Wanted.from_settings(
            settings,
            key=key,
            sort_key=sort_key,
            other_sources=sources_of(config),
            other_buses=buses_of(config),
            ttl_attribute=None if tidying is None else tidying.attribute,
        )
        wanted = self._as_it_is(wanted, keys_given=key is not None or sort_key is not None)
        done = provision(self.aws, wanted, apply_changes=True)
        if any(step.state == "created" for step in done.steps):
            self._undo.callback(teardown, self.aws, wanted)
        if settings.claim_check is not None:
            bucket = settings.claim_check.removeprefix("s3://").partition("/")[0]
            self.aws.client("s3").create_bucket(Bucket=bucket)
        if settings.dead_letter_queue is not None:
            self._make_queue(settings.dead_letter_queue)

    def _make_queue(self, name: str) -> None:
        sqs = self.aws.client("sqs")
        try:
            sqs.get_queue_url(QueueName=name)
        except sqs.exceptions.QueueDoesNotExist:
            kind = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
            url = sqs.create_queue(QueueName=name, Attributes=kind)["QueueUrl"]
            self._undo.callback(sqs.delete_queue, QueueUrl=url)

    def _as_it_is(self, wanted: Wanted, *, keys_given: bool) -> Wanted:
        """With the keys, and the kind of stream, that the table has if it exists."""
        client = self.aws.client("dynamodb")
        try:
            found = client.describe_table(TableName=wanted.table)["Table"]
        except client.exceptions.ResourceNotFoundException:
            return wanted
        types = {a["AttributeName"]: a["AttributeType"] for a in found["AttributeDefinitions"]}
        keys = {
            one["KeyType"]: Key(one["AttributeName"], types[one["AttributeName"]])
            for one in found["KeySchema"]
        }
        if not keys_given:
            wanted = replace(wanted, key=keys["HASH"], sort_key=keys.get("RANGE"))
        view_type = found.get("StreamSpecification", {}).get("StreamViewType")
        return wanted if view_type is None else replace(wanted, view_type=view_type)

    def _listen(self, config: Config) -> None:
        own = config.settings.bus_name
        assert own is not None
        for bus in (own, *names_among(buses_of(config), own)):
            if bus not in self._listeners:
                self._listeners[bus] = self._undo.enter_context(Listener(self.aws, bus=bus))
