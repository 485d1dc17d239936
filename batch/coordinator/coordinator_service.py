"""The one process that feeds a home's jobs, takes in their results and ends them.

    turn:   read deliveries → disk → acknowledge
            look at the workers and at Redis's memory
            for each job: wishes → window → lost chunks → feed → lookups → the end
            publish progress

What must be done is read from the disk, what is under way from Redis; so a killed coordinator, or
a Redis that forgot everything, needs no treatment of its own.

A job whose files cannot be read or written, or whose outputs cannot, is let be for a while and says
why; the others go on. In a foreground run, which has only one job, its trouble ends the command.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from batch.coordinator import restored_backup
from batch.coordinator.ended_jobs import EndedJobs
from batch.coordinator.fence import Fence
from batch.coordinator.isolation import Isolation
from batch.coordinator.job_controller import JobController
from batch.coordinator.joblog import JobLog
from batch.coordinator.late_lookups import Afterwards
from batch.coordinator.outputs import Writer
from batch.coordinator.reconcile import SILENCE_S
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis_recovery import RedisRecovery
from batch.coordinator.status_publisher import Board
from batch.coordinator.task_publisher import Sender
from batch.coordinator.worker_status import presence_of
from batch.money.spend_tracker import Allowance
from batch.notifications.notifier import Teller
from batch.store.home import Home
from batch.watching.latest_incidents import REDIS
from batch.watching.progress import Progress, at_standstill
from jobs.errors import ServiceUnavailable, StorageUnavailable
from jobs.message import NOTHING
from jobs.signing import Target
from jobs.stall import UNMANNED_S, Signs, stalled
from jobs.states import ENDED, JobState

if TYPE_CHECKING:
    # Loads Prometheus's client, which is seldom wanted.
    from batch.coordinator.metrics import Metrics

TURN_S = 0.5
READ_S = 0.1
SCAN_S = 1.0
"""How often the home is looked through for new jobs and wishes."""

RETELL_S = 24 * 3600.0
"""What Redis knows of jobs that are over is told again so often, before it forgets."""

LATE_S = 1.0
"""How often deliveries for jobs that are not worked on are looked for."""

OWN_UNMANNED_S = 30.0
"""In a foreground run, which starts its workers and replaces those that die."""

WELL_S = 1.0
"""How often the home's lock is told that all is well."""

CHECK_S = 2.0
"""How often it is looked whether the files that are open are those that others find."""

_AWAY_S = 1.0

log = logging.getLogger("nightshift.coordinator")


