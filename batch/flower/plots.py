"""The plots of a job's page: shapes in a box of 1000 by 100 that the page stretches as it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from batch.flower import page_texts
from batch.language import _, code, number
from batch.plotting import Layer, TimeAxis, offset_s, round_up
from batch.reports.page import visible
from batch.watching.bottleneck_summary import ANOTHERS
from batch.watching.latest_incidents import OTHER
from batch.watching.time_series import Point, Series
from jobs.bottleneck import Bound

WIDE, HIGH = 1000.0, 100.0
MOST_COLUMNS = 180
MOST_KINDS = 5
_MOST_TICKS = 5
_TOPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Column:
    """What is told of a span where the pointer rests; in hundredths of the width."""

    left: float
    width: float
    text: str


@dataclass(frozen=True)
class Chart:
    """`ticks`: (hundredth of the width, text); `marks`: (hundredth of the height, text)."""

    key: str
    title: str
    now: str
    layers: list[Layer]
    columns: list[Column]
    ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]

    @property
    def shows(self) -> bool:
        """Whether there is more in it than a limit."""
        return any(layer.path for layer in self.layers if layer.look != "ns-limit")


@dataclass(frozen=True)
class Span:
    """A drawn point from `start` to `end`, Unix seconds; of it so many `seconds` are over."""

    start: float
    end: float
    seconds: float
    point: Point
    spent: float = field(default=0.0)


def charts(
    series: Series,
    now: float,
    budget: float | None,
    *,
    runs: bool = True,
    unset: Collection[str] = (),
) -> list[Chart]:
    """The plots of a job in which there is something; none where nothing has happened yet. Of a job
    that does not run, nothing is told of how it goes now. `unset`: limits that it does not have, so
    that what waits for one waits for another job's.
    """
    spans = spans_of(series, now)
    if not spans:
        return []
    axis = _Axis(spans)
    first, *others = [
        _throughput(axis, runs=runs),
        _latency(axis),
        _in_flight(axis, runs=runs),
        _waiting(axis, unset, runs=runs),
        _money(axis, budget),
        _errors(axis),
    ]
    return [first, *(chart for chart in others if chart.shows)]


def spans_of(series: Series, now: float) -> list[Span]:
    """The points, few enough to be drawn; ₽ are added up along them."""
    if series.began is None or not series.points:
        return []
    together = -(-len(series.points) // MOST_COLUMNS)
    width = series.width * together
    found, spent = [], 0.0
    for place in range(0, len(series.points), together):
        point = Point()
        for more in series.points[place : place + together]:
            point = point.plus(more)
        start = series.began + place * series.width
        ran = min(max(now - start, 1.0), width)
        spent += float(point.cost)
        found.append(Span(start, start + width, ran, point, spent))
    return found


class _Axis:
    """Where moments stand."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans
        start = spans[0].start
        self._time = TimeAxis(start, spans[-1].end, offset_s(page_texts.local, start))
        last = spans[-1]
        begins = len(spans) > 1 and last.seconds < (last.end - last.start) / 2
        self.latest = -2 if begins else -1
        """Of the span that tells how it goes now: one that just began tells little."""

    def at(self, moment: float, whole: float = WIDE) -> float:
        """The place of a moment."""
        return self._time.at(moment, whole)

    def ticks(self) -> list[tuple[float, str]]:
        """At round local times, but for the edges, where the text would not fit."""
        found, step = self._time.ticks(_MOST_TICKS)
        form = "%d.%m." if step >= 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
        return [(at, page_texts.local(each).strftime(form)) for at, each in found if 5 <= at <= 95]

    def columns(self, tell: Callable[[Span], str]) -> list[Column]:
        """One for each span."""
        return [
            Column(
                self.at(span.start, 100),
                self.at(span.end, 100) - self.at(span.start, 100),
                f"{page_texts.local(span.start):%H:%M:%S} · {tell(span)}",
            )
            for span in self.spans
        ]

    def steps(self, values: Sequence[float], top: float, base: Sequence[float]) -> str:
        """A filled path of steps between `base` and `base` + `values`."""
        upper = [low + value for low, value in zip(base, values, strict=True)]
        if not any(values):
            return ""
        there = [
            self._step(span, height, top) for span, height in zip(self.spans, upper, strict=True)
        ]
        back = [
            self._step(span, height, top, back=True)
            for span, height in zip(reversed(self.spans), reversed(base), strict=True)
        ]
        return f"M{' '.join(there)} {' '.join(back)}Z"

    def _step(self, span: Span, value: float, top: float, *, back: bool = False) -> str:
        left, right = self.at(span.start), self.at(span.end)
        if back:
            left, right = right, left
        y = _y(value, top)
        return f"{left:.1f},{y} {right:.1f},{y}"

    def line(self, values: Sequence[float | None], top: float) -> str:
        """A line through the middle of each span; where there is no value, it is broken."""
        told = zip(self.spans, values, strict=True)
        runs = groupby(told, key=lambda each: each[1] is not None)
        return " ".join(self._stroke(list(run), top) for is_there, run in runs if is_there)

    def _stroke(self, run: list[tuple[Span, float | None]], top: float) -> str:
        points = [((span.start + span.end) / 2, value or 0.0) for span, value in run]
        if len(run) == 1:
            # A value alone would be a dot that nobody sees.
            span, value = run[0][0], points[0][1]
            points = [(span.start, value), (span.end, value)]
        return "M" + " L".join(f"{self.at(at):.1f},{_y(value, top)}" for at, value in points)


