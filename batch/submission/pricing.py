"""The prices for an input, and whether caps can be kept by them."""

from __future__ import annotations

import time
from pathlib import Path

from batch.endpoint_queries import check_reach
from batch.estimator.estimate import Estimate
from batch.estimator.limits_check import Bounds, rouble_ways
from batch.money import currency
from batch.money.caps import Caps
from batch.money.catalogue_prices import NO_CATALOGUE, read_prices
from batch.money.pricefile import read_price_file
from batch.money.pricewatch import form_of
from batch.submission.report import Report
from jobs.errors import ServiceUnavailable, UsageError
from jobs.job_options import Spec
from jobs.message import N_, Message
from jobs.prices import PRIORITY, PriceList
from jobs.window import parse_window


def in_cheap_hours(spec: Spec, models: list[str], prices: PriceList | None) -> Spec:
    """With `--off-peak`, the hours in which all the models cost less become the job's window."""
    if not spec.off_peak or not models:
        return spec
    known = prices.models if prices else {}
    tiers = [known[model].off_peak() if model in known else None for model in models]
    hours = {f"{tier.utc_start}-{tier.utc_end}@UTC" if tier else "" for tier in tiers}
    if len(hours) > 1 or "" in hours:
        without = ", ".join(model for model, tier in zip(models, tiers, strict=True) if not tier)
        raise UsageError(
            N_("no off-peak hours are known for {without}", without=without or "all these models"),
            hint=N_("remove --off-peak, or set the hours with --window"),
        )
    return spec.model_copy(update={"window": str(parse_window(hours.pop()))})


def offered(spec: Spec) -> PriceList | None:
    """What the catalogue says of the model that a table's rows ask, where that decides how they are
    asked; None where it can't be read: they are asked as of any model.
    """
    task, model = spec.task, spec.override_model or spec.model
    if task is None or not task.checked or model is None or given_prices(spec) is not None:
        return None
    names = [spec.model_map.get(model, model), *filter(None, [task.escalate])]
    try:
        return read_prices(
            spec.base_url,
            names,
            now=time.time(),
            form=form_of(spec)._replace(numbers_only=spec.currency is None),
        )
    except ServiceUnavailable:
        return None


def prices_of(
    spec: Spec, report: Report, known: PriceList | None, *, capped: bool
) -> PriceList | None:
    """What the models cost, unless that is `known`; where it can't be read, `report` says why."""
    given, models = given_prices(spec), report.models
    if not models:
        return None
    if known is not None and NO_CATALOGUE not in known.source:
        return known
    asked = [model for model in models if given is None or model not in given.models]
    if given is not None and not asked:
        return given
    try:
        form = form_of(spec)._replace(numbers_only=spec.currency is None)
        told = read_prices(spec.base_url, asked, now=time.time(), form=form)
    except ServiceUnavailable as error:
        report.unread = error.message
        # Without prices a job can run, only without a cap in roubles.
        if (capped or spec.budget.rub is not None) and spec.request_bound_rub is None:
            raise
        return given
    if NO_CATALOGUE in told.source:
        check_reach(spec.base_url)
    return told if given is None else given.kept_up(told)


def given_prices(spec: Spec) -> PriceList | None:
    """The prices that the user gives by hand."""
    if spec.price_file is None:
        return None
    return read_price_file(Path(spec.price_file), spec.usd_rate, now=time.time())


def _without(lane: str, prices: PriceList | None) -> list[str]:
    """The models that are not sold in a lane."""
    models = prices.models if prices else {}
    return sorted(name for name, price in models.items() if not price.sells(lane))


def check_budget(
    spec: Spec, found: Estimate, bounds: Bounds, caps: Caps, prices: PriceList | None
) -> None:
    """Refuses a cap that cannot be kept, since a price or a bound is not known."""
    in_roubles = spec.budget.rub is not None or caps.any
    if in_roubles:
        currency.check_cap(spec)
    answered_for = spec.request_bound_rub is not None
    if in_roubles and found.unpriced and not answered_for:
        raise UsageError(
            N_(
                "{base_url} tells no price for {unpriced}, so no cap in roubles can be kept",
                base_url=spec.base_url,
                unpriced=", ".join(found.unpriced),
            ),
            hint=N_("check the model name, set its price (--price-file), or remove the cap"),
        )
    lacking = [] if spec.lane != PRIORITY else _without(PRIORITY, prices)
    if in_roubles and lacking and not answered_for:
        raise UsageError(
            N_(
                "{base_url} lists no price of {lacking} in the priority tier, so no cap in"
                " roubles can be kept",
                base_url=spec.base_url,
                lacking=", ".join(lacking),
            ),
            hint=N_("remove --service-tier or the cap, or set a bound: --request-bound-rub"),
        )
    unbounded = found.unbounded and not (answered_for and spec.budget.tokens is None)
    if unbounded and (in_roubles or spec.budget.tokens is not None):
        raise UsageError(
            N_("some requests do not set max_tokens, so no cap in roubles or tokens can be kept"),
            hint=_bounding(spec, found, bounds),
        )


def _bounding(spec: Spec, found: Estimate, bounds: Bounds) -> Message:
    """How the answers can be bounded so that all requests fit the budget."""
    if not spec.budget.rub:
        return N_("set --max-tokens")
    return rouble_ways(found, bounds, spec.budget.rub)
