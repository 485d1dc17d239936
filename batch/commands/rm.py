"""nightshift rm"""

from __future__ import annotations

from contextlib import closing

import click

from batch.cli.click_help import Command
from batch.cli.removing import agree, say_removed
from batch.cli.shared_options import complete_job, open_home, option
from batch.removal import check_over, remove, size
from jobs.message import N_

HELP = N_("""\
Remove jobs from the data directory. Results that were written stay where they are.

A job that is not over, whose results are not written or whose cost is still being looked up is not
removed. What a job spent keeps counting in the daily and monthly caps.

\b
  nightshift rm reviews
  nightshift prune --older-than 30d
""")


@click.command("rm", cls=Command, help=HELP)
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_job)
@option("-y", "--yes", is_flag=True, help=N_("Do not ask for confirmation."))
def command(jobs: tuple[str, ...], *, yes: bool) -> int:
    """See HELP."""
    home = open_home()
    found = list(dict.fromkeys(map(home.find, jobs)))
    for job_id in found:
        with closing(home.open(job_id, read_only=True)) as store:
            check_over(store)
    freed = sum(size(home.jobs_folder / job_id) for job_id in found)
    if not yes:
        agree(len(found), freed)
    for job_id in found:
        remove(home, job_id)
    say_removed(found, freed)
    return 0
