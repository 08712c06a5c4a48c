"""Control-plane calls of provision and teardown: each names itself when it is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from ddbrelay.aws.errors import code_of, translated
from ddbrelay.errors import AwsRefused

T = TypeVar("T")

NOT_FOUND = frozenset(
    {
        "ResourceNotFoundException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
    }
)
ALREADY_EXISTS = frozenset(
    {
        "ResourceAlreadyExistsException",
        "ResourceInUseException",
        "QueueAlreadyExists",
        "QueueNameExists",
    }
)
IN_CIRCLES = "InCircles"
"""The code of a list of which a page leads back to one before; AWS has no such code."""
_CONCURRENT = "ConcurrentModificationException"
_CONCURRENT_ATTEMPTS = 6
_NONE: frozenset[str] = frozenset()


def attempt(
    client: Any, method: str, doing: str, expected: frozenset[str] = _NONE, **parameters: Any
) -> dict[str, Any] | None:
    """The answer of a boto3 call, None when AWS answers with one of the expected error codes.

    EventBridge asks for `ConcurrentModificationException` to be tried again, which boto3 does not
    do by itself. Raises AwsRefused that names the call by its IAM action.
    """
    operation = client.meta.method_to_api_mapping[method]
    service = str(client.meta.service_model.endpoint_prefix).removeprefix("streams.")
    with translated(f"{doing} ({service}:{operation})"):
        for number in range(_CONCURRENT_ATTEMPTS):
            try:
                answer: dict[str, Any] = getattr(client, method)(**parameters)
            except ClientError as error:
                code = code_of(error)
                if code in expected:
                    return None
                if code != _CONCURRENT or number == _CONCURRENT_ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**number)
            else:
                return answer
    raise AssertionError("unreachable: the last attempt returns or raises")


def call(client: Any, method: str, doing: str, **parameters: Any) -> dict[str, Any]:
    """The answer of a boto3 call; raises AwsRefused that names the call by its IAM action."""
    answer = attempt(client, method, doing, **parameters)
    assert answer is not None
    return answer


def listing(client: Any, method: str, doing: str, key: str, **parameters: Any) -> Iterator[Any]:
    """Every element under `key`, page after page; nothing when what is asked about is gone."""
    ask = partial(attempt, client, method, doing, NOT_FOUND, **parameters)
    for page in pages(ask, doing, "NextToken", "NextToken"):
        yield from page.get(key, ())


def pages(
    ask: Callable[..., dict[str, Any] | None], doing: str, answered: str, sent: str
) -> Iterator[dict[str, Any]]:
    """Every page of a list: `answered` names the next one, which is asked for as `sent`.

    The list ends with an empty token, and where `ask` gives None. Raises AwsRefused with the code
    `IN_CIRCLES` behind a page that leads back to one before.
    """
    token: dict[str, str] = {}
    before: set[str] = set()
    while (page := ask(**token)) is not None:
        yield page
        following = page.get(answered)
        if not following:
            return
        if following in before:
            words = f"cannot {doing}: the endpoint gives the same page again and again"
            raise AwsRefused(words, code=IN_CIRCLES)
        before.add(following)
        token = {sent: following}


def wait_for(look: Callable[[], T | None], what: str, timeout: float) -> T:
    """What `look` returns once that is not None; AwsRefused after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.05
    while (seen := look()) is None:
        if time.monotonic() >= deadline:
            raise AwsRefused(
                f"still waiting for {what} after {timeout:g} s",
                "run the command again: what is done stays done",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0)
    return seen
