"""Whether the endpoint seems to be down for a model, and when it may be asked again.

    up ── TROUBLE faults in a row, with no sign of life between ──→ down
     ▲                                                               │ one probe at a time,
     └────────────────── any sign of life ───────────────────────────┘ at growing waits

All workers count together, and share the probes: the shared pace decides (`pace.lua`). What one
process sees stops it at once, before it could ask; and where the others are well and only it is
cut off, it probes by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from workers.backoff import Dice

TROUBLE = 8
"""So many faults in a row, with no success between, are an outage: probe instead of trying all."""

LONGEST_PROBE_S = 32.0
"""Waits between probes double up to this: half an hour's outage sees about sixty of them."""


class Sign(Enum):
    """What the end of a call says of the endpoint."""

    ALIVE = "alive"
    FAULTY = "faulty"
    NONE = "none"


class Outage:
    """What one process sees of one model, and what the others say."""

    def __init__(self, dice: Dice, clock: Callable[[], float]) -> None:
        self._dice = dice
        self._clock = clock
        self._trouble = 0
        self._since = 0.0
        self._probes = 0
        self._probe_at = float("inf")
        self._shared_s = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the endpoint seems to be down."""
        return self._trouble >= TROUBLE or self._shared_s > 0

    @property
    def lasts_s(self) -> float:
        """For how long it has seemed so, in seconds."""
        own = self._clock() - self._since if self._trouble >= TROUBLE else 0.0
        return max(own, self._shared_s)

    def note(self, sign: Sign) -> None:
        """A call ended."""
        if sign is Sign.ALIVE:
            self._trouble = self._probes = 0
            self._shared_s = 0.0
        elif sign is Sign.FAULTY:
            self._trouble += 1
            if self._trouble == TROUBLE:
                self._since = self._clock()
                self._plan()

    def heard(self, shared_s: float) -> None:
        """For how long the endpoint has been down by what all workers saw; 0: it is not."""
        if self._shared_s > 0 and shared_s == 0:
            # Another one's probe was answered.
            self._trouble = self._probes = 0
        self._shared_s = shared_s

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

    def _plan(self) -> None:
        self._probe_at = self._clock() + probe_wait(self._probes, self._dice)
        self._probes += 1


def probe_wait(failures: int, dice: Dice) -> float:
    """Seconds until the next probe, after so many that failed; a little apart among workers."""
    return float(min(2.0 ** min(failures, 10), LONGEST_PROBE_S)) * dice(0.9, 1.0)
