"""The one process that feeds a home's jobs, takes in their results and ends them.

    turn:   read deliveries → disk → acknowledge
            look at the workers and at Redis's memory
            for each job: wishes → window → lost chunks → feed → lookups → the end
            publish progress

What must be done is read from the disk, what is under way from Redis; so a killed coordinator, or
a Redis that forgot everything, needs no treatment of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from batch.active import ActiveJob
from batch.home import Home
from batch.post import Post
from batch.progress import Progress
from batch.sender import Sender
from jobs.errors import ServiceUnavailable
from jobs.spec import check_base_url
from jobs.states import ENDED

TURN_S = 0.5
READ_S = 0.1
SCAN_S = 1.0
"""How often the home is looked through for new jobs and wishes."""

_AWAY_S = 1.0

log = logging.getLogger("nightshift.coordinator")


class Coordinator:
    """Works on all jobs of a home, or on `only` one.

    In either case it takes in what workers deliver for any of them: a worker cannot forget it else.
    """

    def __init__(
        self,
        home: Home,
        post: Post,
        sender: Sender,
        *,
        only: str | None = None,
        listen: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._home = home
        self._post = post
        self._sender = sender
        self._only = only
        self._listen = listen
        self._lock = home.lock(only or "")
        self._jobs: dict[str, ActiveJob] = {}
        self._last_turn = self._last_scan = float("-inf")
        self._asleep: dict[str, float] = {}
        self._epoch = ""
        self._redis_since = time.monotonic()
        self.away_since: float | None = None

    def close(self) -> None:
        """Lets go of the home; nothing is lost, another may go on at once."""
        for job in self._jobs.values():
            job.store.close()
        self._lock.release()

    def withdraw(self) -> None:
        """Takes back what was fed and no worker took: nothing of it is sent after this ends."""
        for job in self._jobs.values():
            job.withdraw()

    def run(self, until: Callable[[], bool]) -> None:
        """Turns until `until` says so. Raises `StorageUnavailable` when the home is not usable."""
        while not until():
            self.step()

    def step(self) -> None:
        """One short round; waits a moment for deliveries."""
        try:
            self._take_in()
            if time.monotonic() - self._last_turn >= TURN_S:
                self._turn()
            self.away_since = None
        except ServiceUnavailable as error:
            if self.away_since is None:
                self.away_since = time.monotonic()
                log.warning("%s; results wait with the workers", error.message)
            self._redis_since = time.monotonic()
            time.sleep(_AWAY_S)

    def _take_in(self) -> None:
        if not self._jobs:
            time.sleep(READ_S)
            return
        for mail in self._post.read(list(self._jobs), READ_S):
            self._jobs[mail.job].take_in(mail)

    def _turn(self) -> None:
        self._last_turn = time.monotonic()
        self._watch_redis()
        if self._last_turn - self._last_scan >= SCAN_S:
            self._scan()
        for job in list(self._jobs.values()):
            if self._only in (None, job.id):
                job.turn(self._redis_since)
                self._tell(job)
            if job.store.job().state in ENDED:
                job.store.close()
                del self._jobs[job.id]

    def _watch_redis(self) -> None:
        epoch = self._post.epoch()
        if epoch != self._epoch:
            if self._epoch:
                log.warning("Redis lost its memory; what was on its way is sent again")
            self._epoch = epoch
            self._redis_since = time.monotonic()

    def _scan(self) -> None:
        self._last_scan = time.monotonic()
        for job_id in self._home.job_ids():
            if job_id not in self._jobs and self._asleep.get(job_id) != self._home.touched(job_id):
                self._adopt(job_id)
        workers = self._post.workers()
        for job in self._jobs.values():
            base_url = check_base_url(job.store.job().spec.base_url)
            mine = [worker for worker in workers if worker.get("base_url") == base_url]
            job.workers = len(mine)
            job.in_flight = sum(worker.get("in_flight", 0) for worker in mine)
            job.down = any(lane.get("down") for worker in mine for lane in worker.get("limits", ()))

    def _adopt(self, job_id: str) -> None:
        store = self._home.open(job_id)
        if store.job().state in ENDED:
            store.close()
            self._asleep[job_id] = self._home.touched(job_id)
        else:
            self._jobs[job_id] = ActiveJob(store, self._post, self._sender)

    def _tell(self, job: ActiveJob) -> None:
        progress = job.progress()
        self._post.publish(job.id, progress.as_json())
        self._listen(progress)
