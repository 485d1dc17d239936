"""How a command ends that followed a job: the last words, and the exit code."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from batch.dialogue.causes import cause_lines, ways_out
from batch.dialogue.guesses import score
from batch.dialogue.phrases import cost_line, failed, lost_line, reason_word, state_word
from batch.dialogue.quality import quality_lines
from batch.dialogue.terminal import Manners, duration, ring, safe, say
from batch.language import _, again, ngettext, number
from batch.store.causes import Why
from batch.store.jobstore import JobRow, JobStore
from jobs.states import JobState, PauseReason

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
        for line in (lost_line(store.chunks.lost()), settling(job, store), _score(job)):
            if line:
                say(f"  {line}")
        say(_("results in {folder}").format(folder=_folder(job)))
    for words, command in _ways_out(job, why):
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


def _ways_out(job: JobRow, why: Why) -> Iterator[tuple[str, str]]:
    """What goes on with a job that rests; else what helps with what failed or was cut off."""
    if job.state is JobState.PAUSED:
        words, options = _way_on(job)
        yield words, f"nightshift resume {job.id}{options}"
        return
    if job.state is JobState.EXPIRED and job.left:
        yield _("run the rest with:"), f"nightshift resume {job.id} --deadline HH:MM"
    if job.ended:
        yield from ways_out(why, job.id)


def skipped(count: int) -> str:
    """`3 lines skipped`."""
    return ngettext("{count} line skipped", "{count} lines skipped", count).format(
        count=number(count)
    )


def _paused(job: JobRow) -> int:
    reason = reason_word(job.reason).replace("_", " ")
    say(_("{job} is paused: {reason}").format(job=job.id, reason=reason))
    if job.reason_text:
        say(f"  {safe(again(job.reason_text))}")
    done = _("{done} of {requests} done; nothing is lost")
    say("  " + done.format(done=number(job.finished), requests=number(job.requests)))
    return PAUSED


def _way_on(job: JobRow) -> tuple[str, str]:
    reason = PauseReason(job.reason)
    if reason is PauseReason.BUDGET_EXHAUSTED:
        options = " --budget-rub RUB"
        if job.spec.budget.rub is None:
            kind = "tokens" if job.spec.budget.tokens is not None else "requests"
            options = f" --budget-{kind} N"
        return _("continue with a higher budget:"), options
    if reason is PauseReason.MISCONFIGURED:
        return _configured(job)
    if reason is PauseReason.WINDOW_CLOSED:
        return _("to send at any time:"), ' --window ""'
    ways = {
        PauseReason.INSUFFICIENT_BALANCE: _("top up the account, then:"),
        PauseReason.KEY_REJECTED: _("set a valid key (ROUTERAI_API_KEY), then:"),
        PauseReason.PRICE_RISE: _(
            "accept the current prices (--max-price-rise PERCENT also allows further"
            " rises) and continue:"
        ),
        PauseReason.RATE_LIMITED: _("raise the rate limit at the endpoint or wait, then:"),
        PauseReason.SAMPLED: _("run the whole job:"),
        PauseReason.LOW_ACCURACY: _("improve the prompt and run it anew, or send the rest anyway:"),
    }
    return ways.get(reason, _("resume with:")), ""


def _configured(job: JobRow) -> tuple[str, str]:
    """What helps with a wrong address, a wrong model, a certificate, or errors that are alike."""
    moved = _("set the endpoint's right address:"), " --base-url URL"
    ways = {
        NO_MODEL: (_("choose a model that the endpoint lists:"), " --model-map OLD=NEW"),
        "endpoint.wrong_address": moved,
        "endpoint.redirect": moved,
        "endpoint.certificate": (
            _("trust its certificate (SSL_CERT_FILE=CA.pem) or set another address, then:"),
            "",
        ),
        "endpoint.blocked": (_("have the endpoint's firewall let this host through, then:"), ""),
    }
    met = next((trouble.code for trouble in job.troubles if trouble.code in ways), "")
    retry = " --retry failed" if job.failed else ""
    return ways.get(met, (_("fix the problem above, then:"), retry))


def settling(job: JobRow, store: JobStore) -> str:
    """How calls of unknown cost of a job that is over are settled; empty where none can be."""
    count = len(store.uncertain.calls()) if job.ended else 0
    told = ngettext(
        "the cost of {count} call is not confirmed yet: nightshift resume {job} looks it up",
        "the cost of {count} calls is not confirmed yet: nightshift resume {job} looks it up",
        count,
    )
    return told.format(count=number(count), job=job.id) if count else ""


def say_interrupted(job_id: str) -> int:
    """After Ctrl-C."""
    Manners.quiet = False
    say(_("interrupted; the job is saved. Continue with:"))
    say(f"  nightshift resume {job_id}")
    return INTERRUPTED


def _folder(job: JobRow) -> str:
    folder = Path(job.spec.output_dir)
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    return shlex.quote(safe(str(folder))) + "/"
