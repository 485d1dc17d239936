"""nightshift settle"""

from __future__ import annotations

import sys
from contextlib import closing

import click

from batch.cli.click_help import Command
from batch.cli.shared_options import named_job_argument, open_home, option, plain_option
from batch.cli.terminal import say, tell, tell_json
from batch.coordinator import outputs
from batch.language import _, money, ngettext, number
from batch.store.chunks import Lost
from batch.store.jobstore import JobStore
from jobs.errors import UsageError
from jobs.message import N_
from jobs.money import plain

HELP = N_("""\
Release what JOB still reserves for lost workers.

The most their calls can have cost stays reserved until one of them, or another worker on the same
host with the same scratch directory, reports the real cost. If none ever will, this command
releases the reservation. The risk: if such a worker does come back, its calls are recorded then,
and the caps may be exceeded by the amount shown here. Calls of unknown cost stay recorded.

\b
  nightshift settle latest --dry-run
  nightshift settle latest
""")


@click.command("settle", cls=Command, help=HELP)
@named_job_argument
@plain_option("--dry-run", is_flag=True, help=N_("Show what is reserved; change nothing."))
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
@option("-y", "--yes", is_flag=True, help=N_("Do not ask for confirmation."))
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
            say(
                _("the reservation is released; {spent} spent").format(
                    spent=money(store.job().settled_rub)
                )
            )
        if as_json:
            tell_json(_figures(job_id, lost, gave_up=not dry_run), indent=2)
    return 0


def _agree() -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            N_("cannot ask for confirmation: stdin is not a terminal"),
            hint=N_("pass --yes to release it"),
        )
    question = _("Release it? Calls reported later may exceed the caps.")
    click.confirm(question, abort=True, err=True)


def _give_up(store: JobStore) -> None:
    if store.chunks.give_up() == 0:
        raise UsageError(
            N_("its workers have reported in the meantime; nothing is reserved any more")
        )


def _line(lost: Lost) -> str:
    if not lost.chunks:
        return _("nothing is reserved for lost workers")
    told = ngettext(
        "{count} chunk is held by a lost worker",
        "{count} chunks are held by lost workers",
        lost.chunks,
    ).format(count=number(lost.chunks))
    if lost.rub is None:
        return told + _("; without a cap nothing is reserved for it")
    return told + _("; {rub} reserved").format(rub=money(lost.rub))


def _figures(job_id: str, lost: Lost, *, gave_up: bool) -> dict[str, object]:
    return {
        "version": 1,
        "job": job_id,
        "chunks": lost.chunks,
        "at_most_rub": None if lost.rub is None else plain(lost.rub),
        "gave_up": gave_up and lost.chunks > 0,
    }
