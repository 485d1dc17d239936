"""The one door by which a command reaches a job, whoever asks: a terminal, a page, a program.

    from batch import job_control
    from jobs.job_commands import Cancel, Change, Pause, Resume, Retry

    raised = Change(budget={"rub": Decimal(50)})
    heard = job_control.command(home, job_id, raised, Resume(mended=True))
    heard.job        the row as it stands now
    heard.moot       objections of the kind "it is so already"; all others are raised (`Objected`)

All commands of a call come to pass, or none does: one transaction, each decided by what the one
before made of the job. Where a coordinator works on the job it sees the change at its next turn;
where none does, none can come meanwhile, and a cancelled job of which nothing is out ends at once.
Flower, which may run on another host, hands the name of a command to the job's coordinator
(`batch.coordinator.status_publisher`), which comes here with `heed`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from jobs.errors import AlreadyRunning
from jobs.job_commands import Command
from jobs.lifecycle import Objection
from jobs.states import JobState


class Heard(NamedTuple):
    """What came of commands: the job's row as it stands then, and what was so already."""

    job: JobRow
    moot: tuple[Objection, ...]


def command(
    home: Home,
    job_id: str,
    *commands: Command,
    also: Callable[[JobStore], object] = lambda _store: None,
) -> Heard:
    """Carries the commands out; `also` is done last, in the same transaction.

    Raises `jobs.lifecycle.Objected` where the job as it stands does not allow one of them, and what
    `home.open` raises. Calls in flight are not waited for.
    """
    with closing(home.open(job_id)) as store, _alone(home, job_id) as is_alone:
        with store.transaction():
            moot = store.heed(*commands, now=datetime.now(UTC))
            also(store)
        if is_alone:
            _end_cancelled(store)
        return Heard(store.job(), moot)


@contextmanager
def _alone(home: Home, job_id: str) -> Iterator[bool]:
    """Keeps coordinators away meanwhile, unless one is there."""
    try:
        lock = None if home.is_coordinated() else home.lock(job_id)
    except AlreadyRunning:
        lock = None
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def _end_cancelled(store: JobStore) -> None:
    is_out = any(not chunk.lost for chunk in store.chunks.alive())
    if store.job().state is JobState.CANCELLING and not is_out:
        # The reports' templates take 0.1 s to load, for which a run's worker need not wait.
        from batch.coordinator import outputs

        outputs.write(store)
        store.set_state(JobState.CANCELLED, now=time.time())
