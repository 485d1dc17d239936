"""One job that is not ended: what the coordinator does for it, step by step."""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime

from batch.coordinator.balance_evidence import Balances
from batch.coordinator.chunk_size import CHUNKS_PER_WORKER
from batch.coordinator.chunk_watch import ChunkWatch
from batch.coordinator.feeder import POISON, Feeder
from batch.coordinator.job_status import JobStatus
from batch.coordinator.lookups import Lookups
from batch.coordinator.outputs import Writer
from batch.coordinator.pauses import Pauses
from batch.coordinator.reconcile import SILENCE_S
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.result_streams import READ_AT_ONCE, Mail
from batch.coordinator.result_intake import Intake
from batch.coordinator.sampling import Sampling
from batch.coordinator.task_publisher import Sender
from batch.estimator.model_statistics import learn_from
from batch.money import caps, pricewatch
from batch.money.caps import Room
from batch.money.pricewatch import PriceWatch
from batch.money.spend_tracker import Allowance
from batch.store.database import Standing
from batch.store.jobstore import LIFT, RECALL, JobRow, JobStore
from batch.tables.answer_judge import judge_of
from batch.watching.latest_incidents import Troubles
from batch.watching.progress import Progress
from jobs.lifecycle import due, ending
from jobs.message import N_, Message, joined
from jobs.money import plain
from jobs.names import DATABASE
from jobs.pause_reasons import PauseReason, reason_for
from jobs.signing import Target, key_of
from jobs.stall import UNMANNED_S
from jobs.states import ENDED, JobState

RECALLED = "recalled"
"""Why a job in progress is held: somebody lowered what it may have."""

LEAST_CHUNKS = 2
"""Of a job, however many others there are."""

LOST_PATIENCE_S = 60.0
"""So long the budget of a lost chunk may come back: its worker's successor tells what it spent."""

RECALL_S = 6.0
"""So long nothing is fed after a change that counts for what is out: workers have heard by then."""

log = logging.getLogger("nightshift.coordinator")


