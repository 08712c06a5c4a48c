"""A standard stream behind a thread: whoever prints never waits for whoever reads."""

from __future__ import annotations

import errno
import io
import queue
import threading
import time
from collections.abc import Callable
from typing import TextIO

LIMIT = 32 * 1024 * 1024
"""Bytes that may wait for a reader; what comes beyond them is left out."""
_CHUNK = 16 * 1024
"""Bytes of one write, so that a slow reader can be told from none."""
_TICK = 0.01


class Outlet:
    """Texts that a thread hands to `write`, in order.

    A text that finds more than `limit` bytes waiting is left out, and its lines are counted. Once
    `write` has failed nothing is written any more; `error` says why.
    """

    def __init__(self, write: Callable[[memoryview], int], limit: int = LIMIT) -> None:
        self._write, self._limit = write, limit
        self._texts: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._given = self._taken = 0
        self.left_out = 0
        """Lines for which there was no room."""
        self.error: OSError | None = None
        self.when_broken: Callable[[], None] | None = None
        """Called in the thread once nothing can be written any more."""
        self._thread = threading.Thread(target=self._run, name="ddbrelay-output", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that are still to be written; none once `write` has failed."""
        return 0 if self.error is not None else self._given - self._taken

    @property
    def broken(self) -> bool:
        """Whether the reader has left."""
        return self.error is not None and self.error.errno in {errno.EPIPE, errno.ECONNRESET}

    def put(self, text: bytes) -> None:
        """Have it written; this never waits."""
        if not text or self.error is not None:
            return
        with self._lock:
            # One that is larger than the limit by itself passes where nothing else waits.
            if self.waiting and self.waiting + len(text) > self._limit:
                self.left_out += text.count(b"\n")
                return
            self._given += len(text)
        self._texts.put(text)

    def drain(self, patience: float | None, limit: float | None = None) -> bool:
        """Wait until all is written; False when it is not, and never will be.

        That is when nothing was taken for `patience` seconds (None waits for ever), or after
        `limit` seconds in all.
        """
        began = moved = time.monotonic()
        taken = self._taken
        while self.waiting and self.error is None:
            now = time.monotonic()
            if self._taken != taken:
                taken, moved = self._taken, now
            if patience is not None and now - moved > patience:
                return False
            if limit is not None and now - began > limit:
                return False
            time.sleep(_TICK)
        return True

    def close(self) -> None:
        """End the thread. What waits is left out; what is being written cannot be stopped."""
        while self.waiting and not self._texts.empty():
            self.left_out += (self._texts.get() or b"").count(b"\n")
        self._texts.put(None)
        if not self.waiting:
            self._thread.join()

    def _run(self) -> None:
        while (text := self._texts.get()) is not None:
            rest = memoryview(text)
            try:
                while rest and self.error is None:
                    written = self._write(rest[:_CHUNK])
                    self._taken += written
                    rest = rest[written:]
            except OSError as error:
                self.error = error
                if self.when_broken is not None:
                    self.when_broken()


class Through(io.TextIOBase):
    """A text stream that stands for `below` while an outlet writes to it."""

    def __init__(self, below: TextIO, outlet: Outlet) -> None:
        self.below, self.outlet = below, outlet
        self.buffer = _Bytes(outlet)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.below.errors

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.below.isatty()

    def fileno(self) -> int:
        return self.below.fileno()

    def write(self, text: str) -> int:
        self.outlet.put(text.encode(self.encoding, self.errors or "backslashreplace"))
        return len(text)


class _Bytes(io.RawIOBase):
    """The same for bytes."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._outlet.put(bytes(data))
        return len(data)
