"""One job that is not ended: what the coordinator does for it, step by step."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from datetime import UTC, datetime

import msgspec

from batch.coordinator import restored
from batch.coordinator.balances import Balances
from batch.coordinator.feeder import POISON, Feeder
from batch.coordinator.lookups import Lookups
from batch.coordinator.outputs import Writer
from batch.coordinator.post import READ_AT_ONCE, Mail, Post
from batch.coordinator.presence import Presence
from batch.coordinator.reconcile import SILENCE_S, Step, Watch, decide
from batch.coordinator.sender import Sender
from batch.coordinator.splitter import CHUNKS_PER_WORKER, Pulse
from batch.estimator.estimate import guess_again
from batch.estimator.model_statistics import learn_from
from batch.money import caps, pricewatch
from batch.money.allowance import Allowance
from batch.money.caps import Room
from batch.money.pricewatch import PriceWatch
from batch.store import ledger
from batch.store.chunks import UNKNOWN, OpenChunk
from batch.store.jobstore import LIFT, RECALL, JobRow, JobStore
from batch.store.ledger import Applied
from batch.tables import measure, score
from batch.tables.judge import judge_of
from batch.tables.measure import sizes_of
from batch.tables.score import gold_of, score_of
from batch.watching.bounds import WaitMeter
from batch.watching.progress import Meter, Progress, at_standstill, progress_of
from batch.watching.series import Failure, series_of
from batch.watching.trouble import OUTAGE, WORKER_DIED, WORKER_SILENT, Troubles
from jobs import chunk as chunks
from jobs.bound import Bound
from jobs.chunk import ReturnReason
from jobs.lifecycle import due, ending, is_at_rest
from jobs.message import N_, Message, joined
from jobs.money import plain
from jobs.result import ResultState
from jobs.seal import Target, key_of
from jobs.stall import UNMANNED_S, Signs, stalled
from jobs.states import ENDED, JobState, PauseReason, reason_for

RECALLED = "recalled"
"""Why a job in progress is held: somebody lowered what it may have."""

LEAST_CHUNKS = 2
"""Of a job, however many others there are."""

_KEEP_S = 10.0
"""Troubles that come one upon the other are written down so often."""

CLAIMED_S = 20.0
"""A worker that came back tells so by then; else somebody else keeps its claim there."""

LOST_PATIENCE_S = 60.0
"""So long the budget of a lost chunk may come back: its worker's successor tells what it spent."""

RECALL_S = 6.0
"""So long nothing is fed after a change that counts for what is out: workers have heard by then."""

log = logging.getLogger("nightshift.coordinator")


