"""Jobs that are over: what still comes for them is taken in, and their files are kept true."""

from __future__ import annotations

import logging
from collections.abc import Container
from contextlib import closing

from batch.coordinator.isolation import Isolation
from batch.coordinator.outputs import Writer
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.result_streams import Mail
from batch.coordinator.result_intake import let_begin, take_in_late
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.message import NOTHING
from jobs.states import ENDED

log = logging.getLogger("nightshift.coordinator")


class EndedJobs:
    """Those whose files are to be written anew, and how."""

    def __init__(
        self, home: Home, redis: CoordinatorRedis, writer: Writer, isolation: Isolation
    ) -> None:
        self._home = home
        self._redis = redis
        self._writer = writer
        self._isolation = isolation
        self._stale: set[str] = set()

    def note(self, job_id: str) -> None:
        """Its files are not what its row says."""
        self._stale.add(job_id)

    def take_in(self, at_work: Container[str]) -> None:
        """For jobs that are over, and those that a foreground run is not for."""
        others = [
            job
            for job in self._home.job_ids()
            if job not in at_work and not self._isolation.lets_be(job)
        ]
        for mail in self._redis.results.read(others, 0.0) if others else ():
            with self._isolation.apart(mail.job):
                self._take_in(mail)

    def _take_in(self, mail: Mail) -> None:
        with closing(self._home.open(mail.job)) as store:
            let_begin(store, self._redis, mail)
            if take_in_late(store, mail):
                log.info("%s: something came after its end; it is written anew", mail.job)
                self.note(mail.job)
        self._redis.results.acknowledge(mail)

    def freshen(self) -> None:
        """Writes the files that are behind."""
        for job_id in [each for each in self._stale if not self._isolation.lets_be(each)]:
            with self._isolation.apart(job_id), closing(self._home.open(job_id)) as store:
                self._freshen(job_id, store)

    def _freshen(self, job_id: str, store: JobStore) -> None:
        job = store.job()
        if job.state not in ENDED:
            self._stale.discard(job_id)
        elif self._writer.stands(store):
            self._stale.discard(job_id)
            self._isolation.forgive(job_id)
            if job.reason_text:
                store.tell(NOTHING)
