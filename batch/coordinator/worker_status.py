"""What the workers tell of themselves, seen from one job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from jobs.money import is_amount
from jobs.signing import Target
from jobs.worker_heartbeat import Wait, WorkerStatus

_SAME_TIME_S = 20.0
"""A worker whose clock differs by more is not believed in what it measured when."""


@dataclass(frozen=True)
class Rested:
    """₽ on the account of a key `at` Unix seconds, when nothing of a worker was in flight."""

    key: str
    rub: Decimal
    at: float


@dataclass(frozen=True)
class Presence:
    """`workers` serve the job's endpoint with its key, `busy` of them have a chunk of it.

    `down_s` is for how long the endpoint has not answered it, `wait` what holds it up, in the
    endpoint's own words (`workers.status_report`). `limits` are calls in flight that the
    endpoint bears, by the pace that is shared; `refused` counts the refusals of each chunk by code;
    `lag_s` is how long the oldest result waits to come home; `open` are the chunks that some worker
    has. `silent_s` is how long ago the last of the workers told of itself, None where none is
    there; `has_others`: some are busy with other jobs. `bounds` are what requests wait for now,
    `waits` for how long they did so far, by worker and cause. `is_draining`: all of the workers are
    about to end, and begin no call.
    """

    workers: int = 0
    busy: int = 0
    in_flight: int = 0
    down_s: float = 0.0
    wait: Wait | None = None
    limits: dict[str, int] = field(default_factory=dict)
    refused: dict[int, Counter[str]] = field(default_factory=dict)
    lag_s: float = 0.0
    silent_s: float | None = None
    has_others: bool = False
    is_draining: bool = False
    bounds: frozenset[str] = frozenset()
    waits: dict[str, dict[str, float]] = field(default_factory=dict)
    rests: list[Rested] = field(default_factory=list)
    open: frozenset[int] = frozenset()


def presence_of(
    job: str, target: Target, workers: Iterable[WorkerStatus], now: float = 0.0
) -> Presence:
    """`workers` as `Status.workers` finds them at `now`, Unix seconds."""
    workers = list(workers)
    there = [worker for worker in workers if worker.target == target]
    here = [worker.jobs[job] for worker in there if job in worker.jobs]
    lanes = [lane for worker in there for lane in worker.limits]
    return Presence(
        workers=len(there),
        busy=len(here),
        in_flight=sum(standing.in_flight for standing in here),
        down_s=max((standing.down_s for standing in here), default=0.0),
        wait=max(
            (standing.wait for standing in here if standing.wait),
            key=lambda wait: wait.until or 0.0,
            default=None,
        ),
        limits={lane.scope: lane.limit for lane in lanes if lane.limit},
        refused={
            chunk: Counter(codes) for standing in here for chunk, codes in standing.refused.items()
        },
        lag_s=max((worker.outbox_lag_s for worker in there), default=0.0),
        silent_s=min((worker.silent_s for worker in there), default=None),
        bounds=frozenset(standing.bound for standing in here if standing.bound),
        waits={worker.name: worker.jobs[job].waits for worker in there if job in worker.jobs},
        is_draining=bool(there) and all(worker.draining for worker in there),
        has_others=any(worker.jobs.keys() - {job} for worker in there),
        rests=[rest for worker in there if (rest := _rest(worker, now)) is not None],
        # Also of those that have another key: the job may have got another since.
        open=frozenset(chunk for worker in workers for chunk in worker.open.get(job, ())),
    )


def _rest(worker: WorkerStatus, now: float) -> Rested | None:
    told = worker.rest
    if told is None or abs(worker.now - now) > _SAME_TIME_S or not is_amount(told.rub.copy_abs()):
        return None
    return Rested(worker.key, told.rub, told.at)
