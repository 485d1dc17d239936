"""The table that was brought, with the answers beside its rows.

Every row once, in order, with its cells as they were: of a text table byte for byte. Behind them
stand the columns of the answer, then `error`, `cost_rub`, `attempts` and `flags`. What a model
wrote is never a formula to a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Protocol

from batch.tables import parquet, xlsx
from batch.tables.answer_validation import columns_of
from batch.tables.file_kinds import FileTable
from batch.tables.json_repairs import whole
from batch.tables.table_reader import Row, as_text
from jobs.table_task import Kind, TableForm, Task

FACTS = ("error", "cost_rub", "attempts", "flags")
ENDINGS: dict[Kind, str] = {
    "csv": ".csv",
    "xlsx": ".xlsx",
    "parquet": ".parquet",
    "jsonl": ".jsonl",
}

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a formula begins; where East Asian characters are usual, with wide ones, too."""
_UTF8 = {"encoding": "utf-8", "bom": True}


@dataclass(frozen=True)
class Beside:
    """What stands behind a row: the answer by its columns, and what is known of its making."""

    values: dict[str, Any]
    error: str
    cost_rub: str
    attempts: int
    flags: str


def added_columns(task: Task, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the columns that are added; one that the table has gets an underscore."""
    taken, added = set(columns), list[str]()
    for name in (*columns_of(task), *FACTS):
        while name in taken:
            name += "_"
        taken.add(name)
        added.append(name)
    return tuple(added)


def file_name(stem: str, task: Task, form: TableForm) -> str:
    """What the answered table is called."""
    tsv = form.kind == "csv" and task.to is None and form.delimiter == "\t"
    return f"{stem}.answered{'.tsv' if tsv else ENDINGS[task.to or form.kind]}"


def write_answered(
    file: IO[bytes],
    table: FileTable,
    task: Task,
    rows: Iterable[tuple[Row, Beside]],
    created_at: float,
) -> None:
    """Writes the table from all of its rows, in their order, each with what stands behind it.

    `UnicodeEncodeError` where a text table's encoding has not all characters of an answer: write it
    again as `widened` then.
    """
    added = added_columns(task, table.form.columns)
    with ExitStack() as after:
        writer = _writer(file, table, task.to or table.form.kind, added, created_at, after)
        for row, found in rows:
            values = (found.values.get(name) for name in columns_of(task))
            facts = (found.error or None, found.cost_rub, found.attempts, found.flags or None)
            writer.write(row, (*map(plain_cell, values), *facts))
        writer.close()


def widened(table: FileTable) -> FileTable:
    """The same table, to be written as UTF-8 with a mark by which Excel knows it."""
    return FileTable(
        table.path, table.form, table.name, written=table.form.model_copy(update=_UTF8)
    )


def plain_cell(value: Any) -> Any:
    """A value of an answer as a cell: what has an inside is JSON."""
    return as_text(value) if isinstance(value, dict | list | bytes) else value


class _Writer(Protocol):
    def write(self, row: Row, added: tuple[Any, ...]) -> None: ...
    def close(self) -> None: ...


def _writer(
    file: IO[bytes],
    table: FileTable,
    kind: Kind,
    added: tuple[str, ...],
    created_at: float,
    after: ExitStack,
) -> _Writer:
    if kind == "csv":
        return _Text(file, table, added)
    if kind == "jsonl":
        return _Records(file, table, added)
    if kind == "xlsx":
        return _Workbook(file, table, added, created_at, after)
    return _Columns(file, table, added)


class _Text:
    """CSV: a row of a text table is repeated as it stands, and one of another kind is written."""

    def __init__(self, file: IO[bytes], table: FileTable, added: tuple[str, ...]) -> None:
        self._file, self._columns, self._form = file, len(table.form.columns), table.written
        self._repeats = table.form.kind == "csv"
        if self._form.bom:
            file.write("\ufeff".encode(self._form.encoding))
        if not self._repeats:
            self._line(self._joined((*table.form.columns, *added)))
        elif table.form.header:
            self._line(f"{table.top()}{self._form.delimiter}{self._joined(added)}")
        else:
            self._write(table.top())

    def write(self, row: Row, added: tuple[Any, ...]) -> None:
        ours = self._joined(tuple(map(harmless, added)))
        self._line(f"{self._own(row)}{self._form.delimiter}{ours}")

    def _own(self, row: Row) -> str:
        if not self._repeats:
            return self._joined(tuple(map(plain_cell, row.cells)))
        if row.fault and not row.cells:
            # Its quotes don't close, so nothing could stand behind it: all of it is one cell.
            return self._joined((row.raw, *("",) * (self._columns - 1)))
        return row.raw + self._form.delimiter * max(0, self._columns - len(row.cells))

    def _joined(self, cells: tuple[Any, ...]) -> str:
        line = io.StringIO()
        csv.writer(line, delimiter=self._form.delimiter, lineterminator="").writerow(cells)
        return line.getvalue()

    def _line(self, text: str) -> None:
        self._write(text + self._form.newline)

    def _write(self, text: str) -> None:
        self._file.write(text.encode(self._form.encoding, "surrogateescape"))

    def close(self) -> None:
        """Nothing waits."""


class _Records:
    def __init__(self, file: IO[bytes], table: FileTable, added: tuple[str, ...]) -> None:
        self._file, self._names = file, (*table.form.columns, *added)
        self._repeats = table.form.kind == "jsonl"

    def write(self, row: Row, added: tuple[Any, ...]) -> None:
        width = len(self._names) - len(added)
        ours = self._json(dict(zip(self._names[width:], added, strict=True)))
        if self._repeats and not row.fault:
            own = row.raw[:-1].rstrip()
        else:
            cells = map(_of_json, _cells(row, width))
            own = self._json(dict(zip(self._names, cells, strict=False)))[:-1]
        self._file.write(f"{own}{'' if own.endswith('{') else ', '}{ours[1:]}\n".encode())

    def _json(self, record: dict[str, Any]) -> str:
        return json.dumps(record, default=as_text)

    def close(self) -> None:
        """Nothing waits."""


class _Workbook:
    def __init__(
        self,
        file: IO[bytes],
        table: FileTable,
        added: tuple[str, ...],
        created_at: float,
        after: ExitStack,
    ) -> None:
        made = datetime.fromtimestamp(created_at, UTC)
        self._book = xlsx.Writer(file, table.form.sheet or "answers", made, after)
        self._book.header((*table.form.columns, *added))
        self._width = len(table.form.columns)

    def write(self, row: Row, added: tuple[Any, ...]) -> None:
        self._book.write((*map(plain_cell, _cells(row, self._width)), *added))

    def close(self) -> None:
        self._book.close()


class _Columns:
    def __init__(self, file: IO[bytes], table: FileTable, added: tuple[str, ...]) -> None:
        source = table.path if table.form.kind == "parquet" else None
        self._file = parquet.Writer(file, source, table.form.columns, added)
        self._width = len(table.form.columns)

    def write(self, row: Row, added: tuple[Any, ...]) -> None:
        ours = (None if each is None else str(each) for each in added)
        self._file.write((*_cells(row, self._width), *ours))

    def close(self) -> None:
        self._file.close()


def _cells(row: Row, width: int) -> tuple[Any, ...]:
    """So many cells. A row that could not be split is one; what could not be read is U+FFFD."""
    own = tuple(map(whole, row.cells or (row.raw,))) if row.fault else row.cells
    return (*own, *(None,) * width)[:width]


def _of_json(cell: Any) -> Any:
    """JSON has no such number as NaN."""
    return cell if not isinstance(cell, float) or math.isfinite(cell) else str(cell)


def harmless(cell: Any) -> Any:
    """Text that no spreadsheet takes for a formula (OWASP ASVS 1.2.10)."""
    if isinstance(cell, str) and cell.startswith(_FORMULA) and not _is_number(cell):
        return "'" + cell
    return cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
