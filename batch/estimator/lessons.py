"""What answers taught, per endpoint and model, and the file of the home that keeps it.

A lesson is made of the answers to those requests of a job whose shape is stored (`samples`); so it
can be made anew at any time, and is stored once for each job: no answer is ever counted twice.
"""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

from batch.estimator.fit import Fit
from batch.estimator.sample import Crowd, Sample
from batch.estimator.shape import Shape
from batch.store.jobstore import JobRow, JobStore
from jobs.names import LESSONS
from jobs.prices import PriceList
from jobs.usage import Usage

MOST_JOBS = 30
"""So many jobs of a model are remembered, the latest."""

_MOST_POINTS = 65
_BUSY_S = 5.0

log = logging.getLogger("nightshift.estimator")

T = TypeVar("T")


class Answers(msgspec.Struct):
    """Lengths of answers, y, and of their prompts, x, in tokens: sums, and quantiles of y."""

    seen: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    points: list[int] = msgspec.field(default_factory=list)

    def learn(self, prompt: int, answer: int) -> None:
        """Takes in one answer."""
        self.seen += 1
        self.x, self.y = self.x + prompt, self.y + answer
        self.xx, self.xy, self.yy = (
            self.xx + prompt * prompt,
            self.xy + prompt * answer,
            self.yy + answer * answer,
        )
        self.points.append(answer)

    def settle(self) -> None:
        """Keeps quantiles instead of every length."""
        self.points = _quantiles(self.points)

    @property
    def mean(self) -> float:
        """Tokens of an answer."""
        return self.y / self.seen

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        return math.sqrt(max(self.yy / self.seen - self.mean**2, 0.0))

    def line(self) -> tuple[float, float, float]:
        """(a, b, spread around it) of the straight line answer = a + b × prompt.

        Flat unless the length of the prompt explains a good part of the answer's.
        """
        level, spread = self.x / self.seen, self.spread
        across = self.xx / self.seen - level**2
        along = self.xy / self.seen - level * self.mean
        explained = along**2 / (across * spread**2) if across > 0 and spread > 0 else 0.0
        if self.seen < _ENOUGH or explained < _WORTH_A_LINE:
            return self.mean, 0.0, spread
        slope = along / across
        return self.mean - slope * level, slope, spread * math.sqrt(max(1 - explained, 0.0))


_ENOUGH = 10
_WORTH_A_LINE = 0.4


