"""For how long requests that are ready wait, and for what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from jobs.bottleneck import Bound


class Waits:
    """Of one dispatcher. The clock is read only when the cause changes, and when somebody asks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._spent: dict[str, float] = defaultdict(float)
        self.cause: Bound | None = None
        """What is waited for now; None: nothing."""

    def begin(self, cause: Bound | None) -> None:
        """From now on that is waited for."""
        if cause is not self.cause:
            self._settle()
            self.cause = cause

    def seconds(self) -> dict[str, float]:
        """Seconds by cause since the start."""
        self._settle()
        return dict(self._spent)

    def _settle(self) -> None:
        now = self._clock()
        if self.cause is not None:
            self._spent[self.cause.value] += now - self._since
        self._since = now
