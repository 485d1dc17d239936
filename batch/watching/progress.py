"""How a job stands, for whoever watches: counts, money, rate and time left."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from msgspec import structs

from batch.money.cost_forecast import ENOUGH, cost_of_all
from batch.store.incidents import Trouble
from batch.store.jobstore import JobRow
from batch.watching.bottleneck_summary import BoundBy
from batch.watching.staleness import Attention
from batch.watching.time_left import done_at, is_late
from jobs.job_options import Origin
from jobs.lifecycle import needs_action, remedy
from jobs.message import N_, Message
from jobs.money import plain, total
from jobs.pause_reasons import PauseReason
from jobs.stall import Stalled
from jobs.states import JobState
from jobs.worker_heartbeat import Wait

_WINDOW_S = 60.0
_LIMITS = frozenset({"endpoint.rate_limited", "endpoint.no_quota", "endpoint.in_flight_budget"})
_DOWN = N_("the endpoint does not respond; probing it with one call at a time")


class Meter:
    """Requests per second over the last minute."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def note(self, now: float, finished: int) -> None:
        """`finished` requests at `now`, monotonic seconds."""
        self._points.append((now, finished))
        while len(self._points) > 2 and now - self._points[0][0] > _WINDOW_S:
            self._points.popleft()

    @property
    def rate(self) -> float:
        """Requests per second; 0 before two points."""
        if len(self._points) < 2:
            return 0.0
        (start, before), (end, after) = self._points[0], self._points[-1]
        # Failures that are tried again are fewer finished requests than before.
        return max(after - before, 0) / (end - start) if end > start else 0.0


@dataclass(frozen=True)
class Progress:
    """A moment of a job. Money in ₽, times in seconds. `workers` is None where nobody counted them;
    `down_s` is for how long they have only probed an endpoint that does not answer, else 0; `wait`
    is there while something holds calls up for longer than a moment.
    """

    job: str
    name: str
    state: str
    reason: str
    reason_text: Message
    requests: int
    completed: int
    failed: int
    rate: float
    left_s: float | None
    """Of the calls in flight where no other is begun, else of the whole job."""
    spent: Decimal
    booked: Decimal
    budget: Decimal | None
    in_flight: int
    workers: int | None
    refusals: int
    down_s: float
    done_at: float | None = None
    """Unix seconds."""
    stopping: bool = False
    """Whether its workers end, once their calls have."""
    late: bool = False
    """Whether the deadline comes before."""
    forecast: Decimal | None = None
    """₽ that all of the job will have cost."""
    truncated: int = 0
    """Answers that were cut off at their limit of tokens."""
    unknown: int = 0
    """Calls of unknown cost; those of them that nothing bounds are `unbounded`."""
    unbounded: int = 0
    times: dict[str, float | None] = field(default_factory=dict)
    """When it was submitted and so on, Unix seconds; see `times_of`."""
    origin: Origin | None = None
    """Where it came from, if through the Batch API."""
    trouble: Trouble | None = None
    """The last one that its coordinator knows of."""
    wait: Wait | None = None
    attention: Attention | None = None
    """Where what is shown may be old."""
    bound: BoundBy | None = None
    """What holds its requests up most."""
    stall: Stalled | None = None
    """Where it stands still though nobody paused it; see `at_standstill`."""
    needs_action: bool = False
    """Whether nothing moves until somebody acts who may not know it."""
    remedy: str = ""
    """The command that goes on with it while nothing moves."""

    @property
    def down(self) -> bool:
        """Whether the endpoint does not answer."""
        return self.down_s > 0

    @property
    def mostly_truncated(self) -> bool:
        """Whether of enough answers more than half were cut off: the rest will be like them."""
        return self.truncated * 2 > self.completed >= ENOUGH

    @property
    def finished(self) -> int:
        """Requests that have their result."""
        return self.completed + self.failed

    def as_json(self) -> dict[str, object]:
        """For Redis and `--json`; amounts as exact strings."""
        return {
            "version": 1,
            "job": self.job,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "reason_text": str(self.reason_text),
            "needs_action": self.needs_action,
            "remedy": self.remedy,
            "requests": self.requests,
            "completed": self.completed,
            "failed": self.failed,
            "truncated": self.truncated,
            "rate": round(self.rate, 3),
            "left_s": None if self.left_s is None else round(self.left_s, 1),
            "spent_rub": plain(self.spent),
            "uncertain_rub": plain(self.booked),
            "uncertain_calls": self.unknown,
            "unbounded_calls": self.unbounded,
            "budget_rub": None if self.budget is None else plain(self.budget),
            "in_flight": self.in_flight,
            "workers": self.workers,
            "refusals": self.refusals,
            "down": self.down,
            "down_s": round(self.down_s, 1),
            "stopping": self.stopping,
            "done_at": None if self.done_at is None else round(self.done_at),
            "late": self.late,
            "forecast_rub": None if self.forecast is None else plain(self.forecast),
            "wait": self.wait and _as_json(self.wait),
            **self.times,
            "origin": None if self.origin is None else self.origin.model_dump(),
            "trouble": None if self.trouble is None else structs.asdict(self.trouble),
            "bound": self.bound and self.bound.as_json(self.job),
            "stall": self.stall and self.stall.as_json(),
            "attention": self.attention.as_json(time.time()) if self.attention else None,
        }


