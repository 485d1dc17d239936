"""When a job will be done, and what it will have cost: by what is known at this moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal

from batch.store.jobstore import JobRow
from jobs.money import total
from jobs.states import JobState, PauseReason
from jobs.window import parse_window

ENOUGH = 10
"""So many results, and what they cost says more than the estimate."""

_ROUND = Context(prec=28)
_QUANTUM = Decimal("0.000001")


def seconds_left(job: JobRow, rate: float) -> float | None:
    """Seconds of work that are left, at `rate` requests a second or else as was estimated."""
    if not job.left:
        return 0.0
    if rate > 0:
        return job.left / rate
    rests = job.state is JobState.PAUSED and job.reason == PauseReason.WINDOW_CLOSED
    if rests and job.guess.hours:
        return job.guess.hours * 3600 * job.left / job.requests
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


def cost_of_all(job: JobRow) -> Decimal | None:
    """₽ that all of the job will have cost: its price so far, carried on, or the estimate.

    A call of unknown cost counts as much as the others did, not its bound, which is several times
    that.
    """
    if not job.left:
        return None
    known = job.calls - job.unknown
    if min(job.finished, known) < ENOUGH:
        return job.guess.likely
    unknown = _ROUND.multiply(_ROUND.divide(job.settled_rub, Decimal(known)), Decimal(job.unknown))
    spent = total([job.settled_rub, min(unknown, job.booked_rub)])
    each = _ROUND.divide(spent, Decimal(job.finished))
    return _ROUND.multiply(each, Decimal(job.requests)).quantize(_QUANTUM, context=_ROUND)


def is_late(job: JobRow, done: datetime | None) -> bool:
    """Whether the deadline comes before the end."""
    deadline = job.spec.deadline
    return deadline is not None and done is not None and done > deadline.astimezone(UTC)
