"""Charts of the report: bars over time and over latency, lines of what adds up.

A chart knows shares of its width and height alone; page.html draws it, whatever the page's width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from batch.plotting import STEPS, Layer, TimeAxis, aligned, offset_s, round_time, round_up
from jobs.latencies import Scale
from jobs.money import ZERO, add, total

MOST_BARS = 72


@dataclass(frozen=True)
class Bar:
    """`left`, `width`: in hundredths of the chart; it stands for what lies in [`start`, `end`)."""

    left: float
    width: float
    start: float
    end: float
    completed: int
    failed: int = 0


@dataclass(frozen=True)
class Chart:
    """Bars over an axis. `ticks`: (hundredth of the chart, value); `step`: between two ticks."""

    bars: list[Bar]
    ticks: list[tuple[float, float]]
    step: float

    @property
    def highest(self) -> int:
        """Of the highest bar."""
        return max((bar.completed + bar.failed for bar in self.bars), default=0)

    @property
    def top(self) -> int:
        """The end of the vertical axis: a round number whose half is whole, where there is one."""
        scale: int = 10 ** (len(str(self.highest)) - 1)
        tops = (scale * step for step in STEPS)
        return next(top for top in tops if top >= self.highest and (top == 1 or top % 2 == 0))


_FEWEST_BARS = 12
_MOST_TICKS = 6


class Timeline:
    """Results over time, in bars whose width is a round time and which start at round hours."""

    def __init__(self, first: float, last: float, clock: Callable[[float], datetime]) -> None:
        self.first, self.last = first, last
        self.width = round_time((last - first) / MOST_BARS)
        offset = offset_s(clock, first)
        self._left = aligned(first, self.width, offset)
        bars = max(int((last - self._left) // self.width) + 1, _FEWEST_BARS)
        self._axis = TimeAxis(self._left, self._left + self.width * bars, offset)
        self._counts = [[0, 0] for _ in range(bars)]

    def add(self, when: float, *, failed: bool) -> None:
        """Counts a result."""
        self._counts[self.place(when)][failed] += 1

    def place(self, when: float) -> int:
        """The number of the bar in which a moment lies, or of the nearest."""
        place = int((when - self._left) // self.width)
        if 0 <= place < len(self._counts):
            return place
        return 0 if place < 0 else len(self._counts) - 1

    def end(self, place: int) -> float:
        """Where a bar ends; the last one goes on for ever."""
        return math.inf if place == len(self._counts) - 1 else self._left + self.width * (place + 1)

    def __len__(self) -> int:
        return len(self._counts)

    def chart(self, counts: Sequence[Sequence[int]] | None = None) -> Chart:
        """As bars, with ticks at round times; of `counts` if others are given than were added."""
        wide = 100 / len(self._counts)
        starts = [self._left + place * self.width for place in range(len(self._counts))]
        bars = [
            Bar(place * wide, wide, start, start + self.width, *both)
            for place, (start, both) in enumerate(zip(starts, counts or self._counts, strict=True))
        ]
        return Chart(bars, *self.ticks())

    def ticks(self) -> tuple[list[tuple[float, float]], float]:
        """(hundredth of the chart, Unix seconds) at round times, and the seconds between them."""
        return self._axis.ticks(_MOST_TICKS)


_SCALE = Scale(1.01)
_NARROWEST = 140  # classes, that is a factor of four: a single latency is not drawn as a wall


class Spread:
    """Latencies or lengths, each counted in a class one percent wide: at most some 2,000."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Counts a latency, or a length."""
        self._counts[_SCALE.class_of(seconds)] += 1

    def at(self, share: float) -> float:
        """Seconds within which this share of the answers came, to half a percent."""
        return _SCALE.quantile(self._counts, share) or 0.0

    def __bool__(self) -> bool:
        """Whether any was counted."""
        return bool(self._counts)

    def chart(self) -> Chart:
        """As bars over a logarithmic axis."""
        low, high = self._range()
        merged = -(-(high - low) // MOST_BARS)
        high = low + -(-(high - low) // merged) * merged
        wide = 100 * merged / (high - low)
        bars = [
            Bar(
                (first - low) / merged * wide,
                wide,
                _SCALE.seconds(first),
                _SCALE.seconds(first + merged),
                sum(self._counts[place] for place in range(first, first + merged)),
            )
            for first in range(low, high, merged)
        ]
        return Chart(bars, _log_ticks(low, high), 0)

    def _range(self) -> tuple[int, int]:
        low, high = min(self._counts, default=0), max(self._counts, default=0) + 1
        lacking = max(_NARROWEST - (high - low), 0)
        return low - lacking // 2, high + (lacking + 1) // 2


def _log_ticks(low: int, high: int) -> list[tuple[float, float]]:
    """At 1, 2 and 5 of each power of ten, or at the powers alone where that would crowd."""
    for steps in ((1, 2, 5), (1,)):
        values = [step * 10.0**power for power in range(-3, 7) for step in steps]
        places = ((100 * (_SCALE.position(each) - low) / (high - low), each) for each in values)
        ticks = [(at, value) for at, value in places if 0 <= at <= 100]
        if len(ticks) <= _MOST_TICKS + 1:
            break
    return ticks


# ---- what adds up ------------------------------------------------------------------------------

MOST_LAYERS = 5


@dataclass(frozen=True)
class Stack:
    """Layers, the highest outline first, each drawn down to the axis in a box of 1000 by 1000;
    `top`: the end of the vertical axis.
    """

    layers: list[Layer]
    top: Decimal
    ticks: list[tuple[float, float]]
    step: float


class Growth:
    """Amounts by name over time, added up from the start."""

    def __init__(self, timeline: Timeline, most_names: int) -> None:
        self._timeline = timeline
        self._most = most_names
        self._amounts: list[dict[str, Decimal]] = [{} for _ in range(len(timeline))]
        self._names: set[str] = set()

    def add(self, name: str, amount: Decimal, when: float) -> None:
        """Counts an amount; names beyond the first ones share one that is named ""."""
        if name not in self._names:
            if len(self._names) >= self._most:
                name = ""
            self._names.add(name)
        there = self._amounts[self._timeline.place(when)]
        there[name] = add(there.get(name, ZERO), amount)

    def stack(self) -> Stack | None:
        """As layers, the largest lowest and the smallest ones together; None if nothing grew."""
        totals = {
            name: total(there.get(name, ZERO) for there in self._amounts) for name in self._names
        }
        whole = total(totals.values())
        if not whole:
            return None
        largest = sorted(totals, key=lambda name: (name == "", -totals[name], name))
        named = [name for name in largest[:MOST_LAYERS] if name and totals[name]]
        rest = [name for name in largest if name not in named and totals[name]]
        top = round_up(whole)
        layers, below = [], [ZERO] * len(self._amounts)
        for name, members in [*((name, [name]) for name in named), *([("", rest)] if rest else [])]:
            grown = self._grown(members)
            below = [add(lower, more) for lower, more in zip(below, grown, strict=True)]
            amount = total(totals[each] for each in members)
            layers.append(Layer(name, self._outline(below, top), total=amount))
        return Stack(layers[::-1], top, *self._timeline.ticks())

    def _grown(self, names: list[str]) -> list[Decimal]:
        """What these came to by the end of each bar."""
        so_far, grown = ZERO, []
        for there in self._amounts:
            so_far = add(so_far, total(there.get(name, ZERO) for name in names))
            grown.append(so_far)
        return grown

    def _outline(self, heights: list[Decimal], top: Decimal) -> str:
        until = self._timeline.place(self._timeline.last) + 1
        wide = 1000 / len(heights)
        points = [
            f"{(place + 1) * wide:.1f} {1000 - 1000 * float(height / top):.1f}"
            for place, height in enumerate(heights[:until])
        ]
        return f"M0 1000L{'L'.join(points)}V1000Z"
