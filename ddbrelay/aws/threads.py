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
    threading.Thread(target=_run, args=(loop, work, done), name=name, daemon=True).start()
    try:
        return await done
    finally:
        # An error leads to this frame: with it in a variable here it would keep itself, and `work`.
        del done


def _run(loop: asyncio.AbstractEventLoop, work: Callable[[], _T], done: asyncio.Future[_T]) -> None:
    result: _T | None = None
    failure: BaseException | None = None
    try:
        result = work()
    except BaseException as error:
        failure = error
    try:
        loop.call_soon_threadsafe(_settle, done, result, failure)
    except RuntimeError:
        _log.debug("nobody waits for the answer any more")
    finally:
        # As above.
        del done, failure


def _settle(done: asyncio.Future[_T], result: _T | None, error: BaseException | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)  # type: ignore[arg-type]
