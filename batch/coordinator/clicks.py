"""What somebody clicked in Flower: a job is paused, resumed or cancelled, or it is said why not.

The answers are codes; `batch.flower.words` has their sentences.
"""

from __future__ import annotations

from datetime import UTC, datetime

from batch.store.jobstore import JobRow, JobStore
from jobs.states import ENDED, JobState, PauseReason

DONE = "done"
PAUSE, RESUME, CANCEL = "pause", "resume", "cancel"

_NEEDS_A_COMMAND = {
    PauseReason.BUDGET_EXHAUSTED: "needs_budget",
    PauseReason.PRICE_RISE: "needs_prices",
    PauseReason.WINDOW_CLOSED: "needs_hours",
}
"""A job that went on as it is would rest again at once."""


_GOES_ON = (PauseReason.WINDOW_CLOSED, PauseReason.ENDPOINT_DOWN)
"""Of these a job may recover by itself, unless the user pauses it."""


def heed(store: JobStore, wish: str, *, waits: bool = False) -> str:
    """Does it, or has the next turn do it; returns `DONE`, or why it is not possible.

    `waits`: something holds its calls up, such as a rate limit, which `RESUME` ends.
    """
    job = store.job()
    why_not = objection(wish, job, waits=waits)
    if why_not:
        return why_not
    if wish != RESUME:
        store.want(wish)
        return DONE
    store.want("lift")
    if job.state is JobState.IN_PROGRESS:
        return DONE
    moved = store.set_state(JobState.IN_PROGRESS, standing=job.state)
    return DONE if moved else "moved"


def objection(wish: str, job: JobRow, *, waits: bool = False) -> str:
    """Why a wish cannot be heeded as the job stands; empty if it can."""
    match wish:
        case "pause":
            return _not_paused(job)
        case "cancel":
            return _not_cancelled(job)
        case "resume":
            return _not_resumed(job, waits=waits)
    return "unknown"


def _not_paused(job: JobRow) -> str:
    if job.state in ENDED:
        return "ended"
    if job.state is JobState.PAUSED and job.reason not in _GOES_ON:
        return "paused_already"
    return "" if job.state in (JobState.IN_PROGRESS, JobState.PAUSED) else "ending"


def _not_cancelled(job: JobRow) -> str:
    if job.state in ENDED:
        return "ended"
    return "" if job.state in (JobState.IN_PROGRESS, JobState.PAUSED) else "ending"


def _not_resumed(job: JobRow, *, waits: bool) -> str:
    if job.state is JobState.FAILED:
        return "never_began"
    deadline = job.spec.deadline
    if deadline is not None and deadline <= datetime.now(UTC) and job.left:
        return "needs_deadline"
    if job.state in ENDED:
        return "" if job.left else "nothing_left"
    if job.state is JobState.PAUSED:
        return _NEEDS_A_COMMAND.get(PauseReason(job.reason), "") if job.reason else ""
    if job.state is JobState.IN_PROGRESS:
        return "" if waits else "running"
    return "ending"