def _as_json(wait: Wait) -> dict[str, object]:
    return {name: value for name, value in structs.asdict(wait).items() if name != "data"}


def at_standstill(progress: Progress, stall: Stalled, shown_at: float | None = None) -> Progress:
    """The same without what only a job has that moves: a rate, a time left, an end. `shown_at` is
    of when it is, Unix seconds, if it may be old.
    """
    return replace(
        progress,
        stall=stall,
        bound=None,
        attention=None if shown_at is None else Attention(stall.said, stall.since, shown_at),
        rate=0.0,
        left_s=None,
        done_at=None,
        needs_action=needs_action(progress.state, progress.reason, stall),
        remedy=stall.reason.rule.command.format(job=progress.job),
    )


def _left(job: JobRow, rate: float) -> float | None:
    if not job.left:
        return 0.0
    return job.left / rate if rate > 0 else None


def times_of(job: JobRow) -> dict[str, float | None]:
    """When things happened to a job or will happen, Unix seconds; None for what did or will not."""
    deadline = job.spec.deadline
    return {
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "goes_on_at": job.goes_on_at,
        "deadline": None if deadline is None else deadline.timestamp(),
    }


def progress_of(
    job: JobRow,
    rate: float,
    *,
    in_flight: int = 0,
    workers: int | None = None,
    refusals: int = 0,
    down_s: float = 0.0,
    trouble: Trouble | None = None,
    wait: Wait | None = None,
    bound: BoundBy | None = None,
    stopping: bool = False,
    calls_left_s: float | None = None,
) -> Progress:
    """The job's row and what is known beside it, as one moment. `calls_left_s`: until the calls in
    flight have ended.
    """
    goes_on = job.state is JobState.IN_PROGRESS and not stopping
    done = None if stopping else done_at(job, rate, datetime.now(UTC))
    reason, text = job.reason, job.reason_text
    if job.state is not JobState.IN_PROGRESS:
        wait = None
    elif down_s or wait:
        # It goes on by itself, so it is not paused; but nothing moves, and this is why.
        limited = wait is not None and wait.code in _LIMITS
        reason = (PauseReason.RATE_LIMITED if limited else PauseReason.ENDPOINT_DOWN).value
        text = wait.told if wait else _DOWN
    return Progress(
        job=job.id,
        name=job.spec.name,
        state=job.state.value,
        reason=reason,
        reason_text=text,
        requests=job.requests,
        completed=job.completed,
        failed=job.failed,
        rate=rate,
        left_s=_left(job, rate) if goes_on or not job.left else calls_left_s,
        stopping=stopping and job.state is JobState.IN_PROGRESS,
        spent=total([job.settled_rub]),
        booked=job.booked_rub,
        budget=job.spec.budget.rub,
        in_flight=in_flight,
        workers=workers,
        refusals=refusals,
        down_s=down_s,
        done_at=None if done is None else done.timestamp(),
        late=is_late(job, done),
        forecast=cost_of_all(job),
        truncated=job.truncated,
        unknown=job.unknown,
        unbounded=job.unbounded,
        times=times_of(job),
        origin=job.spec.origin,
        trouble=trouble or next(iter(job.troubles), None),
        wait=wait,
        bound=bound if job.state is JobState.IN_PROGRESS and job.left else None,
        needs_action=needs_action(job.state, job.reason),
        remedy=found.command if (found := remedy(job)) else "",
    )
