"""Axes of plots, for a job's page and for its report: round figures, and round local times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import ceil, floor, log10
from typing import TypeVar

from jobs.money import ZERO

N = TypeVar("N", float, Decimal)

STEPS = (1, 2, 3, 4, 5, 6, 8, 10)

_DAY_S = 24 * 3600
_ROUND_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600, _DAY_S),
)


@dataclass(frozen=True)
class Layer:
    """A path in a plot's box. `look`: its class, where it has one of its own; `total`: of an amount
    that adds up.
    """

    name: str
    path: str
    look: str = ""
    total: Decimal = ZERO


def round_time(least: float) -> float:
    """The next round number of seconds; whole days beyond one."""
    fitting = (step for step in _ROUND_S if step >= least)
    return next(fitting, _DAY_S * ceil(least / _DAY_S))


def round_up(least: N, steps: Iterable[float] = STEPS) -> N:
    """The next amount that is one of the `steps` times a power of ten; `least` is above zero."""
    kind = type(least)
    scale = kind(10) ** (least.adjusted() if isinstance(least, Decimal) else floor(log10(least)))
    tops = (kind(str(step)) * scale for step in steps)
    return next(top for top in tops if top >= least)


def offset_s(clock: Callable[[float], datetime], moment: float) -> float:
    """How far what a clock shows is ahead of UTC then, in seconds."""
    offset = clock(moment).utcoffset()
    return offset.total_seconds() if offset else 0.0


def aligned(moment: float, step: float, offset: float) -> float:
    """The last multiple of `step` before or at `moment`, by a clock that is so far ahead."""
    return (moment + offset) // step * step - offset


@dataclass(frozen=True)
class TimeAxis:
    """Moments from `start` to `end`, Unix seconds, for people whose clocks are so far ahead."""

    start: float
    end: float
    offset: float

    def at(self, moment: float, whole: float = 100.0) -> float:
        """The place of a moment on an axis of that length."""
        return whole * (moment - self.start) / (self.end - self.start)

    def ticks(self, most: int) -> tuple[list[tuple[float, float]], float]:
        """(hundredth of the axis, Unix seconds) at about so many round local times, and the seconds
        between them.
        """
        step = round_time((self.end - self.start) / most)
        first = aligned(self.start, step, self.offset)
        moments = (first + step * place for place in range(most + 2))
        return [(self.at(each), each) for each in moments if self.start <= each < self.end], step
