"""moto's server in a thread of this process: the default engine.

What it gets wrong: one shard a stream that never closes, no size limits, no throttling; so nothing
that it accepts is proof of what AWS accepts.
"""

from __future__ import annotations

import logging
import threading

from ddbrelay.errors import ConfigError


class Moto:
    """An `Engine`."""

    name = "moto"

    def __init__(self, port: int = 0) -> None:
        try:
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
        # A line for every request is noise, and werkzeug writes it to stderr unasked.
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        app = DomainDispatcherApplication(create_backend_app)
        try:
            self._server = make_server("127.0.0.1", port, app, threaded=True)
        except (OSError, SystemExit) as error:
            raise ConfigError(
                f"port {port} of 127.0.0.1 cannot be used: {error}", "choose another --port"
            ) from None
        self.port = int(self._server.server_port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="embedded-aws", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        from moto.core.model_instances import reset_model_data

        # moto keeps its tables in the process, not in the server.
        reset_model_data()
