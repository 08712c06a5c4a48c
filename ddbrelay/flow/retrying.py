"""How many of the requests of a run may be made twice at once."""

from __future__ import annotations


class RetryBudget:
    """A bucket of tokens that the calls of a run share; the numbers are those of botocore.

    A retry costs 5, one after a time-out 10; a call that succeeds gives 1 back. So single failures
    are tried again soon, and an outage does not double the load.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    """

    CAPACITY = 500
    RETRY, TIMEOUT, REWARD = 5, 10, 1

    def __init__(self) -> None:
        self.left = self.CAPACITY

    def take(self, cost: int = RETRY) -> bool:
        """Pay for a retry; False when it must wait, or not be made."""
        if self.left < cost:
            return False
        self.left -= cost
        return True

    def succeeded(self) -> None:
        """A call was answered as it should be."""
        if self.left < self.CAPACITY:
            self.left += self.REWARD
