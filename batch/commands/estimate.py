"""nightshift estimate"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from batch.cli.click_help import Command
from batch.cli.click_options import checking, spec_options
from batch.cli.confirmation import costs_nothing
from batch.cli.estimate_text import guess_json, guess_lines
from batch.cli.exit_summary import say_interrupted
from batch.cli.shared_options import (
    input_argument,
    insecure_option,
    open_home,
    option,
    plain_option,
    sample_options,
)
from batch.cli.spec_builder import make_spec, open_source
from batch.cli.submission_summary import (
    check_in,
    estimate_lines,
    money_line,
    requests_line,
    say_refused,
)
from batch.cli.terminal import counting_lines, say, say_faults, tell, tell_json
from batch.estimator.character_counts import shape_of
from batch.estimator.tokenizer_file import counted_by
from batch.foreground import run_job
from batch.language import _, number
from batch.local_processes import crew
from batch.settings import check_key, read_settings
from batch.store.home import Home
from batch.store.jobstore import JobRow
from batch.store.stored_estimate import Guess
from batch.submission.report import Report, check_any_left
from batch.submission.submit import new_job_id, validate
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.message import N_
from jobs.money import plain
from jobs.pause_reasons import PauseReason
from jobs.states import JobState

HELP = N_("""\
Check INPUT and estimate its cost from the endpoint's prices. Nothing is sent or stored.

The range is based on answers that earlier jobs got from the model, or else on typical lengths.
--sample N spends money: INPUT becomes a job, N of its requests are run, and their cost is
extrapolated to all. The answers are kept; resume runs the rest.
Takes all options of submit; the relevant ones are listed below.

\b
  nightshift estimate reviews.jsonl
  nightshift estimate reviews.jsonl --max-tokens 300
  nightshift estimate reviews.jsonl --sample 20
  nightshift estimate reviews.jsonl --json | jq -r .rub.likely
""")


@checking
@click.command("estimate", cls=Command, help=HELP)
@input_argument
@spec_options
@sample_options
@option("-y", "--yes", is_flag=True, help=N_("Do not ask for confirmation before buying a sample."))
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
@insecure_option
def command(
    source: Path,
    *,
    sample: int | None,
    tokenizer: Path | None,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """See HELP."""
    job_id = new_job_id()
    spec = make_spec(job_id, source, options)
    if sample:
        job, report = _bought(spec, source, sample, tokenizer, job_id, yes=yes)
        _tell(report, job.guess, job, as_json=as_json)
        return 0
    with counting_lines() as count:
        report = validate(
            open_home(),
            spec,
            open_source(source),
            priced=True,
            tell=count,
            shape=counted_by(tokenizer) if tokenizer else shape_of,
        )
    say_refused(report)
    say_faults(report.warnings)
    if report.requests or as_json:
        _tell(report, report.estimate.guess, None, as_json=as_json)
    check_any_left(spec, report)
    return 0


def _tell(report: Report, guess: Guess, job: JobRow | None, *, as_json: bool) -> None:
    in_flex = report.estimate.in_flex
    if as_json:
        told = {
            "version": 1,
            **({"job": job.id} if job else {}),
            "requests": report.requests,
            "invalid": report.invalid,
            "copies": report.copies,
            "reused": report.reused,
            "models": report.models,
            "unpriced": report.estimate.unpriced,
            "flex_likely_rub": None if in_flex is None else plain(in_flex),
            **guess_json(guess),
        }
        tell_json(told)
        return
    tell(requests_line(report))
    if report.spec is not None and (line := money_line(report.spec)):
        tell(line)
    for line in estimate_lines(report) if job is None else guess_lines(guess):
        tell(line)
    if job is not None and not job.ended:
        say(_("the answers are kept; to run the rest:"))
        say(f"  nightshift resume {job.id}")


def _bought(
    spec: Spec, source: Path, sample: int, tokenizer: Path | None, job_id: str, *, yes: bool
) -> tuple[JobRow, Report]:
    """The job after its sample was answered."""
    home, settings = open_home(), read_settings(os.environ)
    check_key(settings)
    if home.is_coordinated():
        raise UsageError(
            N_("another nightshift process is running in {folder}", folder=home.folder),
            hint=N_(
                "wait for it to finish (nightshift status), or: nightshift submit INPUT --sample N"
            ),
        )
    if not yes and not costs_nothing(spec):
        if not sys.stdin.isatty():
            raise UsageError(
                N_("cannot ask whether to spend money: stdin is not a terminal"),
                hint=N_("pass --yes"),
            )
        question = _("Buy a sample of up to {count} answers from {url}?")
        click.confirm(
            question.format(count=number(sample), url=spec.base_url), abort=True, err=True
        )
    with crew(home, settings, spec, 1) as its:
        report = check_in(home, job_id, spec, source, sample, tokenizer)
        try:
            job = run_job(its, _job(home, job_id))
        except KeyboardInterrupt:
            say_interrupted(job_id)
            raise
    if job.state is JobState.PAUSED and job.reason != PauseReason.SAMPLED:
        raise UsageError(
            N_("the sample is not finished: {reason}", reason=job.reason_text),
            hint=N_(
                "the answers received are kept; continue with: nightshift resume {job}", job=job_id
            ),
        )
    return job, report


def _job(home: Home, job_id: str) -> JobRow:
    with closing(home.open(job_id, read_only=True)) as store:
        return store.job()
