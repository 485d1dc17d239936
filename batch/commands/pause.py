"""nightshift pause"""

from __future__ import annotations

import os

import click

from batch import job_control
from batch.cli.click_help import Command
from batch.cli.job_snapshot import tell_programs
from batch.cli.progress_text import state_word
from batch.cli.shared_options import insecure_option, job_argument, json_option, open_home
from batch.cli.terminal import say
from batch.language import _
from batch.settings import read_settings
from jobs.job_commands import Pause
from jobs.message import N_
from jobs.states import JobState

HELP = N_("""\
Pause JOB: calls in flight finish and are kept, nothing new is sent.

\b
  nightshift pause latest
  nightshift resume latest
""")


@click.command("pause", cls=Command, help=HELP)
@job_argument
@json_option
@insecure_option
def command(job: str, *, as_json: bool) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    row = job_control.command(home, home.find(job), Pause()).job
    say(_("{job} is {state}").format(job=row.id, state=state_word(row.state)))
    if row.state is JobState.PAUSED:
        say(_("resume with:"))
        say(f"  nightshift resume {row.id}")
    if as_json:
        tell_programs(home, settings, row.id)
    return 0
