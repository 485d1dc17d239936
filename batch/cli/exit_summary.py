"""How a command ends that followed a job: the last words, and the exit code."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from batch.cli.estimate_text import score
from batch.cli.failure_text import cause_lines, ways_out
from batch.cli.progress_text import cost_line, failed, lost_line, state_word
from batch.cli.quality_text import quality_lines
from batch.cli.terminal import Manners, duration, ring, safe, say
from batch.language import _, money, ngettext, number
from batch.money.savings import reused_of
from batch.store.failure_causes import Why
from batch.store.jobstore import JobRow, JobStore
from jobs.lifecycle import remedy
from jobs.pause_reasons import PauseReason, pausing
from jobs.states import JobState

NO_MODEL = "endpoint.model_not_found"
"""What another name of a model mends."""

COMPLETED, SOME_FAILED, PAUSED, CANCELLED, INTERRUPTED = 0, 1, 3, 5, 130


def say_ending(job: JobRow, store: JobStore) -> int:
    """Tells how the job ended or why it rests, and what can be done; returns the exit code."""
    why = store.why()
    if job.state is not JobState.COMPLETED or job.failed or job.invalid:
        Manners.quiet = False
    ring(f"nightshift: {state_word(job.state)}")
    code = _say_state(job)
    for line in cause_lines(why, job.id):
        say(line)
    if job.ended or job.reason == PauseReason.LOW_ACCURACY:
        for line in quality_lines(store):
            say(f"  {line}")
    if job.ended:
        say(cost_line(job))
        lost = lost_line(store.chunks.lost())
        for line in (reused_line(store), lost, settling(job, store), _score(job)):
            if line:
                say(f"  {line}")
        if told := _table_line(job):
            say(told)
        say(_("results in {folder}").format(folder=_folder(job)))
    for words, command in ways_on(job, why):
        say(words)
        say(f"  {command}")
    return code


def _say_state(job: JobRow) -> int:
    done, requests = number(job.completed), number(job.requests)
    if job.state is JobState.COMPLETED:
        took = (job.ended_at or 0) - (job.started_at or job.created_at)
        parts = [_("{done} of {requests} answered").format(done=done, requests=requests)]
        if job.failed:
            parts.append(failed(job.failed))
        if job.invalid:
            parts.append(skipped(job.invalid))
        say(_("{what} in {time}").format(what=", ".join(parts), time=duration(took)))
        return SOME_FAILED if job.failed or job.invalid else COMPLETED
    if job.state is JobState.PAUSED:
        return _paused(job)
    if job.state is JobState.CANCELLED:
        told = _("{job} is cancelled; {done} of {requests} answered")
        say(told.format(job=job.id, done=done, requests=requests))
        return CANCELLED
    if job.state is JobState.EXPIRED:
        told = _("the deadline has passed: {done} of {requests} answered")
        say(told.format(done=done, requests=requests))
        return SOME_FAILED
    say(_("{job} is {state}").format(job=job.id, state=state_word(job.state)))
    return SOME_FAILED if job.ended else COMPLETED


def _score(job: JobRow) -> str:
    known = job.state is JobState.COMPLETED and not job.unknown
    return score(job.guess, job.settled_rub) if known else ""


def ways_on(job: JobRow, why: Why) -> Iterator[tuple[str, str]]:
    """What goes on with a job that rests; else what helps with what failed or was cut off."""
    found = remedy(job)
    if found is not None:
        yield _(found.words), found.command
    if job.ended:
        yield from ways_out(why, job.id)


def skipped(count: int) -> str:
    """`3 lines skipped`."""
    return ngettext("{count} line skipped", "{count} lines skipped", count).format(
        count=number(count)
    )


def _paused(job: JobRow) -> int:
    reason = _(pausing(job.reason).meaning)
    say(_("{job} is paused: {reason}").format(job=job.id, reason=reason))
    if job.reason_text:
        say(f"  {safe(_(job.reason_text))}")
    done = _("{done} of {requests} done; nothing is lost")
    say("  " + done.format(done=number(job.finished), requests=number(job.requests)))
    return PAUSED


def settling(job: JobRow, store: JobStore) -> str:
    """How calls of unknown cost of a job that is over are settled; empty where none can be."""
    count = len(store.uncertain.calls()) if job.ended else 0
    told = ngettext(
        "the cost of {count} call is not confirmed yet: nightshift resume {job} looks it up",
        "the cost of {count} calls is not confirmed yet: nightshift resume {job} looks it up",
        count,
    )
    return told.format(count=number(count), job=job.id) if count else ""


def reused_line(store: JobStore) -> str:
    """What answers of earlier jobs saved; empty where none was taken over."""
    found = reused_of(store)
    told = ngettext(
        "{rub} saved: {count} request was answered in an earlier job",
        "{rub} saved: {count} requests were answered in earlier jobs",
        found.requests,
    )
    if not found.requests:
        return ""
    return told.format(rub=money(found.saved_rub), count=number(found.requests))


def say_interrupted(job_id: str) -> int:
    """After Ctrl-C."""
    Manners.quiet = False
    say(_("interrupted; the job is saved. Continue with:"))
    say(f"  nightshift resume {job_id}")
    return INTERRUPTED


def _table_line(job: JobRow) -> str:
    """Where the answered table stands; empty for a job without one."""
    if job.spec.task is None:
        return ""
    # Here, so that jobs without a table end without what tables need.
    from batch.reports.answered_table_file import place_beside, table_name

    place = place_beside(job.spec) or Path(job.spec.output_dir) / (table_name(job.spec) or "")
    return _("answered table: {file}").format(file=_near(place))


def _folder(job: JobRow) -> str:
    return _near(Path(job.spec.output_dir)) + "/"


def _near(path: Path) -> str:
    """A path as it can be typed here."""
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(safe(str(path)))
