"""boto3 sessions from settings; under `--local` a session that cannot reach a real account."""

from __future__ import annotations

import logging
import os
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config as BotoConfig
from botocore.httpsession import get_cert_path
from botocore.parsers import ResponseParserError, ResponseParserFactory

from ddbrelay import __version__
from ddbrelay.arns import region_in
from ddbrelay.aws.errors import (
    CERTIFICATE_HINT,
    FOREIGN_HINT,
    NO_CREDENTIALS_HINT,
    credentials_refused,
)
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.logs import fields
from ddbrelay.secrecy import hide_address, watch, without_password

if TYPE_CHECKING:
    from botocore.credentials import Credentials

    from ddbrelay.config import Settings

_log = logging.getLogger(__name__)

PREPARED = "x-ddbrelay-prepared"
"""Header of the answer to a request that was made up and never sent."""
LOCAL_REGION = "us-east-1"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_DUMMY = "ddbrelay-local"
_PATIENCE = 8.0
"""Seconds that one attempt of a call waits for its answer."""
_SILENT = 4.0
"""Seconds without an answer after which another attempt is worth a line."""


def is_loopback(url: str) -> bool:
    """Whether the address is on this machine."""
    return urlsplit(url).hostname in _LOOPBACK


_ALWAYS = {
    "CreateEventBus": "EventBusArn",
    "CreateQueue": "QueueUrl",
    "CreateTable": "TableDescription",
    "DescribeEventBus": "Name",
    "DescribeStream": "StreamDescription",
    "DescribeTable": "Table.TableArn",
    "GetQueueUrl": "QueueUrl",
    "ListStreams": "Streams",
    "ListTables": "TableNames",
    "PutRule": "RuleArn",
    "UpdateTable": "TableDescription",
}
"""Operation -> the path to a member that its answer always has, by AWS's API references."""


def _check_answer(http_response: Any, parsed: Any, model: Any, **_: Any) -> None:
    """AwsRefused for a success that is not AWS's: a proxy or a firewall may have answered."""
    path = _ALWAYS.get(model.name)
    if path is None or http_response.status_code != 200 or PREPARED in http_response.headers:
        return
    value = parsed
    for member in path.split("."):
        if member not in value:
            raise AwsRefused(
                f"the answer to {model.name} has no {member}: it is not AWS's", FOREIGN_HINT
            )
        value = value[member]


