"""What answers taught, per endpoint and model, and the file of the home that keeps it.

A lesson is made of the answers to those requests of a job whose shape is stored (`samples`); so it
can be made anew at any time, and is stored once for each job: no answer is ever counted twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec

from batch.estimator.character_counts import Shape
from batch.estimator.prompt_tokens import Fit
from batch.estimator.sample import Crowd, Sample
from batch.store import model_statistics_file as kept
from batch.store.jobstore import JobRow, JobStore
from batch.store.samples import all_samples, answered_samples, requests_by_model
from batch.store.timeline import calls_at_once
from jobs.names import LESSONS
from jobs.prices import PriceList
from jobs.usage import Usage

MOST_JOBS = 30
"""So many jobs of a model are remembered, the latest."""

_MOST_POINTS = 65

log = logging.getLogger("nightshift.estimator")


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
    for row in answered_samples(store.db):
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
    for name, most, size, shape in all_samples(store.db):
        yield Sample(name, most, size, msgspec.msgpack.decode(shape, type=Shape))


def crowds_in(store: JobStore, *, tried: bool = False) -> dict[str, Crowd]:
    """All requests of a job, by model, or those that were `tried` in packs."""
    rows = requests_by_model(store.db, tried=tried)
    return {name: Crowd(count, size) for name, count, size in rows}


def lessons_of(answers: Iterable[Seen], prices: PriceList | None) -> dict[str, Lesson]:
    """What these answers teach, by model."""
    found: dict[str, Lesson] = {}
    every = list(answers)
    for seen in every:
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
    for seen in every:
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
    at_once = calls_at_once(store.db)
    for lesson in lessons.values():
        lesson.at_once = at_once
    remember(folder, job, lessons)


# ── The file ─────────────────────────────────────────────────────────────────────────────────────


def remember(folder: Path, job: JobRow, lessons: dict[str, Lesson]) -> None:
    """Stores a job's lessons in place of what was stored of it, and forgets the oldest jobs."""
    packed = {model: msgspec.msgpack.encode(lesson) for model, lesson in lessons.items()}
    with _of_no_use(folder):
        kept.remember(folder, job.spec.base_url, job.id, packed, MOST_JOBS)


def recall(folder: Path, base_url: str, model: str, *, but: str = "") -> list[Lesson]:
    """What earlier jobs taught about a model, the latest first; without the job `but`."""
    with _of_no_use(folder):
        found = kept.recall(folder, base_url, model, but, MOST_JOBS)
        return [msgspec.msgpack.decode(each, type=Lesson) for each in found]
    return []


@contextmanager
def _of_no_use(folder: Path) -> Iterator[None]:
    """A file that cannot be used costs the next estimate some exactness, and nothing else."""
    try:
        yield
    except (*kept.Unusable, msgspec.MsgspecError) as error:
        log.info("%s is of no use: %s", folder / LESSONS, error)
