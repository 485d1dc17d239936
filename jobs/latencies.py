"""Latencies, counted in classes of equal width on a logarithmic scale.

So a quantile is known to half a class from few counters, whatever its size (the idea of DDSketch:
Masson, Rim, Lee, VLDB 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

_SHORTEST_S, _LONGEST_S = 0.001, 1e6


class Scale:
    """Classes whose bounds are `ratio` times apart; they are numbered."""

    def __init__(self, ratio: float) -> None:
        self._step = math.log(ratio)

    def class_of(self, seconds: float) -> int:
        """Of a latency; what is below a millisecond or beyond 11 days counts as that."""
        return math.floor(self.position(min(max(seconds, _SHORTEST_S), _LONGEST_S)))

    def position(self, seconds: float) -> float:
        """On the scale, in classes."""
        return math.log(seconds) / self._step

    def seconds(self, position: float) -> float:
        """What stands at that position."""
        return math.exp(position * self._step)

    def quantile(self, counts: Mapping[int, int], share: float) -> float | None:
        """Seconds within which this share of what was counted by class came; None of none."""
        missing = math.ceil(share * sum(counts.values()))
        for place, found in sorted(counts.items()):
            missing -= found
            if missing <= 0:
                return self.seconds(place + 0.5)
        return None
