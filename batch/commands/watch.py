"""nightshift watch"""

from __future__ import annotations

import time

import click

from batch.ending import say_ending
from batch.home import Home
from batch.options import job_argument, open_home
from batch.progress import Meter, progress_of
from batch.store.jobstore import JobRow
from batch.terminal import Display, say
from jobs.states import JobState, PauseReason

HELP = """Follow JOB until it ends; exits as run does. Ctrl-C stops the watching, not the job.

\b
  nightshift watch latest
"""


@click.command("watch", help=HELP, short_help="Follow a job until it ends.")
@job_argument
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Look so often.",
)
def command(job: str, every: float) -> int:
    """See HELP."""
    home = open_home()
    job_id = home.find(job)
    display = Display()
    try:
        row = _follow(home, job_id, display, every)
    except KeyboardInterrupt:
        display.close()
        say(f"the job goes on; look again with: nightshift watch {job_id}")
        return 130
    display.close()
    return say_ending(row)


def _follow(home: Home, job_id: str, display: Display, every: float) -> JobRow:
    meter, store = Meter(), home.open(job_id, read_only=True)
    try:
        while True:
            row = store.job()
            meter.note(time.monotonic(), row.finished)
            display.show(progress_of(row, meter.rate))
            rests = row.state is JobState.PAUSED and row.reason != PauseReason.WINDOW_CLOSED
            if row.ended or rests:
                return row
            time.sleep(every)
    finally:
        store.close()
