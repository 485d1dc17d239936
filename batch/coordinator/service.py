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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from batch.coordinator import restored_backup
from batch.coordinator.fence import Fence
from batch.coordinator.heartbeat import Ailment
from batch.coordinator.job_controller import JobController
from batch.coordinator.joblog import JobLog
from batch.coordinator.late_lookups import Afterwards
from batch.coordinator.outputs import Writer
from batch.coordinator.reconcile import SILENCE_S
from batch.coordinator.redis.gateway import CoordinatorRedis
from batch.coordinator.redis.results import Mail
from batch.coordinator.result_intake import let_begin, take_in_late
from batch.coordinator.status_publisher import Board
from batch.coordinator.task_publisher import Sender
from batch.coordinator.worker_status import presence_of
from batch.money.spend_tracker import Allowance
from batch.notifications.notifier import Teller
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.watching.incidents import DISK, FAULT, REDIS, Troubles
from batch.watching.progress import Progress, at_standstill
from jobs.errors import NightshiftError, ServiceUnavailable, StorageUnavailable, UsageError
from jobs.message import N_, NOTHING, Message
from jobs.signing import Target
from jobs.stall import UNMANNED_S, Signs, Stall, stalled
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

TROUBLE_S = 30.0
"""So long a job is let be whose files are not usable."""

OWN_UNMANNED_S = 30.0
"""In a foreground run, which starts its workers and replaces those that die."""

WELL_S = 1.0
"""How often the home's lock is told that all is well."""

_AWAY_S = 1.0