def _throughput(axis: _Axis, *, runs: bool) -> Chart:
    per_minute = [
        (60 * s.point.completed / s.seconds, 60 * s.point.failed / s.seconds) for s in axis.spans
    ]
    done, failed = [d for d, _ in per_minute], [f for _, f in per_minute]
    top = _top(max(d + f for d, f in per_minute))
    return Chart(
        "throughput",
        _("Results per minute"),
        _now(done[axis.latest], runs=runs),
        [
            Layer(_("completed"), axis.steps(done, top, [0.0] * len(done)), "ns-done"),
            Layer(_("failed"), axis.steps(failed, top, done), "ns-failed"),
        ],
        axis.columns(
            lambda s: _("{n} completed, {m} failed").format(n=s.point.completed, m=s.point.failed)
        ),
        axis.ticks(),
        _marks(top),
    )


def _now(value: float, *, runs: bool) -> str:
    return _("{n} now").format(n=_short(value)) if runs else ""


def _latency(axis: _Axis) -> Chart:
    half = [s.point.quantile(0.5) for s in axis.spans]
    most = [s.point.quantile(0.95) for s in axis.spans]
    top = _top(1.05 * max((value for value in most if value is not None), default=0.0))
    told = {s.start: (a, b) for s, a, b in zip(axis.spans, half, most, strict=True)}
    last = next((each for each in reversed(list(told.values())) if each[0] is not None), None)

    def tell(span: Span) -> str:
        return _latencies(told[span.start])

    return Chart(
        "latency",
        _("Latency, seconds"),
        _latencies(last) if last else "",
        [
            Layer("p95", axis.line(most, top), "ns-line-soft"),
            Layer("p50", axis.line(half, top), "ns-line"),
        ],
        axis.columns(tell),
        axis.ticks(),
        _marks(top),
    )


def _latencies(both: tuple[float | None, float | None]) -> str:
    half, most = both
    if half is None or most is None:
        return _("no answers")
    return _("p50 {n} s, p95 {m} s").format(n=_short(half), m=_short(most))


def _in_flight(axis: _Axis, *, runs: bool) -> Chart:
    flying = [s.point.in_flight(s.seconds) for s in axis.spans]
    limits = [s.point.limit / s.point.samples if s.point.samples else None for s in axis.spans]
    bounds = [limit for limit in limits if limit]
    # A limit far above what is used would press everything to the floor.
    highest = max(flying)
    top = _top(max([highest, *(b for b in bounds if b <= 3 * max(highest, 1.0))]))
    shown = [limit if limit and limit <= top else None for limit in limits]
    return Chart(
        "in-flight",
        _("Calls in flight"),
        _now(round(flying[axis.latest]), runs=runs),
        [
            Layer(_("in flight"), axis.steps(flying, top, [0.0] * len(flying)), "ns-done"),
            Layer(_("limit found"), axis.line(shown, top), "ns-limit"),
        ],
        axis.columns(lambda s: _("{n} in flight").format(n=round(s.point.in_flight(s.seconds)))),
        axis.ticks(),
        _marks(top),
    )


