"""Blocking calls beside the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def off_loop(work: Callable[[], _T], name: str) -> _T:
    """Do it in a thread of this name, for which neither the loop nor the process waits at its end.

    `asyncio.to_thread` would hold up a stop until a call without an answer has timed out, which
    takes boto3 up to two minutes.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: _T | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            _log.debug("nobody waits for the answer any more")

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
