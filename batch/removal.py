"""Removes jobs that are over from the home; their results stay where they were written."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

from batch.coordinator.lookups import WAITS_S
from batch.money.removed_jobs import keep_spending
from batch.notifications import delivery_log
from batch.store import registry
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.store.staged_job import alone
from jobs.errors import NightshiftError, UsageError
from jobs.message import N_, NOTHING, Message


def unfinished(store: JobStore) -> tuple[Message, str]:
    """What is still to be done for a job, and the command that does it; empty where nothing is."""
    job = store.job()
    if not job.ended:
        return N_("it is {state}", state=job.state), f"nightshift cancel {job.id}"
    if store.chunks.lost().chunks:
        return N_("lost workers may still report on it"), f"nightshift settle {job.id}"
    if store.uncertain.next_at(WAITS_S) is not None:
        return N_("the cost of some of its calls is still unknown"), f"nightshift resume {job.id}"
    if not store.is_written():
        return N_("its results are not written yet"), f"nightshift resume {job.id}"
    if job.spec.origin and registry.is_open(_home_of(store), job.spec.origin.batch):
        return N_("no server has collected its results yet"), "nightshift serve"
    if delivery_log.read(store.folder).waits:
        return N_("a notification of it is not delivered yet"), "nightshift coordinator"
    return NOTHING, ""


def _home_of(store: JobStore) -> Path:
    return store.folder.parent.parent


def check_over(store: JobStore) -> None:
    """`UsageError` for a job that something is still to be done for."""
    why, way = unfinished(store)
    if why:
        raise UsageError(
            N_("{job} is not removed: {why}", job=store.job().id, why=why), hint=Message(way)
        )


def remove(home: Home, job_id: str) -> None:
    """Removes a job's folder; what it spent goes on to count in the caps of the home.

    `UsageError` for a job that is not over. Killed in the middle, the job is there as before, or
    its folder is one that the next submission sweeps away.
    """
    folder, gone = home.jobs_folder / job_id, home.jobs_folder / f".{job_id}.draft"
    # Nobody finds it from here on, and no sweep takes it: what is seen now stays so.
    with alone(folder):
        with closing(JobStore(folder)) as store:
            keep_spending(home.folder, store)
        folder.rename(gone)
        try:
            with closing(JobStore(gone)) as store:
                check_over(store)
                keep_spending(home.folder, store)
        except NightshiftError:
            gone.rename(folder)
            raise
        shutil.rmtree(gone, ignore_errors=True)


def size(folder: Path) -> int:
    """Bytes that all files below take on the disk."""
    found = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                found += Path(at, name).lstat().st_blocks * 512
            except OSError:  # removed meanwhile
                continue
    return found
