"""How a job stands: what its workers and its answers tell, and what becomes of that on screens."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress

from batch.coordinator.chunk_size import Pulse
from batch.coordinator.worker_status import Presence
from batch.store.delivery_ledger import Applied
from batch.store.jobstore import JobRow, JobStore
from batch.watching.bottleneck_summary import WaitMeter
from batch.watching.latest_incidents import OUTAGE, Troubles
from batch.watching.progress import Meter, Progress, at_standstill, progress_of
from batch.watching.time_series import Failure, series_of
from jobs.bottleneck import Bound
from jobs.lifecycle import is_at_rest
from jobs.result import ResultState
from jobs.stall import UNMANNED_S, Signs, stalled
from jobs.states import JobState

_KEEP_S = 10.0
"""Troubles that come one upon the other are written down so often."""

_TOLD_S = 4.0
"""What a worker tells is of its last two heartbeats at most."""


class JobStatus:
    """What is known of a job beside its row. `last`: how it was told last; `refused`: refusals by
    code in the home, `refused_so_far`: with those that workers tell of chunks not closed yet.
    """

    def __init__(self, store: JobStore, troubles: Troubles, unmanned_s: float = UNMANNED_S) -> None:
        """`unmanned_s`: how long the job may have no worker before that is told."""
        self._store = store
        self._row = store.job()
        self.troubles = troubles
        troubles.recall(self._row.troubles)
        self._kept, self._kept_at = troubles.recent, float("-inf")
        self._meter = Meter()
        self.refused = Counter(store.refusals())
        self.refused_so_far = Counter(self.refused)
        self.presence = Presence()
        self.series = series_of(store, time.time())
        self._finished = self._row.finished
        self.last: Progress | None = None
        self._unmanned_s = unmanned_s
        # Monotonic: a clock that is set, or a host that slept, is no standstill.
        self._manned_at = self._moved_at = time.monotonic()
        self._waited_at = time.time()
        self._moved: object = None
        self._stops_at: float | None = None
        self._waits = WaitMeter()

    def row(self) -> JobRow:
        """The job's row; where its file cannot be read any more, as it was read last."""
        with suppress(Exception):
            self._row = self._store.job()
        return self._row

    def draw(self, applied: Applied) -> None:
        """Counts what deliveries brought."""
        self.refused.update(applied.refusals)
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
                line = self._store.queue.line(result.ordinal)
                how = (result.code, result.status, result.attempts)
                self.series.failed(Failure(result.finished_at, line, *how), now)
                failed[result.code] = min(result.finished_at, now)
        for code, at in failed.items():
            self._count(code, at)

    def _count(self, code: str, at: float) -> None:
        """The endpoint refused, for now or for good."""
        times = self._all_refused()[code] + self.series.failures.get(code, 0)
        self.troubles.count(code, at, max(times, 1))

    def _all_refused(self) -> Counter[str]:
        """Refusals by code: those in the home, and those of chunks whose closing is not there."""
        there = self.presence.refused
        untold = self._store.chunks.untold() if there else set()
        return sum((there[chunk] for chunk in untold & there.keys()), self.refused)

    def pulse(self) -> Pulse:
        """How fast it goes, by which the size of chunks is chosen."""
        workers = max(self.presence.workers, 1)
        return Pulse(
            self._meter.rate / workers, self.presence.in_flight / workers, self.series.spread()
        )

    def progress(self, *, is_out: bool) -> Progress:
        """How the job stands now; `is_out`: whether workers have something of it."""
        self._row = job = self._store.job()
        self._meter.note(time.monotonic(), job.finished)
        if job.finished < self._finished:
            # Results were taken back, to be tried again.
            self.series = series_of(self._store, time.time())
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
            self._moved, self._moved_at = moved, time.monotonic()
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
            bound=self._waits.bound(job.spec.limits),
            stopping=self.presence.is_draining,
            calls_left_s=self._calls_left(job),
        )
        stall = stalled(job.state, job.reason, self._signs(job, is_out=is_out), now)
        return progress if stall is None else at_standstill(progress, stall)

    def _calls_left(self, job: JobRow) -> float | None:
        """Seconds until the calls in flight have ended, where no other is begun, as long as calls
        took lately; None where nobody can tell.
        """
        stops = job.state is not JobState.IN_PROGRESS or self.presence.is_draining
        now = time.monotonic()
        self._stops_at = (self._stops_at or now) if stops else None
        slowest_s = self.series.slowest()
        if self._stops_at is None or slowest_s is None or not self.presence.in_flight:
            return None
        return max(self._stops_at + slowest_s - now, 0.0)

    def see(self, presence: Presence) -> None:
        """What the workers tell of the job by now."""
        self.presence = presence
        if waited := self._waits.note(time.monotonic(), presence.waits):
            now = time.time()
            span_s = max(_TOLD_S, *waited.values())
            self.series.waited(max(self._waited_at, now - span_s), now, waited)
            self._waited_at = now
        if presence.silent_s is not None:
            self._manned_at = max(self._manned_at, time.monotonic() - presence.silent_s)

    def excuse(self) -> None:
        """Nobody could be seen until now: workers and calls are waited for anew."""
        self._manned_at = self._moved_at = time.monotonic()

    def _keeps_to_a_limit(self) -> bool:
        known = {each.value: each for each in Bound}
        return any(known[cause].is_wanted for cause in self.presence.bounds if cause in known)

    def _signs(self, job: JobRow, *, is_out: bool) -> Signs:
        """What the coordinator sees of the job's workers."""
        here = self.presence
        waits = here.wait is not None or here.down_s > 0 or self._keeps_to_a_limit()
        queues = not here.busy and here.has_others
        is_due = bool(job.left) and is_out and not waits and not queues
        if not is_due or time.monotonic() - self._manned_at >= self._unmanned_s:
            # A call is due from when nothing else is waited for.
            self._moved_at = time.monotonic()
        return Signs(
            unmanned_since=_on_the_wall(self._manned_at),
            unmanned_s=self._unmanned_s,
            still_since=_on_the_wall(self._moved_at) if is_due else None,
            slowest_s=job.spec.total_timeout_s,
        )

    def keep_troubles(self) -> None:
        """Writes down what troubled the job and what it waited for: this coordinator may go."""
        self._kept_at = time.monotonic()
        if self.troubles.recent != self._kept:
            self._store.keep_troubles(self.troubles.recent)
            self._kept = self.troubles.recent
        if self._waits.kept:
            self._store.keep_waits(time.time(), self._waits.kept)
            self._waits.kept.clear()


def _on_the_wall(moment: float) -> float:
    """Unix seconds of a monotonic moment."""
    return time.time() - (time.monotonic() - moment)
