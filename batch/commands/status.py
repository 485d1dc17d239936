"""nightshift status"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from datetime import datetime

import click

from batch.glance import Glance
from batch.options import open_home
from batch.progress import Progress
from batch.settings import read_settings
from batch.store.jobstore import JobStore
from batch.terminal import money, safe, say, sentence, width
from jobs.states import JobState

HELP = """Show all jobs of the home, or one in detail.

\b
  nightshift status
  nightshift status latest
  nightshift status latest --json | jq .completed
"""

_LONGEST_NAME = 40


@click.command("status", help=HELP, short_help="Show all jobs, or one in detail.")
@click.argument("job", metavar="[JOB]", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(job: str | None, *, as_json: bool) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    with closing(Glance(home, settings)) as glance:
        if job is not None:
            with closing(home.open(home.find(job), read_only=True)) as store:
                _one(store, glance, as_json=as_json)
            return 0
        jobs = [glance.at(store.job()) for store in home.stores()]
    if as_json:
        click.echo(json.dumps([each.as_json() for each in jobs], ensure_ascii=False))
    elif jobs:
        _all(jobs)
    else:
        say(f"no jobs in {safe(str(home.folder))}; nightshift run INPUT makes one")
    waiting = [each.job for each in jobs if each.state == JobState.IN_PROGRESS]
    if waiting and not as_json and not home.is_coordinated():
        say("no coordinator is at work; go on with:")
        say(f"  nightshift resume {waiting[-1]}")
    return 0


_TITLES = ("job", "state", "done", "failed", "roubles", "name")


def _all(jobs: list[Progress]) -> None:
    """A table, or two lines for each job where a row would not fit."""
    rows = [_TITLES, *(_row(job) for job in jobs)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_TITLES))]
    if sys.stdout.isatty() and sum(widths) + 2 * len(widths) > width():
        for job in jobs:
            click.echo(f"{job.job}  {_name(job, width() - len(job.job) - 2)}")
            click.echo(f"  {_state(job)}: {sentence(job, max(width() - len(_state(job)) - 4, 12))}")
        return
    for row in rows:
        cells = [
            text.rjust(wide)
            if _TITLES[place] in ("done", "failed", "roubles")
            else text.ljust(wide)
            for place, (text, wide) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def _row(job: Progress) -> tuple[str, ...]:
    done = f"{job.finished:,}/{job.requests:,}"
    return (job.job, _state(job), done, f"{job.failed:,}", money(job), _name(job))


def _state(job: Progress) -> str:
    return job.state + (f" ({job.reason})" if job.reason else "")


def _name(job: Progress, longest: int = _LONGEST_NAME) -> str:
    name = safe(job.name)
    return name if len(name) <= longest else f"{name[: max(longest, 1) - 1]}…"


def _one(store: JobStore, glance: Glance, *, as_json: bool) -> None:
    job = store.job()
    refusals = store.refusals()
    progress = glance.at(job, refusals=sum(refusals.values()))
    if as_json:
        more = {
            "refusals_by_code": refusals,
            "output_dir": job.spec.output_dir,
            "invalid": job.invalid,
            "model": job.spec.model,
            "base_url": job.spec.base_url,
        }
        click.echo(json.dumps({**progress.as_json(), **more}, ensure_ascii=False))
        return
    created = datetime.fromtimestamp(job.created_at).astimezone()
    facts = {
        "job": job.id,
        "name": safe(job.spec.name),
        "state": _state(progress) + (f": {safe(job.reason_text)}" if job.reason_text else ""),
        "created": f"{created:%Y-%m-%d %H:%M %Z}",
        "done": f"{job.finished:,} of {job.requests:,}, {job.failed:,} failed"
        + (f", {job.invalid:,} lines skipped" if job.invalid else ""),
        "cost": money(progress),
        "calls": f"{job.calls:,} billed or maybe billed",
        "now": sentence(progress) if progress.workers is not None else "",
        "refusals": ", ".join(f"{code} {count:,}" for code, count in refusals.items()) or "none",
        "endpoint": job.spec.base_url + (", does not answer" if progress.down else ""),
        "results": safe(job.spec.output_dir),
    }
    for name, fact in facts.items():
        if fact:
            click.echo(f"{name:>9}  {fact}")