def _quantiles(points: list[int]) -> list[int]:
    ordered = sorted(points)
    if len(ordered) <= _MOST_POINTS:
        return ordered
    last = len(ordered) - 1
    return [ordered[place * last // (_MOST_POINTS - 1)] for place in range(_MOST_POINTS)]


class Lesson(msgspec.Struct):
    """What one job taught about one model.

    `answers` are by the most tokens that were asked for, 0 for no bound. `cost` is ₽ as billed,
    `listed` what the same tokens cost by the catalogue. `off` sums the squares of how far single
    prompts were from what `fit` says, as shares. `at_once` is calls in flight, on average.
    """

    fit: Fit = msgspec.field(default_factory=Fit)
    answers: dict[int, Answers] = msgspec.field(default_factory=dict)
    prompt: float = 0.0
    expected: float = 0.0
    cached: float = 0.0
    cost: float = 0.0
    listed: float = 0.0
    off: float = 0.0
    latency_s: float = 0.0
    at_once: float = 0.0

    @property
    def seen(self) -> float:
        """Answers."""
        return self.fit.seen


class Seen(msgspec.Struct, frozen=True):
    """An answered request whose shape is known. `cost` is ₽, None while uncertain."""

    shape: Shape
    model: str
    max_output: int
    usage: Usage
    cost: Decimal | None
    provider: str
    latency_s: float


def seen_in(store: JobStore) -> Iterator[Seen]:
    """The answers of a job that something can be learned from."""
    rows = store.db.execute(
        "SELECT shape, name, output_bound, prompt, completion, cached, written, reasoning, cost,"
        " provider, calls.latency_s FROM samples JOIN results USING (ordinal)"
        " JOIN calls ON calls.ordinal = samples.ordinal AND calls.id = results.call"
        " JOIN requests ON requests.ordinal = samples.ordinal JOIN models ON models.id = model"
        # A prompt of no tokens is what a few endpoints say by mistake.
        " WHERE results.state = 'completed' AND prompt > 0 ORDER BY samples.ordinal"
    )
    for row in rows:
        yield Seen(
            msgspec.msgpack.decode(row[0], type=Shape),
            row[1],
            row[2] or 0,
            Usage(*row[3:8]),
            None if row[8] is None else Decimal(row[8]),
            row[9],
            row[10],
        )


def samples_in(store: JobStore) -> Iterator[Sample]:
    """The requests of a job that stand for all of them."""
    rows = store.db.execute(
        "SELECT name, output_bound, prompt_bound, shape FROM samples JOIN requests USING (ordinal)"
        " JOIN models ON models.id = model ORDER BY ordinal"
    )
    for name, most, size, shape in rows:
        yield Sample(name, most, size, msgspec.msgpack.decode(shape, type=Shape))


def crowds_in(store: JobStore) -> dict[str, Crowd]:
    """All requests of a job, by model."""
    rows = store.db.execute(
        "SELECT name, count(*), sum(prompt_bound) FROM requests JOIN models ON models.id = model"
        " WHERE ordinal NOT IN (SELECT ordinal FROM copies) GROUP BY name"
    )
    return {name: Crowd(count, size) for name, count, size in rows}


def lessons_of(answers: Iterable[Seen], prices: PriceList | None) -> dict[str, Lesson]:
    """What these answers teach, by model."""
    found: dict[str, Lesson] = {}
    kept = list(answers)
    for seen in kept:
        lesson = found.setdefault(seen.model, Lesson())
        usage = seen.usage
        lesson.fit.learn(seen.shape, usage.prompt)
        lengths = lesson.answers.setdefault(seen.max_output, Answers())
        lengths.learn(usage.prompt, usage.completion)
        lesson.cached += min(usage.cached, usage.prompt)
        lesson.latency_s += seen.latency_s
        price = prices.models.get(seen.model) if prices else None
        if price is not None and seen.cost is not None:
            lesson.cost += float(seen.cost)
            lesson.listed += float(price.estimate(usage))
    figures = {model: lesson.fit.figures() for model, lesson in found.items()}
    for seen in kept:
        lesson, told = found[seen.model], seen.usage.prompt
        expected = figures[seen.model].tokens(seen.shape)
        lesson.prompt += told
        lesson.expected += expected
        lesson.off += (expected / told - 1) ** 2
    for lesson in found.values():
        for lengths in lesson.answers.values():
            lengths.settle()
    return found


def learn_from(store: JobStore, folder: Path) -> None:
    """Keeps in the home `folder` what a job that is over taught. A job is remembered once."""
    job, lessons = store.job(), lessons_of(seen_in(store), store.prices())
    at_once = _calls_at_once(store)
    for lesson in lessons.values():
        lesson.at_once = at_once
    remember(folder, job, lessons)


def _calls_at_once(store: JobStore) -> float:
    first, last, busy = store.db.execute(
        "SELECT min(sent_at), max(sent_at + latency_s), sum(latency_s) FROM calls"
    ).fetchone()
    return float(busy / (last - first)) if first is not None and last > first else 0.0


# ── The file ─────────────────────────────────────────────────────────────────────────────────────


def remember(folder: Path, job: JobRow, lessons: dict[str, Lesson]) -> None:
    """Stores a job's lessons in place of what was stored of it, and forgets the oldest jobs."""

    def store(db: sqlite3.Connection) -> None:
        for model, lesson in lessons.items():
            key = (job.spec.base_url, model)
            db.execute(
                "INSERT OR REPLACE INTO lessons VALUES (?, ?, ?, ?)",
                (*key, job.id, msgspec.msgpack.encode(lesson)),
            )
            db.execute(
                "DELETE FROM lessons WHERE base_url = ? AND model = ? AND job NOT IN (SELECT job"
                " FROM lessons WHERE base_url = ? AND model = ? ORDER BY job DESC LIMIT ?)",
                (*key, *key, MOST_JOBS),
            )

    _try(folder, store)


def recall(folder: Path, base_url: str, model: str, *, but: str = "") -> list[Lesson]:
    """What earlier jobs taught about a model, the latest first; without the job `but`."""

    def read(db: sqlite3.Connection) -> list[Lesson]:
        rows = db.execute(
            "SELECT lesson FROM lessons WHERE base_url = ? AND model = ? AND job <> ?"
            " ORDER BY job DESC LIMIT ?",
            (base_url, model, but, MOST_JOBS),
        )
        return [msgspec.msgpack.decode(row[0], type=Lesson) for row in rows]

    return _try(folder, read) or []


def _try(folder: Path, act: Callable[[sqlite3.Connection], T]) -> T | None:
    """Does something with the file, made where it is missing.

    One that is of no use costs the next estimate some exactness, and nothing else.
    """
    path = folder / LESSONS
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as db, db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS lessons (base_url TEXT, model TEXT, job TEXT,"
                " lesson BLOB NOT NULL, PRIMARY KEY (base_url, model, job))"
            )
            return act(db)
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
        log.info("%s is of no use: %s", path, error)
        return None
