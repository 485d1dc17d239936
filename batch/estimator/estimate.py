"""What a job will cost, before anything is sent: at most, and likely."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Context, Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from batch.estimator import model_statistics as statistics
from batch.estimator.character_counts import shape_of_text
from batch.estimator.cost_range import Packing, Reckoning, guess_of, reckon
from batch.estimator.sample import Crowd, Sample
from batch.money.bounds import request_bound
from batch.store.jobstore import JobStore
from batch.store.stored_estimate import Guess
from batch.tables.pack_sizes import Packs, packs_of
from batch.tables.row_requests import instructions, parts_of
from jobs.budget import Amount
from jobs.job_options import Spec
from jobs.money import ZERO, add, times
from jobs.prices import MARGIN, PriceList


class Size(NamedTuple):
    """So many requests that are alike in these; `bounded`: their size bounds what they cost; `pin`:
    providers that alone may serve them.
    """

    requests: int
    model: str
    prompt_bound: int
    output_bound: int | None
    bounded: bool = True
    pin: str = ""


Beyond = Callable[[Size], Iterable[Size]]
"""Requests that are alike → calls that they may take beyond one each."""


def _nothing(_: Size) -> Iterable[Size]:
    return ()


@dataclass
class Estimate:
    """What the sizes of all requests tell.

    `highest` is ₽, None when one request has no bound or no price, and `tokens` the same;
    `least` and `least_tokens` are those of the smallest request that has them. `unbounded` counts
    requests of which nobody can tell how long the answer may get, `open_ended` all that do not say
    it themselves.
    """

    requests: int = 0
    highest: Decimal | None = ZERO
    unpriced: tuple[str, ...] = ()
    unbounded: int = 0
    open_ended: int = 0
    tokens: int | None = 0
    least: Decimal | None = None
    least_tokens: int | None = None
    crowds: dict[str, Crowd] = field(default_factory=dict)
    guess: Guess = field(default_factory=Guess)
    in_flex: Decimal | None = None
    """₽ that it would likely cost in the endpoint's cheaper lane, where that is less."""

    def add(self, most: Amount, count: int) -> None:
        """So many calls take so much each at most."""
        rub, tokens = most.rub, most.tokens
        before = self.highest
        self.highest = None if rub is None or before is None else add(before, times(rub, count))
        if tokens is None:
            self.tokens = None
            return
        self.tokens = None if self.tokens is None else self.tokens + tokens * count
        self.least_tokens = min(self.least_tokens or tokens, tokens)


def estimate(
    sizes: Iterable[Size],
    prices: PriceList | None,
    margin: Decimal = MARGIN,
    answered_for: Decimal | None = None,
    beyond: Beyond = _nothing,
) -> Estimate:
    """Adds up the sizes of all requests; no guess yet. See `request_bound`."""

    def bound(size: Size) -> Amount:
        return request_bound(
            *(size.model, size.prompt_bound, size.output_bound, prices, margin),
            bounded=size.bounded,
            answered_for=answered_for,
            pin=size.pin,
        )

    result = Estimate()
    unpriced: set[str] = set()
    for size in sizes:
        count, model = size.requests, size.model
        crowd = result.crowds.get(model, Crowd(0, 0))
        result.crowds[model] = Crowd(crowd.requests + count, crowd.size + count * size.prompt_bound)
        result.requests += count
        most = bound(size)
        if most.tokens is None:
            result.unbounded += count
        if size.output_bound is None:
            result.open_ended += count
        if most.rub is not None:
            result.least = most.rub if result.least is None else min(result.least, most.rub)
        if prices is None or model not in prices.models:
            unpriced.add(model)
        result.add(most, count)
        for further in beyond(size):
            result.add(bound(further), further.requests)
    result.unpriced = tuple(sorted(unpriced))
    return result


def guess(
    found: Estimate, samples: Iterable[Sample], prices: PriceList | None, spec: Spec, home: Path
) -> Guess:
    """Low, likely and high of a job that is not sent yet, by what earlier jobs of `home` taught."""
    earlier = {model: statistics.recall(home, spec.base_url, model) for model in found.crowds}
    packing = _packing(spec)
    choices = () if spec.task is None else spec.task.choices
    reckoning = reckon(
        *(found.crowds, samples, prices),
        own={},
        earlier=earlier,
        packing=packing,
        choices=choices,
    )
    return guess_of(reckoning, found.requests, spec.limits, found.highest)


