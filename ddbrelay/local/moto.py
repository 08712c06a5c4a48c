"""moto's server in a thread of this process: the default engine.

What it gets wrong: one shard a stream that never closes, no size limits, no throttling; so nothing
that it accepts is proof of what AWS accepts.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import ConfigError
from ddbrelay.local import pages

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_POLL = 0.05


class Moto:
    """An `Engine`."""

    name = "moto"

    def __init__(self, port: int = 0) -> None:
        try:
            # With a part of the extra missing, moto warns before the import of that part fails.
            warnings.filterwarnings("ignore", message="When using MotoServer")
            from moto.core.base_backend import AccountSpecificBackend
            from moto.core.utils import service_name_from_moto_package_name
            from moto.moto_server import werkzeug_app
            from moto.moto_server.werkzeug_app import (
                DomainDispatcherApplication,
                create_backend_app,
            )
            from werkzeug.serving import make_server
        except ImportError as error:
            raise ConfigError(
                f"the embedded AWS is not installed ({error.name or error} is missing)",
                "pip install 'ddbrelay[local]'",
            ) from None
        # moto lists the regions with a boto3 session of its own, made once at the first request:
        # it fails where AWS_PROFILE names a profile that does not exist.
        with _without_aws_variables():
            AccountSpecificBackend.get_session().get_available_regions("dynamodb")
            for package in ("core", "dynamodb", "dynamodbstreams", "events", "sqs"):
                service_name_from_moto_package_name(package)
        # A line for every request is noise, and werkzeug writes it to stderr unasked.
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        # Without it every answer allows the pages of every origin.
        werkzeug_app.DISABLE_GLOBAL_CORS = True  # type: ignore[attr-defined]
        app = _without_pages(DomainDispatcherApplication(create_backend_app))
        # Where werkzeug binds by itself, it answers a port in use by printing and exiting.
        with _listening(port) as listener:
            self._server = make_server("127.0.0.1", port, app, threaded=True, fd=listener.fileno())
        self.port = int(self._server.port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="embedded-aws", daemon=True
        )
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        from moto.core.model_instances import reset_model_data

        # moto keeps its tables in the process, not in the server.
        reset_model_data()


def _without_pages(app: WSGIApplication) -> WSGIApplication:
    """The same application, of which no web page gets an answer."""

    def refusing(environ: WSGIEnvironment, start: StartResponse) -> Any:
        asked = (environ.get(f"HTTP_{name}") for name in ("HOST", "ORIGIN", "SEC_FETCH_SITE"))
        if not pages.refused(*asked):
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [pages.REFUSAL.encode()]

    return refusing


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise ConfigError(
            f"port {port} of 127.0.0.1 cannot be used: {os.strerror(error.errno or 0)}",
            "choose another --port",
        ) from None


@contextmanager
def _without_aws_variables() -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("AWS_")}
    try:
        yield
    finally:
        os.environ.update(hidden)
