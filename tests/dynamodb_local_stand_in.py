"""A program in the place of `java -jar DynamoDBLocal.jar`: ministack, dressed up.

It shows that the tests start the jar rightly, and that ddbrelay gets along with what is odd about
it: ARNs of the region `ddblocal`, times cut to the minute, and no service but DynamoDB. Shards roll
over only in the jar.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from aiohttp import ClientSession, web

_REAL, _LOCAL = b"arn:aws:dynamodb:us-east-1:", b"arn:aws:dynamodb:ddblocal:"
_TIME = re.compile(rb'("ApproximateCreationDateTime": ?)([0-9]+)')
_PORT = 7
_EXPECTED = [
    "-Djava.library.path=./DynamoDBLocal_lib",
    "-jar",
    "DynamoDBLocal.jar",
    "-sharedDb",
    "-disableTelemetry",
    "-inMemory",
    "-port",
]


def main(words: list[str]) -> None:
    preloaded = os.environ["PRELOADED"]
    if words[:_PORT] != _EXPECTED or not words[_PORT].isdigit() or len(words) > _PORT + 1:
        sys.exit(f"unexpected arguments: {words}")
    if not Path("DynamoDBLocal.jar").is_file():
        sys.exit(f"{Path.cwd()} is not the folder of the jar")
    if not Path(preloaded).is_file():
        sys.exit("libfaketime is not preloaded")
    port = _free_port()
    environment = os.environ | {
        "LD_PRELOAD": preloaded,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "WARNING",
    }
    with subprocess.Popen([os.environ["DDBRELAY_MINISTACK"]], env=environment):
        while not _answers(port):
            time.sleep(0.05)
        asyncio.run(_serve(int(words[_PORT]), f"http://127.0.0.1:{port}"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _serve(port: int, behind: str) -> None:
    async with ClientSession(behind) as http:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_post("/", lambda request: _forward(http, request))
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


async def _forward(http: ClientSession, request: web.Request) -> web.Response:
    target = request.headers.get("X-Amz-Target", "")
    if not target.startswith("DynamoDB"):
        return web.json_response({"__type": "UnknownOperationException"}, status=400)
    kept = ("Authorization", "Content-Type", "X-Amz-Date", "X-Amz-Target")
    headers = {name: request.headers[name] for name in kept}
    body = (await request.read()).replace(_LOCAL, _REAL)
    async with http.post("/", data=body, headers=headers) as answer:
        text = (await answer.read()).replace(_REAL, _LOCAL)
        text = _TIME.sub(lambda m: m[1] + str(int(m[2]) // 60 * 60).encode(), text)
        return web.Response(status=answer.status, body=text, content_type=answer.content_type)


if __name__ == "__main__":
    main(sys.argv[1:])
