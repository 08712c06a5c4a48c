"""Settings: one field here is a flag, an environment variable and a key of `ddbrelay.toml`.

Order of precedence: flag, environment (`DDBRELAY_<NAME>`), file, default. An empty environment
variable counts as absent, as the AWS CLI has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ddbrelay.arns import name_of_table as name_of_table
from ddbrelay.config_file import (
    MappingSource,
    check_owner,
    no_global_endpoint,
    read_file,
    working_directory,
)
from ddbrelay.errors import ConfigError
from ddbrelay.logs import FORMATS, LEVELS, without_password
from ddbrelay.values import (
    amount,
    bucket_url,
    count,
    names,
    one_of,
    parse_bool,
    parse_duration,
    path,
    port,
    table_arn,
    text,
)
from ddbrelay.values import table as table_name
from ddbrelay.variables import CONFIG, ENDPOINT_ID, is_link, strangers

FILE_NAME = "ddbrelay.toml"
OUTPUTS = ("rich", "lines", "json")
ON_GAP = ("continue", "stop")
PRESETS = ("crud", "outbox", "single-table")
ENVELOPES = ("none", "metadata", "cloudevents")


def _setting(
    default: Any,
    toml: str,
    parse: Callable[[Any], Any],
    help_text: str,
    choices: tuple[str, ...] = (),
) -> Any:
    metadata = {"toml": toml, "parse": parse, "help": help_text, "choices": choices}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _choice(default: Any, toml: str, choices: tuple[str, ...], help_text: str) -> Any:
    return _setting(default, toml, one_of(*choices), help_text, choices)


_STATE = "state.db"


def local_state(state_dir: Path) -> Path:
    """The state file of runs against the embedded AWS; it goes when that starts empty again."""
    return state_dir / "local" / _STATE


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its default; times are in seconds."""

    profile: str | None = _setting(None, "aws.profile", text, "AWS profile")
    region: str | None = _setting(None, "aws.region", text, "AWS region")
    endpoint_url: str | None = _setting(
        None, "aws.endpoint_url", text, "send every AWS call to this address"
    )
    local: bool = _setting(
        False, "aws.local", parse_bool, "use the embedded AWS of `ddbrelay local`, no account"
    )
    table: str | None = _setting(
        None, "source.table", table_name, "DynamoDB table to follow, or its ARN"
    )
    table_arn: str | None = _setting(
        None, "source.table_arn", table_arn, "ARN of the table, where another account has it"
    )
    entity: str | None = _setting(
        None, "source.entity", text, "noun of the events (default: from the table's name)"
    )
    bus: str | None = _setting(
        None, "bus.name", text, "EventBridge bus to publish to (default: <table>-bus)"
    )
    source: str | None = _setting(
        None, "bus.source", text, "Source of the events (default: ddbrelay.<table>)"
    )
    preset: str | None = _choice(
        None,
        "preset",
        PRESETS,
        "what is mapped without a rule: crud, outbox or single-table",
    )
    mapper: str | None = _setting(
        None, "mapper", text, "a function of your own that maps, as module:function"
    )
    mapper_timeout: float = _setting(
        5.0, "mapper_timeout", parse_duration, "longest time of that function for a record, 0: any"
    )
    strict: bool = _setting(
        False, "strict", parse_bool, "park what no rule matches, instead of skipping it"
    )
    envelope: str = _choice(
        "none",
        "envelope",
        ENVELOPES,
        "what surrounds the data of an event: none, metadata or cloudevents",
    )
    redact: tuple[str, ...] = _setting(
        (), "redact", names, "attributes that are never shown, stored or sent"
    )
    consumer: str = _setting(
        "default", "relay.consumer", text, "name under which positions are kept"
    )
    start: str = _setting(
        "checkpoint",
        "relay.from",
        text,
        "where to start: checkpoint, trim-horizon, latest, a time or an age",
    )
    on_gap: str = _choice(
        "continue",
        "relay.on_gap",
        ON_GAP,
        "what to do when records were lost: report them and continue, or stop",
    )
    grace: float = _setting(
        5.0, "relay.grace", parse_duration, "time to finish what is in hand after an interrupt"
    )
    max_in_flight: int = _setting(
        64, "relay.max_in_flight", count, "PutEvents requests in flight at once, at most"
    )
    linger: float = _setting(
        0.005, "relay.linger", parse_duration, "wait this long for a request to fill"
    )
    refusal_timeout: float = _setting(
        300.0,
        "relay.refusal_timeout",
        parse_duration,
        "time after which an event is parked that is refused with an unknown error code",
    )
    claim_check: str | None = _setting(
        None,
        "relay.claim_check",
        bucket_url,
        "where details go that no event can hold: s3://bucket/prefix",
    )
    dead_letter_queue: str | None = _setting(
        None, "relay.dead_letter_queue", text, "SQS queue that gets a copy of each dead letter"
    )
    metrics_port: int | None = _setting(
        None, "relay.metrics_port", port, "port of /metrics for Prometheus, and of /healthz"
    )
    metrics_host: str = _setting(
        "127.0.0.1", "relay.metrics_host", text, "address on which that port listens"
    )
    poll_interval: float = _setting(
        0.25, "relay.poll_interval", parse_duration, "pause after a page with records"
    )
    idle_interval: float = _setting(
        1.0, "relay.idle_interval", parse_duration, "longest pause of an idle shard"
    )
    discovery_interval: float = _setting(
        30.0, "relay.discovery_interval", parse_duration, "time between two listings of the shards"
    )
    state: Path | None = _setting(
        None, "relay.state", path, "state file (default: state.db in the state directory)"
    )
    state_dir: Path | None = _setting(
        None, "relay.state_dir", path, "directory for state, and for `ddbrelay local`"
    )
    price_events: float = _setting(
        1.00, "prices.events", amount, "price of a million events, of 64 KB begun each"
    )
    price_reads: float = _setting(
        0.02, "prices.reads", amount, "price of 100,000 reads of the stream (GetRecords)"
    )
    price_puts: float = _setting(
        0.005, "prices.puts", amount, "price of 1,000 claim checks written to S3 (PutObject)"
    )
    output: str | None = _choice(
        None,
        "output",
        OUTPUTS,
        "rich, lines or json (default: rich in a terminal, else lines)",
    )
    log_format: str = _choice(
        "text", "log_format", FORMATS, "what stderr gets: text, or json with an object a line"
    )
    log_level: str | None = _choice(
        None,
        "log_level",
        LEVELS,
        "error, warning, info or debug (default: by -v, else warning)",
    )

    @property
    def state_file(self) -> Path:
        """Where positions, bookmarks and dead letters are kept; ConfigError as `state_folder`."""
        if self.state is not None:
            return self.state
        return local_state(self.state_folder) if self.local else self.state_folder / _STATE

    @property
    def state_folder(self) -> Path:
        """The directory for state, by default the user's; ConfigError for a user without one."""
        from ddbrelay.private import users_state

        return self.state_dir or users_state()

    @property
    def bus_name(self) -> str | None:
        """The bus, by default named after the table."""
        return self.bus or (f"{self.table}-bus" if self.table else None)

    @property
    def event_source(self) -> str:
        """`Source` of every event, which the rule behind the bus matches."""
        return self.source or f"ddbrelay.{self.table}"