class JobController:
    """A job under the coordinator's hands. Every step may raise `ServiceUnavailable` (Redis is
    away: the next turn tries again) or `StorageUnavailable` (its files are not usable).
    """

    def __init__(
        self,
        store: JobStore,
        redis: CoordinatorRedis,
        sender: Sender,
        allowance: Allowance,
        writer: Writer,
        troubles: Troubles,
        whole_since: float = math.inf,
        patience_s: float = SILENCE_S,
        unmanned_s: float = UNMANNED_S,
    ) -> None:
        """`whole_since`, `patience_s`: as in `ChunkWatch`; `unmanned_s`: as in `JobStatus`."""
        self.store = store
        self.id = store.job().id
        self.target = store.job().spec.target
        self._standing = Standing(store.folder / DATABASE)
        self._redis, self._sender = redis, sender
        self._writer = writer
        self._allowance = allowance
        self._caps_stamp: object = None
        judge = judge_of(self.id, store.job().spec)
        self._feeder = Feeder(store, redis, sender, lambda: allowance.room(self.id, store), judge)
        self._lookups = Lookups(store)
        self._balances = Balances(store)
        self._prices = PriceWatch(store)
        self._pauses = Pauses(store)
        self._sampling = Sampling(store, self._feeder, self._pauses)
        self.status = JobStatus(store, troubles, unmanned_s)
        self._chunks = ChunkWatch(store, redis, troubles, whole_since, patience_s)
        self._intake = Intake(
            store, redis, self._chunks, self.status, self._pauses, self._feeder.aside
        )
        self._holding: str | None = None
        self._recalled_until = float("-inf")
        self.rivals = 1
        self.lifted_at = 0.0
        """When the user last wanted that nothing waits any longer, Unix seconds."""
        self.is_alone = True
        """Whether no other job of its endpoint has anything with a worker."""

    @property
    def is_in_a_hurry(self) -> bool:
        """Whether its workers have nothing of it any more: the next turn ends or feeds it."""
        return self._chunks.ran_out

    @property
    def is_fed(self) -> bool:
        """Whether it takes its part of the workers."""
        return bool(self._chunks) or self.store.job().state is JobState.IN_PROGRESS

    @property
    def is_out(self) -> bool:
        """Whether anything of it is with a worker, or on its way to one."""
        return bool(self._chunks)

    def check_files(self) -> None:
        """Raises `StorageUnavailable` where what is written now would be lost with this process."""
        self._standing.check()

    def redis_forgot(self) -> None:
        """What was told to Redis may not stand there any more, or what was taken back may again."""
        self._holding = None
        self._chunks.redis_forgot()

    def doubt(self) -> None:
        """Its file is older than the job: any chunk may be with a worker."""
        self._intake.doubt()

    def heard(self, mail: Mail | None, at: float) -> None:
        """Takes in what a read brought that began `at`, monotonic seconds."""
        if mail is not None:
            self._intake.take_in(mail)
        if mail is None or len(mail.entries) < READ_AT_ONCE:
            self._chunks.heard(at)

    def progress(self) -> Progress:
        """How the job stands now."""
        return self.status.progress(is_out=self.is_out)

    # ---- the turn ---------------------------------------------------------------------------

    def turn(self, redis_since: float) -> None:
        """One round: wishes, window, prices, chunks that got lost, feeding, lookups, the end."""
        self._chunks.ran_out = False
        job = self._heed_time(self._heed_wishes(self._heed_key(self.store.job())))
        if job.ended:
            return
        job = self._heed_prices(self._sampling.look(job))
        held = self._why_held(job)
        self._hold(held)
        self._balances.look(self.status.presence.rests)
        self._reconcile(job, redis_since)
        self.store.failures.set_poison_aside(POISON, time.time())
        if not held:
            self._feed(job)
        self._look_up(job)
        self._finish(self.store.job())

    def find_key(self, there: set[Target]) -> None:
        """Of a job that was submitted where no API key was set: it is for the only one there is."""
        url, known = self.target
        if key_of(known):
            return
        # Of the headers that were set there it knows already which they are.
        keys = {each.key for each in there if each.base_url == url and each.key.endswith(known)}
        if len(keys - {""}) == 1 and not key_of(self.store.job().spec.key):
            self.store.set_key((keys - {""}).pop())

    def _heed_key(self, job: JobRow) -> JobRow:
        """A job that goes on with another key: what nobody took yet is for that one, too."""
        if job.spec.target != self.target:
            self._chunks.withdraw()
            self.target = job.spec.target
        return job

    def _heed_wishes(self, job: JobRow) -> JobRow:
        if not job.wanted:
            return job
        wishes = self.store.take_wishes()
        if LIFT in wishes:
            self._lift()
        if RECALL in wishes:
            self._recalled_until = time.monotonic() + RECALL_S
        return self.store.job()

    def _lift(self) -> None:
        """The user wants nothing to wait any longer: what was set aside is tried again."""
        self._feeder.aside.clear()
        self._chunks.begun_at = time.monotonic()
        self.lifted_at = time.time()

    def _heed_time(self, job: JobRow) -> JobRow:
        """Hours, the deadline, and the end of a day whose cap was reached, or another cap."""
        changed = self._allowance.stamp() != self._caps_stamp
        found = due(job, datetime.fromtimestamp(time.time(), UTC), caps_changed=changed)
        if found is None:
            return job
        if found.reason is not None:
            log.info("%s paused: %s %s", self.id, found.reason, found.text)
        self.store.move(found, standing=job.state)
        return self.store.job()

    def _heed_prices(self, job: JobRow) -> JobRow:
        rise = self._prices.look(job)
        if rise is None or job.state is not JobState.IN_PROGRESS:
            return job
        self._pauses.pause(PauseReason.PRICE_RISE, pricewatch.sentence(job, rise))
        return self.store.job()

    def withdraw(self) -> None:
        """Takes back what was fed and no worker began: nobody is permitted to any more."""
        self._chunks.withdraw()

    def _why_held(self, job: JobRow) -> str:
        """Why workers start nothing of it: it is not in progress, or what is out must come back,
        and is fed anew by what counts now.
        """
        if job.state is not JobState.IN_PROGRESS:
            return job.reason or job.state.value
        if self._allowance.is_over():
            return RECALLED
        if not self._chunks:
            self._recalled_until = float("-inf")  # all of it is back
        changed = time.monotonic() < self._recalled_until
        is_recalled = bool(self._chunks) and (changed or self._feeder.is_beyond(job))
        return RECALLED if is_recalled else ""

    def _hold(self, wanted: str) -> None:
        if wanted:
            self._redis.chunks.hold(self.id, wanted)
            self._chunks.withdraw()
        elif self._holding != wanted:
            self._redis.chunks.unhold(self.id)
            self._chunks.begun_at = time.monotonic()
        else:
            self._redis.chunks.check_hold(self.id)
        self._holding = wanted

    def _reconcile(self, job: JobRow, redis_since: float) -> None:
        self._chunks.reconcile(
            self.target,
            self.status.presence.open,
            redis_since,
            lambda chunk: self._feeder.send_again(job, chunk),
        )

    def _feed(self, job: JobRow) -> None:
        whole = CHUNKS_PER_WORKER * max(self.status.presence.workers, 1)
        room = max(whole // self.rivals, LEAST_CHUNKS) - len(self._chunks)
        if room <= 0:
            return
        try:
            fed = self._feeder.feed(job, room, self.status.pulse())
        finally:
            self._chunks.fed()
        if fed.exhausted:
            self._exhausted(job, fed.full)
        elif self._feeder.aside and not fed.chunks and not self._chunks and job.left:
            why = next(iter(self._feeder.aside.values()))
            text = Message("{model}: {why}", model=why.model, why=why.told)
            logged = f"{why.model}: {why.code}"
            reason = reason_for(why.pause or PauseReason.MISCONFIGURED, why.code)
            self._pauses.pause(reason, text, logged=logged)

    def try_suspects(self, *, allowed: bool) -> None:
        """Whether requests that may kill their worker may be out: of one job at a time."""
        self._feeder.may_try = allowed

    def is_trying(self) -> bool:
        """Whether such requests of this job are out."""
        return self.store.chunks.trial_out() > 0

    def _exhausted(self, job: JobRow, full: Room | None) -> None:
        """Nothing more fits: the job rests, unless some of the budget may still come back."""
        lost = self.store.chunks.lost()
        if lost.chunks and time.monotonic() - self._chunks.lost_at < LOST_PATIENCE_S:
            return
        if self._lookups.pending or self._is_released():
            return
        if full is not None:
            self._wait_for_next(job, full)
            return
        text = N_("no further request fits the budget")
        if lost.chunks and lost.rub:
            kept = N_(
                "{amount} of it stay set aside for workers that fell silent; where none will come"
                " back: nightshift settle {job}",
                amount=lost.rub,
                job=self.id,
            )
            text = joined((text, kept))
        self._pauses.pause(PauseReason.BUDGET_EXHAUSTED, text, options=self._feeder.lacks(job))

    def _wait_for_next(self, job: JobRow, full: Room) -> None:
        """A cap of the home, or of the API key that the job is for, is reached; one that is too
        small for any request needs the user.
        """
        enough = plain(self._feeder.cap_for_all(job, full))
        which = f"keys set {full.key}" if full.key else "budget"
        options = f"{which} --budget-rub-per-{full.period} {enough}"
        why = caps.sentence(full)
        if full.untouched:
            self._pauses.pause(PauseReason.CAP_TOO_SMALL, why, options=options)
            return
        self._caps_stamp = self._allowance.stamp()
        why = joined((why, N_("resumes at {opening}", opening=full.ends)))
        self._pauses.pause(PauseReason.CAP_REACHED, why, goes_on_at=full.ends, options=options)

    def _look_up(self, job: JobRow) -> None:
        if not self.status.presence.workers:
            # Questions would only heap up.
            return
        due = self._lookups.due(time.time())
        if due:
            rate = plain(job.spec.rate)
            self._sender.look_up(self.id, job.spec.name, self.target, due, rate)

    # ---- the end ----------------------------------------------------------------------------

    def _finish(self, job: JobRow) -> None:
        then = self._follows(job)
        if then is JobState.FINALIZING and self.store.set_state(then, standing=job.state):
            job = self.store.job()
            then = self._follows(job)
        if then is JobState.IN_PROGRESS:
            self.store.set_state(then, standing=job.state)
        elif then in ENDED:
            self._end(job, then)

    def _follows(self, job: JobRow) -> JobState | None:
        settled = job.left == 0 and job.state is JobState.IN_PROGRESS and self._settled()
        return ending(job, is_out=bool(self._chunks), is_settled=settled)

    def _settled(self) -> bool:
        """Nothing is out, and every uncertain call was asked for as often as is waited for."""
        return not (self._chunks or self._lookups.pending or self._is_released())

    def _is_released(self) -> bool:
        """Whether the balance just told, or may still tell, that uncertain calls cost nothing."""
        return self.is_alone and self._balances.release(
            self.status.presence.rests, time.monotonic()
        )

    def _end(self, job: JobRow, then: JobState) -> None:
        if not self._writer.stands(self.store):
            return
        learn_from(self.store, self.store.home)
        if not self.store.set_state(then, now=time.time(), standing=job.state):
            return
        self._redis.chunks.forget_job(self.id)
        if self.store.chunks.lost().chunks:
            # A worker that was only suspended must not go on with it when it wakes.
            self._redis.chunks.hold(self.id, then.value)
