"""One job that is not ended: what the coordinator does for it, step by step."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from batch import reports
from batch.feeder import POISON, Feeder
from batch.lookups import Lookups, is_awaited
from batch.post import Mail, Post
from batch.progress import Meter, Progress, progress_of
from batch.reconcile import Step, Watch, decide
from batch.sender import Sender
from batch.store import ledger
from batch.store.jobstore import JobRow, JobStore, OpenChunk
from jobs.chunk import HELD, ChunkClosed, ReturnReason
from jobs.names import queue_name
from jobs.states import JobState, PauseReason
from jobs.window import parse_window
from jobs.wire import Delivery

CHUNKS_PER_WORKER = 48
"""Chunks of a job that are out for each worker: what it runs, and some for it to go on with."""

log = logging.getLogger("nightshift.coordinator")


class ActiveJob:
    """A job under the coordinator's hands. Every step may raise `ServiceUnavailable` (Redis is
    away: the next turn tries again) or `StorageUnavailable` (the home is not usable: stop).
    """

    def __init__(self, store: JobStore, post: Post, sender: Sender) -> None:
        self.store = store
        self.id = store.job().id
        self._post = post
        self._sender = sender
        self._feeder = Feeder(store, post, sender)
        self._lookups = Lookups()
        self._meter = Meter()
        self._watches = {
            chunk.chunk: Watch(time.monotonic(), mine=False)
            for chunk in store.open_chunks()
            if not chunk.lost
        }
        self._holding: str | None = None
        self.refusals = sum(store.refusals().values())
        self.workers = 0
        self.in_flight = 0
        self.down = False

    # ---- deliveries -------------------------------------------------------------------------

    def take_in(self, mail: Mail) -> None:
        """Writes deliveries to disk, then acknowledges them."""
        if mail.garbage:
            log.warning(
                "%s: %d deliveries were not of our making and were dropped", self.id, mail.garbage
            )
        applied = ledger.apply(self.store, mail.deliveries)
        self._post.acknowledge(mail)
        self.refusals += sum(applied.refusals.values())
        closed = [chunk for chunk, _ in applied.closed]
        for chunk in closed:
            self._watches.pop(chunk, None)
        self._post.forget_chunks(self.id, closed)
        for _, reason in applied.closed:
            self._react(reason)

    def _react(self, reason: ReturnReason) -> None:
        """A worker met something that only the user can mend: the job pauses."""
        job = self.store.job()
        if reason.pause is not None and job.state is JobState.IN_PROGRESS:
            self._pause(reason.pause, reason.message)

    def _pause(self, reason: PauseReason, text: str) -> None:
        log.info("%s paused: %s %s", self.id, reason, text)
        self.store.set_state(JobState.PAUSED, reason=reason, text=text)

    # ---- the turn ---------------------------------------------------------------------------

    def turn(self, redis_since: float) -> None:
        """One round: wishes, window, chunks that got lost, feeding, lookups, the end."""
        job = self._heed_wishes(self.store.job())
        job = self._heed_window(job)
        self._hold(job)
        self._reconcile(job, redis_since)
        self.store.set_poison_aside(POISON, time.time())
        if job.state is JobState.IN_PROGRESS:
            self._feed(job)
        self._look_up(job)
        self._finish(self.store.job())

    def _heed_wishes(self, job: JobRow) -> JobRow:
        if job.wanted == "pause" and job.state is JobState.IN_PROGRESS:
            self.store.set_state(
                JobState.PAUSED, reason=PauseReason.USER, text="paused by the user"
            )
        elif job.wanted == "cancel" and job.state in (JobState.IN_PROGRESS, JobState.PAUSED):
            self.store.set_state(JobState.CANCELLING)
        elif not job.wanted:
            return job
        self.store.want("")
        return self.store.job()

    def _heed_window(self, job: JobRow) -> JobRow:
        if job.spec.window is None:
            return job
        window, now = parse_window(job.spec.window), datetime.now(UTC)
        if job.state is JobState.IN_PROGRESS and not window.contains(now):
            opening = window.next_opening(now)
            self._pause(PauseReason.WINDOW_CLOSED, f"goes on at {opening:%Y-%m-%d %H:%M %Z}")
        elif job.reason == PauseReason.WINDOW_CLOSED and window.contains(now):
            self.store.set_state(JobState.IN_PROGRESS)
        else:
            return job
        return self.store.job()

    def withdraw(self) -> None:
        """Takes back what was fed and no worker took, so that nothing of it is sent later.

        Of chunks that another coordinator fed nobody knows whether they were ever taken.
        """
        for chunk in self.store.open_chunks():
            watch = self._watches.get(chunk.chunk)
            untouched = watch is not None and watch.mine and watch.seen_at is None
            if untouched and self._post.withdraw(self.id, chunk.chunk):
                back = self.store.unfinished(chunk)
                closed = ChunkClosed(chunk.chunk, HELD, back, {})
                ledger.apply(self.store, [Delivery("", 0, self.id, [], [], [closed], [])])
                del self._watches[chunk.chunk]

    def _hold(self, job: JobRow) -> None:
        """Workers start nothing of a job that is not in progress."""
        wanted = "" if job.state is JobState.IN_PROGRESS else (job.reason or job.state.value)
        if wanted:
            self._post.hold(self.id, wanted)
            self.withdraw()
        elif self._holding != wanted:
            self._post.unhold(self.id)
        self._holding = wanted

    def _reconcile(self, job: JobRow, redis_since: float) -> None:
        if not self._watches:
            return
        now = time.monotonic()
        claims = self._post.claims(self.id, list(self._watches))
        for number, watch in self._watches.items():
            watch.look(claims.get(number), now)
        untaken = sum(watch.seen_at is None for watch in self._watches.values())
        missing = untaken > 0 and self._post.queued(queue_name(job.spec.base_url)) < untaken
        steps = {
            number: decide(
                watch,
                claimed=number in claims,
                now=now,
                redis_since=redis_since,
                message_missing=missing,
            )
            for number, watch in self._watches.items()
        }
        if any(step is not Step.KEEP for step in steps.values()):
            self._act(job, steps, now)

    def _act(self, job: JobRow, steps: dict[int, Step], now: float) -> None:
        for chunk in self.store.open_chunks():
            step = steps.get(chunk.chunk, Step.KEEP)
            if step is Step.LOSE:
                log.warning(
                    "%s: the worker of chunk %d fell silent; its rest is fed again",
                    self.id,
                    chunk.chunk,
                )
                self._lose(chunk)
            elif step is Step.SEND_AGAIN:
                log.info("%s: chunk %d is sent again", self.id, chunk.chunk)
                self._feeder.send_again(job, chunk)
                self._watches[chunk.chunk].sent_at = now

    def _lose(self, chunk: OpenChunk) -> None:
        self.store.lose(chunk)
        self._watches.pop(chunk.chunk, None)
        self._post.forget_chunks(self.id, [chunk.chunk])

    def _feed(self, job: JobRow) -> None:
        room = CHUNKS_PER_WORKER * max(self.workers, 1) - len(self._watches)
        if room <= 0:
            return
        try:
            fed = self._feeder.feed(job, room)
        finally:
            # Also those that the post did not take: they are on disk, and are sent again.
            for chunk in self.store.open_chunks():
                if not chunk.lost and chunk.chunk not in self._watches:
                    self._watches[chunk.chunk] = Watch(time.monotonic(), mine=True)
        if fed.exhausted:
            self._pause(PauseReason.BUDGET_EXHAUSTED, "not one more request fits the budget")

    def _look_up(self, job: JobRow) -> None:
        due = self._lookups.due(self.store.uncertain(), time.time())
        if due:
            self._sender.look_up(self.id, job.spec.name, job.spec.base_url, due)

    # ---- the end ----------------------------------------------------------------------------

    def _finish(self, job: JobRow) -> None:
        if job.state is JobState.IN_PROGRESS and job.left == 0 and self._settled():
            self.store.set_state(JobState.FINALIZING)
            job = self.store.job()
        if job.state is JobState.FINALIZING:
            self._write_outputs(JobState.COMPLETED)
        elif job.state is JobState.CANCELLING and not self._watches:
            self._write_outputs(JobState.CANCELLED)

    def _settled(self) -> bool:
        """Nothing is out, and every uncertain call was looked up as often as is waited for."""
        return not self._watches and not any(is_awaited(call) for call in self.store.uncertain())

    def _write_outputs(self, then: JobState) -> None:
        ledger.estimate_the_rest(self.store, self.store.prices())
        reports.write_all(self.store)
        self.store.set_state(then, now=time.time())
        self._post.forget_job(self.id)

    # ---- looking ----------------------------------------------------------------------------

    def progress(self) -> Progress:
        """How the job stands now."""
        job = self.store.job()
        self._meter.note(time.monotonic(), job.finished)
        return progress_of(
            job,
            self._meter.rate,
            in_flight=self.in_flight,
            workers=self.workers,
            refusals=self.refusals,
            down=self.down,
        )
