"""How a batch stands: what the registry says of it, and from the job all that happened to it."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from batch.api.line_errors import problem
from batch.money.cost_forecast import cost_of_all
from batch.store import registry
from batch.store.home import Home
from batch.store.jobstore import JobRow
from batch.store.registry import BatchRow
from jobs.errors import StorageUnavailable
from jobs.names import COST
from jobs.states import JobState

_FRESH_S = 0.2
"""So old may be what is told of a running job: many may ask at once."""

_MOST = 20_000
"""Jobs whose standing is kept in memory."""

_STATUS = {
    JobState.VALIDATING: "validating",
    JobState.IN_PROGRESS: "in_progress",
    JobState.PAUSED: "in_progress",
    JobState.FINALIZING: "finalizing",
    JobState.COMPLETED: "completed",
    JobState.CANCELLING: "cancelling",
    JobState.CANCELLED: "cancelled",
    JobState.FAILED: "failed",
    JobState.EXPIRED: "expired",
}
STATUSES = tuple(dict.fromkeys(_STATUS.values()))
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True)
class Facts:
    """What a job says of itself; `tokens` once it is over. Money in ₽, times in Unix seconds."""

    state: JobState
    reason: str
    created_at: float
    ended_at: float | None
    changed_at: float
    requests: int
    completed: int
    failed: int
    model: str | None
    cost: Decimal
    uncertain: Decimal
    unknown: int
    budget: Decimal | None
    forecast: Decimal | None
    output_dir: str
    deadline: float | None = None
    tokens: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """A batch, and its job's facts if there is a job."""

    row: BatchRow
    facts: Facts | None

    @property
    def status(self) -> str:
        """One of the eight of OpenAI's API."""
        if self.facts is None:
            started = self.row.cancelling_at is not None and self.row.state == registry.VALIDATING
            validating = self.row.state in (registry.VALIDATING, registry.JOB)
            return "cancelling" if started else "validating" if validating else self.row.state
        status = _STATUS[self.facts.state]
        if status == "in_progress" and self.row.cancelling_at is not None:
            return "cancelling"
        return status

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ENDED


class Standings:
    """Reads jobs when they changed, and remembers them."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: OrderedDict[str, tuple[float, float, Facts]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, row: BatchRow) -> Standing:
        """How a batch stands now."""
        facts = self._facts(row) if row.state == registry.JOB else None
        lost = row.state == registry.JOB and facts is None
        return Standing(_without_job(row) if lost else row, facts)

    def fresh(self, row: BatchRow) -> Standing:
        """How it stands, by a new look: what was remembered may be older than `row`."""
        with self._lock:
            self._known.pop(row.job, None)
        return self.of(row)

    def _facts(self, row: BatchRow) -> Facts | None:
        """None if its job is gone, and nothing is known of it."""
        now, job = time.monotonic(), row.job
        known = self._known.get(job)
        if known is not None and now - known[1] < _FRESH_S:
            return known[2]
        touched = self._home.touched(job)
        if known is not None and known[0] == touched:
            facts = known[2]
        else:
            try:
                facts = self._read(job, touched)
            except StorageUnavailable:
                if row.facts is None and (self._home.jobs_folder / job).exists():
                    raise
                # Its job was removed since.
                if row.facts is None:
                    return None
                facts = msgspec.json.decode(row.facts, type=Facts)
        with self._lock:
            self._known[job] = (touched, now, facts)
            self._known.move_to_end(job)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return facts

    def _read(self, job_id: str, touched: float) -> Facts:
        with closing(self._home.open(job_id, read_only=True)) as store:
            job, models = store.job(), store.queue.models()
        return facts_of(job, models, touched, _tokens(job) if job.ended else {})


def _without_job(row: BatchRow) -> BatchRow:
    """It was removed before anybody saw its end; when it comes back, so does all that it tells."""
    told = "The job of this batch was removed before its results were collected."
    return replace(
        row,
        state=registry.FAILED if row.cancelling_at is None else registry.CANCELLED,
        ended_at=row.cancelling_at or row.created_at,
        errors=json.dumps([problem("job_removed", told)]),
    )


def packed(facts: Facts | None) -> str | None:
    """As JSON, amounts as exact strings."""
    return None if facts is None else msgspec.json.encode(facts).decode()


def facts_of(job: JobRow, models: list[str], touched: float, tokens: dict[str, int]) -> Facts:
    """What is told of a job."""
    return Facts(
        state=job.state,
        reason=job.reason,
        created_at=job.created_at,
        ended_at=job.ended_at,
        changed_at=touched,
        requests=job.requests,
        completed=job.completed,
        failed=job.failed,
        model=models[0] if len(models) == 1 else None,
        cost=job.settled_rub,
        uncertain=job.booked_rub,
        unknown=job.unknown,
        budget=job.spec.budget.rub,
        forecast=cost_of_all(job),
        output_dir=job.spec.output_dir,
        deadline=job.spec.deadline.timestamp() if job.spec.deadline else None,
        tokens=tokens,
    )


def _tokens(job: JobRow) -> dict[str, int]:
    """By kind, as cost.json has them; none where it was taken away."""
    try:
        told: Any = json.loads(Path(job.spec.output_dir, COST).read_bytes())["tokens"]
    except (OSError, ValueError, KeyError):
        return {}
    return dict(told)
