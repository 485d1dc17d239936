"""How a job went over time, in a few hundred points whatever its length: what Flower draws.

A point is a span of time. When there are too many, two become one and each is twice as wide. Built
from the home when a coordinator takes the job into its hands, then kept up as results come in.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from batch.store import timeline, wait_times
from batch.store.jobstore import JobStore
from batch.watching.latest_incidents import OTHER
from jobs.errors import BadMessage
from jobs.latencies import Scale
from jobs.message import N_
from jobs.money import ZERO, add, total
from jobs.wire import pack, unpack

MOST_POINTS = 720
NARROWEST_S = 5.0
MOST_RECENT = 30
MOST_CODES = 40
"""Codes of errors that are told apart; what comes beyond is counted as `OTHER`."""

BOUNDS_S = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
"""Upper bounds of the latency histogram that Prometheus gets."""

_LATELY = 12
"""Points that tell how it goes now."""

_SCALE = Scale(1.1)


class Point(msgspec.Struct, array_like=True):
    """What happened within one span.

    `busy_s` are seconds that calls were in flight, over all of them; `flying` and `limit` are sums
    over `samples` looks at the workers; `latency` counts answers by class (see `quantile`);
    `waited` are seconds that requests waited, by what for (`jobs.bottleneck`).
    """

    completed: int = 0
    failed: int = 0
    cost: Decimal = ZERO
    busy_s: float = 0.0
    samples: int = 0
    flying: int = 0
    limit: int = 0
    errors: dict[str, int] = {}
    latency: dict[int, int] = {}
    waited: dict[str, float] = {}

    def plus(self, more: Point) -> Point:
        """Both, as one."""
        return Point(
            self.completed + more.completed,
            self.failed + more.failed,
            add(self.cost, more.cost),
            self.busy_s + more.busy_s,
            self.samples + more.samples,
            self.flying + more.flying,
            self.limit + more.limit,
            dict(Counter(self.errors) + Counter(more.errors)),
            dict(Counter(self.latency) + Counter(more.latency)),
            _sum(self.waited, more.waited),
        )

    def quantile(self, share: float) -> float | None:
        """Seconds within which this share of the answers came, to five percent; None of none."""
        return _SCALE.quantile(self.latency, share)

    def in_flight(self, width: float) -> float:
        """Calls in flight, on average: as workers told, else by how long the calls took."""
        return self.flying / self.samples if self.samples else self.busy_s / width


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in [*one, *other]}


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """A request that failed: when (Unix seconds), on which line of the input, and how."""

    at: float
    line: int
    code: str
    status: int | None
    attempts: int


class Series(msgspec.Struct):
    """Points of `width` seconds each from `began` on, Unix seconds.

    `failures` counts failed requests by code, `recent` are the last of them. `buckets` are the
    answers up to each of `BOUNDS_S` and beyond, not added up; `latency_s` is the sum of all.
    """

    began: float | None = None
    width: float = NARROWEST_S
    points: list[Point] = []
    failures: dict[str, int] = {}
    recent: list[Failure] = []
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    latency_s: float = 0.0

    def answered(self, at: float, latency_s: float, now: float) -> None:
        """A request was answered at `at`."""
        point = self._point(at, now)
        point.completed += 1
        place = _SCALE.class_of(latency_s)
        point.latency[place] = point.latency.get(place, 0) + 1
        self.buckets[bisect_left(BOUNDS_S, latency_s)] += 1
        self.latency_s += latency_s

    def failed(self, failure: Failure, now: float) -> None:
        """A request failed."""
        point = self._point(failure.at, now)
        point.failed += 1
        code = self._known(failure.code)
        point.errors[code] = point.errors.get(code, 0) + 1
        self.failures[code] = self.failures.get(code, 0) + 1
        newest = [*self.recent, failure]
        self.recent = heapq.nlargest(MOST_RECENT, newest, key=lambda each: each.at)

    def paid(self, at: float, rub: Decimal, now: float) -> None:
        """It became known that a call which ended at `at` cost so much, or so much more."""
        point = self._point(at, now)
        point.cost = add(point.cost, rub)

    @property
    def cost(self) -> Decimal:
        """Of all calls, ₽."""
        return total(point.cost for point in self.points)

    def recount(self, store: JobStore, now: float) -> None:
        """Takes the costs anew from the ledger."""
        for point in self.points:
            point.cost = ZERO
        for call in timeline.calls(store.db):
            if call.cost is not None:
                self.paid(call.sent_at + call.latency_s, call.cost, now)

    def called(self, sent_at: float, latency_s: float, now: float) -> None:
        """A call ended."""
        for point, seconds in self._within(sent_at, min(sent_at + latency_s, now), now):
            point.busy_s += seconds

    def looked(self, now: float, in_flight: int, limit: int, refused: Mapping[str, int]) -> None:
        """The workers were looked at; `refused` are refusals by code since the last look."""
        point = self._point(now, now)
        point.samples += 1
        point.flying += in_flight
        point.limit += limit
        for code, count in refused.items():
            known = self._known(code)
            point.errors[known] = point.errors.get(known, 0) + count

    def waited(self, begin: float, end: float, seconds: Mapping[str, float]) -> None:
        """Requests that were ready waited so long between two moments, by what for."""
        for point, part in self._within(begin, end, end):
            share = part / (end - max(begin, self.began or begin))
            point.waited = _sum(point.waited, {k: share * v for k, v in seconds.items()})

    def spread(self) -> float:
        """How many times the usual latency the slowest percent of late answers took; 1 of none."""
        slowest, usual = self.slowest(), self._lately().quantile(0.5)
        return 1.0 if slowest is None or usual is None else max(slowest / usual, 1.0)

    def slowest(self) -> float | None:
        """Seconds that the slowest percent of late answers took at least; None of none."""
        return self._lately().quantile(0.99)

    def _lately(self) -> Point:
        late = (Counter(point.latency) for point in self.points[-_LATELY:])
        return Point(latency=sum(late, Counter[int]()))

    def packed(self) -> bytes:
        """For Redis."""
        return pack(msgspec.msgpack.encode(self))

    def _known(self, code: str) -> str:
        if code in self.failures:
            return code
        codes = self.failures.keys() | self.points[-1].errors.keys()
        return code if len(codes) < MOST_CODES else OTHER

    def _within(self, begin: float, end: float, now: float) -> Iterator[tuple[Point, float]]:
        """The points between two moments, and how many seconds of that each is."""
        at = max(begin, self.began or begin)
        while at < end:
            point = self._point(at, now)
            border = min((self._place(at) + 1) * self.width + (self.began or 0), end)
            if border <= at:
                return
            yield point, border - at
            at = border

    def _point(self, when: float, now: float) -> Point:
        """The point of a moment; no clock of a worker stretches the series beyond now."""
        when = min(when, now)
        if self.began is None:
            self.began = when
        while (place := self._place(when)) >= MOST_POINTS:
            self._thin()
        while len(self.points) <= place:
            self.points.append(Point())
        return self.points[place]

    def _place(self, when: float) -> int:
        return max(0, int((when - (self.began or 0)) // self.width))

    def _thin(self) -> None:
        pairs = zip(self.points[::2], [*self.points[1::2], Point()], strict=False)
        self.points = [first.plus(second) for first, second in pairs]
        self.width *= 2


_decoder = msgspec.msgpack.Decoder(Series)


def unpacked(data: bytes) -> Series:
    """A series as it was packed; `BadMessage` for anything else."""
    try:
        return _decoder.decode(unpack(data))
    except msgspec.MsgspecError as error:
        raise BadMessage(N_("that is not a series")) from error


def series_of(store: JobStore, now: float) -> Series:
    """What the home knows of the past; refusals that cost nothing have no moment there."""
    series = Series(began=store.job().started_at)
    for at, latency_s in timeline.answered(store.db):
        series.answered(at, latency_s, now)
    for row in timeline.failed(store.db):
        series.failed(Failure(*row), now)
    for call in timeline.calls(store.db):
        series.called(call.sent_at, call.latency_s, now)
        if call.cost is not None:
            series.paid(call.sent_at + call.latency_s, call.cost, now)
    for minute, cause, seconds in wait_times.waited(store.db):
        series.waited(minute, min(minute + wait_times.MINUTE_S, now), {cause: seconds})
    return series
