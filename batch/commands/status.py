"""nightshift status"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import click

from batch.cli.click_help import Command
from batch.cli.exit_summary import skipped, ways_on
from batch.cli.failure_text import cause_lines
from batch.cli.job_snapshot import Glance, without_facts, worst
from batch.cli.progress_text import (
    bound_line,
    failed,
    in_all,
    is_moving,
    last_trouble,
    lines,
    sentence,
    spending,
    stall_line,
    standing_of,
    way_out,
)
from batch.cli.shared_options import (
    FROM_NONE,
    color_option,
    complete_job,
    insecure_option,
    open_home,
    plain_option,
)
from batch.cli.terminal import (
    cells,
    colored,
    fitted,
    keys_unseen,
    roughly,
    safe,
    say,
    tell,
    tell_json,
    width,
)
from batch.language import _, ngettext, number, zoned
from batch.notifications.absent_coordinator import Watchman
from batch.settings import read_settings
from batch.store.jobstore import JobStore
from batch.watching.progress import Progress
from jobs.errors import StorageUnavailable
from jobs.message import N_
from jobs.stall import STALLED
from jobs.states import JobState

HELP = N_("""\
List all jobs in the data directory, or show one in detail.

\b
  nightshift status
  nightshift status --state paused --watch
  nightshift status latest
  nightshift status latest --json | jq .completed
