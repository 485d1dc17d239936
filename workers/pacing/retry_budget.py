"""How many calls may be repeated because of faults: a tenth of the requests, and a few.

An endpoint that fails one call in three would be called half as often again, and every one of these
calls may be billed. So each request brings a tenth of a repetition, as in gRPC and Finagle; who
finds none left waits. One a second is given in any case, so that the last requests of a job are not
stuck. Refusals for too many calls and an endpoint that is down are not counted: no repetition is
made there before the pace lets it.
"""

from __future__ import annotations

from collections.abc import Callable

RATIO = 0.1
RESERVE = 100.0
TRICKLE_S = 1.0


class RetryBudget:
    """The repetitions of one model in one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = RESERVE
        self._given_at = float("-inf")

    def called(self) -> None:
        """A request was called for the first time."""
        self._left += RATIO

    def take(self) -> bool:
        """Whether a call may be repeated now."""
        if self._left >= 1.0:
            self._left -= 1.0
            return True
        if self._clock() - self._given_at >= TRICKLE_S:
            self._given_at = self._clock()
            return True
        return False
