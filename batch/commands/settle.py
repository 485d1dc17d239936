"""nightshift settle"""

from __future__ import annotations

import json
import sys
from contextlib import closing

import click

from batch.coordinator import outputs
from batch.dialogue.helps import Command
from batch.dialogue.options import job_argument, open_home, option, plain_option
from batch.dialogue.terminal import say, tell
from batch.language import _, money, ngettext, number
from batch.store.chunks import Lost
from batch.store.jobstore import JobStore
from jobs.errors import UsageError
from jobs.money import plain

HELP = """Give up what stays set aside of JOB for workers that fell silent.

The most that their calls can have cost is set aside until one of them, or another on its host with
its scratch folder, tells what they did cost. Where none ever will, this makes it free again for
the caps. The risk: should such a worker come back after all, its calls are booked then, and the
caps may be exceeded by what is told here. Calls of unknown cost stay booked as they are.

\b
  nightshift settle latest --dry-run
  nightshift settle latest
"""


@click.command("settle", cls=Command, help=HELP)
@job_argument
@plain_option("--dry-run", is_flag=True, help="Show what is set aside; change nothing.")
@plain_option("--json", "as_json", is_flag=True, help="For programs.")
@option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(job: str, *, dry_run: bool, as_json: bool, yes: bool) -> int:
    """See HELP."""
    home = open_home()
    job_id = home.find(job)
    with closing(home.open(job_id, read_only=dry_run)) as store:
        lost = store.chunks.lost()
        (tell if dry_run else say)(_line(lost))
        if lost.chunks and not dry_run:
            if not yes:
                _agree()
            _give_up(store)
            # A coordinator writes the files of jobs that are over and have changed.
            if store.job().ended and not home.is_coordinated(job_id):
                outputs.write(store)
            say(_("it is free again; {spent} spent").format(spent=money(store.job().settled_rub)))
        if as_json:
            click.echo(json.dumps(_figures(job_id, lost, gave_up=not dry_run), indent=2))
    return 0


def _agree() -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked", hint="add --yes to give it up")
    question = _("Give it up? Calls that are told of later may exceed the caps.")
    click.confirm(question, abort=True, err=True)


def _give_up(store: JobStore) -> None:
    if store.chunks.give_up() == 0:
        raise UsageError("its workers told of it meanwhile; nothing is set aside any more")


def _line(lost: Lost) -> str:
    if not lost.chunks:
        return _("nothing is set aside for workers that fell silent")
    told = ngettext(
        "{count} chunk went with a worker that fell silent",
        "{count} chunks went with workers that fell silent",
        lost.chunks,
    ).format(count=number(lost.chunks))
    if lost.rub is None:
        return told + _("; without a cap nothing is set aside for it")
    return told + _("; {rub} are set aside").format(rub=money(lost.rub))


def _figures(job_id: str, lost: Lost, *, gave_up: bool) -> dict[str, object]:
    return {
        "version": 1,
        "job": job_id,
        "chunks": lost.chunks,
        "at_most_rub": None if lost.rub is None else plain(lost.rub),
        "gave_up": gave_up and lost.chunks > 0,
    }