@dataclass(frozen=True)
class Config:
    """Settings, for each of them the place that it came from, and the mapping of the file."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None
    mapping: MappingSource = field(default_factory=MappingSource)
    named: bool = False
    """Whether --config or DDBRELAY_CONFIG names the file; else it was found."""
    table_in_file: str | None = None
    """`source.table` as the file has it, whatever wins over it."""


def env_name(name: str) -> str:
    """`max_in_flight` -> `DDBRELAY_MAX_IN_FLIGHT`; `start` is spelt `DDBRELAY_FROM`."""
    return "DDBRELAY_" + flag_name(name).replace("-", "_").upper()


def flag_name(name: str) -> str:
    """The name of a field as the command line has it; `from` is a word of Python's own."""
    return "from" if name == "start" else name.replace("_", "-")


def toml_key(name: str) -> str:
    """The dotted key of a field in `ddbrelay.toml`."""
    return next(str(f.metadata["toml"]) for f in fields(Settings) if f.name == name)


def find_file(directory: Path) -> Path | None:
    """`ddbrelay.toml` in the directory or the nearest one above it.

    ConfigError where that file belongs to another user, or is no file: a link that leads nowhere
    may stand for rules that must not be left out.
    """
    for folder in (directory, *directory.parents):
        candidate = folder / FILE_NAME
        if os.path.lexists(candidate) and not os.path.isdir(candidate):
            if not os.path.isfile(candidate):
                raise ConfigError(
                    f"{candidate} is not a file that can be read",
                    f"restore it, or remove it; --config {os.devnull} goes without",
                )
            check_owner(candidate)
            return candidate
    return None


