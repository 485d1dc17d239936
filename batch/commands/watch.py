"""nightshift watch"""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import Any

import click

from batch.cli.click_help import Command
from batch.cli.exit_summary import INTERRUPTED, say_ending
from batch.cli.job_snapshot import Glance, facts_of, without_facts
from batch.cli.parameter_types import Seconds
from batch.cli.progress_display import Display
from batch.cli.progress_text import stall_line, way_out
from batch.cli.shared_options import (
    display_options,
    insecure_option,
    job_argument,
    open_home,
    option,
    plain_option,
)
from batch.cli.terminal import say, tell_json
from batch.language import _
from batch.notifications.absent_coordinator import Watchman
from batch.settings import read_settings
from batch.store.home import Home
from batch.store.jobstore import JobRow
from batch.watching.progress import Meter, Progress
from jobs.errors import StorageUnavailable
from jobs.lifecycle import is_at_rest
from jobs.message import N_

HELP = N_("""\
Follow JOB until it ends; same exit codes as run. Ctrl-C stops watching, not the job.

\b
  nightshift watch latest
  nightshift watch latest --json | jq .completed
""")


@click.command("watch", cls=Command, help=HELP)
@job_argument
@option(
    "--every",
    type=Seconds(min=0.1),
    default=1.0,
    show_default=True,
    metavar="S",
    help=N_("Refresh interval in seconds."),
)
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON, one line per refresh."))
@display_options
@insecure_option
def command(job: str, every: float, *, as_json: bool) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    job_id = home.find(job)
    with (
        closing(Glance(home, settings)) as glance,
        closing(_display(home, job_id, glance if as_json else None)) as display,
        closing(Watchman(home, job_id)) as watchman,
    ):
        watchman.start()
        try:
            row = _follow(job_id, glance, display, every)
        except KeyboardInterrupt:
            display.close()
            say(_("the job keeps running; watch it again with:"))
            say(f"  nightshift watch {job_id}")
            return INTERRUPTED
    with closing(home.open(job_id, read_only=True)) as store:
        return say_ending(row, store)


def _display(home: Home, job: str, told_as_json: Glance | None) -> Display | _Lines:
    if told_as_json:
        return _Lines(told_as_json)
    # Ctrl-C ends the watching alone.
    return Display(home, stop=f"nightshift pause {job}")


class _Lines:
    """A line of JSON for each look at which something was new, on standard output."""

    def __init__(self, glance: Glance) -> None:
        self._glance = glance
        self._last: dict[str, Any] = {}

    def show(self, progress: Progress) -> None:
        """Shows a moment."""
        facts = self._glance.one(progress.job, facts_of, without_facts)
        told = {**facts, **progress.as_json()}
        news = {**told, "attention": progress.attention}
        if news != self._last:
            tell_json(told)
        self._last = news

    def say(self, text: str) -> None:
        """A line for the person."""
        say(text)

    def close(self) -> None:
        """There is nothing to let go of."""


def _follow(job_id: str, glance: Glance, display: Display | _Lines, every: float) -> JobRow:
    meter = Meter()
    progress: Progress | None = None
    while True:
        before, row = progress, None
        try:
            with glance.reading(job_id) as store:
                row, refusals = store.job(), sum(store.refusals().values())
            meter.note(time.monotonic(), row.finished)
            progress = glance.at(row, meter.rate, refusals)
        except StorageUnavailable as error:
            progress = glance.unusable(job_id, error.message, before)
        display.show(progress)
        if row is not None and is_at_rest(row):
            return row
        _say_change(display, before, progress)
        time.sleep(every)


def _say_change(display: Display | _Lines, before: Progress | None, progress: Progress) -> None:
    """That it stands still by now, or moves again, where it did not before."""
    was = before.stall.reason if before and before.stall else None
    if (progress.stall.reason if progress.stall else None) != was:
        display.say(stall_line(progress) or _("the job moves again"))
        if progress.stall:
            display.say(f"  {way_out(progress)}")
