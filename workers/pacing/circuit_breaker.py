"""Whether the endpoint seems to be down for a model, and when it may be asked again.

    up ── TROUBLE faults in a row, or a CROWD of them among few answers ──→ down
     ▲                                                                       │ one probe at a time,
     └──────────── a call that left since then is answered ──────────────────┘ at growing waits

Calls in flight may still be answered when an endpoint goes down, while new ones fail at once: such
answers tell of the past. They end no outage, and they do not hide one.

All workers count together, and share the probes: the shared pace decides (`limiter.lua`). What one
process sees stops it at once, before it could ask; and where the others are well and only it is
cut off, it probes by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum

from workers.pacing.backoff import Dice

TROUBLE = 8
"""So many faults in a row, with no success between, are an outage: probe instead of trying all."""

CROWD, SHARE, MEMORY_S = 16.0, 0.75, 2.0
"""So many faults lately, and such a share of all that ended, are one too; both fade."""

NEAR, NEAR_S = 3, 10.0
"""So many faults in a row are more than one request's; and an outage may come back so soon."""

LONGEST_PROBE_S = 32.0
"""Waits between probes double up to this: half an hour's outage sees about sixty of them."""


class HealthSignal(Enum):
    """What the end of a call says of the endpoint; `AWAY` that it says so itself."""

    ALIVE = "alive"
    FAULTY = "faulty"
    AWAY = "away"
    NONE = "none"


class CircuitBreaker:
    """What one process sees of one model, and what the others say."""

    def __init__(self, dice: Dice, clock: Callable[[], float]) -> None:
        self._dice = dice
        self._clock = clock
        self._own = False
        self._trouble = 0
        self._answers = self._faults = 0.0
        self._faded_at = clock()
        self._since = 0.0
        self._probes = 0
        self._probe_at = float("inf")
        self._shared_s = 0.0
        self._ended_at = float("-inf")

    @property
    def is_near(self) -> bool:
        """Whether it is on, or may begin just now, or ended just now."""
        lately = self._clock() - self._ended_at < NEAR_S
        return self.is_on or self._trouble >= NEAR or lately

    @property
    def is_on(self) -> bool:
        """Whether the endpoint seems to be down."""
        return self._own or self._shared_s > 0

    @property
    def lasts_s(self) -> float:
        """For how long it has seemed so, in seconds."""
        return max(self._clock() - self._since if self._own else 0.0, self._shared_s)

    def note(self, signal: HealthSignal, left_at: float) -> HealthSignal:
        """A call ended that left at a moment of the clock; returns what that says of now."""
        self._fade()
        if signal is HealthSignal.ALIVE:
            self._answers += 1
            if self.is_on and left_at < self._since:
                return HealthSignal.NONE
            if self.is_on:
                self._end()
            self._trouble = 0
        elif signal in {HealthSignal.FAULTY, HealthSignal.AWAY}:
            self._faults += 1
            self._trouble += TROUBLE if signal is HealthSignal.AWAY else 1
            crowd = self._faults >= CROWD and self._faults >= SHARE * (self._faults + self._answers)
            if not self._own and (self._trouble >= TROUBLE or crowd):
                self._own = True
                self._since = self._clock()
                self._plan()
        return signal

    def heard(self, shared_s: float) -> None:
        """For how long the endpoint has been down by what all workers saw; 0: it is not."""
        if self._shared_s > 0 and shared_s == 0:
            # Another one's probe was answered.
            self._end()
        elif not self.is_on and shared_s > 0:
            self._since = self._clock()
        self._shared_s = shared_s

    def _end(self) -> None:
        self._own, self._ended_at = False, self._clock()
        self._trouble = self._probes = 0
        self._faults = self._shared_s = 0.0

    def _fade(self) -> None:
        now = self._clock()
        kept = math.exp((self._faded_at - now) / MEMORY_S)
        self._answers, self._faults = self._answers * kept, self._faults * kept
        self._faded_at = now

    @property
    def wait_s(self) -> float:
        """Seconds until this process may probe by itself."""
        if not self.is_on or self._shared_s > 0:
            return float("inf")
        return max(0.0, self._probe_at - self._clock())

    def may_probe(self, *, told: bool, probing: bool) -> bool:
        """Whether a call may ask if it is back; `told` is whether it is this process's turn,
        `probing` whether a call of it is asking already.
        """
        own = self.wait_s == 0 and not probing
        if own and not told:
            self._plan()
        return told or own

    def look_now(self) -> None:
        """Somebody wants to know at once whether it is back."""
        self._probes, self._probe_at = 0, self._clock()

    def _plan(self) -> None:
        self._probe_at = self._clock() + probe_wait(self._probes, self._dice)
        self._probes += 1


def probe_wait(failures: int, dice: Dice) -> float:
    """Seconds until the next probe, after so many that failed; a little apart among workers."""
    return float(min(2.0 ** min(failures, 10), LONGEST_PROBE_S)) * dice(0.9, 1.0)