def named_file(name: str | Path) -> Path:
    """The configuration file of this name; ConfigError for a tilde without a home directory."""
    try:
        return path(str(name))
    except ValueError as error:
        raise ConfigError(f"--config: {error}") from None


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Config:
    """Merge flags, environment, file and defaults.

    `flags` maps field names to values, None for a flag that was not given; `config` among them
    names the file. Raises ConfigError, with the place and the nearest right key.
    """
    environ = os.environ if environ is None else environ
    if environ.get(ENDPOINT_ID):
        raise no_global_endpoint(ENDPOINT_ID)
    chosen = flags.get("config") or environ.get(CONFIG)
    file = named_file(chosen) if chosen else find_file(directory or working_directory())
    known = {str(setting.metadata["toml"]) for setting in fields(Settings)}
    in_file, mapping = read_file(file, known) if file else ({}, MappingSource())
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in fields(Settings):
        name, toml = setting.name, str(setting.metadata["toml"])
        variable = env_name(name)
        if flags.get(name) is not None:
            raw, origin = flags[name], "flag"
            place = f"--{'no-' if raw is False else ''}{flag_name(name)}"
        elif environ.get(variable) and not is_link(variable, environ[variable]):
            raw, origin, place = environ[variable], "environment", variable
        elif toml in in_file and (in_file[toml] != "" or setting.default is not None):
            raw, origin, place = in_file[toml], "file", f"{file}: {toml}"
        else:
            origins[name] = "default"
            continue
        try:
            values[name] = setting.metadata["parse"](raw)
        except ValueError as error:
            if origin == "file":
                place = f"{mapping.place(*toml.split('.'))}: {toml}"
            raise ConfigError(f"{place}: {error}", _meant(raw, setting.metadata)) from None
        origins[name] = f"{origin} ({place})" if origin != "flag" else f"flag {place}"
        if origin == "file" and isinstance(values[name], Path) and file is not None:
            values[name] = file.parent / values[name]
    _tell_name_from_arn(values, origins)
    table = in_file.get("source.table") or in_file.get("source.table_arn")
    return Config(
        Settings(**values),
        origins,
        file,
        mapping,
        named=bool(chosen),
        table_in_file=name_of_table(table) if isinstance(table, str) and table else None,
    )


def ignored_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence about each DDBRELAY_… variable that is set and does nothing."""
    environ = os.environ if environ is None else environ
    return list(strangers(environ, [env_name(setting.name) for setting in fields(Settings)]))


def _tell_name_from_arn(values: dict[str, Any], origins: dict[str, str]) -> None:
    """`table` is the name, whichever of the two was given; an ARN of another table is left out."""
    table, arn = values.get("table"), values.get("table_arn")
    if table is not None and table.startswith("arn:"):
        values["table_arn"], origins["table_arn"] = table, origins["table"]
        values["table"] = name_of_table(table)
    elif arn is not None and table is None:
        values["table"], origins["table"] = name_of_table(arn), origins["table_arn"]
    elif arn is not None and table != name_of_table(arn):
        del values["table_arn"]
        origins["table_arn"] = "default"


def _meant(value: object, metadata: Mapping[str, Any]) -> str | None:
    # Imported here: only mistakes need it.
    from ddbrelay.text import meant

    return meant(str(value), metadata["choices"])


def given(config: Config) -> dict[str, tuple[str, str]]:
    """TOML key -> value and origin of every setting that is not left at its default.

    Passwords in addresses are left out.
    """
    found = {}
    for setting in fields(Settings):
        if (origin := config.origins[setting.name]) != "default":
            value = getattr(config.settings, setting.name)
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            found[str(setting.metadata["toml"])] = (without_password(text), origin)
    return found


def effective(settings: Settings) -> dict[str, Any]:
    """Every setting by field name, with the defaults that follow from other settings filled in."""
    named = settings.table is not None
    try:
        state = {"state": settings.state_file, "state_dir": settings.state_folder}
    except ConfigError:
        state = {}
    derived = {
        "bus": settings.bus_name,
        "source": settings.event_source if named else settings.source,
        **state,
    }
    return {s.name: derived.get(s.name, getattr(settings, s.name)) for s in fields(Settings)}
