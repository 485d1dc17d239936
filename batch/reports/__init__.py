"""What the user gets: output.jsonl, errors.jsonl, cost.json and report.html."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

import msgspec

from batch.reports.aggregates import Survey, Tally, empty_survey
from batch.reports.answered_table_file import write_table
from batch.reports.cost_report import Cost, cost_json
from batch.reports.output_files import whole_file
from batch.reports.output_lines import fault_line, form_of, line_of
from batch.reports.page import clock_of, write_page
from batch.reports.rows import Counter, Row, rows, rows_of
from batch.store.jobstore import JobRow, JobStore
from batch.store.ordered_scan import answered_as_they_came
from jobs.lifecycle import is_cut_short
from jobs.names import COST, ERRORS, OUTPUT, REPORT
from jobs.result import ResultState
from jobs.states import JobState

MOST_AT_ONCE = 16 * 2**20
"""Bytes of answered lines, and one more line."""

_NOT_RUN = {
    JobState.CANCELLING: "cancelled",
    JobState.CANCELLED: "cancelled",
}


def write_all(store: JobStore, folder: Path | None = None) -> Path:
    """Writes all four files of a job, by the same moment of it; returns their folder.

    Each is whole or absent. Writing them again gives the same bytes.
    """
    with store.snapshot():
        job = store.job()
        target = folder or Path(job.spec.output_dir)
        seen = empty_survey(store, job, clock_of(job.spec))
        cost = Cost(prices=store.all_prices())
        tally = Tally(cost, seen.load)
        _write_lines(store, target, job, seen, tally)
        with whole_file(target / COST) as file:
            content = msgspec.json.encode(cost_json(store, cost))
            file.write(msgspec.json.format(content, indent=2) + b"\n")
        write_table(store, job, target, not_run(job))
        with whole_file(target / REPORT) as file:
            write_page(store, file, seen, cost)
    return target


def not_run(job: JobRow) -> str:
    """Why what has no result has none."""
    if is_cut_short(job):
        return "deadline"
    return _NOT_RUN.get(job.state, "unfinished")


def _write_lines(store: JobStore, target: Path, job: JobRow, seen: Survey, tally: Counter) -> None:
    with whole_file(target / OUTPUT) as output, whole_file(target / ERRORS) as errors:
        failed = _failed_lines(rows(store, count=tally), job, seen, output.write)
        faults = ((fault["line"], fault_line(fault, job.id)) for fault in store.faults())
        for _, line in heapq.merge(failed, faults, key=itemgetter(0)):
            errors.write(line)


def _failed_lines(
    every: Iterator[Row], job: JobRow, seen: Survey, completed: Callable[[bytes], object]
) -> Iterator[tuple[int, bytes]]:
    """Lines for errors.jsonl; those of completed requests are handed to `completed` on the way."""
    why, form = not_run(job), form_of(job.spec)
    for row in every:
        seen.add(row)
        if row.state is ResultState.COMPLETED:
            completed(form.output(row, job.id))
        else:
            yield row.line, form.error(row, job.id, why)


def answered_lines(store: JobStore, offset: int, limit: int) -> list[bytes]:
    """Lines of output.jsonl in the order in which the answers came, so many from `offset` on, or
    fewer where they are `MOST_AT_ONCE` bytes already.
    """
    with store.snapshot():
        job = store.job()
        form = form_of(job.spec)
        lines, size = list[bytes](), 0
        for row in rows_of(store, answered_as_they_came(store.db, offset, limit)):
            lines.append(form.output(row, job.id))
            size += len(lines[-1])
            if size >= MOST_AT_ONCE:
                break
        return lines


def finished_lines(store: JobStore) -> Iterator[bytes]:
    """The lines there are so far, in input order, completed and failed together."""
    with store.snapshot():
        job = store.job().id
        for row in rows(store, finished=True):
            yield line_of(row, job)
