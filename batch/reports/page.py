"""report.html: one self-contained page, to be opened in the morning, mailed and printed.

Its words and its looks stand in page.html. Here its figures are gathered, in one pass over the
requests and in memory that does not grow with the job.
"""

from __future__ import annotations

import heapq
import math
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any
from unicodedata import category
from zoneinfo import ZoneInfo

from batch.reports.cost import Cost, ModelCost, cost_of
from batch.reports.rows import Row, rows
from batch.store.jobstore import JobRow, JobStore
from jobs.money import plain, show
from jobs.result import ResultState
from jobs.spec import Spec
from jobs.states import JobState
from jobs.window import parse_window

if TYPE_CHECKING:
    from jinja2 import Template

_LONGEST_TEXT = 240
"""Characters of a text from outside; with the numbers below it keeps the page under a megabyte."""

_MOST_LISTED = 40
_MOST_EXAMPLES = 8
_MOST_SLOW = 10
_MOST_BARS = 72

_SHOWN_STATE = {JobState.FINALIZING: JobState.COMPLETED, JobState.CANCELLING: JobState.CANCELLED}
"""The page is written just before the job ends, and may be written again after: the same bytes."""


def write_page(
    store: JobStore, file: IO[bytes], seen: Survey | None = None, cost: Cost | None = None
) -> None:
    """Writes the page, in UTF-8; `seen` and `cost` if all rows and calls were gone through before.

    Times are shown in the zone of the job's window, else in the local one.
    """
    with store.snapshot():
        job = store.job()
        figures = _figures(store, job, seen or survey(store), cost or cost_of(store))
    file.write(_template(_clock(job.spec)).render(figures).encode())


def _figures(store: JobStore, job: JobRow, seen: Survey, cost: Cost) -> dict[str, Any]:
    started, last = _span(store, job)
    models = _model_lines(seen.models, cost)
    return {
        "job": job,
        "spec": job.spec,
        "state": _SHOWN_STATE.get(job.state, job.state).value,
        "seen": seen,
        "started": started,
        "last": last,
        "seconds": last - started,
        "cost": cost,
        "models": models[:_MOST_LISTED],
        "models_left_out": len(models[_MOST_LISTED:]),
        "faults": _faults(store),
        "refusals": Counter(store.refusals()).most_common(_MOST_LISTED),
    }


def _span(store: JobStore, job: JobRow) -> tuple[float, float]:
    """From when the job began to its last result; Unix seconds."""
    ends = store.db.execute("SELECT min(finished_at), max(finished_at) FROM results")
    first, last = ends.fetchone()
    began = job.created_at if job.started_at is None else job.started_at
    return (began, began) if first is None else (min(began, first), last)


# ---- charts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """`left`, `width`: in hundredths of the chart; it stands for what lies in [`start`, `end`)."""

    left: float
    width: float
    start: float
    end: float
    completed: int
    failed: int = 0


@dataclass(frozen=True)
class Chart:
    """Bars over an axis. `ticks`: (hundredth of the chart, value); `step`: between two ticks."""

    bars: list[Bar]
    ticks: list[tuple[float, float]]
    step: float

    @property
    def highest(self) -> int:
        """Of the highest bar."""
        return max((bar.completed + bar.failed for bar in self.bars), default=0)

    @property
    def top(self) -> int:
        """The end of the vertical axis: a round number whose half is whole, where there is one."""
        scale: int = 10 ** (len(str(self.highest)) - 1)
        tops = (scale * step for step in (1, 2, 3, 4, 5, 6, 8, 10))
        return next(top for top in tops if top >= self.highest and (top == 1 or top % 2 == 0))


_DAY_S = 24 * 3600
_STEPS_S = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    2 * 3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    _DAY_S,
)
_FEWEST_BARS = 12
_MOST_TICKS = 6


