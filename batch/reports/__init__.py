"""What the user gets: output.jsonl, errors.jsonl, cost.json and report.html."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from batch.reports.cost import cost_json
from batch.reports.files import whole_file
from batch.reports.lines import error_line, fault_line, line_of, output_line
from batch.reports.page import write_page
from batch.reports.rows import rows
from batch.store.jobstore import JobStore
from jobs.names import COST, ERRORS, OUTPUT, REPORT
from jobs.result import ResultState
from jobs.states import JobState


def write_all(store: JobStore, folder: Path | None = None) -> Path:
    """Writes all four files of a job that is over; returns their folder.

    Each is whole or absent. Writing them again gives the same bytes.
    """
    job = store.job()
    target = folder or Path(job.spec.output_dir)
    ended_early = {
        JobState.CANCELLING: "cancelled",
        JobState.CANCELLED: "cancelled",
        JobState.EXPIRED: "expired",
    }.get(job.state, "unfinished")
    _write_lines(store, target, ended_early)
    with whole_file(target / COST) as file:
        file.write(msgspec.json.format(msgspec.json.encode(cost_json(store)), indent=2) + b"\n")
    with whole_file(target / REPORT) as file:
        write_page(store, file)
    return target


def _write_lines(store: JobStore, target: Path, not_run: str) -> None:
    with whole_file(target / OUTPUT) as output, whole_file(target / ERRORS) as errors:
        failed = _failed_lines(store, not_run, output.write)
        faults = ((fault["line"], fault_line(fault)) for fault in store.faults())
        for _, line in heapq.merge(failed, faults):
            errors.write(line)


def _failed_lines(
    store: JobStore, not_run: str, completed: Callable[[bytes], object]
) -> Iterator[tuple[int, bytes]]:
    for row in rows(store):
        if row.state is ResultState.COMPLETED:
            completed(output_line(row))
        else:
            yield row.line, error_line(row, not_run)


def finished_lines(store: JobStore) -> Iterator[bytes]:
    """The lines there are so far, in input order, completed and failed together."""
    for row in rows(store, finished=True):
        yield line_of(row)
