"""What the report tells of a job, gathered in one pass and in memory that does not grow with it."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from msgspec import structs

from batch.reports.charts import Chart, Growth, Spread, Timeline
from batch.reports.cost_report import Cost, ModelCost
from batch.reports.rows import Row
from batch.store import timeline as past
from batch.store.billed import Billed
from batch.store.cost_shares import CostShare
from batch.store.failure_causes import MOST_LISTED, Causes
from batch.store.jobstore import JobRow, JobStore
from jobs.result import ResultState

_MOST_SLOW = 10
_MOST_NOTED = 10
"""Of rows that failed, or are worth a look."""

_MINUTE_S = 60


class Top:
    """The rows with the highest `measure`; of equals, those nearest the start of the file."""

    def __init__(self, measure: Callable[[Row], float | Decimal]) -> None:
        self._measure = measure
        self._heap: list[tuple[float | Decimal, int, Row]] = []

    def add(self, row: Row) -> None:
        """Considers a row; one that measures nothing is not worth a place."""
        found = self._measure(row)
        full = len(self._heap) >= _MOST_SLOW
        if not found or (full and found < self._heap[0][0]):
            return
        entry = (found, -row.line, row)
        if not full:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def __iter__(self) -> Iterator[Row]:
        """The highest first."""
        return (row for _, _, row in sorted(self._heap, reverse=True))

    def __len__(self) -> int:
        return len(self._heap)


@dataclass
class Survey:
    """What one pass over the requests found."""

    timeline: Timeline
    load: Load
    spending: Growth
    requests: int = 0
    completed: int = 0
    failed: int = 0
    models: Counter[str] = field(default_factory=Counter)
    errors: Causes = field(default_factory=Causes)
    flags: Causes = field(default_factory=Causes)
    latencies: Spread = field(default_factory=Spread)
    slowest: Top = field(default_factory=lambda: Top(lambda row: row.latency_s))
    dearest: Top = field(default_factory=lambda: Top(lambda row: row.cost))
    failures: list[Row] = field(default_factory=list)
    flagged: list[Row] = field(default_factory=list)
    """The first ones of each, without their answers."""

    @property
    def finished(self) -> int:
        """Requests that have their result."""
        return self.completed + self.failed

    @property
    def left(self) -> int:
        """Requests that have none."""
        return self.requests - self.finished

    def add(self, row: Row) -> None:
        """Counts a request."""
        self.requests += 1
        self.models[row.model] += 1
        self.dearest.add(row)
        if row.cost:
            self.spending.add(row.model, row.cost, row.finished_at or self.timeline.last)
        if row.state is not None:
            self.timeline.add(row.finished_at, failed=row.state is ResultState.FAILED)
        if row.state is ResultState.COMPLETED:
            self._add_completed(row)
        elif row.state is ResultState.FAILED:
            self.failed += 1
            self.errors.add(row.code, row.line, row.message, row.status)
            _note(self.failures, row)

    @property
    def more(self) -> bool:
        """Whether there are more of these than are listed."""
        listed = len(self.failures), len(self.flagged)
        return self.failed > listed[0] or listed[1] == _MOST_NOTED

    def noted(self) -> list[tuple[Row, set[str]]]:
        """Rows worth a look, each once, with why: `failed`, `flagged`, `slow`, `dear`."""
        found: dict[int, tuple[Row, set[str]]] = {}
        kinds: dict[str, Iterable[Row]] = {"failed": self.failures, "flagged": self.flagged}
        for kind, rows in (kinds | {"slow": self.slowest, "dear": self.dearest}).items():
            for row in rows:
                found.setdefault(row.line, (row, set()))[1].add(kind)
        return list(found.values())

    def _add_completed(self, row: Row) -> None:
        self.completed += 1
        self.latencies.add(row.latency_s)
        self.slowest.add(row)
        if row.flags:
            _note(self.flagged, row)
        for flag in row.flags:
            self.flags.add(flag, row.line)


def _note(rows: list[Row], row: Row) -> None:
    if len(rows) < _MOST_NOTED:
        rows.append(structs.replace(row, body=b"", answer=None))


@dataclass
class Minute:
    """What was sent in a minute, and for how many seconds calls were in flight, all together."""

    calls: int = 0
    tokens: int = 0
    busy_s: float = 0.0


class Load:
    """Calls of the ledger over time: how near to its limits a job ran."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._busy = [0.0] * len(timeline)
        self._minutes: dict[int, Minute] = defaultdict(Minute)
        self.lengths = Spread()
        """Tokens of answers, reasoning included."""

    def add(self, call: Billed) -> None:
        """Counts a call."""
        if call.completion:
            self.lengths.add(call.completion)
        sent, end = call.sent_at, call.sent_at + call.latency_s
        minute = self._minutes[int(sent // _MINUTE_S)]
        minute.calls += 1
        minute.tokens += (call.prompt or 0) + (call.completion or 0)
        if sent // _MINUTE_S == end // _MINUTE_S:  # as most do
            minute.busy_s += call.latency_s
        else:
            self._fill_minutes(sent, end)
        self._fill_bars(sent, end)

    def _fill_minutes(self, at: float, end: float) -> None:
        while at < end:
            until = min(end, (at // _MINUTE_S + 1) * _MINUTE_S)
            self._minutes[int(at // _MINUTE_S)].busy_s += until - at
            at = until

    def _fill_bars(self, at: float, end: float) -> None:
        first = self._timeline.place(at)
        if end <= self._timeline.end(first):  # as most do
            self._busy[first] += end - at
            return
        for place in range(first, self._timeline.place(end) + 1):
            until = min(end, self._timeline.end(place))
            self._busy[place] += max(until - at, 0.0)
            at = max(at, until)

    @property
    def busiest(self) -> Minute:
        """The highest figures that any minute had."""
        minutes = self._minutes.values()
        return Minute(
            max((minute.calls for minute in minutes), default=0),
            max((minute.tokens for minute in minutes), default=0),
            max((minute.busy_s for minute in minutes), default=0.0),
        )

    def chart(self) -> Chart:
        """Calls in flight, on the average of each bar."""
        width = self._timeline.width
        return self._timeline.chart([[math.ceil(busy / width)] for busy in self._busy])


@dataclass
class Tally:
    """Both that want to see each call of the ledger, in one walk of it."""

    cost: Cost
    load: Load

    def count(self, call: Billed, model: str) -> None:
        """Counts a call."""
        self.cost.count(call, model)
        self.load.add(call)

    def bear(self, part: Billed | CostShare, state: str | None, final: str | None) -> None:
        """Counts what a request bears."""
        self.cost.bear(part, state, final)


def empty_survey(store: JobStore, job: JobRow, clock: Callable[[float], datetime]) -> Survey:
    """A survey that is ready for the rows of a job."""
    timeline = Timeline(*span_of(store, job), clock)
    return Survey(timeline, Load(timeline), Growth(timeline, MOST_LISTED))


def span_of(store: JobStore, job: JobRow) -> tuple[float, float]:
    """From when the job began to its last result; Unix seconds."""
    first, last = past.span(store.db)
    began = job.created_at if job.started_at is None else job.started_at
    return (began, began) if first is None or last is None else (min(began, first), last)


def faults_of(store: JobStore) -> Causes:
    """Lines that were no requests."""
    groups = Causes()
    for fault in store.faults():
        groups.add(fault["code"], fault["line"], fault["message"])
    return groups


@dataclass(frozen=True)
class ModelLine:
    """A model with its requests and what they cost."""

    name: str
    requests: int
    cost: ModelCost


def model_lines(requests: Counter[str], cost: Cost) -> list[ModelLine]:
    """The dearest first; also models that were asked in the place of another."""
    costs = cost.by_model
    lines = [
        ModelLine(name, requests[name], costs.get(name, ModelCost()))
        for name in dict.fromkeys((*requests, *costs))
    ]
    return sorted(lines, key=lambda line: (-line.cost.rub, -line.requests, line.name))
