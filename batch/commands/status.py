"""nightshift status"""

from __future__ import annotations

import json
from datetime import datetime

import click

from batch.options import open_home
from batch.progress import Progress, progress_of
from batch.store.jobstore import JobStore
from batch.terminal import money, safe, say
from jobs.states import JobState

HELP = """Show all jobs of the home, or one in detail.

\b
  nightshift status
  nightshift status latest
  nightshift status latest --json | jq .completed
"""


@click.command("status", help=HELP, short_help="Show all jobs, or one in detail.")
@click.argument("job", metavar="[JOB]", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(job: str | None, *, as_json: bool) -> int:
    """See HELP."""
    home = open_home()
    if job is not None:
        store = home.open(home.find(job), read_only=True)
        _one(store, as_json=as_json)
        return 0
    all_of_them = [progress_of(store.job(), 0.0) for store in home.stores()]
    if as_json:
        click.echo(json.dumps([each.as_json() for each in all_of_them], ensure_ascii=False))
    elif all_of_them:
        _table(all_of_them)
    else:
        say(f"no jobs in {home.folder}; nightshift run INPUT makes one")
    at_work = any(each.state == JobState.IN_PROGRESS for each in all_of_them)
    if at_work and not as_json and not home.is_coordinated():
        say("no coordinator is at work: nightshift resume JOB goes on with one")
    return 0


def _table(jobs: list[Progress]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("job", "name", "state"):
        table.add_column(title, overflow="fold", no_wrap=title == "job")
    for title in ("done", "failed", "roubles"):
        table.add_column(title, justify="right")
    for job in jobs:
        state = job.state + (f" ({job.reason})" if job.reason else "")
        table.add_row(
            job.job,
            Text(safe(job.name)),
            state,
            f"{job.finished:,}/{job.requests:,}",
            f"{job.failed:,}",
            money(job),
        )
    Console().print(table)


def _one(store: JobStore, *, as_json: bool) -> None:
    job = store.job()
    refusals = store.refusals()
    progress = progress_of(job, 0.0, refusals=sum(refusals.values()))
    if as_json:
        more = {
            "refusals": refusals,
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
        "state": job.state + (f", {job.reason}: {safe(job.reason_text)}" if job.reason else ""),
        "created": f"{created:%Y-%m-%d %H:%M %Z}",
        "done": f"{job.finished:,} of {job.requests:,}, {job.failed:,} failed"
        + (f", {job.invalid:,} lines skipped" if job.invalid else ""),
        "cost": money(progress),
        "calls": f"{job.calls:,} billed or maybe billed",
        "retried": ", ".join(f"{code} {count:,}" for code, count in refusals.items()) or "nothing",
        "endpoint": job.spec.base_url,
        "results": job.spec.output_dir,
    }
    for name, fact in facts.items():
        click.echo(f"{name:>9}  {fact}")
