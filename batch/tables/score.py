"""Answers held against those that a person knows: accuracy, who is taken for whom, by class."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from batch.store.jobstore import JobStore
from batch.tables.answer_validation import check_of, columns_of, text_of
from jobs.table_task import Task

KIND = "gold"
REVIEW = "review"
"""Of the findings."""

NOTHING = ""
"""Stands for an answer where there is none that is valid."""

MOST_CLASSES = 30
_Z = 1.959964
"""Of a normal distribution: 95 % lie within."""


class Class(msgspec.Struct, frozen=True):
    """An answer that may be given: how often it was right, was given, and was expected."""

    name: str
    right: int
    given: int
    expected: int

    @property
    def precision(self) -> float | None:
        """Of those that were answered so the share that is so; None: nobody was."""
        return self.right / self.given if self.given else None

    @property
    def recall(self) -> float | None:
        """Of those that are so the share that was answered so."""
        return self.right / self.expected if self.expected else None


class Confusion(msgspec.Struct, frozen=True):
    """Of one column of the answer: how often `given` was answered where `expected` was right."""

    column: str
    pairs: list[tuple[str, str, int]]

    @property
    def classes(self) -> list[Class]:
        """By name, the most expected first."""
        expected, given, right = Counter[str](), Counter[str](), Counter[str]()
        for wanted, told, count in self.pairs:
            expected[wanted] += count
            given[told] += count
            right[wanted] += count * (wanted == told)
        names = sorted({*expected, *given} - {NOTHING}, key=lambda name: (-expected[name], name))
        return [Class(name, right[name], given[name], expected[name]) for name in names]


class Score(msgspec.Struct, frozen=True):
    """So many `rows` of which the answer is known, and how many are `right`."""

    rows: int
    right: int
    columns: list[Confusion] = []

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return self.right / self.rows if self.rows else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, of 95 %: where the accuracy of all rows lies."""
        return wilson(self.right, self.rows)


class Review(msgspec.Struct, frozen=True):
    """What a person says of the rows: of those at random, which stand for all, and the others."""

    random: Score
    suspect: Score


def wilson(right: int, rows: int) -> tuple[float, float]:
    """Where a share lies of which so many of so many were seen, 95 %."""
    if not rows:
        return 0.0, 1.0
    share, square = right / rows, _Z * _Z
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    spread = _Z / (1 + square / rows)
    spread *= math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows))
    return max(middle - spread, 0.0), min(middle + spread, 1.0)


_LONGEST = 28
"""Digits that are told apart exactly; what is longer is compared as text."""


def text(value: Any) -> str:
    """A value as it is compared: letter case and a number's form do not count."""
    if value is None:
        return NOTHING
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    told = " ".join(told.split()).casefold()
    try:
        number = Decimal(told)
    except InvalidOperation:
        return told
    return str(number.normalize()) if number.is_finite() and len(told) <= _LONGEST else told


def score(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Score:
    """Of rows: what was expected, by column, and what was answered; empty: nothing valid."""
    rows = right = 0
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for expected, given in pairs:
        told = [(name, text(value), text(given.get(name))) for name, value in expected.items()]
        rows += 1
        right += all(wanted == answer for _, wanted, answer in told)
        for name, wanted, answer in told:
            counts.setdefault(name, Counter())[wanted, answer] += 1
    columns = [
        Confusion(name, [(*pair, count) for pair, count in sorted(found.items())])
        for name, found in counts.items()
        if len({wanted for wanted, _ in found}) <= MOST_CLASSES
    ]
    return Score(rows, right, columns)


def score_of(store: JobStore, task: Task, expected: Mapping[int, Mapping[str, Any]]) -> Score:
    """Of the rows of a job that have ended and were asked alone, by ordinal what is expected."""
    check = check_of(task)
    found = {ordinal: check(text_of(raw)).values for ordinal, raw in store.trials.answers(expected)}
    return score((values, found.get(ordinal, {})) for ordinal, values in expected.items())


def gold_of(store: JobStore) -> Score | None:
    """What was found of a job's known rows."""
    told = store.trials.found(KIND)
    return None if told is None else msgspec.json.decode(told, type=Score)


def review_of(store: JobStore) -> Review | None:
    """What a person said of a job's answers."""
    told = store.trials.found(REVIEW)
    return None if told is None else msgspec.json.decode(told, type=Review)


def answer_columns(task: Task, columns: tuple[str, ...], key: str) -> dict[str, str]:
    """Which columns of a person's table hold which of the answer; empty: none does.

    They are called as those of the answer are; of a task with one of them any single other will do.
    """
    wanted = columns_of(task)
    named = {name: name for name in columns if name in wanted and name != key}
    others = [name for name in columns if name != key]
    if not named and len(wanted) == 1 and len(others) == 1:
        return {others[0]: wanted[0]}
    return named
