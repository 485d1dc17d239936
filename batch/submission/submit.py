"""Submits a job, or checks what would be one: all of it before anything is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

import msgspec
from ulid import ULID

from batch.estimator.character_counts import Shape, shape_of
from batch.estimator.estimate import Estimate, Size, estimate, guess
from batch.estimator.followup_bounds import climbs_of
from batch.estimator.limits_check import Bounds, outlook
from batch.estimator.sample import Sampler
from batch.money import currency
from batch.money.balance import read_balance
from batch.money.caps import NO_CAPS, Caps, NewCaps, change_caps, changed, read_caps
from batch.reports.answered_table_file import place_beside
from batch.reports.output_files import check_free, check_writable
from batch.reports.reuse import reuse
from batch.store.home import Home
from batch.store.staged_job import Draft
from batch.submission.earlier_jobs import answered_before, check_unclaimed, is_free
from batch.submission.known_models import with_known_models
from batch.submission.pricing import check_budget, given_prices, in_cheap_hours, offered, prices_of
from batch.submission.report import Report, check_any_left, is_refused
from batch.submission.request_check import Tell, fill, gold_of, opened, staged
from jobs.job_options import Spec
from jobs.message import N_
from jobs.money import times
from jobs.prices import FLEX, PriceList, margin

SAMPLED = 20
"""Rows on which `--pack auto` compares, unless a sample is asked for."""


def new_job_id() -> str:
    """An id that sorts after all earlier ones."""
    return f"job_{str(ULID()).lower()}"


def submit(
    home: Home,
    job_id: str,
    spec: Spec,
    source: Path | BinaryIO,
    tell: Tell = lambda _: None,
    *,
    sample: int = 0,
    shape: Callable[[bytes], Shape] = shape_of,
    new_caps: NewCaps = NO_CAPS,
) -> Report:
    """Checks and stores a job. It exists, whole, when this returns, and not at all if it raises.

    `sample` requests, spread over the file, are to go first. `shape` tells the size of a body. The
    home gets its `new_caps` just before the job, so that a refused one changes nothing.

    Raises `Refused` with all faults of the input, `UsageError` where spec and input do not fit,
    `StorageUnavailable` where the home or the output folder cannot be written.
    """
    spec = currency.settled(spec)
    check_free(Path(spec.output_dir))
    check_unclaimed(home, job_id, spec, source)
    check_writable(Path(spec.output_dir))
    with staged(home, job_id, spec) as draft:
        caps, sampler, known = _caps(home, spec, new_caps), Sampler(shape), offered(spec)
        spec, lines = opened(draft, spec, source, known)
        gold = gold_of(draft, spec)
        report = fill(draft, spec, lines, tell, sampler, capped=caps.any)
        check_any_left(spec, report)
        draft.keep_gold(gold)
        prices = prices_of(spec, report, known, capped=caps.any)
        spec = currency.decided(spec, prices)
        spec = with_known_models(spec, draft, prices)
        report.models = draft.models()
        spec = in_cheap_hours(spec, draft.models(), prices)
        sample = sample or _compared(spec)
        _estimate(draft, report, sampler, prices, spec, home, sample)
        _look_ahead(draft, report, prices, spec, caps)
        found = {"input_digest": draft.digest, "responses_by": report.responses_by}
        spec = spec.model_copy(update=found)
        report.notes += answered_before(home, spec)
        if (beside := place_beside(spec)) is not None and not is_free(home, beside):
            spec = spec.model_copy(update={"beside": False})
            told = N_(
                "{path} exists already, so the answered table will be in {folder}",
                path=beside,
                folder=spec.output_dir,
            )
            report.notes.append(told)
        draft.keep_samples(sampler.packed())
        guessed = report.estimate.guess
        change_caps(home.folder, new_caps)
        report.first = draft.publish(spec, prices, time.time(), guessed, sample=sample)
        report.window, report.spec = spec.window, spec
    return report


def validate(
    home: Home,
    spec: Spec,
    source: Path | BinaryIO,
    *,
    priced: bool = False,
    tell: Tell = lambda _: None,
    shape: Callable[[bytes], Shape] = shape_of,
) -> Report:
    """The same check; nothing stays. With `priced`, the catalogue is asked for an estimate."""
    spec = currency.settled(spec)
    with staged(home, new_job_id(), spec) as draft:
        caps, sampler = _caps(home, spec), Sampler(shape)
        known = offered(spec) if priced else None
        spec, lines = opened(draft, spec, source, known)
        report = fill(draft, spec, lines, tell, sampler, capped=caps.any, asks=priced)
        prices = prices_of(spec, report, known, capped=False) if priced else given_prices(spec)
        report.spec = spec = currency.decided(spec, prices)
        if priced:
            spec = with_known_models(spec, draft, prices)
        _estimate(draft, report, sampler, prices, spec, home, _compared(spec))
        if priced and not is_refused(spec, report):
            _look_ahead(draft, report, prices, spec, caps)
    return report


def _compared(spec: Spec) -> int:
    """Rows that go first where nobody asked for a sample."""
    return SAMPLED if spec.task is not None and spec.task.auto_pack else 0


def _caps(home: Home, spec: Spec, given: NewCaps = NO_CAPS) -> Caps:
    """The caps that hold for the job."""
    return changed(read_caps(home.folder), given).seen_by(spec.origin.key if spec.origin else "")


def _estimate(
    draft: Draft,
    report: Report,
    sampler: Sampler,
    prices: PriceList | None,
    spec: Spec,
    home: Home,
    sample: int,
) -> None:
    report.reused = reuse(draft, home, spec)
    report.copies = draft.drop_copies()
    found = estimate(
        *(map(Size._make, draft.sizes()), prices, margin(spec.max_price_rise)),
        answered_for=spec.request_bound_rub,
        beyond=climbs_of(spec, sample).beyond,
    )
    if prices and spec.off_peak:
        models = {name: price.at_off_peak() for name, price in prices.models.items()}
        prices = msgspec.structs.replace(prices, models=models)
    found.guess = guess(found, sampler.samples.values(), prices, spec, home.folder)
    found.in_flex = _in_flex(found, sampler, prices, spec, home)
    report.estimate = found


def _look_ahead(
    draft: Draft, report: Report, prices: PriceList | None, spec: Spec, caps: Caps
) -> None:
    """Refuses what cannot send a single request, and notes what will likely not be enough."""

    def sizes() -> Iterator[Size]:
        return map(Size._make, draft.sizes())

    found, now = report.estimate, datetime.now().astimezone()
    check_budget(spec, found, Bounds(spec, found, sizes, prices), caps, prices)
    report.notes = outlook(spec, found, sizes, prices, caps, now, _balance(spec, found))


def _balance(spec: Spec, found: Estimate) -> Decimal | None:
    """₽ on the account; not asked for where there is nothing to hold it against."""
    if found.guess.likely is None or not found.requests:
        return None
    balance = read_balance(spec.base_url)
    return None if balance is None else times(balance, spec.rate)


def _in_flex(
    found: Estimate, sampler: Sampler, prices: PriceList | None, spec: Spec, home: Home
) -> Decimal | None:
    """₽ that it would likely cost in the endpoint's cheaper lane; None where there is none."""
    if prices is None or spec.service_tier is not None or found.guess.likely is None:
        return None
    if not any(price.sells(FLEX) for price in prices.models.values()):
        return None
    models = {name: price.in_lane(FLEX) for name, price in prices.models.items()}
    cheaper = msgspec.structs.replace(prices, models=models)
    likely = guess(found, sampler.samples.values(), cheaper, spec, home.folder).likely
    return likely if likely is not None and likely < found.guess.likely else None