def _money(axis: _Axis, budget: float | None) -> Chart:
    spent = [s.spent for s in axis.spans]
    near = budget is not None and budget <= 4 * max(spent[-1], 1e-9)
    top = _top(max(spent[-1], budget or 0.0) if near else spent[-1])
    cap = [budget if near else None] * len(spent)
    return Chart(
        "money",
        _("Spent, RUB"),
        f"{_short(spent[-1])} ₽",
        [
            Layer(_("spent"), axis.steps(spent, top, [0.0] * len(spent)), "ns-money"),
            Layer(_("budget"), axis.line(cap, top), "ns-limit"),
        ],
        axis.columns(
            lambda s: _("{n} ₽ total, {m} ₽ in this period").format(
                n=_short(s.spent), m=_short(float(s.point.cost))
            )
        ),
        axis.ticks(),
        _marks(top),
    )


def _waiting(axis: _Axis, unset: Collection[str], *, runs: bool) -> Chart:
    """What for workers wait while requests are ready: how many do, on average."""
    waits = [
        {cause: spent / s.seconds for cause, spent in s.point.waited.items()} for s in axis.spans
    ]

    def name(cause: str) -> str:
        return _cause(cause, is_anothers=cause in unset)

    layers, top = _stacked(axis, waits, name)
    return Chart(
        "waiting",
        _("Workers waiting, and for what"),
        _now(round(sum(waits[axis.latest].values()), 1), runs=runs),
        layers,
        axis.columns(lambda s: _told_waits(s.point.waited, s.seconds, name)),
        axis.ticks(),
        _marks(top),
    )


def _errors(axis: _Axis) -> Chart:
    errors = [span.point.errors for span in axis.spans]
    layers, top = _stacked(axis, errors, _kind)
    return Chart(
        "errors",
        _("Retried calls and errors"),
        _("{n} total").format(n=number(sum(sum(each.values()) for each in errors))),
        layers,
        axis.columns(lambda s: _told_errors(s.point.errors)),
        axis.ticks(),
        _marks(top),
    )


def _stacked(
    axis: _Axis, amounts: Sequence[Mapping[str, float]], name: Callable[[str], str]
) -> tuple[list[Layer], float]:
    """A layer for each of the largest kinds and one for all others, and the end of their axis."""
    totals: Counter[str] = Counter()
    for each in amounts:
        totals.update(each)
    kinds = [kind for kind, _ in totals.most_common(MOST_KINDS)]
    rest = [OTHER] if len(totals) > MOST_KINDS else []
    split = [_by_kind(each, kinds) for each in amounts]
    top = _top(max(sum(each) for each in split))
    base, layers = [0.0] * len(split), []
    for place, kind in enumerate([*kinds, *rest]):
        values = [each[place] for each in split]
        layers.append(Layer(name(kind), axis.steps(values, top, base), f"ns-kind-{place}"))
        base = [low + value for low, value in zip(base, values, strict=True)]
    return layers, top


def _by_kind(amounts: Mapping[str, float], kinds: list[str]) -> list[float]:
    """How much of each kind, and last of all others."""
    named = [float(amounts.get(kind, 0)) for kind in kinds]
    return [*named, max(sum(amounts.values()) - sum(named), 0.0)]


def _cause(name: str, *, is_anothers: bool) -> str:
    cause = _CAUSES.get(name)
    if cause is None:
        return visible(name)
    return _(ANOTHERS[cause] if is_anothers else cause.rule.meaning)


_CAUSES = {each.value: each for each in Bound}


def _told_waits(waited: Mapping[str, float], seconds: float, name: Callable[[str], str]) -> str:
    most = sorted(waited.items(), key=lambda each: -each[1])[:MOST_KINDS]
    told = (f"{name(cause)} {_short(spent / seconds)}" for cause, spent in most)
    return ", ".join(told) or _("none")


def _kind(name: str) -> str:
    return visible(name.removeprefix("endpoint."))


def _told_errors(errors: dict[str, int]) -> str:
    most = Counter(errors).most_common(MOST_KINDS)
    return ", ".join(f"{count} {_kind(code)}" for code, count in most) or _("none")


def _y(value: float, top: float) -> str:
    return f"{HIGH - HIGH * min(value / top, 1.0):.1f}"


def _top(highest: float) -> float:
    """The end of an axis: a round number above the highest value."""
    return round_up(float(highest), _TOPS) if highest > 0 else 1.0


def _marks(top: float) -> list[tuple[float, str]]:
    return [(0.0, _short(top)), (50.0, _short(top / 2)), (100.0, "0")]


def _short(value: float) -> str:
    """Three digits, as far as they say something."""
    if value >= 1000:
        return number(round(value))
    text = f"{value:.3g}" if value >= 0.001 or not value else f"{value:.1e}"
    return text if code() == "en" else text.replace(".", ",")
