"""A person's table of known answers, matched with the rows of the table that is to be answered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from batch.reading.source import check_readable
from batch.tables.answer_validation import columns_of
from batch.tables.file_kinds import open_table
from batch.tables.score import answer_columns, text
from batch.tables.table_reader import Row, Table
from jobs.errors import InvalidInput, UsageError
from jobs.message import N_
from jobs.table_task import TableForm, Task


def read_gold(path: Path, task: Task, table: Table) -> dict[int, str]:
    """What is expected of rows of `table`, by their number: values by the answer's columns, JSON.

    Both tables have the column `task.id_column`, or another that is not of the answer.
    `UsageError` for a file that can't be matched.
    """
    check_readable(path)
    with TemporaryDirectory() as folder:
        try:
            copy = Path(shutil.copy(path, folder))
        except OSError as error:
            raise UsageError(
                N_("--gold: {path} can't be read: {why}", path=path, why=error)
            ) from None
        known = open_table(copy, path.name, TableForm())
        key = _key(task, known.form.columns, table.form.columns, path)
        expected = _expected(known.rows(), known.form.columns, key, task, path)
    return _matched(expected, key, table, path)


def _key(task: Task, known: tuple[str, ...], columns: tuple[str, ...], path: Path) -> str:
    answers = columns_of(task)
    shared = [name for name in known if name in columns and name not in answers]
    key = task.id_column or (shared[0] if shared else None)
    if key not in known or key not in columns:
        raise UsageError(
            N_(
                "--gold: {path} shares no column with the table by which its rows could be found",
                path=path,
            ),
            hint=N_("it needs a key column, called as in the table, e.g. id; --id-column names it"),
        )
    return str(key)


def _expected(
    rows: Iterable[Row], columns: tuple[str, ...], key: str, task: Task, path: Path
) -> dict[str, dict[str, Any]]:
    names = answer_columns(task, columns, key)
    if not names:
        raise UsageError(
            N_("--gold: {path} has no column of expected answers", path=path),
            hint=N_(
                "call it as the answered table does: {columns}", columns=", ".join(columns_of(task))
            ),
        )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.fault:
            raise InvalidInput(N_("--gold: {path}: {fault}", path=path, fault=row.fault[1]))
        cells = dict(zip(columns, row.cells, strict=True))
        told = {wanted: cells[name] for name, wanted in names.items()}
        if any(value not in (None, "") for value in told.values()):
            _check(told, task, row.number, path)
            if found.setdefault(name := str(cells[key]), told) != told:
                raise UsageError(
                    N_(
                        "--gold: {path}, row {number}: another answer was expected for {name!r} in"
                        " a row before",
                        path=path,
                        number=row.number,
                        name=name,
                    ),
                    hint=N_("keep one of them, or name the column of the key: --id-column NAME"),
                )
    if not found:
        raise UsageError(
            N_("--gold: {path} holds no expected answers", path=path), hint=N_("fill them in")
        )
    return found


def _check(told: dict[str, Any], task: Task, number: int, path: Path) -> None:
    """A word that can't be answered would count as a mistake of the model's."""
    for value in told.values():
        if task.choices and text(value) not in map(text, task.choices):
            raise UsageError(
                N_(
                    "--gold: {path}, row {number}: {value!r} is none of: {choices}",
                    path=path,
                    number=number,
                    value=value,
                    choices=", ".join(task.choices),
                ),
                hint=N_("correct it, or add it to --choices"),
            )


def _matched(
    expected: dict[str, dict[str, Any]], key: str, table: Table, path: Path
) -> dict[int, str]:
    place, found = table.form.columns.index(key), dict[str, int]()
    for row in table.rows():
        name = str(row.cells[place]) if not row.fault else ""
        if name not in expected:
            continue
        if name in found:
            raise UsageError(
                N_(
                    "--gold: {name!r} stands twice in column {key!r} of the table, in rows {first}"
                    " and {number}",
                    name=name,
                    key=key,
                    first=found[name],
                    number=row.number,
                ),
                hint=N_("use a column whose cells are all different: --id-column NAME"),
            )
        found[name] = row.number
    lacking = [name for name in expected if name not in found]
    if lacking:
        raise UsageError(
            N_(
                "--gold: the table has no row for {count} of the {all} rows of {path}; the first"
                " has {key} {value!r}",
                count=len(lacking),
                all=len(expected),
                path=path,
                key=key,
                value=lacking[0],
            ),
            hint=N_("give known answers of rows that are in the table"),
        )
    return {
        number: json.dumps(expected[name], ensure_ascii=False, default=str)
        for name, number in found.items()
    }
