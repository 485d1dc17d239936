"""nightshift cost"""

from __future__ import annotations

import json

import click

from batch.options import job_argument, open_home
from batch.reports.cost import Cost, cost_json, cost_of
from batch.terminal import safe
from jobs.money import plain, show

HELP = """Show what JOB cost, recounted from its ledger, exact to the last digit.

\b
  nightshift cost latest
  nightshift cost latest --json | jq -r .cost_rub
"""

_SOURCES = {
    "endpoint": "told by the endpoint",
    "lookup": "looked up afterwards",
    "estimate": "estimated from the prices",
}


@click.command("cost", help=HELP, short_help="Show what a job cost.")
@job_argument
@click.option("--json", "as_json", is_flag=True, help="For programs: the content of cost.json.")
def command(job: str, *, as_json: bool) -> int:
    """See HELP."""
    home = open_home()
    store = home.open(home.find(job), read_only=True)
    if as_json:
        click.echo(json.dumps(cost_json(store), ensure_ascii=False, indent=2))
    else:
        _say(cost_of(store))
    return 0


def _say(cost: Cost) -> None:
    click.echo(f"{show(cost.rub)}  (exactly {plain(cost.rub)} ₽) for {cost.calls:,} calls")
    for name, model in sorted(cost.by_model.items()):
        click.echo(
            f"  {safe(name)}: {show(model.rub)}, {model.calls:,} calls, "
            f"{model.usage.prompt:,} + {model.usage.completion:,} tokens"
        )
    for source, rub in sorted(cost.by_source.items()):
        click.echo(f"  {show(rub)} {_SOURCES.get(source, source)}")
    if cost.repeated_rub:
        click.echo(f"  {show(cost.repeated_rub)} of it for calls that were repeated")
    if cost.failed_rub:
        click.echo(f"  {show(cost.failed_rub)} of it for requests that failed")
    if cost.uncertain_calls:
        click.echo(
            f"  and {cost.uncertain_calls:,} calls of unknown outcome, "
            f"at most {show(cost.uncertain_rub)}"
        )
