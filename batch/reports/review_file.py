"""Rows of an answered table for a person to check, and what the check comes to.

Most likely wrong come first: answered otherwise in a pack, asked again, repaired, or unlike the
other rows with that answer. A third is taken at random: that part alone says how good all are.
"""

from __future__ import annotations

import csv
import heapq
import io
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from batch.reading.source import check_readable
from batch.reports.output_files import whole_file
from batch.reports.rows import rows
from batch.store.call_units import REPAIRED
from batch.store.jobstore import JobStore
from batch.tables.answer_validation import check_of, columns_of, text_of
from batch.tables.answered_table import harmless, plain_cell
from batch.tables.file_kinds import FileTable, open_table
from batch.tables.pack_sizes import comparable, told_values
from batch.tables.score import Review, score, text
from jobs.errors import InvalidInput, UsageError
from jobs.message import N_, Message
from jobs.names import TABLE
from jobs.result import ResultState
from jobs.table_task import TableForm, Task

RIGHT = "+"
"""What a person writes beside an answer that is right."""

RANDOM = "random"
_WORD = re.compile(r"\w{2,}")
_MOST_WORDS = 200_000
_WEIGHTS = {"packed otherwise": 40.0, "escalated": 30.0, "asked again": 20.0, REPAIRED: 10.0}


@dataclass(frozen=True)
class Answer:
    """A row that was answered: its number, its cells, the values, and what is odd about it."""

    number: int
    cells: tuple[Any, ...]
    values: dict[str, Any]
    marks: tuple[str, ...]

    @property
    def name(self) -> str:
        """The answer as one text."""
        return text(next(iter(self.values.values()), None))

    @property
    def words(self) -> set[str]:
        """Of all its cells."""
        return set(_WORD.findall(" ".join(str(cell or "") for cell in self.cells).casefold()))


@dataclass
class Likeness:
    """How like the rows of an answer are, by their words (naive Bayes)."""

    rows: Counter[str] = field(default_factory=Counter)
    words: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def see(self, row: Answer) -> None:
        """Takes in a row."""
        self.rows[row.name] += 1
        for word in row.words:
            if word in self.words or len(self.words) < _MOST_WORDS:
                self.words[word][row.name] += 1

    def other(self, row: Answer) -> float:
        """By how much another answer suits a row better than its own, per word; 0: none does."""
        words, own = row.words, row.name
        suits = {name: self._suits(words, name, but=name == own) for name in self.rows}
        best = max((fit for name, fit in suits.items() if name != own), default=-math.inf)
        return max(best - suits[own], 0.0) / max(len(words), 1)

    def _suits(self, words: Iterable[str], name: str, *, but: bool) -> float:
        """`but`: the row itself is among those that were seen, and does not count."""
        count = self.rows[name] - but
        fit = math.log(count + 1)
        for word in words:
            seen = self.words[word][name] - but if word in self.words else 0
            fit += math.log((max(seen, 0) + 0.5) / (count + 1))
        return fit


