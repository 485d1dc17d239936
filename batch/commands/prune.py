"""nightshift prune"""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from batch import language
from batch.cli.click_help import Command
from batch.cli.parameter_types import Seconds
from batch.cli.progress_text import state_word
from batch.cli.removing import agree, say_removed
from batch.cli.shared_options import open_home, option, plain_option
from batch.cli.terminal import cells, roughly, safe, say, tell
from batch.language import _
from batch.removal import remove, size, unfinished
from batch.store.home import Home
from jobs.lifecycle import shown
from jobs.message import N_

HELP = N_("""\
Remove jobs that ended long ago, or show how much room each job takes.

Without --older-than nothing is removed. Never removed: a job that is not over, whose results are
not written or whose cost is still being looked up. Results that were written stay where they are.
What a job spent keeps counting in the daily and monthly caps.

\b
  nightshift prune
  nightshift prune --older-than 30d --dry-run
  nightshift prune --older-than 30d
""")


@click.command("prune", cls=Command, help=HELP)
@plain_option(
    "--older-than",
    "age_s",
    type=Seconds(min=0),
    metavar="AGE",
    help=N_("Remove jobs that ended longer ago than this: 12h, 30d."),
)
@plain_option("--dry-run", is_flag=True, help=N_("Show what would be removed; remove nothing."))
@option("-y", "--yes", is_flag=True, help=N_("Do not ask for confirmation."))
def command(age_s: float | None, *, dry_run: bool, yes: bool) -> int:
    """See HELP."""
    home = open_home()
    if age_s is None:
        _show(home, home.job_ids())
        return 0
    found = list(_ended_before(home, time.time() - age_s))
    if dry_run or not found:
        _show(home, found)
        return 0
    freed = sum(size(home.jobs_folder / job_id) for job_id in found)
    if not yes:
        agree(len(found), freed)
    for job_id in found:
        remove(home, job_id)
    say_removed(found, freed)
    return 0


def _ended_before(home: Home, moment: float) -> Iterator[str]:
    for store in home.stores():
        job = store.job()
        ended = job.ended_at or job.created_at
        if ended <= moment and not unfinished(store)[0]:
            yield job.id


def _show(home: Home, jobs: list[str]) -> None:
    rows, whole = [], 0
    for store in home.stores():
        job = store.job()
        if job.id in jobs:
            taken = size(store.folder)
            whole += taken
            age = roughly(time.time() - job.created_at)
            state = state_word(shown(job.state, job.reason))
            rows.append((job.id, language.size(taken), age, state, safe(job.spec.name)))
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(
            text + " " * (wide - cells(text)) for text, wide in zip(row, widths, strict=True)
        )
        tell(line.rstrip())
    told = _("{size} in {folder}")
    say(told.format(size=language.size(whole), folder=safe(str(home.jobs_folder))))