class Aws:
    """boto3 clients for one run; made once per command.

    Raises ConfigError when no region is known, when the endpoint is no address, when `--local`
    names one elsewhere, when the profile does not exist, and when the file of certificate
    authorities cannot be used; AwsRefused when no embedded AWS runs.
    """

    def __init__(self, settings: Settings) -> None:
        self.local = settings.local
        if settings.endpoint_url:
            hide_address(settings.endpoint_url)
        if settings.endpoint_url and not _is_address(settings.endpoint_url):
            raise ConfigError(
                f'the endpoint "{without_password(settings.endpoint_url)}" is no address',
                "--endpoint-url http://127.0.0.1:4566",
            )
        self.endpoint_url = _local_endpoint(settings) if settings.local else settings.endpoint_url
        core = _isolated() if settings.local else botocore.session.Session()
        if settings.profile and not settings.local:
            core.set_config_variable("profile", settings.profile)
        self.session = boto3.Session(
            botocore_session=core,
            region_name=settings.region or _region(settings.local),
            **(
                {"aws_access_key_id": _DUMMY, "aws_secret_access_key": _DUMMY}
                if settings.local
                else {}
            ),
        )
        if not settings.local:
            core.register("before-sign", _signing)
        core.register_component("response_parser_factory", _Parsers())
        core.register("before-call", _started)
        core.register("request-created", _waiting)
        core.register("after-call", _answered)
        core.register("after-call-error", _failed)
        if not self.session.region_name:
            raise ConfigError(
                "no AWS region is configured",
                "--region eu-west-1, AWS_REGION, a region in the profile, or --local for the "
                "embedded AWS",
            )
        self.region: str = self.session.region_name
        self.table, self.table_arn = settings.table, settings.table_arn
        if self.table_arn is not None and not self.local:
            region = region_in(self.table_arn)
            if region != self.region:
                raise ConfigError(
                    f'the table "{self.table_arn}" is in {region}, and the region is {self.region}',
                    f"--region {region}",
                )
        bundle = _ca_bundle(core, settings.local)
        self._tls = None if bundle is None else _trusting(bundle)
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """A boto3 client, kept for the run; thread-safe as boto3's clients are.

        Raises what `credentials` does, and ConfigError for an address that cannot be right.
        """
        if service not in self._clients:
            self._clients[service] = self.new_client(
                service,
                connect_timeout=5,
                # Four of them, and the pauses between, are well under a minute.
                read_timeout=_PATIENCE,
                retries={"mode": "standard", "total_max_attempts": 4},
            )
        return self._clients[service]

    def new_client(self, service: str, **config: Any) -> Any:
        """A boto3 client with a configuration of its own; raises what `client` does."""
        # boto3 would look for them itself, and let through whatever a provider raises.
        self.credentials()
        try:
            if _log.isEnabledFor(logging.INFO):
                self._log_client(service)
            made = self.session.client(
                service,  # type: ignore[call-overload]
                endpoint_url=self.endpoint_url,
                config=BotoConfig(
                    user_agent_extra=f"ddbrelay/{__version__}",
                    proxies={} if self.local else None,
                    **config,
                ),
            )
        except ValueError as error:
            # A region, or an endpoint of a variable or a profile, that cannot be right.
            words = " ".join(without_password(word) for word in str(error).split(" "))
            raise ConfigError(words, "check --region and AWS_ENDPOINT_URL") from error
        hide_address(made.meta.endpoint_url)
        made.meta.events.register("after-call", _check_answer)
        return made

    def _log_client(self, service: str) -> None:
        _log.info(
            "%s in %s%s",
            service,
            self.where,
            f" at {without_password(self.endpoint_url)}" if self.endpoint_url else "",
            extra=fields(
                service=service,
                region=self.region,
                endpoint=self.endpoint_url and without_password(self.endpoint_url),
                local=self.local,
            ),
        )

    def tls(self) -> ssl.SSLContext:
        """Trusts the authorities that boto3 trusts: the user's, else those that come with it."""
        if self._tls is None:
            self._tls = _trusting(str(get_cert_path(True)))
        return self._tls

    def command(self, words: str) -> str:
        """A command of ours as it must be typed to work in the same place."""
        return f"ddbrelay {'--local ' if self.local else ''}{words}"

    def address_of(self, table: str) -> str:
        """How AWS is asked about a table: by its ARN where that was given, else by its name."""
        return self.table_arn if self.table_arn and table == self.table else table

    def provision(self, bus: str) -> str:
        """The command that makes this bus, for the table of the settings."""
        if self.table_arn is not None:
            # Its table is there, and another account's.
            return f"aws events create-event-bus --name {bus}"
        table = f"--table {self.table} " if self.table else ""
        return self.command(f"provision {table}--bus {bus}")

    @property
    def where(self) -> str:
        """The region, and that it is the embedded AWS if so, for messages."""
        return f"{self.region}, embedded AWS" if self.local else self.region

    def credentials(self) -> Credentials:
        """The credentials of the chain; looking for them the first time may go over the network.

        AwsRefused when there are none, or when the provider fails; ConfigError when the profile is
        wrong.
        """
        try:
            found = self.session.get_credentials()
        except Exception as error:
            raise credentials_refused(error) from error
        if found is None:
            raise AwsRefused("no AWS credentials were found", NO_CREDENTIALS_HINT)
        if not self.local:
            watch(found)
        return found


def _ca_bundle(core: botocore.session.Session, local: bool) -> str | None:
    """The file of certificate authorities that the user names, as boto3 finds it."""
    # Under --local nothing that the environment names is read.
    variable = None if local else os.environ.get("REQUESTS_CA_BUNDLE")
    return core.get_config_variable("ca_bundle") or variable or None