def _packing(spec: Spec, pack: int = 0) -> Packing | None:
    """What rows share that travel together, `pack` of them if that is known; None where each is
    asked alone.
    """
    task = spec.task
    if task is None or task.pack == 1:
        return None
    shared = "".join((*parts_of(task.prompt)[::2], task.system or "", instructions(task)))
    return Packing(pack or task.pack, shape_of_text(shared, 1 + (task.system is not None)))


def likely_of(store: JobStore, found: Estimate, prices: PriceList | None) -> Decimal | None:
    """₽ that a part of a job will likely cost, by what its answers taught so far."""
    samples = list(statistics.samples_in(store))
    own = statistics.lessons_of(statistics.seen_in(store), prices)
    return reckon(found.crowds, samples, prices, own=own, earlier={}).likely


def guess_again(store: JobStore, home: Path) -> Guess:
    """The same of a job that has some answers already: they count most."""
    job, prices = store.job(), store.prices()
    crowds, samples = statistics.crowds_in(store), list(statistics.samples_in(store))
    own = statistics.lessons_of(statistics.seen_in(store), prices)
    earlier = {
        model: statistics.recall(home, job.spec.base_url, model, but=job.id) for model in crowds
    }

    def likely(crowds: dict[str, Crowd], packing: Packing | None = None) -> Reckoning:
        return reckon(crowds, samples, prices, own=own, earlier=earlier, packing=packing)

    reckoning = likely(crowds)
    requests = sum(crowd.requests for crowd in crowds.values())
    guess = guess_of(reckoning, requests, job.spec.limits, job.guess.at_most)
    asks_again = job.spec.task is not None or job.spec.check
    if not asks_again:
        return guess
    ratio, packs = 1.0, packs_of(store)
    if packs is not None and packs.chosen > 1:
        tried, packing = statistics.crowds_in(store, tried=True), _packing(job.spec, packs.chosen)
        ratio = packs.ratio * by_length(likely, crowds, tried, packing)
    return _of_table(store, guess, packs, ratio)


def by_length(
    likely: Callable[[dict[str, Crowd], Packing | None], Reckoning],
    crowds: dict[str, Crowd],
    tried: dict[str, Crowd],
    packing: Packing | None,
) -> float:
    """How many times the part of its cost alone that a row of those `tried` in packs came to there,
    one of all rows will: a pack saves what its rows share, which is a small part of long ones.
    """
    costs = [likely(some, way).likely for some in (crowds, tried) for way in (packing, None)]
    if not all(costs):
        return 1.0
    packed, alone, packed_tried, alone_tried = map(float, filter(None, costs))
    return packed / alone * alone_tried / packed_tried


def _of_table(store: JobStore, guess: Guess, packs: Packs | None, ratio: float) -> Guess:
    """What is left of a table costs as its sample did: with repairs, and in packs where it goes so.
    What was spent stands.
    """
    job = store.job()
    share = store.trials.overhead() * ratio
    left = Decimal(repr(share * job.left / max(job.own, 1)))
    spent = add(job.settled_rub, job.booked_rub)
    low, likely, high = (
        None if rub is None else add(spent, _ROUND.multiply(rub, left).quantize(_KOPECKS))
        for rub in (guess.low, guess.likely, guess.high)
    )
    if packs is not None and packs.chosen > 1 and low is not None and high is not None:
        low, high = _ROUND.multiply(low, _PACKED[0]), _ROUND.multiply(high, _PACKED[1])
        low, high = max(low, spent).quantize(_KOPECKS), high.quantize(_KOPECKS)
    return msgspec.structs.replace(guess, low=low, likely=likely, high=high)


_PACKED = (Decimal("0.9"), Decimal("1.15"))
"""A few packs tell less than as many rows that are asked alone."""


_ROUND = Context(prec=28)
_KOPECKS = Decimal("0.000001")
