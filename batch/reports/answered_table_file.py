"""The answered table: its file beside output.jsonl, for a job whose input was a table."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batch.reports.output_files import NAMES, whole_file
from batch.reports.rows import Row, rows
from batch.store.jobstore import JobRow, JobStore
from batch.tables.answer_validation import Check, check_of, text_of
from batch.tables.answered_table import Beside, file_name, widened, write_answered
from batch.tables.file_kinds import FileTable
from batch.tables.table_reader import Row as TableRow
from jobs.job_options import Spec
from jobs.money import plain
from jobs.names import TABLE
from jobs.result import ResultState
from jobs.table_task import Task

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


def table_name(spec: Spec) -> str | None:
    """What the answered table is called; None for a job without one."""
    if spec.task is None:
        return None
    stem = "stdin" if spec.source == "-" else Path(spec.source).name.split(".")[0]
    stem = stem.encode()[:230].decode(errors="ignore")  # 255 bytes at most with its endings
    return file_name(stem or "table", spec.task, spec.task.form)


def file_names(spec: Spec) -> tuple[str, ...]:
    """All files that a job's output folder gets."""
    name = table_name(spec)
    return NAMES if name is None else (*NAMES, name)


def place_beside(spec: Spec) -> Path | None:
    """Where the answered table stands beside its input, too; None where it does not."""
    name = table_name(spec)
    return Path(spec.output_dir).parent / name if spec.beside and name else None


def write_table(store: JobStore, job: JobRow, target: Path, not_run: str) -> None:
    """Writes it, if the job has one. To be used within a snapshot of the store."""
    name, task = table_name(job.spec), job.spec.task
    if name is None or task is None:
        return
    table = FileTable(store.folder / TABLE, task.form, job.spec.source)
    beside = place_beside(job.spec) if target == Path(job.spec.output_dir) else None
    is_ours = beside is not None and _is_ours(beside, target / name)
    try:
        _write(store, job, target / name, table, task, not_run)
    except UnicodeEncodeError:
        _write(store, job, target / name, widened(table), task, not_run)
    if beside is not None and is_ours:
        # The folder is the user's, who may have led there by a link.
        place = beside.parent.resolve() / beside.name
        with whole_file(place) as copy, (target / name).open("rb") as file:
            shutil.copyfileobj(file, copy, 2**20)


def _is_ours(beside: Path, last: Path) -> bool:
    """Whether nothing stands there, or just what was written last: it may be edited since."""
    try:
        return not os.path.lexists(beside) or filecmp.cmp(beside, last, shallow=False)
    except OSError:
        return False


def print_table(
    store: JobStore, to: SupportsWrite[bytes], not_run: Callable[[JobRow], str]
) -> None:
    """Writes the table with the answers so far, of a job that has one; `not_run` tells why rows
    were not asked.
    """
    with store.snapshot(), TemporaryDirectory() as folder:
        job = store.job()
        write_table(store, job, Path(folder), not_run(job))
        with (Path(folder) / str(table_name(job.spec))).open("rb") as file:
            shutil.copyfileobj(file, to, 2**20)


def _write(
    store: JobStore, job: JobRow, path: Path, table: FileTable, task: Task, not_run: str
) -> None:
    with whole_file(path) as file:
        found = _answered(store, table, check_of(task), not_run)
        write_answered(file, table, task, found, job.created_at)


def _answered(
    store: JobStore, table: FileTable, check: Check, not_run: str
) -> Iterator[tuple[TableRow, Beside]]:
    """Each row of the table with what stands behind it; the table is read once."""
    ended = rows(store)
    faults = {fault["line"]: f"{fault['code']}: {fault['message']}" for fault in store.faults()}
    waiting = next(ended, None)
    for row in table.rows():
        if waiting is not None and waiting.line == row.number:
            yield row, _of(waiting, check, not_run)
            waiting = next(ended, None)
        else:
            yield row, Beside({}, faults.get(row.number, ""), "0", 0, "")


def _of(row: Row, check: Check, not_run: str) -> Beside:
    done = row.state is ResultState.COMPLETED
    values = check(text_of(row.body)).values if done else {}
    error = "" if done else f"{row.code or f'not_run.{not_run}'}: {row.message}".rstrip(": ")
    return Beside(values, error, plain(row.cost), row.attempts, ",".join(row.flags))
