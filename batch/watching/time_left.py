"""When a job will be done, by what is known at this moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from batch.store.jobstore import JobRow
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from jobs.window import parse_window


def seconds_left(job: JobRow, rate: float) -> float | None:
    """Seconds of work that are left, at `rate` requests a second or else as was estimated."""
    if not job.left:
        return 0.0
    if rate > 0:
        return job.left / rate
    rests = job.state is JobState.PAUSED and job.reason == PauseReason.WINDOW_CLOSED
    if rests and job.guess.hours:
        return job.guess.hours * 3600 * job.left / max(job.own, 1)
    return None


def done_at(job: JobRow, rate: float, now: datetime) -> datetime | None:
    """When the last result will be there, hours of rest counted in; None if nobody can tell.

    It may be after the job's deadline: then not all of it will be done.
    """
    seconds = seconds_left(job, rate)
    moves = job.state is JobState.IN_PROGRESS or job.reason == PauseReason.WINDOW_CLOSED
    if seconds is None or not job.left or not moves:
        return None
    if job.spec.window is None:
        return now + timedelta(seconds=min(seconds, 1e9))
    return parse_window(job.spec.window).after(now, timedelta(seconds=min(seconds, 1e9)))


def is_late(job: JobRow, done: datetime | None) -> bool:
    """Whether the deadline comes before the end."""
    deadline = job.spec.deadline
    return deadline is not None and done is not None and done > deadline.astimezone(UTC)
