"""nightshift run"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from batch import embedded
from batch.dialogue.ending import say_ending, say_interrupted, settling
from batch.dialogue.guesses import guess_lines
from batch.dialogue.options import (
    caps_options,
    input_argument,
    make_spec,
    open_home,
    open_source,
    option,
    sample_options,
    set_caps,
    spec_options,
)
from batch.dialogue.terminal import safe, say, say_faults, say_lines
from batch.estimator.shape import shape_of
from batch.estimator.tokenizer import counted_by
from batch.language import _, moment, ngettext, number
from batch.local import run_job
from batch.settings import KEY_FILE, Settings, read_settings
from batch.store.home import Home
from batch.store.jobstore import JobRow
from batch.submission import Refused, Report, new_job_id, submit
from jobs.errors import NightshiftError, UsageError
from jobs.spec import LOOPBACK, Spec
from jobs.states import JobState, PauseReason

HELP = """Run INPUT to the end: check it, call the endpoint, write the results.

Brings all it needs: an embedded server (unless NIGHTSHIFT_REDIS_URL names one), a worker and a
coordinator. Ctrl-C stops it cleanly; nightshift resume goes on.

\b
  nightshift run reviews.jsonl
  nightshift run reviews.jsonl.zst --budget-rub 500 --window 23:00-07:00@Europe/Moscow
  zcat big.jsonl.gz | nightshift run - --model minimax/minimax-m1 --max-tokens 300
"""


@click.command("run", help=HELP, short_help="Run a file of requests, all in one.")
@input_argument
@spec_options
@caps_options
@option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes; one does hundreds of calls at once.",
)
@option("-y", "--yes", is_flag=True, help="Do not ask before spending.")
@sample_options
def command(
    source: Path,
    *,
    workers: int,
    yes: bool,
    sample: int | None,
    tokenizer: Path | None,
    **options: Any,
) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    check_key(settings)
    if home.is_coordinated():
        raise UsageError(
            f"another nightshift is at work in {safe(str(home.folder))}",
            hint="wait for it (nightshift status), or use another NIGHTSHIFT_HOME",
        )
    set_caps(home, options)
    job_id = new_job_id()
    spec = make_spec(job_id, source, options)
    spends = not yes and not costs_nothing(spec)
    if spends and not sys.stdin.isatty():
        raise UsageError("nobody is here to be asked whether to spend money", hint="say --yes")
    if settings.redis_url is not None:
        embedded.check(settings.redis_url)
    report = check_in(home, job_id, spec, source, sample or 0, tokenizer)
    if spends and report.requests:
        ask(home, job_id, send_question(min(sample or report.requests, report.requests), spec))

    def sampled(job: JobRow) -> bool:
        for line in guess_lines(job.guess):
            say(f"  {line}")
        if spends:
            ask(home, job_id, send_question(job.left, spec))
        return True

    return follow(home, settings, job_id, workers, sampled)


def check_key(settings: Settings) -> None:
    """`UsageError` where the worker would find no key."""
    if settings.key_source is None:
        raise UsageError(
            "no API key is set",
            hint="set ROUTERAI_API_KEY, or NIGHTSHIFT_API_KEY_FILE to a file with it",
        )
    if settings.key_source == KEY_FILE:
        path = Path(os.environ[KEY_FILE]).expanduser()
        if not path.is_file() or not os.access(path, os.R_OK):
            raise UsageError(
                f"the key file {path} cannot be read", hint="correct NIGHTSHIFT_API_KEY_FILE"
            )


def check_in(
    home: Home,
    job_id: str,
    spec: Spec,
    source: Path,
    sample: int = 0,
    tokenizer: Path | None = None,
) -> Report:
    """Submits, and tells what was found; faults are listed before the error."""
    shape = counted_by(tokenizer) if tokenizer else shape_of
    say(_("checking {file}").format(file=safe(spec.source)))
    try:
        report = submit(
            home, job_id, spec, open_source(source), say_lines, sample=sample, shape=shape
        )
    except Refused as refusal:
        say_faults(refusal.report.faults, refusal.report.invalid)
        raise
    if report.invalid:
        say_faults(report.faults[:10], report.invalid)
    say(job_id)
    say(f"  {requests_line(report)}")
    for line in (
        *plan_lines(report, spec),
        *guess_lines(report.estimate.guess, report.estimate.unpriced),
    ):
        say(f"  {line}")
    return report


def plan_lines(report: Report, spec: Spec) -> Iterator[str]:
    """What is not sent, and when the rest is."""
    if report.copies:
        told = ngettext(
            "{count} of them is alike to another and is not bought",
            "{count} of them are alike to others and are not bought",
            report.copies,
        )
        yield told.format(count=number(report.copies))
    if spec.off_peak and report.window:
        yield _("sent in the hours that cost less: {window}").format(window=report.window)
    if spec.deadline is not None:
        local = spec.deadline.astimezone()
        yield _("nothing new is sent after {moment}").format(moment=moment(local))


def requests_line(report: Report) -> str:
    """How many requests, to which models."""
    if not report.models:
        return _("no requests")
    models = ", ".join(safe(model) for model in report.models[:3])
    beyond = len(report.models) - 3
    if beyond > 0:
        more = ngettext("and {count} more model", "and {count} more models", beyond)
        models = f"{models} {more.format(count=number(beyond))}"
    told = ngettext("{count} request to {models}", "{count} requests to {models}", report.requests)
    return told.format(count=number(report.requests), models=models)


def ask(home: Home, job_id: str, question: str) -> None:
    """Goes on only after a yes.

    Without it the job rests, so that no coordinator that comes later sends it either.
    """
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        _let_rest(home, job_id)
        say(_("nothing was sent; the job is kept:"))
        say(f"  nightshift resume {job_id}")
        raise


def send_question(requests: int, spec: Spec) -> str:
    """Whether to send so many."""
    question = ngettext(
        "Send {count} request to {url}?", "Send {count} requests to {url}?", requests
    )
    return question.format(count=number(requests), url=spec.base_url)


def costs_nothing(spec: Spec) -> bool:
    """A machine of one's own costs nothing."""
    return urlsplit(spec.base_url).hostname in LOOPBACK


def _let_rest(home: Home, job_id: str) -> None:
    store = home.open(job_id)
    try:
        if store.job().state is JobState.IN_PROGRESS:
            text = "waits for a yes to be sent"
            store.set_state(JobState.PAUSED, reason=PauseReason.USER, text=text)
    finally:
        store.close()


def follow(
    home: Home,
    settings: Settings,
    job_id: str,
    workers: int,
    sampled: Callable[[JobRow], bool] = lambda _job: False,
) -> int:
    """Works on the job in the foreground; returns the exit code.

    `sampled` tells whether to go on when only a sample was answered yet.
    """
    store = home.open(job_id, read_only=True)
    job = store.job()
    store.close()
    try:
        job = run_job(home, settings, job, workers)
        if job.state is JobState.PAUSED and job.reason == PauseReason.SAMPLED and sampled(job):
            with closing(home.open(job_id)) as store:
                store.set_state(JobState.IN_PROGRESS, standing=JobState.PAUSED)
            job = run_job(home, settings, job, workers)
    except KeyboardInterrupt:
        return say_interrupted(job_id)
    except NightshiftError as error:
        way = f"the job is kept; go on with: nightshift resume {job_id}"
        error.hint = f"{error.hint}\n  {way}" if error.hint else way
        raise
    code = say_ending(job)
    with closing(home.open(job_id, read_only=True)) as store:
        if told := settling(job, store):
            say("  " + told)
    return code