class Timeline:
    """Results over time, in bars whose width is a round time and which start at round hours."""

    def __init__(self, first: float, last: float, clock: Callable[[float], datetime]) -> None:
        offset = clock(first).utcoffset()
        self._offset = offset.total_seconds() if offset else 0.0
        self.width = _round_time((last - first) / _MOST_BARS)
        self._left = self._aligned(first, self.width)
        bars = int((last - self._left) // self.width) + 1
        self._counts = [[0, 0] for _ in range(max(bars, _FEWEST_BARS))]

    def add(self, when: float, *, failed: bool) -> None:
        """Counts a result."""
        place = int((when - self._left) // self.width)
        self._counts[min(max(place, 0), len(self._counts) - 1)][failed] += 1

    def chart(self) -> Chart:
        """As bars, with ticks at round times."""
        wide = 100 / len(self._counts)
        starts = [self._left + place * self.width for place in range(len(self._counts))]
        bars = [
            Bar(place * wide, wide, start, start + self.width, *both)
            for place, (start, both) in enumerate(zip(starts, self._counts, strict=True))
        ]
        return Chart(bars, *self._ticks())

    def _ticks(self) -> tuple[list[tuple[float, float]], float]:
        span = self.width * len(self._counts)
        step = _round_time(span / _MOST_TICKS)
        first = self._aligned(self._left, step)
        times = (first + step * place for place in range(_MOST_TICKS + 2))
        places = ((100 * (time - self._left) / span, time) for time in times)
        return [(at, time) for at, time in places if 0 <= at < 100], step

    def _aligned(self, time: float, step: float) -> float:
        return (time + self._offset) // step * step - self._offset


def _round_time(least: float) -> float:
    """The next round number of seconds; whole days beyond one."""
    fitting = (step for step in _STEPS_S if step >= least)
    return next(fitting, _DAY_S * math.ceil(least / _DAY_S))


_RATIO = math.log(1.01)
_SHORTEST_S, _LONGEST_S = 0.001, 1e6
_NARROWEST = 140  # classes, that is a factor of four: a single latency is not drawn as a wall


class Spread:
    """Latencies, each counted in a class that is one percent wide, whatever its scale.

    So a quantile is known to half a percent from at most some 2,000 counters (the idea of
    DDSketch: Masson, Rim, Lee, VLDB 2019).
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Counts a latency."""
        within = min(max(seconds, _SHORTEST_S), _LONGEST_S)
        self._counts[math.floor(math.log(within) / _RATIO)] += 1

    def at(self, share: float) -> float:
        """Seconds within which this share of the answers came, to half a percent."""
        missing = math.ceil(share * self._counts.total())
        for place, found in sorted(self._counts.items()):
            missing -= found
            if missing <= 0:
                return math.exp((place + 0.5) * _RATIO)
        return 0.0

    def chart(self) -> Chart:
        """As bars over a logarithmic axis."""
        low, high = self._range()
        merged = -(-(high - low) // _MOST_BARS)
        high = low + -(-(high - low) // merged) * merged
        wide = 100 * merged / (high - low)
        bars = [
            Bar(
                (first - low) / merged * wide,
                wide,
                _seconds(first),
                _seconds(first + merged),
                sum(self._counts[place] for place in range(first, first + merged)),
            )
            for first in range(low, high, merged)
        ]
        return Chart(bars, _log_ticks(low, high), 0)

    def _range(self) -> tuple[int, int]:
        low, high = min(self._counts, default=0), max(self._counts, default=0) + 1
        lacking = max(_NARROWEST - (high - low), 0)
        return low - lacking // 2, high + (lacking + 1) // 2


def _seconds(place: int) -> float:
    return math.exp(place * _RATIO)


def _log_ticks(low: int, high: int) -> list[tuple[float, float]]:
    """At 1, 2 and 5 of each power of ten, or at the powers alone where that would crowd."""
    for steps in ((1, 2, 5), (1,)):
        values = [step * 10.0**power for power in range(-3, 7) for step in steps]
        places = ((100 * (math.log(each) / _RATIO - low) / (high - low), each) for each in values)
        ticks = [(at, value) for at, value in places if 0 <= at <= 100]
        if len(ticks) <= _MOST_TICKS + 1:
            break
    return ticks


# ---- gathering -----------------------------------------------------------------------------------


@dataclass
class Group:
    """Lines with something in common; the first ones and the first message stand for all."""

    code: str
    count: int = 0
    lines: list[int] = field(default_factory=list)
    message: str = ""


class Groups:
    """Lines grouped by code. Codes beyond the first `_MOST_LISTED` share a group named ""."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}

    def add(self, code: str, line: int, message: str = "") -> None:
        """Counts a line."""
        if code not in self._groups and len(self._groups) >= _MOST_LISTED:
            code, message = "", ""
        group = self._groups.setdefault(code, Group(code, message=message))
        group.count += 1
        if len(group.lines) < _MOST_EXAMPLES:
            group.lines.append(line)

    def __iter__(self) -> Iterator[Group]:
        """The largest first."""
        return iter(sorted(self._groups.values(), key=lambda group: (-group.count, group.code)))

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def count(self) -> int:
        """Lines in all groups; one that was added twice counts twice."""
        return sum(group.count for group in self._groups.values())


class Top:
    """The rows with the highest `measure`; of equals, those nearest the start of the file."""

    def __init__(self, measure: Callable[[Row], float | Decimal]) -> None:
        self._measure = measure
        self._heap: list[tuple[float | Decimal, int, Row]] = []

    def add(self, row: Row) -> None:
        """Considers a row; one that measures nothing is not worth a place."""
        entry = (self._measure(row), -row.line, row)
        if not entry[0]:
            return
        if len(self._heap) < _MOST_SLOW:
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
    requests: int = 0
    completed: int = 0
    failed: int = 0
    models: Counter[str] = field(default_factory=Counter)
    errors: Groups = field(default_factory=Groups)
    flags: Groups = field(default_factory=Groups)
    latencies: Spread = field(default_factory=Spread)
    slowest: Top = field(default_factory=lambda: Top(lambda row: row.latency_s))
    dearest: Top = field(default_factory=lambda: Top(lambda row: row.cost))

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
        if row.state is not None:
            self.timeline.add(row.finished_at, failed=row.state is ResultState.FAILED)
        if row.state is ResultState.COMPLETED:
            self._add_completed(row)
        elif row.state is ResultState.FAILED:
            self.failed += 1
            self.errors.add(row.code, row.line, row.message)

    def _add_completed(self, row: Row) -> None:
        self.completed += 1
        self.latencies.add(row.latency_s)
        self.slowest.add(row)
        for flag in row.flags:
            self.flags.add(flag, row.line)


def survey(store: JobStore, *, empty: bool = False) -> Survey:
    """What the rows of a job tell; with `empty`, ready for whoever goes through them anyway."""
    job = store.job()
    seen = Survey(Timeline(*_span(store, job), _clock(job.spec)))
    if not empty:
        for row in rows(store, bodies=False):
            seen.add(row)
    return seen


def _faults(store: JobStore) -> Groups:
    groups = Groups()
    for fault in store.faults():
        groups.add(fault["code"], fault["line"], fault["message"])
    return groups


@dataclass(frozen=True)
class ModelLine:
    """A model with its requests and what they cost."""

    name: str
    requests: int
    cost: ModelCost


def _model_lines(requests: Counter[str], cost: Cost) -> list[ModelLine]:
    lines = [
        ModelLine(name, asked, cost.by_model.get(name, ModelCost()))
        for name, asked in requests.items()
    ]
    return sorted(lines, key=lambda line: (-line.cost.rub, -line.requests, line.name))


# ---- rendering -----------------------------------------------------------------------------------


def _clock(spec: Spec) -> Callable[[float], datetime]:
    zone = None if spec.window is None else ZoneInfo(parse_window(spec.window).zone)
    return lambda seconds: datetime.fromtimestamp(seconds, UTC).astimezone(zone)


def _template(clock: Callable[[float], datetime]) -> Template:
    # Here, so that commands which write no page start without it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("batch.reports", "."),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(clock=clock, count=_thousands, rub=show, exact=plain, sha256=_sha256)
    return environment.get_template("page.html")


def _finalize(value: object) -> object:
    """Every text of the page passes here; what the template made of such texts is let through."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else visible(value)


def visible(text: str) -> str:
    r"""A text from outside on one line, no longer than agreed.

    Characters that control, reorder or cannot be seen are shown as `\x1b`, `\u202e` and the like.
    """
    cut = text[:_LONGEST_TEXT] + "…" if len(text) > _LONGEST_TEXT else text
    if cut.isprintable():
        return cut
    return "".join(_shown(character) for character in cut)


def _shown(character: str) -> str:
    if character.isprintable() or category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _sha256(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
