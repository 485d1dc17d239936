"""What Prometheus may ask of a coordinator; docs/monitoring.md tells what each name means.

The coordinator notes how its jobs stand; another thread serves what was noted last. Labels are
bounded: so many jobs, so many codes of each. A job's label is `job_id`: `job` is Prometheus's own.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from batch.coordinator.job_controller import JobController
from batch.reports.page import visible
from batch.watching.latest_incidents import OTHER
from batch.watching.progress import Progress
from batch.watching.time_series import BOUNDS_S
from jobs.errors import NightshiftError, UsageError
from jobs.message import N_
from jobs.period import Period
from jobs.states import ENDED
from jobs.worker_heartbeat import WorkerStatus

MOST_JOBS = 100
MOST_CODES = 20
KEPT_S = 900.0
"""A job that is over is told of for so long, so that its last figures are surely seen."""


@dataclass(frozen=True)
class _Noted:
    """A job, as it was noted at `at`; `moved_at` is when it last had a new result. Unix seconds."""

    at: float
    moved_at: float
    progress: Progress
    tokens: int
    calls: int
    busy: int
    failures: dict[str, int]
    refused: dict[str, int]
    buckets: list[int]
    latency_s: float

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.progress.state in ENDED


SpentByKey = Mapping[str, Mapping[Period, tuple[Decimal, Decimal]]]
"""By API key and period: ₽ spent, and ₽ set aside."""


class Metrics(Collector):
    """Notes on the coordinator's thread, collects on the server's: each sees a whole picture.

    `spent_by_key` is asked when somebody looks, by one at a time.
    """

    def __init__(self, spent_by_key: Callable[[], SpentByKey] = dict) -> None:
        self._spent_by_key = spent_by_key
        self._one_at_a_time = threading.Lock()
        self._jobs: dict[str, _Noted] = {}
        self._workers: list[WorkerStatus] = []
        self._foreign = 0
        self.redis_up = True

    def serve(self, port: int, address: str) -> int:
        """Answers at that port from now on, and returns it. `UsageError` if it is taken."""
        registry = CollectorRegistry()
        registry.register(self)
        try:
            server, _thread = start_http_server(port, address, registry)
        except OSError as error:
            raise UsageError(
                N_(
                    "cannot expose metrics on {address}:{port}: {why}",
                    address=address,
                    port=port,
                    why=error,
                ),
                hint=N_("choose another port with --metrics-port"),
            ) from error
        return int(server.server_port)

    # ---- noting -------------------------------------------------------------------------------

    def note(self, job: JobController, progress: Progress) -> None:
        """How a job stands now."""
        row, now = job.status.row(), time.time()
        before = self._jobs.get(job.id)
        moved = before is None or before.progress.finished != progress.finished
        noted = _Noted(
            at=now,
            moved_at=now if moved or before is None else before.moved_at,
            progress=progress,
            tokens=row.settled_tokens,
            calls=row.calls,
            busy=job.status.presence.busy,
            failures=_bounded(job.status.series.failures),
            refused=_bounded(job.status.refused),
            buckets=list(job.status.series.buckets),
            latency_s=job.status.series.latency_s,
        )
        kept = [each for each in self._jobs.values() if not each.over or now - each.at < KEPT_S]
        kept = [noted, *(each for each in kept if each.progress.job != job.id)]
        kept.sort(key=lambda each: (each.over, -each.at))
        self._jobs = {each.progress.job: each for each in kept[:MOST_JOBS]}

    def see(self, workers: list[WorkerStatus], foreign: int) -> None:
        """Who is there, and how much the coordinator dropped as not of our making."""
        self._workers, self._foreign = workers, foreign

    # ---- collecting ---------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """All families, those without a value included: their names are there from the start."""
        yield from _of_house(self._workers, redis_up=self.redis_up)
        foreign = self._foreign + sum(worker.foreign for worker in self._workers)
        yield _gauge("foreign_messages", "What was dropped as not of our making.", [((), foreign)])
        yield _of_keys(self._spent())
        yield from _of_jobs(list(self._jobs.values()))

    def _spent(self) -> SpentByKey:
        """Nothing where the books cannot be read now: all else is told all the same."""
        with self._one_at_a_time, suppress(NightshiftError, OSError):
            return self._spent_by_key()
        return {}


def _of_house(workers: list[WorkerStatus], *, redis_up: bool) -> Iterator[Metric]:
    yield _gauge("redis_up", "Whether Redis answers the coordinator.", [((), redis_up)])
    yield _gauge("workers", "Workers that renew their sign of life.", [((), len(workers))])
    lag = max((worker.outbox_lag_s for worker in workers), default=0.0)
    yield _gauge("outbox_lag_seconds", "Age of the oldest result not yet home.", [((), lag)])
    lanes = [lane for worker in workers for lane in worker.limits]
    down = any(lane.down for lane in lanes)
    yield _gauge("endpoint_down", "Whether workers only probe the endpoint.", [((), down)])
    limits = {lane.scope: lane.limit for lane in lanes if lane.limit}
    pairs = [((scope,), limit) for scope, limit in sorted(limits.items())[:MOST_JOBS]]
    yield _gauge("pace_limit", "Calls in flight that the endpoint bears.", pairs, "scope")


def _of_keys(spent: SpentByKey) -> Metric:
    pairs = [
        ((key, period.value), known)
        for key, periods in sorted(spent.items())[:MOST_JOBS]
        for period, (known, _) in periods.items()
    ]
    return _gauge("key_spent_roubles", "Roubles spent by an API key.", pairs, "key", "period")


def _of_jobs(jobs: list[_Noted]) -> Iterator[Metric]:
    def each(name: str, text: str, value: Any) -> Metric:
        pairs = [((j.progress.job,), value(j)) for j in jobs]
        told = [(labels, found) for labels, found in pairs if found is not None]
        return _gauge(f"job_{name}", text, told, "job_id")

    names = [((j.progress.job, visible(j.progress.name)[:80]), 1) for j in jobs]
    yield _gauge("job_info", "A job and its name.", names, "job_id", "name")
    states = [((j.progress.job, j.progress.state, j.progress.reason), 1) for j in jobs]
    yield _gauge("job_state", "Where a job stands, and why.", states, "job_id", "state", "reason")
    yield each(
        "needs_action", "Whether nothing moves until you act.", lambda j: j.progress.needs_action
    )
    stalls = [((j.progress.job, j.progress.stall.reason), 1) for j in jobs if j.progress.stall]
    yield _gauge("job_stalled", "Why a job stands still.", stalls, "job_id", "reason")
    requests = [
        ((j.progress.job, state), count)
        for j in jobs
        for state, count in (
            ("completed", j.progress.completed),
            ("failed", j.progress.failed),
            ("left", j.progress.requests - j.progress.finished),
        )
    ]
    yield _gauge("job_requests", "Requests by what became of them.", requests, "job_id", "state")
    yield each("spent_roubles", "Roubles spent.", lambda j: j.progress.spent)
    yield each("uncertain_roubles", "Roubles that may be spent.", lambda j: j.progress.booked)
    yield each("budget_roubles", "The cap in roubles, if any.", lambda j: j.progress.budget)
    forecast = "Roubles that all of a job will have cost."
    yield each("forecast_roubles", forecast, lambda j: j.progress.forecast)
    yield each("late", "Whether the deadline comes before the end.", lambda j: j.progress.late)
    yield each("tokens", "Tokens paid for.", lambda j: j.tokens)
    yield each("calls", "Calls that were or may have been billed.", lambda j: j.calls)
    yield each("in_flight", "Calls in flight.", lambda j: j.progress.in_flight)
    yield each("workers", "Workers with a chunk of the job.", lambda j: j.busy)
    yield each("requests_per_second", "Results per second.", lambda j: j.progress.rate)
    yield each("left_seconds", "Seconds until the end, at this rate.", lambda j: j.progress.left_s)
    yield each("last_result_timestamp_seconds", "When a result last came.", lambda j: j.moved_at)
    refused = [((j.progress.job, kind), count) for j in jobs for kind, count in j.refused.items()]
    yield _counter("job_refusals", "Calls refused and made again.", refused, "job_id", "kind")
    failed = [((j.progress.job, code), count) for j in jobs for code, count in j.failures.items()]
    yield _gauge("job_failures", "Failed requests by code.", failed, "job_id", "code")
    yield _latency(jobs)


def _latency(jobs: Iterable[_Noted]) -> Metric:
    family = HistogramMetricFamily(
        "nightshift_job_latency_seconds", "Seconds that answers took.", labels=["job_id"]
    )
    for job in jobs:
        bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(job.buckets)), strict=True))
        family.add_metric([job.progress.job], buckets=buckets, sum_value=job.latency_s)
    return family


_Pairs = Iterable[tuple[tuple[str, ...], Any]]


def _gauge(name: str, text: str, pairs: _Pairs, *labels: str) -> Metric:
    family = GaugeMetricFamily(f"nightshift_{name}", text, labels=labels)
    for values, value in pairs:
        family.add_metric(values, float(value))
    return family


def _counter(name: str, text: str, pairs: _Pairs, *labels: str) -> Metric:
    family = CounterMetricFamily(f"nightshift_{name}", text, labels=labels)
    for values, value in pairs:
        family.add_metric(values, float(value))
    return family


def _bounded(counts: Mapping[str, int]) -> dict[str, int]:
    """The codes that are met most, and the others as one."""
    named = Counter({code: count for code, count in counts.items() if code != OTHER})
    most = dict(named.most_common(MOST_CODES))
    rest = sum(counts.values()) - sum(most.values())
    return most | ({OTHER: rest} if rest else {})
