"""How long to wait before a call is made again: arithmetic, no clock.

wait = the server's word, and a second at most so that waiters do not all return at once;
       without one, full jitter: uniform(0, min(cap, base x 2^n)). The ceiling comes last.

Full jitter is what AWS found to need the fewest calls under contention
(Brooker, "Exponential Backoff And Jitter", 2015).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

Dice = Callable[[float, float], float]
"""`random.uniform`, or a loaded one in tests."""

LONGEST_WAIT_S = 15 * 60.0
"""However long a server asks for, somebody looks whether it is so."""

SPREAD_S = 1.0
"""Calls that were told the same moment come back spread over so long."""

_MOST_DOUBLINGS = 60


class Backoff(msgspec.Struct, frozen=True):
    """Seconds: `base` doubles up to `cap`; no wait at all exceeds `ceiling`."""

    base: float = 1.0
    cap: float = 60.0
    ceiling: float = LONGEST_WAIT_S


def full_jitter(failures: int, backoff: Backoff, dice: Dice) -> float:
    """Seconds between 0 and the cap; `failures` counts from 0 and doubles the range."""
    return dice(0.0, min(backoff.cap, backoff.base * 2.0 ** min(failures, _MOST_DOUBLINGS)))


def delay(failures: int, told: float | None, backoff: Backoff, dice: Dice) -> float:
    """Seconds to wait; `told` is what the server asked for, in seconds, if it did."""
    own = full_jitter(failures, backoff, dice) if told is None else told + dice(0.0, SPREAD_S)
    return min(max(own, 0.0), backoff.ceiling)