def _trusting(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise ConfigError(
            f"the certificate authorities in {file} cannot be used: {error.strerror or error}",
            CERTIFICATE_HINT,
        ) from error


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _region(local: bool) -> str | None:
    # boto3 by itself knows only AWS_DEFAULT_REGION; the other SDKs and the AWS CLI know both.
    return LOCAL_REGION if local else os.environ.get("AWS_REGION") or None


def _local_endpoint(settings: Settings) -> str:
    if settings.endpoint_url:
        if not is_loopback(settings.endpoint_url):
            raise ConfigError(
                "--local never leaves this machine, but the endpoint is "
                f"{without_password(settings.endpoint_url)}",
                "leave out --local, or the endpoint",
            )
        return settings.endpoint_url
    from ddbrelay.local.daemon import running

    found = running(settings.state_folder)
    if found is None:
        raise AwsRefused("the embedded AWS is not running", "ddbrelay local start")
    return found.url


def _isolated() -> botocore.session.Session:
    """No profile, no shared file, and a guard on every request that boto3 sends."""
    unset = (None, None, None, None)
    nowhere = (None, None, os.devnull, None)
    core = botocore.session.Session(
        session_vars={
            "profile": unset,
            "ca_bundle": unset,
            "config_file": nowhere,
            "credentials_file": nowhere,
        }
    )
    core.register("before-send", _refuse_other_hosts)
    return core


def _refuse_other_hosts(**event: Any) -> None:
    request = event["request"]
    if not is_loopback(request.url):
        raise ConfigError(f"--local must not reach {request.url}")


def _signing(**event: Any) -> None:
    # botocore signs with others too on the way to those of a role.
    if (source := getattr(event["request_signer"], "_credentials", None)) is not None:
        watch(source)


def _started(**event: Any) -> None:
    event["context"]["ddbrelay_began"] = time.monotonic()


def _waiting(**event: Any) -> None:
    """Say that a call goes on, where an attempt of it had no answer for long."""
    request, began = event["request"], event["request"].context.get("ddbrelay_began")
    if began is not None and time.monotonic() - began >= _SILENT:
        host = urlsplit(request.url).netloc.rpartition("@")[2]
        _log.warning("still waiting for %s at %s", event["operation_name"], host)


def _answered(**event: Any) -> None:
    if _log.isEnabledFor(logging.DEBUG) and PREPARED not in event["http_response"].headers:
        answer = event["parsed"]
        told, code = answer.get("ResponseMetadata", {}), answer.get("Error", {}).get("Code")
        status = event["http_response"].status_code
        log_request(
            _log,
            event["model"].name,
            f"{status} {code}" if code else status,
            told.get("RequestId"),
            event["context"].get("ddbrelay_began"),
            told.get("RetryAttempts", 0),
        )


class _Parsers(ResponseParserFactory):
    """botocore's parsers, made to raise ResponseParserError for every answer that is not AWS's.

    By themselves they take an answer that is no JSON for one with nothing in it, and break in many
    ways over JSON of another shape, such as `null`, or a string where an object belongs.
    """

    def create_parser(self, protocol_name: str) -> Any:
        parser: Any = super().create_parser(protocol_name)
        parse = parser.parse

        def checked(response: dict[str, Any], shape: Any) -> Any:
            content = response["body"].lstrip() if protocol_name == "json" else b""
            if content and not content.startswith(b"{"):
                if response["status_code"] < 300:
                    raise ResponseParserError("no JSON object")
                # The status says what is wrong.
                response = response | {"body": b"{}"}
            try:
                return parse(response, shape)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise ResponseParserError(f"{type(error).__name__}: {error}") from error

        parser.parse = checked
        return parser


def _failed(**event: Any) -> None:
    operation, error = str(event["event_name"]).rpartition(".")[2], event["exception"]
    if _log.isEnabledFor(logging.DEBUG):
        status = type(error).__name__
        log_request(_log, operation, status, None, event["context"].get("ddbrelay_began"), 0)
    if isinstance(error, ResponseParserError):
        words = f"the answer to {operation} cannot be read: it is not AWS's"
        raise AwsRefused(words, FOREIGN_HINT) from error


def log_request(
    log: logging.Logger,
    operation: str,
    status: int | str,
    request_id: str | None,
    began: float | None,
    retries: int,
) -> None:
    """A debug line about one request: never what was in it; `began` is of the monotonic clock."""
    now = time.monotonic()
    milliseconds = round((now - (now if began is None else began)) * 1000, 1)
    log.debug(
        "%s: %s in %.1f ms, request %s, retries %d",
        operation,
        status,
        milliseconds,
        request_id or "-",
        retries,
        extra=fields(
            operation=operation,
            status=status,
            durationMs=milliseconds,
            requestId=request_id,
            retries=retries,
        ),
    )
