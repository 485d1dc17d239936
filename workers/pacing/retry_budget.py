"""How many calls may be repeated because of faults: a tenth of the requests, and a few.

An endpoint that fails one call in three would be called half as often again, and every one of these
calls may be billed. So each request brings a tenth of a repetition, as in gRPC and Finagle; who
finds none left waits. One a second comes beside them, and what nobody needed is kept for later, so
that the last requests of a job are not stuck. A repetition that does not fail again gives back what
it took: where most are answered, none need wait. Refusals for too many calls and an endpoint that
is down are not counted: no repetition is made there before the pace lets it.
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
        self._beside, self._seen_at = 1.0, clock()
        """What the seconds brought: no more than the reserve."""

    def called(self) -> None:
        """A request was called for the first time."""
        self._left += RATIO

    def give_back(self) -> None:
        """A repetition was not in vain."""
        self._left += 1.0

    def take(self) -> bool:
        """Whether a call may be repeated now."""
        now = self._clock()
        self._beside = min(self._beside + (now - self._seen_at) / TRICKLE_S, RESERVE)
        self._seen_at = now
        if self._left >= 1.0:
            self._left -= 1.0
        elif self._beside >= 1.0:
            self._beside -= 1.0
        else:
            return False
        return True