def write_review(store: JobStore, path: Path, count: int) -> int:
    """Writes a table of so many rows for a person; returns how many there are."""
    task = _task(store)
    like, dice = Likeness(), Random(store.job().id)  # noqa: S311  no secret
    some: list[Answer] = []
    for seen, row in enumerate(_answers(store, task)):
        like.see(row)
        if len(some) < max(count // 3, 1):
            some.append(row)
        elif (place := dice.randrange(seen + 1)) < len(some):
            some[place] = row
    chosen = {row.number for row in some}
    others = (row for row in _answers(store, task) if row.number not in chosen)
    scored = ((_suspicion(row, like), -row.number, row) for row in others)
    worst = [row for _, _, row in heapq.nlargest(count - len(some), scored)]
    _write(path, task, [*((row, _why(row)) for row in worst), *((row, RANDOM) for row in some)])
    return len(worst) + len(some)


def _task(store: JobStore) -> Task:
    task = store.job().spec.task
    if task is None:
        raise UsageError(
            N_("only the answers to a table can be reviewed"),
            hint=N_("nightshift show JOB shows requests"),
        )
    return task


def _answers(store: JobStore, task: Task) -> Iterator[Answer]:
    """Every row that was answered, in order."""
    check, marks = check_of(task), _marks(store)
    with store.snapshot():
        walk = (row for row in rows(store) if row.state is ResultState.COMPLETED)
        ended = next(walk, None)
        for row in FileTable(store.folder / TABLE, task.form, store.job().spec.source).rows():
            if ended is not None and ended.line == row.number:
                own = (*marks.get(row.number, ()), *(f for f in ended.flags if f == REPAIRED))
                values = check(text_of(ended.body)).values
                yield Answer(row.number, row.cells, values, own)
                ended = next(walk, None)


def _marks(store: JobStore) -> dict[int, list[str]]:
    """By row what its answer went through."""
    found: dict[int, list[str]] = defaultdict(list)
    for line in store.units.asked_again():
        found[line].append("asked again")
    for line in store.units.escalated():
        found[line].append("escalated")
    for ordinal in _disagreeing(store, _task(store)):
        found[store.queue.line(ordinal)].append("packed otherwise")
    return found


def _disagreeing(store: JobStore, task: Task) -> set[int]:
    """Requests that were answered otherwise in a pack than alone."""
    check, names, trials = check_of(task), comparable(task), store.trials
    said = [each for size in trials.sizes() for each in trials.said(size).items()]
    alone = {
        ordinal: told_values(check(text_of(raw)), names)
        for ordinal, raw in trials.answers({n for n, _ in said})
    }
    return {n for n, told in said if told is not None and told != alone.get(n)}


def _suspicion(row: Answer, like: Likeness) -> float:
    return sum(_WEIGHTS[mark] for mark in row.marks) + 10 * like.other(row)


def _why(row: Answer) -> str:
    return ", ".join(row.marks) or "unlike the others with this answer"


def _write(path: Path, task: Task, chosen: list[tuple[Answer, str]]) -> None:
    names = columns_of(task)
    delimiter = task.form.delimiter if task.form.kind == "csv" else ","
    if os.path.lexists(path):
        raise UsageError(
            N_("{path} exists already", path=path), hint=N_("choose another with -o FILE")
        )
    table = io.StringIO(newline="")
    writer = csv.writer(table, delimiter=delimiter)
    writer.writerow(
        map(harmless, ["row", "why", *task.form.columns, *names, *map(_correct, names)])
    )
    for row, why in chosen:
        # It is ours and goes to a spreadsheet: cells of the input, too, are no formulas here.
        given = [plain_cell(row.values.get(name)) for name in names]
        writer.writerow(map(harmless, [row.number, why, *row.cells, *given, *("" for _ in names)]))
    # The folder may be one by a link that the user made.
    with whole_file(path.parent.resolve() / path.name) as file:
        file.write(table.getvalue().encode("utf-8-sig"))


def _correct(name: str) -> str:
    return "correct" if name == "answer" else f"correct_{name}"


def read_review(store: JobStore, path: Path) -> Review:
    """What a person wrote behind the answers; rows where that is nothing do not count."""
    names = columns_of(_task(store))
    parts: dict[bool, list[tuple[dict[str, Any], dict[str, Any]]]] = {True: [], False: []}
    for cells in _reviewed(path, len(names)):
        told = cells[-len(names) :]
        given = dict(zip(names, cells[-2 * len(names) : -len(names)], strict=True))
        expected = {
            name: given[name] if str(word).strip() == RIGHT else word
            for name, word in zip(names, told, strict=True)
            if word not in (None, "")
        }
        if expected:
            parts[cells[1] == RANDOM].append((expected, given))
    if not parts[True] and not parts[False]:
        raise UsageError(
            N_("{path} says of no row whether it is right", path=path),
            hint=N_("write + or the right answer into the last column"),
        )
    return Review(score(parts[True]), score(parts[False]))


def _reviewed(path: Path, columns: int) -> Iterator[tuple[Any, ...]]:
    check_readable(path)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        try:
            copy.write_bytes(path.read_bytes())
        except OSError as error:
            raise UsageError(N_("{path} can't be read: {why}", path=path, why=error)) from None
        table = open_table(copy, path.name, TableForm())
        if table.form.columns[:2] != ("row", "why") or len(table.form.columns) < 2 + 2 * columns:
            raise InvalidInput(
                N_("{path} is no review of this job: its columns are others", path=path),
                hint=N_("nightshift review JOB writes one"),
            )
        for row in table.rows():
            if row.fault:
                raise InvalidInput(Message("{path}: {why}", path=path, why=row.fault[1]))
            yield row.cells
