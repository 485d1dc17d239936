"""Calls that cost something else than their tokens do by the catalogue: by more than a hundredth.

What the endpoint billed counts all the same, and a call above its bound has paused the job. These
are told so that somebody asks the endpoint: providers were seen to bill 2.45 times the list price.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from batch.store.billed import Billed
from jobs.money import ZERO, add
from jobs.prices import Offer, PriceList, Rates

OFF = 0.01
_MOST_GROUPS = 40
_MOST_EXAMPLES = 8


@dataclass
class Unlisted:
    """Such calls of one model by one provider, "" for others: what was billed, and what the
    catalogue asks, in ₽; the first few requests.
    """

    model: str
    provider: str
    calls: int = 0
    billed_rub: Decimal = ZERO
    listed_rub: Decimal = ZERO
    ordinals: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Listed:
    """Rates of prompts between two sizes: to be compared with, so floats will do."""

    over: float
    up_to: float
    prompt: float
    read: float
    write: float
    completion: float
    request: float

    def fits(self, call: Billed, cost: float) -> bool:
        """Whether the call cost about so much."""
        prompt, cached, written = call.prompt or 0, call.cached or 0, call.written or 0
        if not self.over < prompt <= self.up_to:
            return False
        listed = (
            max(prompt - cached - written, 0) * self.prompt
            + cached * self.read
            + written * self.write
            + (call.completion or 0) * self.completion
            + self.request
        )
        return abs(cost - listed) <= OFF * listed


class Comparison:
    """Holds calls against all versions of the prices, oldest first."""

    def __init__(self, prices: list[PriceList]) -> None:
        self._prices = prices
        self._times = [each.taken_at for each in prices]
        self._known: dict[tuple[int, str, str], list[_Listed]] = {}
        self._groups: dict[tuple[str, str], Unlisted] = {}

    def __iter__(self) -> Iterator[Unlisted]:
        """Those of which most was billed first."""
        return iter(sorted(self._groups.values(), key=lambda each: -each.billed_rub))

    def look(self, call: Billed, model: str) -> None:
        """Counts a call whose cost the endpoint told if no price explains it.

        A price may have changed before the catalogue was read again: the next version counts, too.
        """
        at = max(bisect(self._times, call.sent_at) - 1, 0)
        listed = self._listed(at, model, call.provider)
        cost = float(call.cost or 0)
        if not listed or any(each.fits(call, cost) for each in listed):
            return
        later = self._listed(at + 1, model, call.provider)
        if not any(each.fits(call, cost) for each in later):
            self._add(call, model, self._prices[at])

    def _listed(self, version: int, model: str, provider: str) -> list[_Listed]:
        key = (version, model, provider)
        if key not in self._known:
            price = self._prices[version].models.get(model) if version < len(self._prices) else None
            offers = price.offers if price else ()
            named = [offer for offer in offers if offer.provider == provider]
            self._known[key] = [each for offer in named or offers for each in _rates(offer)]
        return self._known[key]

    def _add(self, call: Billed, model: str, prices: PriceList) -> None:
        key = (model, call.provider)
        if key not in self._groups and len(self._groups) >= _MOST_GROUPS:
            key = ("", "")
        group = self._groups.setdefault(key, Unlisted(*key))
        group.calls += 1
        group.billed_rub = add(group.billed_rub, Decimal(call.cost or 0))
        listed = prices.models[model].estimate(call.usage, call.provider)
        group.listed_rub = add(group.listed_rub, listed)
        if len(group.ordinals) < _MOST_EXAMPLES:
            group.ordinals.append(call.ordinal)


def _rates(offer: Offer) -> Iterator[_Listed]:
    """All that an offer may ask: by the prompt's size, and by the hour, which only it knows."""
    sizes = {-math.inf: offer.rates}
    sizes |= {t.prompt_over: t.rates for t in offer.tiers if t.prompt_over is not None}
    ends = [*sorted(sizes)[1:], math.inf]
    for over, up_to in zip(sorted(sizes), ends, strict=True):
        yield _listed(sizes[over], over, up_to)
    for tier in offer.tiers:
        if tier.utc_start is not None:
            yield _listed(tier.rates, -math.inf if tier.prompt_over is None else tier.prompt_over)


def _listed(rates: Rates, over: float, up_to: float = math.inf) -> _Listed:
    read = rates.prompt if rates.cache_read is None else rates.cache_read
    write = rates.prompt if rates.cache_write is None else rates.cache_write
    some = (rates.prompt, read, write, rates.completion, rates.request)
    return _Listed(over, up_to, *map(float, some))
