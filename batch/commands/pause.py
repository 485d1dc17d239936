"""nightshift pause"""

from __future__ import annotations

import click

from batch.options import job_argument, open_home
from batch.terminal import say
from batch.wishes import wish
from jobs.states import JobState

HELP = """Let JOB rest: calls in flight end and are kept, nothing new is sent.

\b
  nightshift pause latest
  nightshift resume latest
"""


@click.command("pause", help=HELP, short_help="Let a job rest.")
@job_argument
def command(job: str) -> int:
    """See HELP."""
    home = open_home()
    row = wish(home, home.find(job), "pause")
    say(f"{row.id} is {row.state}")
    if row.state is JobState.PAUSED:
        say(f"go on with:\n  nightshift resume {row.id}")
    return 0
