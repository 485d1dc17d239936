"""nightshift cost"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import click

from batch.cli.click_help import Command
from batch.cli.exit_summary import reused_line, settling
from batch.cli.shared_options import job_argument, open_home, plain_option
from batch.cli.terminal import safe, tell, tell_json
from batch.language import _, exact, money, ngettext, number, zoned
from batch.money.uncertain_cost_texts import paid, uncertain
from batch.reports.cost_report import Cost, cost_json, cost_of
from batch.store.home import Home
from jobs.message import N_
from jobs.money import ZERO, add, plain, times
from jobs.prices import MILLION, PriceList

_VERSIONS, _MODELS = 5, 10
"""So many are shown; --json has them all."""

HELP = N_("""\
Show what JOB cost, recomputed from its ledger of calls.

\b
  nightshift cost latest
  nightshift cost latest --json | jq -r .cost_rub
  nightshift cost --by key
""")


@click.command("cost", cls=Command, help=HELP)
@job_argument
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON: the content of cost.json."))
@plain_option(
    "--by",
    type=click.Choice(["key"]),
    metavar="key",
    help=N_("Show what all jobs cost, by API key of nightshift serve."),
)
def command(job: str, *, as_json: bool, by: str | None) -> int:
    """See HELP."""
    home = open_home()
    if by is not None:
        _by_key(home, as_json=as_json)
        return 0
    store = home.open(home.find(job), read_only=True)
    if as_json:
        tell_json(cost_json(store), indent=2)
    else:
        cost = cost_of(store)
        _say(cost)
        for told in (reused_line(store), settling(store.job(), store)):
            if told:
                tell(f"  {told}")
        _say_prices(cost.prices)
    return 0


def _by_key(home: Home, *, as_json: bool) -> None:
    """Known costs of all jobs that are there, and the bounds of those that are not known."""
    jobs, known, bounds = Counter[str](), dict[str, Decimal](), dict[str, Decimal]()
    for store in home.stores():
        job = store.job()
        key = job.spec.origin.key if job.spec.origin else ""
        jobs[key] += 1
        known[key] = add(known.get(key, ZERO), job.settled_rub)
        bounds[key] = add(bounds.get(key, ZERO), job.booked_rub)
    if as_json:
        keys = {
            key: {
                "jobs": jobs[key],
                "cost_rub": plain(known[key]),
                "uncertain_rub": plain(bounds[key]),
            }
            for key in sorted(jobs)
        }
        tell_json({"version": 1, "keys": keys}, indent=2)
        return
    for key in sorted(jobs):
        told = ngettext("{key}: {rub}, {count} job", "{key}: {rub}, {count} jobs", jobs[key])
        name, rub = safe(key) or _("without a key"), paid(known[key], 0)
        line = told.format(key=name, rub=rub, count=number(jobs[key]))
        if bounds[key]:
            line += _(", up to {rub} unconfirmed").format(rub=money(bounds[key]))
        tell(line)


def _say(cost: Cost) -> None:
    more = uncertain(cost.uncertain_calls, cost.unbounded_calls, cost.uncertain_rub)
    if more:
        told = ngettext(
            "at least {rub} for {count} call; {more}",
            "at least {rub} for {count} calls; {more}",
            cost.calls,
        )
    else:
        told = ngettext(
            "{rub}  (exactly {exact} ₽) for {count} call",
            "{rub}  (exactly {exact} ₽) for {count} calls",
            cost.calls,
        )
    known, count = money(cost.rub), number(cost.calls)
    tell(told.format(rub=known, exact=exact(cost.rub), count=count, more=more))
    if cost.estimated_rub:
        told = _("by tokens and list prices, about {rub}")
        tell("  " + told.format(rub=money(cost.estimated_rub)))
    for name, model in sorted(cost.by_model.items()):
        told = ngettext(
            "{model}: {rub}, {count} call, {prompt} + {output} tokens",
            "{model}: {rub}, {count} calls, {prompt} + {output} tokens",
            model.calls,
        ).format(
            model=safe(name),
            rub=paid(model.rub, model.unknown),
            count=number(model.calls),
            prompt=number(model.usage.prompt),
            output=number(model.usage.completion),
        )
        tell(f"  {told}")
    lanes = cost.by_tier if cost.by_tier.keys() - {"default"} else {}
    for name, tier in sorted(lanes.items()):
        told = ngettext(
            "{tier} tier: {count} call for {rub}",
            "{tier} tier: {count} calls for {rub}",
            tier.calls,
        )
        tell("  " + told.format(tier=name, count=number(tier.calls), rub=money(tier.rub)))
    sources = {
        "endpoint": _("{rub} reported by the endpoint"),
        "lookup": _("{rub} looked up after the call"),
        "balance": _("{rub} for calls that cost nothing according to the balance"),
    }
    for source, rub in sorted(cost.by_source.items()):
        tell("  " + sources.get(source, source).format(rub=money(rub)))
    if cost.saved_rub:
        told = _("{rub} saved by prompt caching")
        tell("  " + told.format(rub=money(cost.saved_rub)))
    if cost.repeated_rub or cost.repeated_unknown:
        told = _("for retried calls: {rub}")
        tell("  " + told.format(rub=paid(cost.repeated_rub, cost.repeated_unknown)))
    if cost.failed_rub or cost.failed_unknown:
        told = _("for failed requests: {rub}")
        tell("  " + told.format(rub=paid(cost.failed_rub, cost.failed_unknown)))
    for each in cost.unlisted:
        told = ngettext(
            "{model}, served by {provider}: {count} call for {rub}, {listed} at list prices",
            "{model}, served by {provider}: {count} calls for {rub}, {listed} at list prices",
            each.calls,
        ).format(
            model=safe(each.model) or _("others"),
            provider=safe(each.provider) or "?",
            count=number(each.calls),
            rub=money(each.billed_rub),
            listed=money(each.listed_rub),
        )
        tell(f"  {told}")


def _say_prices(versions: list[PriceList]) -> None:
    """The prices that the job ran by, the newest last; of many versions the last ones."""
    for prices in versions[-_VERSIONS:]:
        told = _("prices as of {when}, source: {source}")
        source = safe(prices.source)
        tell(told.format(when=zoned(prices.taken_at), source=source))
        for name, price in sorted(prices.models.items())[:_MODELS]:
            rates = price.offers[0].rates
            told = _("{model}: {prompt} ₽ input, {completion} ₽ output per million tokens").format(
                model=safe(name),
                prompt=exact(times(rates.prompt, MILLION)),
                completion=exact(times(rates.completion, MILLION)),
            )
            tell(f"  {told}")
