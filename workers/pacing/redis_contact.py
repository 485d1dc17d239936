"""Whether this worker may start calls: only while its claims surely hold and Redis answers."""

from __future__ import annotations

from collections.abc import Callable

RENEWED_S = 6.0
"""So long after the last renewal of the claims nothing starts: a beat's pause, a command's time.

The claims live more than twice as long, and a chunk is given to others only after a look that finds
its claim gone; so no other worker can have a chunk of which this one still starts calls. But what a
worker that is cut off has in flight can be bought again, so it stops early, and not only when it
must.
"""

QUIET_S = 2.0
"""So long after Redis was last asked something that it answered nothing starts: what is in flight
when a worker is cut off for long is bought again, so there should be no more of it. At work it asks
ten times a second.
"""


class RedisContact:
    """When Redis last renewed the claims and last answered, by the clock: when it was asked."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._renewed_at = self._heard_at = clock()

    def renewed(self, asked_at: float) -> None:
        """The claims hold from then on: Redis may have counted from any moment since."""
        self._renewed_at = max(self._renewed_at, asked_at)
        self.heard(asked_at)

    def heard(self, asked_at: float) -> None:
        """Something was asked then that was answered."""
        self._heard_at = max(self._heard_at, asked_at)

    @property
    def holds(self) -> bool:
        """Whether calls may start now."""
        now = self._clock()
        return now - self._renewed_at < RENEWED_S and now - self._heard_at < QUIET_S
