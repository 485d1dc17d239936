"""A line of the log for each start, pause, standstill, return and end of a job, and its reason."""

from __future__ import annotations

import logging

from batch.watching.progress import Progress
from jobs.money import show
from jobs.states import ENDED, JobState

log = logging.getLogger("nightshift.coordinator")


class JobLog:
    """Says what is new, once."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, str]] = {}

    def see(self, progress: Progress) -> None:
        """A job as it stands."""
        stall = progress.stall.reason.value if progress.stall else ""
        now = progress.state, stall
        before = self._told.get(progress.job)
        if now == before:
            return
        self._told[progress.job] = now
        if stall:
            log.warning("%s stalled: %s", progress.job, progress.stall and progress.stall.said)
        elif progress.state in ENDED:
            del self._told[progress.job]
            log.info("%s %s: %s", progress.job, progress.state, _figures(progress))
        elif before is None or progress.state != JobState.PAUSED or progress.reason == "user":
            again = "" if before is None else " again" if before[1] else ""
            log.info("%s %s%s: %s", progress.job, progress.state, again, _figures(progress))


def _figures(progress: Progress) -> str:
    return (
        f"{progress.completed:,} of {progress.requests:,} answered,"
        f" {progress.failed:,} failed, {show(progress.spent)}"
    )