OLDER = N_(
    "this data directory is older than what Redis remembers of it: it was restored, or its disk"
    " lost what was written last; jobs that lack calls because of that are paused"
)

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
        self._stale: set[str] = set()
        self._jobs: dict[str, JobController] = {}
        self._last_turn = self._last_scan = self._last_late = float("-inf")
        self._asleep: dict[str, float] = {}
        self._retold_at = time.monotonic()
        self._let_be: dict[str, float] = {}
        self._well_at = float("-inf")
        self._troubles: dict[str, Troubles] = defaultdict(Troubles)
        self._fence = Fence(home, redis, sender)
        self._looked_at = float("-inf")
        self._redis_since = time.monotonic()
        self.away_since: float | None = None
        self._away_why: set[str] = set()

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
            self._board.serve()
            self._watch_redis()
            self._take_in()
            if time.monotonic() - self._last_late >= LATE_S:
                self._take_in_late()
            if time.monotonic() - self._last_turn >= TURN_S or self._is_in_a_hurry():
                self._turn()
            self._is_well()
        except ServiceUnavailable as error:
            self._is_away(error)
            time.sleep(_AWAY_S)

    def _is_well(self) -> None:
        self.away_since = None
        self._away_why.clear()
        if time.monotonic() - self._well_at >= WELL_S:
            self._lock.is_well()
            self._well_at = time.monotonic()
        if self._metrics:
            self._metrics.redis_up = True

    def _is_away(self, error: ServiceUnavailable) -> None:
        now = self._redis_since = time.monotonic()
        if self._metrics:
            self._metrics.redis_up = False
        if self.away_since is None:
            self.away_since = now
        if error.message not in self._away_why:
            # Also what keeps it away when it is back: a password, too few clients.
            log.warning(N_("{why}; results are waiting at the workers", why=error.message))
            self._away_why.add(error.message)
        since = self._home.well_at()
        for job in self._jobs.values():
            self._troubles[job.id].meet(REDIS, time.time())
            self._tell_stalled(job, Signs(redis_away_since=since, text=error.message), since)
            job.status.excuse()

    def _tell_stalled(self, job: JobController, signs: Signs, shown_at: float) -> None:
        """Tells by what does not need Redis that a job stands still; it stood so at `shown_at`."""
        # Whatever is wrong with the job, or with telling of it, is not to end the others.
        with suppress(Exception):
            row = job.store.job()
            stall = stalled(row.state, row.reason, signs, time.time())
            self._teller.see(job.store, stall)
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
            with self._apart(job.id):
                job.heard(found.get(job.id), began)

    def _take_in_late(self) -> None:
        """For jobs that are over, and those that a foreground run is not for."""
        self._last_late = now = time.monotonic()
        others = [
            job
            for job in self._home.job_ids()
            if job not in self._jobs and self._let_be.get(job, 0.0) <= now
        ]
        for mail in self._redis.results.read(others, 0.0) if others else ():
            with self._apart(mail.job):
                self._late(mail)

    def _late(self, mail: Mail) -> None:
        store = self._home.open(mail.job)
        try:
            let_begin(store, self._redis, mail)
            if take_in_late(store, mail):
                log.info("%s: something came after its end; it is written anew", mail.job)
                self._stale.add(mail.job)
        finally:
            store.close()
        self._redis.results.acknowledge(mail)

    @contextmanager
    def _apart(self, job_id: str) -> Iterator[None]:
        """Keeps the trouble of one job from the others."""
        try:
            yield
        except (ServiceUnavailable, UsageError):
            raise
        except Exception as error:
            if self._only == job_id:
                self._tell_trouble(job_id, _sentence(error))
                raise _as_ours(error) from error
            self._let_job_be(job_id, error)

    def _let_job_be(self, job_id: str, error: Exception) -> None:
        self._let_be[job_id] = time.monotonic() + TROUBLE_S
        text = _sentence(error)
        self._troubles[job_id].meet(DISK if _is_of_disk(error) else FAULT, time.time())
        before = self._board.ailing.get(job_id)
        if before is None or before.text != text:
            log.error(N_("{job}: {text}; the other jobs go on", job=job_id, text=text))
            log.debug("", exc_info=error)
            self._board.ailing[job_id] = Ailment(str(text), time.time(), text.data)
        self._tell_trouble(job_id, text)
        job = self._jobs.pop(job_id, None)
        if job is not None:
            since = self._board.ailing[job_id].since
            self._tell_stalled(job, Signs(unusable_since=since, text=text), since)
            with suppress(sqlite3.Error):
                job.store.close()

    def _tell_trouble(self, job_id: str, text: Message) -> None:
        """The job says what is wrong with it, if that much can be written."""
        with suppress(Exception):
            store = self._home.open(job_id)
            try:
                store.tell(text)
            finally:
                store.close()

    def _recovered(self, job: JobController) -> None:
        if self._let_be.pop(job.id, None) is not None:
            self._board.ailing.pop(job.id, None)
            if job.store.job().state not in ENDED:
                job.store.tell(NOTHING)

    def _turn(self) -> None:
        self._last_turn = time.monotonic()
        self._writer.ended.clear()
        self._board.turn()
        if self._last_turn - self._last_scan >= SCAN_S:
            self._scan()
        self._freshen()
        self._afterwards.turn(time.time(), self._targets)
        for job in list(self._jobs.values()):
            with self._apart(job.id):
                job.try_suspects(allowed=not self._others_try(job))
                job.is_alone = not any(other.is_out for other in self._beside(job))
                job.turn(self._redis_since)
                self._recovered(job)
                self._tell(job)
                if job.store.job().state in ENDED:
                    job.store.close()
                    del self._jobs[job.id]
                    self._troubles.pop(job.id, None)

    def _freshen(self) -> None:
        """Writes the files of jobs that are over and have changed since."""
        for job_id in list(self._stale):
            if self._let_be.get(job_id, 0.0) > time.monotonic():
                continue
            with self._apart(job_id):
                store = self._home.open(job_id)
                try:
                    self._freshen_one(job_id, store)
                finally:
                    store.close()

    def _freshen_one(self, job_id: str, store: JobStore) -> None:
        job = store.job()
        if job.state not in ENDED:
            self._stale.discard(job_id)
        elif self._writer.stands(store):
            self._stale.discard(job_id)
            self._let_be.pop(job_id, None)
            if job.reason_text:
                store.tell(NOTHING)

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
            self._put_right()
        self._looked_at = time.monotonic()

    def _put_right(self) -> None:
        """Redis may be another, or older than it was: nothing that stands in it is taken now."""
        self._redis_since = time.monotonic()
        if self._fence.is_behind:
            log.warning(OLDER)
        if self._fence.is_copied:
            log.warning("%s: %s", self._home.folder, Stall.COPIED.rule.meaning)
        if self._fence.is_behind or self._fence.is_copied:
            self._doubt()
        self._fence.renew()
        if self._jobs and not self._fence.is_behind:
            log.warning(N_("Redis has lost data; everything in transit is sent again"))
        self._asleep.clear()
        for job in list(self._jobs.values()):
            with self._apart(job.id):
                job.redis_forgot()
        self._forget_payloads()
        self._fence.holds()

    def _doubt(self) -> None:
        """This home does not know what became of its chunks since it was copied."""
        for job_id in self._home.job_ids():
            with self._apart(job_id), closing(self._home.open(job_id)) as store:
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
            with self._apart(job_id), closing(self._home.open(job_id, read_only=True)) as store:
                self._redis.chunks.forget_payloads(job_id, found[job_id] - set(store.chunks.out()))

    def _scan(self) -> None:
        self._last_scan = time.monotonic()
        if self._last_scan - self._retold_at >= RETELL_S:
            self._retold_at = self._last_scan
            self._asleep.clear()
        for job_id in [self._only] if self._only else self._home.job_ids():
            with self._apart(job_id):
                self._look_at(job_id)
        workers = self._redis.status.workers()
        self._targets = {worker.target for worker in workers}
        for job in list(self._jobs.values()):
            with self._apart(job.id):
                job.find_key(self._targets)
        at_work: Counter[Target] = Counter()
        for job in list(self._jobs.values()):
            with self._apart(job.id):
                at_work[job.target] += job.is_fed
        for job in list(self._jobs.values()):
            with self._apart(job.id):
                job.status.see(presence_of(job.id, job.target, workers, time.time()))
                job.rivals = max(1, at_work[job.target])
                if job.store.chunks.next_number() <= max(job.status.presence.open, default=0):
                    job.doubt()
        if self._metrics:
            self._metrics.see(workers, self._redis.foreign)

    def _look_at(self, job_id: str) -> None:
        """Takes a job into its hands that is not ended, and that it has not yet."""
        if job_id in self._jobs or self._let_be.get(job_id, 0.0) > time.monotonic():
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
                    self._troubles[job_id],
                    self._fence.whole_since,
                    self._patience_s,
                    UNMANNED_S if self._only is None else OWN_UNMANNED_S,
                )
                if job.state is JobState.IN_PROGRESS and job.reason_text:
                    store.tell(NOTHING)
                return
            self._afterwards.note(store)
            if not store.is_written():
                self._stale.add(job_id)
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


def _sentence(error: Exception) -> Message:
    """What is wrong, for the user; of a fault of our own the kind: its text may hold a prompt."""
    if isinstance(error, NightshiftError):
        return error.message
    if _is_of_disk(error):
        return N_("the job's files cannot be used: {why}", why=error)
    return N_("internal error ({kind})", kind=type(error).__name__)


def _is_of_disk(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error | OSError | StorageUnavailable)


def _as_ours(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error | OSError):
        return StorageUnavailable(
            _sentence(error), hint=N_("fix the problem, then: nightshift resume JOB")
        )
    return error
