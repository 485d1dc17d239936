"""nightshift pause"""

from __future__ import annotations

import click

from batch.options import job_argument, open_home
from batch.terminal import say
from batch.wishes import wish

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
    job_id = home.find(job)
    state = wish(home, job_id, "pause")
    say(f"{job_id} is {state}; go on with: nightshift resume {job_id}")
    return 0
