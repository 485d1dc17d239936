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
    PauseReason.BUDGET_EXHAUSTED: ("go on with a higher cap:", " --budget-rub RUB"),
    PauseReason.INSUFFICIENT_BALANCE: ("put money on the account, then:", ""),
    PauseReason.KEY_REJECTED: ("set a key that works (ROUTERAI_API_KEY), then:", ""),
    PauseReason.PRICE_RISE: (
        "accept what is asked now (--max-price-rise PERCENT: and more than now), and go on:",
        "",
    ),
    PauseReason.MISCONFIGURED: ("mend what it says, then:", ""),
}
_GO_ON = ("go on with:", "")


def say_ending(job: JobRow) -> int:
    """Tells how the job ended or why it rests; returns the exit code."""
    if job.state is JobState.COMPLETED:
        return _completed(job)
    if job.state is JobState.PAUSED:
        return _paused(job)
    if job.state is JobState.CANCELLED:
        say(f"{job.id} is cancelled; {job.completed:,} of {job.requests:,} were answered")
        say(f"cost {show(job.settled_rub)}")
        _say_booked(job)
        say(f"results in {_folder(job)}")
        return CANCELLED
    say(f"{job.id} is {job.state}")
    return SOME_FAILED if job.ended else COMPLETED


def _completed(job: JobRow) -> int:
    took = (job.ended_at or 0) - (job.started_at or job.created_at)
    failed = f", {job.failed:,} failed" if job.failed else ""
    skipped = f", {job.invalid:,} lines skipped" if job.invalid else ""
    say(f"{job.completed:,} of {job.requests:,} answered{failed}{skipped} in {duration(took)}")
    say(f"cost {show(job.settled_rub)} (exactly {plain(job.settled_rub)} ₽)")
    _say_booked(job)
    say(f"results in {_folder(job)}")
    if job.failed:
        say("try the failed again with:")
        say(f"  nightshift resume {job.id} --retry-failed")
    return SOME_FAILED if job.failed else COMPLETED


def _say_booked(job: JobRow) -> None:
    if job.booked_rub:
        say(f"  and calls of unknown outcome, at most {show(job.booked_rub)}")


def _paused(job: JobRow) -> int:
    say(f"{job.id} is paused: {job.reason.replace('_', ' ')}")
    if job.reason_text:
        say(f"  {safe(job.reason_text)}")
    say(f"  {job.finished:,} of {job.requests:,} are done; nothing is lost")
    words, options = _way_out(job)
    say(words)
    say(f"  nightshift resume {job.id}{options}")
    return PAUSED


def _way_out(job: JobRow) -> tuple[str, str]:
    reason = PauseReason(job.reason)
    if reason is PauseReason.BUDGET_EXHAUSTED and job.spec.budget.rub is None:
        kind = "tokens" if job.spec.budget.tokens is not None else "requests"
        return _WAYS_OUT[reason][0], f" --budget-{kind} N"
    return _WAYS_OUT.get(reason, _GO_ON)


def say_interrupted(job_id: str) -> int:
    """After Ctrl-C."""
    say("interrupted; the job is kept. Go on with:")
    say(f"  nightshift resume {job_id}")
    return INTERRUPTED


def _folder(job: JobRow) -> str:
    folder = Path(job.spec.output_dir)
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    return shlex.quote(safe(str(folder))) + "/"
