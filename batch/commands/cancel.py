"""nightshift cancel"""

from __future__ import annotations

import click

from batch.options import job_argument, open_home
from batch.terminal import say
from batch.wishes import wish

HELP = """End JOB now: calls in flight end, what was answered is written, the rest is not sent.

\b
  nightshift cancel latest
"""


@click.command("cancel", help=HELP, short_help="End a job now.")
@job_argument
def command(job: str) -> int:
    """See HELP."""
    home = open_home()
    job_id = home.find(job)
    state = wish(home, job_id, "cancel")
    say(f"{job_id} is {state}; what was answered: nightshift results {job_id}")
    return 0
