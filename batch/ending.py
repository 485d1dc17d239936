"""How a command ends that followed a job: the last words, and the exit code."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

from batch.store.jobstore import JobRow
from batch.terminal import duration, safe, say
from jobs.money import plain, show
from jobs.states import JobState, PauseReason

COMPLETED, SOME_FAILED, PAUSED, CANCELLED, INTERRUPTED = 0, 1, 3, 5, 130

_WAYS_OUT = {
    PauseReason.BUDGET_EXHAUSTED: "nightshift resume {job} --budget-rub MORE",
    PauseReason.INSUFFICIENT_BALANCE: "put money on the account, then: nightshift resume {job}",
    PauseReason.KEY_REJECTED: "set a working key, then: nightshift resume {job}",
    PauseReason.MISCONFIGURED: "correct the address, then: nightshift resume {job}",
}


def say_ending(job: JobRow) -> int:
    """Tells how the job ended or why it rests; returns the exit code."""
    if job.state is JobState.COMPLETED:
        return _completed(job)
    if job.state is JobState.PAUSED:
        return _paused(job)
    if job.state is JobState.CANCELLED:
        say(f"{job.id} is cancelled; what was answered is in {_folder(job)}")
        return CANCELLED
    say(f"{job.id} is {job.state}")
    return SOME_FAILED if job.ended else COMPLETED


def _completed(job: JobRow) -> int:
    took = (job.ended_at or 0) - (job.started_at or job.created_at)
    failed = f", {job.failed:,} failed" if job.failed else ""
    skipped = f", {job.invalid:,} lines skipped" if job.invalid else ""
    say(f"{job.completed:,} of {job.requests:,} answered{failed}{skipped} in {duration(took)}")
    exact = plain(job.settled_rub)
    say(f"cost {show(job.settled_rub)} (exactly {exact} ₽)")
    if job.booked_rub:
        say(f"  and calls of unknown outcome, at most {show(job.booked_rub)}")
    say(f"results in {_folder(job)}")
    if job.failed:
        say(f"  try the failed again: nightshift resume {job.id} --retry-failed")
    return SOME_FAILED if job.failed else COMPLETED


def _paused(job: JobRow) -> int:
    say(f"{job.id} is paused: {job.reason.replace('_', ' ')}")
    if job.reason_text:
        say(f"  {safe(job.reason_text)}")
    say(f"  {job.finished:,} of {job.requests:,} are done; nothing is lost")
    way = _WAYS_OUT.get(PauseReason(job.reason), "nightshift resume {job}")
    say(f"  go on with: {way.format(job=job.id)}")
    return PAUSED


def say_interrupted(job_id: str) -> int:
    """After Ctrl-C."""
    say(f"interrupted; the job is kept. Go on with: nightshift resume {job_id}")
    return INTERRUPTED


def _folder(job: JobRow) -> str:
    folder = Path(job.spec.output_dir)
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    return shlex.quote(str(folder)) + "/"
