"""What workers deliver: written down, acted upon, acknowledged."""

from __future__ import annotations

import logging
import time

from batch.coordinator import restored_backup
from batch.coordinator.chunk_watch import ChunkWatch
from batch.coordinator.job_status import JobStatus
from batch.coordinator.pauses import Pauses
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.result_streams import Mail
from batch.store import delivery_ledger
from batch.store.delivery_ledger import Applied
from batch.store.jobstore import JobStore
from batch.tables.answer_judge import judge_of
from batch.watching.latest_incidents import WORKER_DIED
from jobs import chunk as chunks
from jobs.chunk import ReturnReason
from jobs.message import N_
from jobs.pause_reasons import PauseReason, reason_for
from jobs.states import ENDED, JobState

log = logging.getLogger("nightshift.coordinator")


class Intake:
    """Of one job under a coordinator's hands."""

    def __init__(
        self,
        store: JobStore,
        redis: CoordinatorRedis,
        chunks: ChunkWatch,
        status: JobStatus,
        pauses: Pauses,
        aside: dict[str, ReturnReason],
    ) -> None:
        """`aside`: why nothing of these models is fed, which is noted there."""
        self._store, self._redis = store, redis
        self._job = store.job().id
        self._chunks, self._status, self._pauses = chunks, status, pauses
        self._aside = aside
        self._warned = False

    def take_in(self, mail: Mail) -> None:
        """Writes deliveries to disk and acts upon them; acknowledges them last."""
        self._chunks.began(let_begin(self._store, self._redis, mail))
        applied = write_down(self._store, mail)
        if applied.is_older:
            self.doubt()
        self._status.draw(applied)
        if applied.overrun is not None:
            self._mind(applied.overrun)
        for chunk, reason in applied.reasons:
            self._note_reason(chunk, reason)
            if reason.pause is not None and self._chunks.is_ours(chunk):
                self._heed_stop(reason)
        self._chunks.closed(applied.closed)
        self._redis.results.acknowledge(mail)
        self._chunks.forget()

    def doubt(self) -> None:
        """The job's file is older than the job: any chunk may be with a worker."""
        restored_backup.pause(self._store)
        self._chunks.doubt()

    def _note_reason(self, chunk: int, reason: ReturnReason) -> None:
        """Why something came back, if that was trouble; of a lost chunk it was told before."""
        if chunk not in self._chunks:
            return
        if reason.code == chunks.WORKER_DIED.code:
            self._status.troubles.meet(WORKER_DIED, time.time())
        elif reason.pause is not None:
            self._status.troubles.meet(reason.code, time.time())

    def _mind(self, overrun: delivery_ledger.Overrun) -> None:
        """A call was dearer than it could be by the prices that are known: no cap holds by them."""
        text = N_(
            "a call cost {cost}, more than the maximum of {bound} at known prices; prices"
            " may have risen. To allow for more: nightshift resume {job} --max-price-rise"
            " PERCENT",
            cost=overrun.cost,
            bound=overrun.bound,
            job=self._job,
        )
        if self._store.job().spec.budget.rub is None:
            if not self._warned:
                log.warning("%s: %s", self._job, text)
            self._warned = True
        elif self._chunks.is_ours(overrun.chunk):
            self._pauses.pause(PauseReason.PRICE_RISE, text)

    def _heed_stop(self, why: ReturnReason) -> None:
        """A worker met what no request of the job, or of that model, can get past."""
        if why.model and why.pause is not None:
            self._aside[why.model] = why
            log.info("%s: %s is set aside: %s", self._job, why.model, why.code)
        elif why.pause is not None:
            # The endpoint's words may quote a prompt: they are for the home, not for the log.
            self._pauses.pause(reason_for(why.pause, why.code), why.told, logged=why.code)


# ---- also for jobs that are not under the coordinator's hands -----------------------------------


def write_down(store: JobStore, mail: Mail) -> Applied:
    """Writes deliveries to disk, and says what was dropped."""
    applied = Applied()
    if mail.deliveries:
        # Else no commit: workers often only ask.
        applied = delivery_ledger.apply(
            store, mail.deliveries, judge_of(mail.job, store.job().spec)
        )
    dropped = mail.garbage + applied.foreign
    if dropped:
        log.warning(N_("{job}: dropped {dropped} invalid messages", job=mail.job, dropped=dropped))
    return applied


def let_begin(store: JobStore, redis: CoordinatorRedis, mail: Mail) -> list[int]:
    """Answers the workers that ask to begin chunks; returns the chunks that are begun."""
    if not mail.asks:
        return []
    may_start = store.job().state is JobState.IN_PROGRESS
    permits = store.chunks.begin(mail.asks, may_start=may_start)
    redis.chunks.permit(mail.job, permits)
    return [chunk for chunk, permit in permits.items() if permit.attempt]


def take_in_late(store: JobStore, mail: Mail) -> bool:
    """Takes in what came for a job that is over, or that somebody else is to go on with.

    Whether it changes one that is over: then its outputs are to be written anew.
    """
    applied = write_down(store, mail)
    if applied.is_older:
        restored_backup.pause(store)
    return applied.anything and store.job().state in ENDED
