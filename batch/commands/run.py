"""nightshift run"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from batch import embedded_redis, job_control
from batch.cli.click_help import Command
from batch.cli.click_options import spec_options
from batch.cli.confirmation import ask, costs_nothing, send_question
from batch.cli.estimate_text import guess_lines
from batch.cli.exit_summary import say_ending, say_interrupted
from batch.cli.quality_text import quality_lines
from batch.cli.shared_options import (
    WORKERS,
    caps_options,
    display_options,
    input_argument,
    insecure_option,
    json_option,
    open_home,
    option,
    patience_option,
    sample_options,
    take_caps,
)
from batch.cli.spec_builder import make_spec
from batch.cli.terminal import say
from batch.local_processes import Crew, crew
from batch.settings import check_key, read_settings
from batch.store.jobstore import JobRow
from batch.submission.submit import new_job_id
from jobs.errors import NightshiftError, UsageError
from jobs.job_commands import Resume
from jobs.message import N_, joined
from jobs.pause_reasons import PauseReason
from jobs.states import JobState

HELP = N_("""\
Run INPUT to completion: check it, call the endpoint, write the results.

Starts everything it needs: an embedded server (unless NIGHTSHIFT_REDIS_URL names one), a worker and
a coordinator. Ctrl-C stops it cleanly; nightshift resume continues.

\b
  nightshift run reviews.jsonl
  nightshift run reviews.jsonl.zst --budget-rub 500 --window 23:00-07:00@Europe/Moscow
  zcat big.jsonl.gz | nightshift run - --model minimax/minimax-m1 --max-tokens 300
  nightshift run reviews.csv --model minimax/minimax-m1 --prompt 'Good? {{ text }}' \\
    --choices yes,no
  nightshift run reviews.jsonl --yes --json | jq -r .spent_rub
""")


@click.command("run", cls=Command, help=HELP)
@input_argument
@spec_options
@caps_options
@option("--workers", **WORKERS)
@option("-y", "--yes", is_flag=True, help=N_("Do not ask for confirmation before spending."))
@sample_options
@json_option
@patience_option
@display_options
@insecure_option
def command(
    source: Path,
    *,
    workers: int,
    yes: bool,
    sample: int | None,
    tokenizer: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    check_key(settings)
    if home.is_coordinated():
        raise UsageError(
            N_("another nightshift process is running in {folder}", folder=home.folder),
            hint=N_("wait for it to finish (nightshift status), or use another NIGHTSHIFT_HOME"),
        )
    new_caps = take_caps(options)
    job_id = new_job_id()
    spec = make_spec(job_id, source, options)
    spends = not yes and not costs_nothing(spec)
    if spends and not sys.stdin.isatty():
        raise UsageError(
            N_("cannot ask whether to spend money: stdin is not a terminal"), hint=N_("pass --yes")
        )
    if settings.redis_url is not None:
        embedded_redis.check(settings.redis_url)
    with crew(home, settings, spec, workers) as its:
        # Here, so that the workers start meanwhile.
        from batch.cli.submission_summary import check_in

        report = check_in(home, job_id, spec, source, sample or 0, tokenizer, new_caps)
        if spends and report.requests:
            count = min(report.first or report.requests, report.requests)
            ask(home, job_id, send_question(count, spec))

        def sampled(job: JobRow) -> bool:
            with closing(home.open(job_id, read_only=True)) as store:
                for line in (*quality_lines(store), *guess_lines(job.guess)):
                    say(f"  {line}")
            if spends:
                ask(home, job_id, send_question(job.left, spec))
            return True

        code = follow(its, job_id, sampled)
    if as_json:
        from batch.cli.job_snapshot import tell_programs

        tell_programs(home, settings, job_id)
    return code


def follow(its: Crew, job_id: str, sampled: Callable[[JobRow], bool] = lambda _job: False) -> int:
    """Works on the job in the foreground; returns the exit code.

    `sampled` tells whether to go on when only a sample was answered yet.
    """
    from batch.foreground import run_job

    home = its.home
    store = home.open(job_id, read_only=True)
    job = store.job()
    store.close()
    try:
        job = run_job(its, job)
        if job.state is JobState.PAUSED and job.reason == PauseReason.SAMPLED and sampled(job):
            job = run_job(its, job_control.command(home, job_id, Resume()).job)
    except KeyboardInterrupt:
        return say_interrupted(job_id)
    except NightshiftError as error:
        way = N_("the job is kept; go on with: nightshift resume {job}", job=job_id)
        error.hint = joined(filter(None, (error.hint, way)), "\n")
        raise
    with closing(home.open(job_id, read_only=True)) as store:
        return say_ending(job, store)
