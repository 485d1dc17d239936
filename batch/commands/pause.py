"""nightshift pause"""

from __future__ import annotations

import click

from batch.dialogue.options import job_argument, open_home
from batch.dialogue.phrases import state_word
from batch.dialogue.terminal import say
from batch.dialogue.wishes import wish
from batch.language import _
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
    say(_("{job} is {state}").format(job=row.id, state=state_word(row.state)))
    if row.state is JobState.PAUSED:
        say(_("go on with:"))
        say(f"  nightshift resume {row.id}")
    return 0
