"""Redis is away, came back, is another or older than it was: what must be done about it.

Nothing in the home needs to be mended: what is under way is sent again, under a new fence.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing

from batch.coordinator import restored_backup
from batch.coordinator.fence import Fence
from batch.coordinator.isolation import Isolation
from batch.coordinator.job_controller import JobController
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.store.home import Home
from jobs.errors import ServiceUnavailable
from jobs.message import N_
from jobs.stall import Stall

OLDER = N_(
    "this data directory is older than what Redis remembers of it: it was restored, or its disk"
    " lost what was written last; jobs that lack calls because of that are paused"
)

log = logging.getLogger("nightshift.coordinator")


class RedisRecovery:
    """`since`: since when Redis has been there, and whole. `away_since`: since when it has not
    answered, None while it does. Both by the monotonic clock.
    """

    def __init__(
        self, home: Home, redis: CoordinatorRedis, fence: Fence, isolation: Isolation
    ) -> None:
        self._home = home
        self._redis = redis
        self._fence = fence
        self._isolation = isolation
        self.since = time.monotonic()
        self.away_since: float | None = None
        self._away_why: set[str] = set()

    def answers(self) -> None:
        """It is there."""
        self.away_since = None
        self._away_why.clear()

    def is_away(self, error: ServiceUnavailable) -> float:
        """It did not answer; returns for how many seconds it has not, whatever clock was set."""
        self.since = time.monotonic()
        if self.away_since is None:
            self.away_since = self.since
        if error.message not in self._away_why:
            # Also what keeps it away when it is back: a password, too few clients.
            log.warning(N_("{why}; results are waiting at the workers", why=error.message))
            self._away_why.add(error.message)
        return self.since - self.away_since

    def put_right(self, jobs: Mapping[str, JobController]) -> None:
        """Redis may be another, or older than it was: nothing that stands in it is taken now."""
        self.since = time.monotonic()
        if self._fence.is_behind:
            log.warning(OLDER)
        if self._fence.is_copied:
            log.warning("%s: %s", self._home.folder, Stall.COPIED.rule.meaning)
        if self._fence.is_behind or self._fence.is_copied:
            self._doubt()
        self._fence.renew()
        if jobs and not self._fence.is_behind:
            log.warning(N_("Redis has lost data; everything in transit is sent again"))
        for job in list(jobs.values()):
            with self._isolation.apart(job.id):
                job.redis_forgot()
        self._forget_payloads()
        self._fence.holds()

    def _doubt(self) -> None:
        """This home does not know what became of its chunks since it was copied."""
        for job_id in self._home.job_ids():
            with self._isolation.apart(job_id), closing(self._home.open(job_id)) as store:
                # Before the numbers are raised: what is known of the job tells of those in use.
                restored_backup.compare(store, self._redis)
                if self._fence.is_behind:
                    store.chunks.doubt(time.time())
                else:
                    store.chunks.skip_numbers(time.time())

    def _forget_payloads(self) -> None:
        """Those that an older memory brought back, of chunks that are closed."""
        found = self._redis.memory.laid_down()
        for job_id in found.keys() & set(self._home.job_ids()):
            with (
                self._isolation.apart(job_id),
                closing(self._home.open(job_id, read_only=True)) as store,
            ):
                self._redis.chunks.forget_payloads(job_id, found[job_id] - set(store.chunks.out()))
