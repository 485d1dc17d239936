"""nightshift cancel"""

from __future__ import annotations

import os

import click

from batch import job_control
from batch.cli.click_help import Command
from batch.cli.job_snapshot import tell_programs
from batch.cli.progress_text import state_word
from batch.cli.shared_options import insecure_option, json_option, named_job_argument, open_home
from batch.cli.terminal import say
from batch.foreground import run_job
from batch.language import _
from batch.local_processes import crew
from batch.settings import read_settings
from jobs.job_commands import Cancel
from jobs.message import N_
from jobs.states import JobState

HELP = N_("""\
Cancel JOB: calls in flight finish, the answers are written, the rest is not sent.

\b
  nightshift cancel latest
""")


@click.command("cancel", cls=Command, help=HELP)
@named_job_argument
@json_option
@insecure_option
def command(job: str, *, as_json: bool) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    row = job_control.command(home, home.find(job), Cancel()).job
    if row.state is JobState.CANCELLING and not home.is_coordinated():
        say(_("collecting results left by its workers"))
        with crew(home, settings, row.spec, 1) as its:
            row = run_job(its, row)
    told = _("{job} is {state}; answers received so far:")
    say(told.format(job=row.id, state=state_word(row.state)))
    say(f"  nightshift results {row.id}")
    if as_json:
        tell_programs(home, settings, row.id)
    return 0
