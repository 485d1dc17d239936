"""Jobs whose files are older than they were: a backup was put back, or a copy of them went on.

Nothing in such a file tells so. But Redis and the workers remember more of the job: more calls than
the file has, or a chunk that it never fed. No cap counts what is missing, so the job is paused. Any
of its chunks may have been begun, and as a chunk's number is its fence, the numbers go on far above
those that were used.
"""

from __future__ import annotations

import logging
import time
from decimal import Decimal

import msgspec

from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.store.jobstore import JobStore
from jobs.constraints import Count, Seconds
from jobs.errors import BadMessage
from jobs.message import N_, Message
from jobs.money import ZERO
from jobs.pause_reasons import PauseReason
from jobs.states import JobState

UNKNOWN = N_(
    "requests of this job were sent of which this data directory knows nothing: it is older than"
    " the job"
)

log = logging.getLogger("nightshift.coordinator")


class Known(msgspec.Struct, frozen=True):
    """How far a job was `at` Unix seconds, as its coordinator then published it."""

    at: Seconds = 0.0
    calls: Count = 0
    next_chunk: Count = 0
    spent_rub: Decimal = ZERO


def compare(store: JobStore, redis: CoordinatorRedis) -> None:
    """Pauses a job of which Redis remembers more than its file has."""
    job, known = store.job(), _known(redis, store.job().id)
    next_chunk = store.chunks.next_number()
    is_told_before = known.at * 1000 < next_chunk  # the numbers were raised after this was told
    if is_told_before or (known.calls <= job.calls and known.next_chunk <= next_chunk):
        return
    text = N_(
        "this data directory is older than the job: it has {here:,} calls ({spent}), Redis knows of"
        " {there:,} ({known})",
        here=job.calls,
        spent=job.settled_rub,
        there=known.calls,
        known=known.spent_rub,
    )
    pause(store, text if known.calls > job.calls else UNKNOWN)


def pause(store: JobStore, text: Message = UNKNOWN) -> None:
    """The job is older than it was, as `text` tells; it goes on when the user says so."""
    store.chunks.doubt(time.time())
    job = store.job()
    log.warning("%s: %s", job.id, text)
    if job.state in (JobState.IN_PROGRESS, JobState.PAUSED):
        store.set_state(JobState.PAUSED, reason=PauseReason.RESTORED, text=text, standing=job.state)


def _known(redis: CoordinatorRedis, job_id: str) -> Known:
    try:
        return redis.status.published(job_id, Known) or Known()
    except BadMessage:  # of a release that tells it otherwise
        return Known()