class Coordinator:
    """Works on all jobs of a home, or on `only` one.

    In either case it takes in what workers deliver for any of them: a worker cannot forget it else.
    """

    def __init__(
        self,
        home: Home,
        redis: CoordinatorRedis,
        sender: Sender,
        *,
        only: str | None = None,
        listen: Callable[[Progress], None] = lambda _: None,
        metrics: Metrics | None = None,
        patience_s: float = SILENCE_S,
        sends_files: bool = True,
    ) -> None:
        self._patience_s = patience_s
        self._home = home
        self._redis = redis
        self._sender = sender
        self._only = only
        self._listen = listen
        self._metrics = metrics
        self._allowance = Allowance(home, time.time)
        self._lock = home.lock(only or "")
        self._board = Board(home, redis, only or "", sends_files=sends_files)
        self._teller = Teller(home.jobs_folder)
        self._teller.start()
        self._writer = Writer()
        self._log = JobLog()
        self._afterwards = Afterwards(home, sender)
        self._targets: set[Target] = set()
        self._jobs: dict[str, JobController] = {}
        self._unusable: dict[str, JobController] = {}
        self._last_turn = self._last_scan = self._last_late = self._checked_at = float("-inf")
        self._asleep: dict[str, float] = {}
        self._retold_at = time.monotonic()
        self._well_at = float("-inf")
        self._fence = Fence(home, redis, sender)
        self._isolation = Isolation(home, only, self._board.ailing, self._drop)
        self._recovery = RedisRecovery(home, redis, self._fence, self._isolation)
        self._ended = EndedJobs(home, redis, self._writer, self._isolation)
        self._looked_at = float("-inf")

    @property
    def away_since(self) -> float | None:
        """Since when Redis has not answered, by the monotonic clock; None while it does."""
        return self._recovery.away_since

    def close(self) -> None:
        """Lets go of the home; nothing is lost, another may go on at once."""
        self._writer.close()
        self._board.close()
        for job in self._jobs.values():
            with suppress(Exception):
                self._teller.see(job.store)
                job.status.keep_troubles()
            job.store.close()
        self._teller.close()
        self._lock.release()

    def withdraw(self) -> None:
        """Takes back what was fed and no worker took: nothing of it is sent after this ends."""
        for job in self._jobs.values():
            job.withdraw()

    def run(self, until: Callable[[], bool]) -> None:
        """Turns until `until` says so."""
        while not until():
            self.step()

    def step(self) -> None:
        """One short round; waits a moment for deliveries.

        Raises `StorageUnavailable` when the files of the one job that it is for are not usable.
        """
        try:
            self._check_files()
            self._board.serve()
            self._watch_redis()
            self._take_in()
            if time.monotonic() - self._last_late >= LATE_S:
                self._last_late = time.monotonic()
                self._ended.take_in(self._jobs)
            if time.monotonic() - self._last_turn >= TURN_S or self._is_in_a_hurry():
                self._turn()
            self._is_well()
        except ServiceUnavailable as error:
            self._is_away(error)
            time.sleep(_AWAY_S)
        except (StorageUnavailable, OSError) as error:
            if self._only:
                raise
            self._is_homeless(error)
            time.sleep(_AWAY_S)

    def _check_files(self) -> None:
        """Nothing is paid for that is written where nobody will find it."""
        if time.monotonic() - self._checked_at < CHECK_S:
            return
        self._checked_at = time.monotonic()
        self._lock.check()
        for job in list(self._jobs.values()):
            with self._isolation.apart(job.id):
                job.check_files()

    def _is_homeless(self, error: Exception) -> None:
        """The data directory cannot be used: all of its jobs are let be until it can."""
        self._checked_at = float("-inf")
        self._isolation.let_all_be(list(self._jobs), error)
        with suppress(ServiceUnavailable, OSError):
            self._board.turn()
        self._tell_unusable()

    def _is_well(self) -> None:
        self._recovery.answers()
        if time.monotonic() - self._well_at >= WELL_S:
            self._lock.is_well()
            self._well_at = time.monotonic()
        if self._metrics:
            self._metrics.redis_up = True

    def _is_away(self, error: ServiceUnavailable) -> None:
        since = time.time() - self._recovery.is_away(error)
        if self._metrics:
            self._metrics.redis_up = False
        for job in self._jobs.values():
            self._isolation.troubles[job.id].meet(REDIS, time.time())
            self._tell_stalled(job, Signs(redis_away_since=since, text=error.message), since)
            job.status.excuse()

    def _tell_stalled(self, job: JobController, signs: Signs, shown_at: float) -> None:
        """Tells by what does not need Redis that a job stands still; it stood so at `shown_at`."""
        # Whatever is wrong with the job, or with telling of it, is not to end the others.
        with suppress(Exception):
            row = job.status.row()
            stall = stalled(row.state, row.reason, signs, time.time())
            self._teller.see(job.store, stall, row)
            if stall is not None and job.status.last is not None:
                told = at_standstill(job.status.last, stall, shown_at)
                self._listen(told)
                self._log.see(told)
                if self._metrics:
                    self._metrics.note(job, told)

    def _is_in_a_hurry(self) -> bool:
        some = any(job.is_in_a_hurry for job in self._jobs.values())
        return some or self._writer.ended.is_set()

    def _take_in(self) -> None:
        if not self._jobs:
            time.sleep(READ_S)
            return
        began = time.monotonic()
        # A job's end waits for its files and for nothing else.
        hurries = self._writer.is_busy or self._is_in_a_hurry()
        mails = self._redis.results.read(list(self._jobs), 0.0 if hurries else READ_S)
        if self._writer.is_busy and not mails:
            self._writer.ended.wait(READ_S)
        found = {mail.job: mail for mail in mails}
        for job in list(self._jobs.values()):
            with self._isolation.apart(job.id):
                job.heard(found.get(job.id), began)

    def _drop(self, job_id: str) -> None:
        """Stops the work on a job that is let be."""
        if job := self._jobs.pop(job_id, None):
            self._unusable[job_id] = job
            job.status.row()
            with suppress(sqlite3.Error):
                job.store.close()

    def _tell_unusable(self) -> None:
        """Tells of the jobs that are let be that they stand still, as long as they do."""
        for job_id, job in list(self._unusable.items()):
            if ailment := self._board.ailing.get(job_id):
                signs = Signs(unusable_since=ailment.since, text=ailment.told)
                self._tell_stalled(job, signs, ailment.since)
            else:
                del self._unusable[job_id]

    def _turn(self) -> None:
        self._last_turn = time.monotonic()
        self._writer.ended.clear()
        self._board.turn()
        if self._last_turn - self._last_scan >= SCAN_S:
            self._scan()
        self._ended.freshen()
        self._afterwards.turn(time.time(), self._targets)
        for job in list(self._jobs.values()):
            with self._isolation.apart(job.id):
                job.try_suspects(allowed=not self._others_try(job))
                job.is_alone = not any(other.is_out for other in self._beside(job))
                job.turn(self._recovery.since)
                self._isolation.recovered(job.id, job.store)
                self._tell(job)
                if job.store.job().state in ENDED:
                    job.store.close()
                    del self._jobs[job.id]
                    self._isolation.troubles.pop(job.id, None)
        self._tell_unusable()

    def _others_try(self, job: JobController) -> bool:
        return any(other.is_trying() for other in self._beside(job))

    def _beside(self, job: JobController) -> list[JobController]:
        """The other jobs of its endpoint."""
        others = (other for other in self._jobs.values() if other is not job)
        return [other for other in others if other.target == job.target]

    def _watch_redis(self) -> None:
        if time.monotonic() - self._looked_at < READ_S:
            return
        if not self._fence.holds():
            self._asleep.clear()
            self._recovery.put_right(self._jobs)
        self._looked_at = time.monotonic()

    def _scan(self) -> None:
        self._last_scan = time.monotonic()
        if self._last_scan - self._retold_at >= RETELL_S:
            self._retold_at = self._last_scan
            self._asleep.clear()
        for job_id in [self._only] if self._only else self._home.job_ids():
            with self._isolation.apart(job_id):
                self._look_at(job_id)
        workers = self._redis.status.workers()
        self._targets = {worker.target for worker in workers}
        for job in list(self._jobs.values()):
            with self._isolation.apart(job.id):
                job.find_key(self._targets)
        at_work: Counter[Target] = Counter()
        for job in list(self._jobs.values()):
            with self._isolation.apart(job.id):
                at_work[job.target] += job.is_fed
        for job in list(self._jobs.values()):
            with self._isolation.apart(job.id):
                job.status.see(presence_of(job.id, job.target, workers, time.time()))
                job.rivals = max(1, at_work[job.target])
                if job.store.chunks.next_number() <= max(job.status.presence.open, default=0):
                    job.doubt()
        if self._metrics:
            self._metrics.see(workers, self._redis.foreign)

    def _look_at(self, job_id: str) -> None:
        """Takes a job into its hands that is not ended, and that it has not yet."""
        if job_id in self._jobs or self._isolation.lets_be(job_id):
            return
        # Before the look: a change that comes between the two is seen at the next scan.
        touched = self._home.touched(job_id)
        if self._asleep.get(job_id) == touched:
            return
        store = self._home.open(job_id)
        try:
            job = store.job()
            if job.state not in ENDED:
                restored_backup.compare(store, self._redis)
                job = store.job()
                self._jobs[job_id] = JobController(
                    store,
                    self._redis,
                    self._sender,
                    self._allowance,
                    self._writer,
                    self._isolation.troubles[job_id],
                    self._fence.whole_since,
                    self._patience_s,
                    UNMANNED_S if self._only is None else OWN_UNMANNED_S,
                )
                if job.state is JobState.IN_PROGRESS and job.reason_text:
                    store.tell(NOTHING)
                return
            self._isolation.recovered(job_id, store)
            self._afterwards.note(store)
            if not store.is_written():
                self._ended.note(job_id)
            self._board.tell_ended(store)
            if store.chunks.lost().chunks:
                # A worker that was only suspended must not go on with it when it wakes.
                self._redis.chunks.hold(job_id, job.state.value)
            self._teller.see(store)
        finally:
            if job_id not in self._jobs:
                store.close()
        self._asleep[job_id] = touched

    def _tell(self, job: JobController) -> None:
        progress = job.progress()
        self._board.tell(job, progress)
        if self._metrics:
            self._metrics.note(job, progress)
        self._teller.see(job.store, progress.stall)
        self._listen(progress)
        self._log.see(progress)
        job.status.last = progress
