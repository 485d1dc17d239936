"""nightshift resume"""

from __future__ import annotations

import os
import time
from decimal import Decimal
from typing import Any

import click

from batch import embedded
from batch.commands.run import agree, check_key, follow
from batch.home import Home
from batch.language import _, again, money, number
from batch.options import Percent, Roubles, job_argument, open_home, option
from batch.prices import read_prices
from batch.pricewatch import keep
from batch.settings import Settings, read_settings
from batch.store.jobstore import JobRow, JobStore
from batch.terminal import safe, say, state_word
from jobs.errors import ServiceUnavailable, UsageError
from jobs.money import show
from jobs.spec import Spec
from jobs.states import JobState, PauseReason
from jobs.window import parse_window

HELP = """Go on with JOB after Ctrl-C, a crash, a pause, a cancel, or with what failed.

Answered requests are never sent again. Where a coordinator serves the home, it goes on with the
job; else this command does, in the foreground, as run does. What the job may spend and when it may
run stays as it was, unless an option here says otherwise; the environment has no say in that. To go
on after a price rise is to accept the prices that are asked now.

\b
  nightshift resume latest
  nightshift resume latest --budget-rub 800
  nightshift resume latest --retry-failed
"""


@click.command("resume", help=HELP, short_help="Go on with a job that stopped.")
@job_argument
@click.option("--retry-failed", is_flag=True, help="Send failed requests again.")
@click.option(
    "--code",
    "codes",
    multiple=True,
    metavar="CODE",
    help="With --retry-failed: only those that failed with this code; may be repeated.",
)
@click.option("--budget-rub", type=Roubles(), metavar="RUB", help="A new cap.")
@click.option("--budget-tokens", type=click.IntRange(min=0), metavar="N", help="A new cap.")
@click.option("--budget-requests", type=click.IntRange(min=0), metavar="N", help="A new cap.")
@click.option(
    "--max-price-rise",
    type=Percent(),
    metavar="PERCENT",
    help="How much more than now the endpoint may ask.",
)
@click.option("--rpm", type=click.IntRange(min=1), metavar="N", help="A new limit.")
@click.option("--tpm", type=click.IntRange(min=1), metavar="N", help="A new limit.")
@click.option("--max-in-flight", type=click.IntRange(min=1), metavar="N", help="A new limit.")
@click.option("--window", metavar="HH:MM-HH:MM[@ZONE]", help='New hours; "" for any hour.')
@option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes, if this command brings them.",
)
@option("-y", "--yes", is_flag=True, help="Do not ask before spending.")
def command(
    job: str,
    *,
    retry_failed: bool,
    codes: tuple[str, ...],
    workers: int,
    yes: bool,
    **changes: Any,
) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    job_id = home.find(job)
    foreground = not home.is_coordinated(job_id)
    if foreground:
        _check_services(home, settings)
    store = home.open(job_id)
    try:
        row = store.job()
        if row.state is JobState.FAILED:
            raise UsageError(f"{job_id} was refused and never began")
        spec = _changed(row.spec, changes)
        _check_budget(row, changes["budget_rub"])
        again = row.failed if retry_failed else 0
        if row.ended and not row.left and not again:
            return _nothing_left(row)
        if not yes:
            agree(home, job_id, spec, row.left + again)
        store.change_spec(spec)
        back = store.retry_failed(codes) if retry_failed else 0
        row = store.job()
        if row.ended and not row.left:
            return _nothing_left(row)
        say(f"{job_id}\n  {_standing(row, back)}")
        _renew_prices(store, row)
        _go_on(store, row)
    finally:
        store.close()
    if not foreground:
        say(_("the coordinator goes on with it; follow it with:"))
        say(f"  nightshift watch {job_id}")
        return 0
    return follow(home, settings, job_id, workers)


def _check_services(home: Home, settings: Settings) -> None:
    """What the foreground will need, before anything is changed."""
    if home.is_coordinated():
        raise UsageError(
            f"another nightshift is at work in {safe(str(home.folder))} on another job",
            hint="wait for it (nightshift status)",
        )
    check_key(settings)
    if settings.redis_url is not None:
        embedded.check(settings.redis_url)


def _nothing_left(row: JobRow) -> int:
    told = _("{job} is {state}; nothing is left to send")
    say(told.format(job=row.id, state=state_word(row.state)))
    if row.failed:
        say("  " + _("--retry-failed sends the failed again"))
    return 1 if row.failed else 0


def _standing(row: JobRow, back: int) -> str:
    told = _("{done} done, {left} to send").format(done=number(row.finished), left=number(row.left))
    if back:
        told += ", " + _("{count} of them failed before").format(count=number(back))
    return told + "; " + _("{rub} spent so far").format(rub=money(row.settled_rub))


def _renew_prices(store: JobStore, row: JobRow) -> None:
    """Who goes on after a rise agrees to what is asked now; else a rise is counted as before."""
    models = store.models()
    agrees = row.reason == PauseReason.PRICE_RISE
    if not models:
        return
    try:
        told = read_prices(row.spec.base_url, models, now=time.time())
    except ServiceUnavailable as error:
        if agrees:
            raise
        say(
            "  "
            + _("{trouble}; the known prices are used").format(trouble=safe(again(error.message)))
        )
        return
    keep(store, told, accepted=agrees)


def _go_on(store: JobStore, row: JobRow) -> None:
    """In progress again, by a lawful arrow."""
    store.want("")
    if row.state is JobState.CANCELLING:
        store.set_state(JobState.CANCELLED, now=time.time())
    if row.state is not JobState.IN_PROGRESS:
        store.set_state(JobState.IN_PROGRESS)


def _check_budget(row: JobRow, cap: Decimal | None) -> None:
    if cap is not None and cap < row.settled_rub:
        raise UsageError(f"{show(row.settled_rub)} are spent already", hint="give a higher cap")


def _changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    limits = {name: changes[name] for name in ("rpm", "tpm", "max_in_flight") if changes[name]}
    budget = {
        name: changes[f"budget_{name}"]
        for name in ("rub", "tokens", "requests")
        if changes[f"budget_{name}"] is not None
    }
    update: dict[str, Any] = {
        "limits": spec.limits.model_copy(update=limits),
        "budget": spec.budget.model_copy(update=budget),
    }
    if changes["max_price_rise"] is not None:
        update["max_price_rise"] = changes["max_price_rise"]
    if changes["window"] is not None:
        try:
            update["window"] = str(parse_window(changes["window"])) if changes["window"] else None
        except ValueError as error:
            raise UsageError(f"--window: {error}") from None
    return spec.model_copy(update=update)
