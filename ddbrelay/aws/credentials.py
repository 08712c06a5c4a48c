"""Credentials for a loop that must not stop: looked for, and refreshed, beside it.

The chain and the refreshing are botocore's, which goes over the network for most kinds (SSO, roles,
containers, instances) or runs a program. Temporary credentials are refreshed 15 minutes before they
end, while calls go on with the old ones; only when those have ended do calls wait.
https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from ddbrelay.aws.errors import credentials_refused
from ddbrelay.aws.signing import Keys
from ddbrelay.aws.threads import off_loop
from ddbrelay.errors import DdbrelayError
from ddbrelay.logs import fields
from ddbrelay.secrecy import remember

_log = logging.getLogger(__name__)
_LOOK_EVERY = 1.0
_EARLY = 15 * 60 + 5
"""Seconds before the end of credentials outside of which botocore refreshes none."""
_BACK_OFF_BASE, _BACK_OFF_CAP = 1.0, 60.0


class Credentials:
    """The credentials of one run, for one event loop.

    `load` looks through the chain and returns botocore's credentials, `Aws.credentials`; `now` is
    the time that ends them, in epoch seconds.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._load, self._now, self._rng = load, now, rng or random.Random()
        self._source: Any = None
        self._keys: Keys | None = None
        self._look_at = 0.0
        self._refresh_at = 0.0
        self._failures = 0
        self._refreshing: asyncio.Task[Keys | DdbrelayError] | None = None

    def valid(self, now: float) -> Keys | None:
        """What to sign with at this time; None when `renewed` must be awaited.

        The same object as long as the credentials are the same.
        """
        return self._keys if now < self._look_at else self._look(now)

    async def renewed(self) -> Keys:
        """Credentials that have not ended; all who wait share one refresh.

        Raises AwsRefused when there are none, and ConfigError when the profile is wrong.
        """
        while True:
            outcome = await asyncio.shield(self._refresh())
            if isinstance(outcome, DdbrelayError):
                raise outcome
            if not _ended(self._source):
                return outcome

    def close(self) -> None:
        """Forget a refresh that is under way; its thread does not outlive the process."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _look(self, now: float) -> Keys | None:
        source = self._source
        if source is None:
            return None
        self._look_at = now + _LOOK_EVERY
        if not _needs_refresh(source, _EARLY):
            # Another user of the session may have refreshed them.
            self._keys = source.get_frozen_credentials()
            return self._keys
        if now >= self._refresh_at:
            self._refresh()
        if _ended(source):
            self._look_at = 0.0
            return None
        return self._keys

    def _refresh(self) -> asyncio.Task[Keys | DdbrelayError]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._fetch())
        return self._refreshing

    async def _fetch(self) -> Keys | DdbrelayError:
        before, heard = self._keys, _Heard()
        try:
            self._source, self._keys = await off_loop(
                lambda: self._ask(heard), "ddbrelay-credentials"
            )
        except DdbrelayError as refused:
            if before is None or _ended(self._source):
                return refused
            reason: str | None = refused.message
        else:
            # While the old ones are valid, botocore keeps its failures to its log.
            reason = heard.reason if self._keys is before else None
            remember()
        if self._keys is not before and self._keys is not None:
            _log_new(self._source, self._keys, again=before is not None)
        still_due = _needs_refresh(self._source)
        self._failures = self._failures + 1 if still_due else 0
        pause = self._pause() if still_due else 0.0
        self._refresh_at = self._now() + pause
        if reason is not None and still_due:
            _log.warning("%s; those in use are still valid, next try in %.0f s", reason, pause)
        assert self._keys is not None
        return self._keys

    def _ask(self, heard: _Heard) -> tuple[Any, Keys]:
        source = self._source
        try:
            with heard:
                if source is None:
                    source = self._load()
                return source, source.get_frozen_credentials()
        except Exception as error:
            raise credentials_refused(error) from error

    def _pause(self) -> float:
        longest = min(_BACK_OFF_CAP, _BACK_OFF_BASE * 2.0 ** min(self._failures, 10))
        return self._rng.uniform(longest / 2, longest)


def _log_new(source: Any, keys: Keys, *, again: bool) -> None:
    """New ones come as one object that is another than the old ones."""
    method, last = getattr(source, "method", None), keys.access_key[-4:]
    _log.info(
        "credentials were %s (%s), access key …%s",
        "refreshed" if again else "found",
        method or "of a kind of its own",
        last,
        extra=fields(method=method, accessKeyEnd=last, refreshed=again),
    )


def _needs_refresh(source: Any, ahead: float | None = None) -> bool:
    """Whether they end so many seconds from now, by default botocore's own; some never do."""
    ask = getattr(source, "refresh_needed", None)
    return bool(ask is not None and ask(ahead))


def _ended(source: Any) -> bool:
    return _needs_refresh(source, 0)


class _Heard(logging.Handler):
    """Listens to botocore in the thread that entered it: it logs why a refresh failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason: str | None = None
        self._thread = 0
        self._logger = logging.getLogger("botocore.credentials")

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.thread == self._thread and isinstance(error, Exception):
            self.reason = credentials_refused(error).message
