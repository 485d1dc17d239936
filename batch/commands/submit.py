"""nightshift submit"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from batch.cli.click_help import Command
from batch.cli.click_options import spec_options
from batch.cli.shared_options import (
    caps_options,
    input_argument,
    insecure_option,
    json_option,
    open_home,
    sample_options,
    take_caps,
)
from batch.cli.spec_builder import make_spec
from batch.cli.submission_summary import check_in
from batch.cli.terminal import say
from batch.credentials import key_fingerprint
from batch.language import _
from batch.settings import read_settings
from batch.submission.submit import new_job_id
from jobs.message import N_

HELP = N_("""\
Check INPUT and store it as a job in the data directory; prints only the job id.

This command sends nothing: a coordinator for the same data directory and workers run the job.

\b
  job=$(nightshift submit reviews.jsonl --budget-rub 500)
  nightshift watch $job
""")


@click.command("submit", cls=Command, help=HELP)
@input_argument
@spec_options
@caps_options
@sample_options
@json_option
@insecure_option
def command(
    source: Path, *, sample: int | None, tokenizer: Path | None, as_json: bool, **options: Any
) -> int:
    """See HELP."""
    home, job_id = open_home(), new_job_id()
    new_caps = take_caps(options)
    spec = make_spec(job_id, source, options)
    # A worker with another key must not take it; without a key here, the only one there is counts.
    spec = spec.model_copy(update={"key": key_fingerprint(os.environ)})
    check_in(home, job_id, spec, source, sample or 0, tokenizer, new_caps)
    if as_json:
        # Loads the client of Redis, which this command needs for nothing else.
        from batch.cli.job_snapshot import tell_programs

        tell_programs(home, read_settings(os.environ), job_id)
    else:
        click.echo(job_id)
    if not home.is_coordinated(job_id):
        say(_("no coordinator is running: start nightshift coordinator and nightshift worker,"))
        say(_("or run the job here: nightshift resume {job}").format(job=job_id))
    return 0
