"""The states of a job and of a request, in the words of OpenAI's Batch API.

job:

    validating ─a→ in_progress ─b→ finalizing ─c→ completed
        │            ↑d  │e             │
        │          paused◄┘             │
        └─f→ failed      any of them ─g→ cancelling ─h→ cancelled
                         any of them ─i→ expired   └─j→ in_progress

a  the input is checked and stored            f  the input was refused, nothing was sent
b  every request has its result               g  the user cancels
c  the outputs stand                          h  nothing of the job is under way any more
d  the reason is gone, or `resume`            i  the deadline passed
e  for one of `jobs.pause_reasons`            j  `resume` before that

request: pending → queued → completed | failed; back to pending when its chunk was given back.
"""

from __future__ import annotations

from enum import StrEnum

from jobs.errors import UsageError
from jobs.message import N_


class JobState(StrEnum):
    """Where a job stands."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    PAUSED = "paused"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    EXPIRED = "expired"


ENDED = frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED, JobState.EXPIRED})

_ARROWS: dict[JobState, frozenset[JobState]] = {
    JobState.VALIDATING: frozenset({JobState.IN_PROGRESS, JobState.FAILED, JobState.CANCELLING}),
    JobState.IN_PROGRESS: frozenset(
        {JobState.FINALIZING, JobState.PAUSED, JobState.CANCELLING, JobState.EXPIRED}
    ),
    JobState.PAUSED: frozenset({JobState.IN_PROGRESS, JobState.CANCELLING, JobState.EXPIRED}),
    JobState.FINALIZING: frozenset({JobState.COMPLETED, JobState.IN_PROGRESS}),
    JobState.CANCELLING: frozenset({JobState.CANCELLED, JobState.IN_PROGRESS}),
    # A finished job comes back when failed or unfinished requests are to be tried again.
    JobState.COMPLETED: frozenset({JobState.IN_PROGRESS}),
    JobState.CANCELLED: frozenset({JobState.IN_PROGRESS}),
    JobState.EXPIRED: frozenset({JobState.IN_PROGRESS}),
    JobState.FAILED: frozenset(),
}


def check_arrow(old: JobState, new: JobState) -> None:
    """Raises `UsageError` when a job may not go from `old` to `new`."""
    if new not in _ARROWS[old]:
        raise UsageError(N_("a job that is {old} cannot become {new}", old=old, new=new))