class ActiveJob:
    """A job under the coordinator's hands. Every step may raise `ServiceUnavailable` (Redis is
    away: the next turn tries again) or `StorageUnavailable` (its files are not usable).
    """

    def __init__(
        self,
        store: JobStore,
        post: Post,
        sender: Sender,
        allowance: Allowance,
        writer: Writer,
        troubles: Troubles,
        whole_since: float = math.inf,
        patience_s: float = SILENCE_S,
        unmanned_s: float = UNMANNED_S,
    ) -> None:
        """`whole_since`: Redis knows all that was fed since then, Unix seconds; what was fed before
        and nobody began waits again. `patience_s`: how
        long a worker may be silent before its chunks are given up; `unmanned_s`: how long the job
        may have none.
        """
        self._patience_s = patience_s
        self.store = store
        self._writer = writer
        self.troubles = troubles
        troubles.recall(store.job().troubles)
        self._kept, self._kept_at = troubles.recent, float("-inf")
        self.id = store.job().id
        self._allowance = allowance
        self._caps_stamp: object = None
        self._post = post
        self._sender = sender
        self.target = store.job().spec.target
        judge = judge_of(self.id, store.job().spec)
        self._feeder = Feeder(store, post, sender, lambda: allowance.room(self.id, store), judge)
        self._lookups = Lookups(store)
        self._balances = Balances(store)
        self._prices = PriceWatch(store)
        self._meter = Meter()
        now = time.monotonic()
        self._to_forget = come_home(store, whole_since)
        self._mark_lost(whole_since)
        self._watches = {
            chunk.chunk: Watch(-math.inf, now if chunk.begun_by else None, mine=False)
            for chunk in store.chunks.alive()
            if not chunk.lost
        }
        self._holding: str | None = None
        self._begun_at = self._lost_at = now
        self._recalled_until = float("-inf")
        self._heard_at = float("-inf")
        self._warned = False
        self.refused = Counter(store.refusals())
        self.refused_so_far = Counter(self.refused)
        self.presence = Presence()
        self.rivals = 1
        self.lifted_at = 0.0
        """When the user last wanted that nothing waits any longer, Unix seconds."""
        self.is_alone = True
        """Whether no other job of its endpoint has anything with a worker."""
        self.is_in_a_hurry = False
        """Whether its workers have nothing of it any more: the next turn ends or feeds it."""
        self.series = series_of(store, time.time())
        self._finished = store.job().finished
        self.last: Progress | None = None
        """As it was told last."""
        self._unmanned_s = unmanned_s
        self._manned_at = self._moved_at = time.time()
        self._moved: object = None
        self._waits = WaitMeter()

    @property
    def is_fed(self) -> bool:
        """Whether it takes its part of the workers."""
        return bool(self._watches) or self.store.job().state is JobState.IN_PROGRESS

    @property
    def is_out(self) -> bool:
        """Whether anything of it is with a worker, or on its way to one."""
        return bool(self._watches)

    def redis_forgot(self) -> None:
        """What was told to Redis may not stand there any more, or what was taken back may again."""
        self._holding = None
        for number in come_home(self.store):
            self._watches.pop(number, None)
        self._mark_lost()

    def _mark_lost(self, before: float = math.inf) -> None:
        """A worker that wakes must learn that the chunks which were fed before then are lost."""
        for chunk in self.store.chunks.alive():
            if chunk.lost and chunk.fed_at < before:
                self._post.lose(self.id, chunk.chunk, surely=True)

    def doubt(self) -> None:
        """Its file is older than the job: any chunk may be with a worker."""
        restored.pause(self.store)
        for watch in self._watches.values():
            watch.seen_at = watch.seen_at or time.monotonic()

    # ---- deliveries -------------------------------------------------------------------------

    def heard(self, mail: Mail | None, at: float) -> None:
        """Takes in what a read brought that began `at`, monotonic seconds."""
        if mail is not None:
            self._take_in(mail)
        if mail is None or len(mail.entries) < READ_AT_ONCE:
            self._heard_at = at

    def _take_in(self, mail: Mail) -> None:
        """Writes deliveries to disk and acts upon them; acknowledges them last."""
        for chunk in let_begin(self.store, self._post, mail):
            watch = self._watches.get(chunk)
            # The first time alone: an ask that somebody puts back tells of no living worker.
            if watch is not None and watch.seen_at is None:
                watch.seen_at = time.monotonic()
        applied = write_down(self.store, mail)
        if applied.is_older:
            self.doubt()
        self.refused.update(applied.refusals)
        self._draw(applied)
        if applied.overrun is not None:
            self._mind(applied.overrun)
        for chunk, reason in applied.reasons:
            self._note_reason(chunk, reason)
            if reason.pause is not None and self._is_ours(chunk):
                self._heed_stop(reason)
        for chunk in applied.closed:
            self._watches.pop(chunk, None)
        self._to_forget += applied.closed
        self.is_in_a_hurry |= bool(applied.closed) and not self._watches
        self._post.acknowledge(mail)
        self._forget_chunks()

    def _draw(self, applied: Applied) -> None:
        now = time.time()
        failed: dict[str, float] = {}
        for call in applied.told_calls:
            self.series.called(call.sent_at, call.latency_s, now)
        for ended, rub in applied.told_costs:
            self.series.paid(ended, rub, now)
        for result in applied.told_results:
            if result.state is ResultState.COMPLETED:
                self.series.answered(result.finished_at, result.latency_s, now)
            else:
                line = self.store.queue.line(result.ordinal)
                how = (result.code, result.status, result.attempts)
                self.series.failed(Failure(result.finished_at, line, *how), now)
                failed[result.code] = min(result.finished_at, now)
        for code, at in failed.items():
            self._count(code, at)

    def _note_reason(self, chunk: int, reason: ReturnReason) -> None:
        """Why something came back, if that was trouble; of a lost chunk it was told before."""
        if chunk not in self._watches:
            return
        if reason.code == chunks.WORKER_DIED.code:
            self.troubles.meet(WORKER_DIED, time.time())
        elif reason.pause is not None:
            self.troubles.meet(reason.code, time.time())

    def _count(self, code: str, at: float) -> None:
        """The endpoint refused, for now or for good."""
        times = self._all_refused()[code] + self.series.failures.get(code, 0)
        self.troubles.count(code, at, max(times, 1))

    def _all_refused(self) -> Counter[str]:
        """Refusals by code: those in the home, and those of chunks whose closing is not there."""
        there = self.presence.refused
        untold = self.store.chunks.untold() if there else set()
        return sum((there[chunk] for chunk in untold & there.keys()), self.refused)

    def _is_ours(self, chunk: int) -> bool:
        """Whether a chunk was fed since the job last began.

        What was fed before may tell of a fault that is mended by now: the next chunk will show.
        """
        watch = self._watches.get(chunk)
        return watch is not None and watch.mine and watch.sent_at >= self._begun_at

    def _mind(self, overrun: ledger.Overrun) -> None:
        """A call was dearer than it could be by the prices that are known: no cap holds by them."""
        text = N_(
            "a call cost {cost}, more than the maximum of {bound} at known prices; prices"
            " may have risen. To allow for more: nightshift resume {job} --max-price-rise"
            " PERCENT",
            cost=overrun.cost,
            bound=overrun.bound,
            job=self.id,
        )
        if self.store.job().spec.budget.rub is None:
            if not self._warned:
                log.warning("%s: %s", self.id, text)
            self._warned = True
        elif self._is_ours(overrun.chunk):
            self._pause(PauseReason.PRICE_RISE, text)

    def _heed_stop(self, why: ReturnReason) -> None:
        """A worker met what no request of the job, or of that model, can get past."""
        if why.model and why.pause is not None:
            self._feeder.aside[why.model] = why
            log.info("%s: %s is set aside: %s", self.id, why.model, why.code)
        elif why.pause is not None:
            # The endpoint's words may quote a prompt: they are for the home, not for the log.
            self._pause(reason_for(why.pause, why.code), why.told, logged=why.code)

    def _pause(
        self,
        reason: PauseReason,
        text: Message,
        *,
        goes_on_at: datetime | None = None,
        options: str = "",
        logged: str | None = None,
    ) -> None:
        paused = self.store.set_state(
            JobState.PAUSED,
            reason=reason,
            text=text,
            standing=JobState.IN_PROGRESS,
            goes_on_at=None if goes_on_at is None else goes_on_at.timestamp(),
            options=options,
        )
        if paused:
            log.info("%s paused: %s %s", self.id, reason, text if logged is None else logged)

    # ---- the turn ---------------------------------------------------------------------------

    def turn(self, redis_since: float) -> None:
        """One round: wishes, window, prices, chunks that got lost, feeding, lookups, the end."""
        self.is_in_a_hurry = False
        job = self._heed_time(self._heed_wishes(self._heed_key(self.store.job())))
        if job.ended:
            return
        job = self._heed_prices(self._heed_sample(job))
        held = self._why_held(job)
        self._hold(held)
        self._balances.look(self.presence.rests)
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
            self.withdraw()
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
        self._begun_at = time.monotonic()
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

    def _heed_sample(self, job: JobRow) -> JobRow:
        """When the sample is answered, the job rests with what it tells."""
        done = job.sample and job.state is JobState.IN_PROGRESS
        if not done or not self.store.queue.head_is_done(job.sample):
            return job
        if job.left and self._is_comparing(job):
            return job
        job = self._take_stock(job)
        guess = guess_again(self.store, self.store.home)
        self.store.set_guess(guess)
        self.store.queue.leave_head()
        gold = gold_of(self.store)
        if job.left and gold is not None and job.spec.task is not None:
            least = job.spec.task.min_accuracy
            if least is not None and gold.accuracy < least:
                share, wanted = f"{gold.accuracy:.3f}", f"{least:g}"
                text = N_(
                    "{right} of {rows} known answers are right (accuracy {share}), and"
                    " --min-accuracy asks for {wanted}",
                    right=gold.right,
                    rows=gold.rows,
                    share=share,
                    wanted=wanted,
                )
                self._pause(PauseReason.LOW_ACCURACY, text)
                return self.store.job()
        if job.left:
            text = N_("the sample is complete")
            if guess.likely is not None and guess.low is not None and guess.high is not None:
                text = N_(
                    "estimated from the sample, the whole job will cost about {likely} ({low} to"
                    " {high})",
                    likely=guess.likely,
                    low=guess.low,
                    high=guess.high,
                )
            self._pause(PauseReason.SAMPLED, text)
        return self.store.job()

    def _is_comparing(self, job: JobRow) -> bool:
        """Whether packs of the sample are still to be answered."""
        task = job.spec.task
        compares = task is not None and bool(sizes_of(task, job.sample))
        return compares and (not self._feeder.compared or self.store.trials.is_out())

    def _take_stock(self, job: JobRow) -> JobRow:
        """What the sample of a table tells: how large packs may be, how much is right."""
        task, trials = job.spec.task, self.store.trials
        if task is None:
            return job
        if expected := trials.expected():
            found = score_of(self.store, task, {n: json.loads(e) for n, e in expected.items()})
            trials.find(score.KIND, msgspec.json.encode(found).decode())
        if job.left and trials.sizes():
            packs = measure.measure(self.store, task, trials.head(job.sample)[: measure.MOST_ROWS])
            trials.find(measure.KIND, msgspec.json.encode(packs).decode())
            task = task.model_copy(update={"pack": packs.chosen})
            with self.store.transaction():
                # Somebody may have changed the rest of the spec meanwhile.
                now = self.store.job().spec
                self.store.change_spec(now.model_copy(update={"task": task}))
            job = self.store.job()
            self._feeder.judge_by(judge_of(self.id, job.spec))
        return job

    def _heed_prices(self, job: JobRow) -> JobRow:
        rise = self._prices.look(job)
        if rise is None or job.state is not JobState.IN_PROGRESS:
            return job
        self._pause(PauseReason.PRICE_RISE, pricewatch.sentence(job, rise))
        return self.store.job()

    def withdraw(self) -> None:
        """Takes back what was fed and no worker began: nobody is permitted to any more."""
        for number in come_home(self.store):
            self._watches.pop(number, None)
            self._to_forget.append(number)
        self._forget_chunks()

    def _forget_chunks(self) -> None:
        self._post.forget_chunks(self.id, self._to_forget)
        self._to_forget.clear()

    def _why_held(self, job: JobRow) -> str:
        """Why workers start nothing of it: it is not in progress, or what is out must come back,
        and is fed anew by what counts now.
        """
        if job.state is not JobState.IN_PROGRESS:
            return job.reason or job.state.value
        if self._allowance.is_over():
            return RECALLED
        changed = time.monotonic() < self._recalled_until
        is_recalled = bool(self._watches) and (changed or self._feeder.is_beyond(job))
        return RECALLED if is_recalled else ""

    def _hold(self, wanted: str) -> None:
        if wanted:
            self._post.hold(self.id, wanted)
            self.withdraw()
        elif self._holding != wanted:
            self._post.unhold(self.id)
            self._begun_at = time.monotonic()
        else:
            self._post.check_hold(self.id)
        self._holding = wanted

    def _reconcile(self, job: JobRow, redis_since: float) -> None:
        """Does what must be done about chunks that are out."""
        if not self._watches:
            return
        now, missing = time.monotonic(), self._messages_missing()
        steps = {
            number: decide(
                watch,
                named=number in self.presence.open,
                now=now,
                redis_since=redis_since,
                heard_at=self._heard_at,
                message_missing=number in missing,
                patience_s=self._patience_s,
            )
            for number, watch in self._watches.items()
        }
        if any(step is not Step.KEEP for step in steps.values()):
            self._act(job, steps, now)

    def _messages_missing(self) -> set[int]:
        """Chunks that nobody took and that no message may ask for: the oldest of them, as many as
        there are too few messages.
        """
        unseen = [number for number, watch in self._watches.items() if watch.seen_at is None]
        unseen.sort(key=lambda number: self._watches[number].sent_at)
        missing = len(unseen) - self._post.queued(self.target) if unseen else 0
        return set(unseen[: max(missing, 0)])

    def _act(self, job: JobRow, steps: dict[int, Step], now: float) -> None:
        for chunk in self.store.chunks.alive():
            step = steps.get(chunk.chunk, Step.KEEP)
            if step is Step.LOSE:
                self._lose(chunk)
            elif step is Step.SEND_AGAIN:
                log.info("%s: chunk %d is sent again", self.id, chunk.chunk)
                self._feeder.send_again(job, chunk)
                self._watches[chunk.chunk].sent_at = now

    def _lose(self, chunk: OpenChunk) -> None:
        place = (self.id, chunk.chunk)
        watch = self._watches[chunk.chunk]
        waited = time.monotonic() - (watch.doubted_at or math.inf)
        if not self._post.lose(self.id, chunk.chunk, surely=waited > CLAIMED_S):
            return  # its worker came back just now
        del self._watches[chunk.chunk]
        if chunk.is_unspent:
            log.info("%s: the worker of chunk %d made no call of it; it is fed again", *place)
            self.store.chunks.take_back(chunk)
            return
        log.warning(
            N_(
                "%s: lost contact with the worker of chunk %d; its remaining requests are sent"
                " again"
            ),
            *place,
        )
        self.troubles.meet(WORKER_SILENT, time.time())
        taken = watch.seen_at is not None and chunk.begun_by != UNKNOWN
        self.store.chunks.lose(chunk, taken=taken, now=time.time())
        self._lost_at = time.monotonic()

    def _feed(self, job: JobRow) -> None:
        whole = CHUNKS_PER_WORKER * max(self.presence.workers, 1)
        room = max(whole // self.rivals, LEAST_CHUNKS) - len(self._watches)
        if room <= 0:
            return
        try:
            fed = self._feeder.feed(job, room, self._pulse())
        finally:
            # Also those that the post did not take: they are on disk, and are sent again.
            for chunk in self.store.chunks.out():
                if chunk not in self._watches:
                    self._watches[chunk] = Watch(time.monotonic())
        if fed.exhausted:
            self._exhausted(job, fed.full)
        elif self._feeder.aside and not fed.chunks and not self._watches and job.left:
            why = next(iter(self._feeder.aside.values()))
            text = Message("{model}: {why}", model=why.model, why=why.told)
            logged = f"{why.model}: {why.code}"
            reason = reason_for(why.pause or PauseReason.MISCONFIGURED, why.code)
            self._pause(reason, text, logged=logged)

    def try_suspects(self, *, allowed: bool) -> None:
        """Whether requests that may kill their worker may be out: of one job at a time."""
        self._feeder.may_try = allowed

    def is_trying(self) -> bool:
        """Whether such requests of this job are out."""
        return self.store.chunks.trial_out() > 0

    def _pulse(self) -> Pulse:
        workers = max(self.presence.workers, 1)
        return Pulse(
            self._meter.rate / workers, self.presence.in_flight / workers, self.series.spread()
        )

    def _exhausted(self, job: JobRow, full: Room | None) -> None:
        """Nothing more fits: the job rests, unless some of the budget may still come back."""
        lost = self.store.chunks.lost()
        if lost.chunks and time.monotonic() - self._lost_at < LOST_PATIENCE_S:
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
        self._pause(PauseReason.BUDGET_EXHAUSTED, text, options=self._feeder.lacks(job))

    def _wait_for_next(self, job: JobRow, full: Room) -> None:
        """A cap of the home, or of the API key that the job is for, is reached; one that is too
        small for any request needs the user.
        """
        enough = plain(self._feeder.cap_for_all(job, full))
        which = f"keys set {full.key}" if full.key else "budget"
        options = f"{which} --budget-rub-per-{full.period} {enough}"
        why = caps.sentence(full)
        if full.untouched:
            self._pause(PauseReason.CAP_TOO_SMALL, why, options=options)
            return
        self._caps_stamp = self._allowance.stamp()
        why = joined((why, N_("resumes at {opening}", opening=full.ends)))
        self._pause(PauseReason.CAP_REACHED, why, goes_on_at=full.ends, options=options)

    def _look_up(self, job: JobRow) -> None:
        if not self.presence.workers:
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
        return ending(job, is_out=bool(self._watches), is_settled=settled)

    def _settled(self) -> bool:
        """Nothing is out, and every uncertain call was asked for as often as is waited for."""
        return not (self._watches or self._lookups.pending or self._is_released())

    def _is_released(self) -> bool:
        """Whether the balance just told, or may still tell, that uncertain calls cost nothing."""
        return self.is_alone and self._balances.release(self.presence.rests, time.monotonic())

    def _end(self, job: JobRow, then: JobState) -> None:
        if not self._writer.stands(self.store):
            return
        learn_from(self.store, self.store.home)
        if not self.store.set_state(then, now=time.time(), standing=job.state):
            return
        self._post.forget_job(self.id)
        if self.store.chunks.lost().chunks:
            # A worker that was only suspended must not go on with it when it wakes.
            self._post.hold(self.id, then.value)

    # ---- looking ----------------------------------------------------------------------------

    def progress(self) -> Progress:
        """How the job stands now."""
        job = self.store.job()
        self._meter.note(time.monotonic(), job.finished)
        if job.finished < self._finished:
            # Results were taken back, to be tried again.
            self.series = series_of(self.store, time.time())
        self._finished = job.finished
        now = time.time()
        refused = self._all_refused()
        new = refused - self.refused_so_far
        if job.state is JobState.IN_PROGRESS:
            limit = sum(self.presence.limits.values())
            self.series.looked(now, self.presence.in_flight, limit, new)
        for code, _times in reversed(new.most_common()):
            self._count(code, now)
        moved = job.finished, job.calls, refused.total(), job.state
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        wait = self.presence.wait
        if self.presence.down_s and (wait is None or wait.is_outage):
            self.troubles.meet(OUTAGE, now)
        self.refused_so_far |= refused
        if is_at_rest(job) or time.monotonic() - self._kept_at >= _KEEP_S:
            self.keep_troubles()
        progress = progress_of(
            job,
            self._meter.rate,
            in_flight=self.presence.in_flight,
            workers=self.presence.workers,
            # Not fewer while a closing is on its way, of which the worker tells no more.
            refusals=self.refused_so_far.total(),
            down_s=self.presence.down_s,
            trouble=self.troubles.last,
            wait=self.presence.wait,
            bound=self._waits.bound(),
        )
        stall = stalled(job.state, job.reason, self._signs(job), now)
        return progress if stall is None else at_standstill(progress, stall)

    def see(self, presence: Presence) -> None:
        """What the workers tell of the job by now."""
        self.presence = presence
        self.series.waited(time.time(), self._waits.note(time.monotonic(), presence.waits))
        if presence.silent_s is not None:
            self._manned_at = max(self._manned_at, time.time() - presence.silent_s)

    def _keeps_to_a_limit(self) -> bool:
        known = {each.value: each for each in Bound}
        return any(known[cause].is_wanted for cause in self.presence.bounds if cause in known)

    def _signs(self, job: JobRow) -> Signs:
        """What the coordinator sees of the job's workers."""
        here = self.presence
        waits = here.wait is not None or here.down_s > 0 or self._keeps_to_a_limit()
        queues = not here.busy and here.has_others
        is_due = bool(job.left) and self.is_out and not waits and not queues
        return Signs(
            unmanned_since=self._manned_at,
            unmanned_s=self._unmanned_s,
            still_since=self._moved_at if is_due else None,
            slowest_s=job.spec.total_timeout_s,
        )

    def keep_troubles(self) -> None:
        """Writes down what troubled the job and what it waited for: this coordinator may go."""
        self._kept_at = time.monotonic()
        if self.troubles.recent != self._kept:
            self.store.keep_troubles(self.troubles.recent)
            self._kept = self.troubles.recent
        if self._waits.kept:
            self.store.keep_waits(time.time(), self._waits.kept)
            self._waits.kept.clear()


# ---- also for jobs that are not under the coordinator's hands -----------------------------------


def write_down(store: JobStore, mail: Mail) -> Applied:
    """Writes deliveries to disk, and says what was dropped."""
    applied = Applied()
    if mail.deliveries:
        # Else no commit: workers often only ask.
        applied = ledger.apply(store, mail.deliveries, judge_of(mail.job, store.job().spec))
    dropped = mail.garbage + applied.foreign
    if dropped:
        log.warning(N_("%s: dropped %d invalid messages"), mail.job, dropped)
    return applied


def let_begin(store: JobStore, post: Post, mail: Mail) -> list[int]:
    """Answers the workers that ask to begin chunks; returns the chunks that are begun."""
    if not mail.asks:
        return []
    may_start = store.job().state is JobState.IN_PROGRESS
    permits = store.chunks.begin(mail.asks, may_start=may_start)
    post.permit(mail.job, permits)
    return [chunk for chunk, permit in permits.items() if permit.attempt]


def come_home(store: JobStore, before: float = math.inf) -> list[int]:
    """Takes back the chunks that were fed before then and that nobody began."""
    chunks = [
        each
        for each in store.chunks.alive()
        if not (each.lost or each.begun_by) and each.fed_at < before
    ]
    for chunk in chunks:
        store.chunks.take_back(chunk)
    return [chunk.chunk for chunk in chunks]


def take_in_late(store: JobStore, mail: Mail) -> bool:
    """Takes in what came for a job that is over, or that somebody else is to go on with.

    Whether it changes one that is over: then its outputs are to be written anew.
    """
    applied = write_down(store, mail)
    if applied.is_older:
        restored.pause(store)
    return applied.anything and store.job().state in ENDED