""")

_LONGEST_NAME = 40
_MOST_SHOWN = 20
_EVERY_S = 2.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"


@click.command("status", cls=Command, help=HELP)
@click.argument("job", metavar="[JOB]", required=False, shell_complete=complete_job)
@plain_option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([each.value for each in JobState]),
    metavar="STATE",
    help=N_("List only jobs in this state; may be repeated: {states}.", states=", ".join(JobState)),
)
@plain_option(
    "--limit",
    **FROM_NONE,
    help=N_("List at most N jobs; 0: all.  [default: {most}; all with --json]", most=_MOST_SHOWN),
)
@plain_option("--watch", is_flag=True, help=N_("Refresh until Ctrl-C."))
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
@color_option
@insecure_option
def command(
    job: str | None, states: tuple[str, ...], limit: int | None, *, watch: bool, as_json: bool
) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    with closing(Glance(home, settings)) as glance:
        if watch:
            with closing(Watchman(home)) as watchman:
                watchman.start()
                _refresh(lambda: _show(home.folder, glance, job, states, limit))
        elif not as_json:
            return _show(home.folder, glance, job, states, limit)
        elif job is not None:
            return glance.one(glance.find(job), partial(_tell_one, glance), _tell_unreadable)
        else:
            listed = islice(glance.each(glance.all_of, without_facts, states), limit or None)
            tell_json({"version": 1, "jobs": list(listed)})
    return 0


def _tell_one(glance: Glance, store: JobStore) -> int:
    tell_json(glance.all_of(store))
    return 0


def _tell_unreadable(progress: Progress) -> int:
    tell_json(without_facts(progress))
    return StorageUnavailable.exit_code


def _refresh(show: Callable[[], object]) -> None:
    """Shows it again and again: on a terminal in one place."""
    with suppress(KeyboardInterrupt), keys_unseen():
        while True:
            if sys.stdout.isatty():
                click.echo(_HOME_AND_CLEAR, nl=False)
            show()
            time.sleep(_EVERY_S)


def _show(
    folder: Path,
    glance: Glance,
    job: str | None,
    states: tuple[str, ...],
    limit: int | None,
) -> int:
    if job is not None:
        return glance.one(glance.find(job), partial(_one, glance), _unreadable)
    jobs = list(glance.each(lambda store: glance.at(store.job()), lambda found: found, states))
    most = _MOST_SHOWN if limit is None else limit or len(jobs)
    if jobs:
        _all(jobs[:most])
    else:
        told = _("no jobs in {folder}; create one with nightshift run INPUT")
        say(told.format(folder=safe(str(folder))))
    if more := len(jobs) - most if len(jobs) > most else 0:
        told = ngettext(
            "… and {count} more job; --limit 0 lists all",
            "… and {count} more jobs; --limit 0 lists all",
            more,
        )
        say(told.format(count=number(more)))
    for each in worst(jobs):
        say(stall_line(each))
        say(f"  {way_out(each)}")
    return 0


_NUMBERS = (2, 3, 4, 5, 6)
"""Columns of figures, which stand to the right."""

_STATE = 1
_COLORS = {
    JobState.IN_PROGRESS.value: "cyan",
    JobState.PAUSED.value: "yellow",
    JobState.COMPLETED.value: "green",
    JobState.CANCELLED.value: "red",
    JobState.FAILED.value: "red",
    JobState.EXPIRED.value: "red",
    STALLED: "red",
}


def _titles() -> tuple[str, ...]:
    counts = _("done"), _("failed"), _("RUB"), _("age"), _("left")
    return _("job"), _("state"), *counts, _("name")


def _all(jobs: list[Progress]) -> None:
    """A table, or two lines for each job where a row would not fit."""
    rows = [_titles(), *(_row(job) for job in jobs)]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    columns = width(sys.stdout)
    if sys.stdout.isatty() and sum(widths) + 2 * len(widths) > columns:
        for job in jobs:
            age = roughly(time.time() - (job.times["created_at"] or time.time()))
            tell(f"{job.job}  {age}  {_name(job, columns - len(job.job) - cells(age) - 4)}")
            state = f"  {_state(job)}: "
            first, *more = lines(job, columns - 4, columns - cells(state))
            tell(state + first)
            for line in more:
                tell(f"    {line}")
        return
    for row, color in zip(rows, ["", *map(_color, jobs)], strict=True):
        line = ""
        for place, (text, wide) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (wide - cells(text))
            shown = colored(text, color if place == _STATE else "")
            line += (blanks + shown if place in _NUMBERS else shown + blanks) + "  "
        click.echo(line.rstrip())


def _color(job: Progress) -> str:
    return _COLORS.get(STALLED if job.stall else job.state, "")


def _row(job: Progress) -> tuple[str, ...]:
    done = f"{number(job.finished)}/{number(job.requests)}"
    created = job.times["created_at"] or time.time()
    times = roughly(time.time() - created), roughly(job.left_s) if is_moving(job) else ""
    return (job.job, _state(job), done, number(job.failed), spending(job), *times, _name(job))


def _state(job: Progress) -> str:
    return standing_of(job)


def _name(job: Progress, longest: int = _LONGEST_NAME) -> str:
    return fitted(safe(job.name), longest)


def _is_away(progress: Progress) -> bool:
    return progress.down and (progress.wait is None or progress.wait.is_outage)


def _unreadable(progress: Progress) -> int:
    """What is known of a job whose file cannot be read."""
    is_told = bool(progress.name)
    done = _("{done} of {requests}").format(
        done=number(progress.finished), requests=number(progress.requests)
    )
    _tell_facts(
        {
            _("job"): progress.job,
            _("name"): safe(progress.name),
            _("state"): _state(progress),
            _("done"): f"{done}, {failed(progress.failed)}" if is_told else "",
            _("cost"): spending(progress) if is_told else "",
            _("needs you"): stall_line(progress),
            "": way_out(progress),
        }
    )
    return StorageUnavailable.exit_code


def _tell_facts(facts: dict[str, str]) -> None:
    wide = max(map(len, facts))
    for name, fact in facts.items():
        if fact:
            tell(f"{name:>{wide}}  {fact}", wide + 2)


def _one(glance: Glance, store: JobStore) -> int:
    job, causes = store.job(), store.why()
    refusals = store.refusals()
    progress = glance.at(job, refusals=sum(refusals.values()))
    moves = progress.state == JobState.IN_PROGRESS and progress.stall is None
    why = f": {safe(_(job.reason_text))}" if job.reason_text else ""
    done = _("{done} of {requests}").format(
        done=number(job.finished), requests=number(job.requests)
    )
    refused = ", ".join(f"{safe(code)} {number(count)}" for code, count in refusals.items())
    facts = {
        _("job"): job.id,
        _("name"): safe(job.spec.name),
        _("batch"): ", ".join(filter(None, dict(job.spec.origin or {}).values())),
        _("state"): _state(progress) + why,
        _("created"): zoned(job.created_at),
        _("done"): ", ".join(
            [done, failed(job.failed), *([skipped(job.invalid)] if job.invalid else [])]
        ),
        _("cost"): "; ".join(filter(None, [spending(progress), "" if moves else in_all(progress)])),
        _("calls"): _("{count} billed or unconfirmed").format(count=number(job.calls)),
        _("now"): sentence(progress) if progress.workers is not None and moves else "",
        _("pace"): bound_line(progress),
        _("needs you"): stall_line(progress),
        "": way_out(progress),
        _("workers"): glance.lack_of_workers(job) if not progress.workers else "",
        _("retried calls"): refused or number(progress.refusals),
        _("last problem"): last_trouble(progress),
        _("endpoint"): job.spec.base_url + (_(", not responding") if _is_away(progress) else ""),
        _("results"): safe(job.spec.output_dir),
    }
    _tell_facts(facts)
    for line in cause_lines(causes, job.id):
        tell(line, 4)
    for words, command in ways_on(job, causes):
        tell(words)
        tell(f"  {command}")
    return 0
