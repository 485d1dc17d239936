"""cost.json: what the job cost, to the last digit, recounted from the ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from batch.money.cost_forecast import cost_of_all
from batch.money.savings import Copies, copies_json, reused_of
from batch.reports.price_mismatches import Comparison
from batch.reports.rows import count_calls
from batch.store import timeline
from batch.store.billed import Billed
from batch.store.cost_shares import CostShare
from batch.store.jobstore import JobStore
from jobs.money import ZERO, add, plain, times, total
from jobs.outcome import Billing, CostSource
from jobs.prices import ModelPrice, PriceList, lane_of
from jobs.result import ResultState
from jobs.usage import Usage

NO_USAGE = Usage()


@dataclass
class ModelCost:
    """What one model's calls came to."""

    rub: Decimal = ZERO
    calls: int = 0
    usage: Usage = NO_USAGE
    unknown: int = 0
    """Of the calls, those whose cost nobody knows."""


class _Sum:
    """Calls for one model whose costs have one source."""

    __slots__ = ("cached", "calls", "completion", "prompt", "reasoning", "rub", "written")

    def __init__(self) -> None:
        self.rub = ZERO
        self.calls = self.prompt = self.completion = 0
        self.cached = self.written = self.reasoning = 0

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt, self.completion, self.cached, self.written, self.reasoning)


@dataclass
class Cost:
    """A job's cost: ₽, exact. `uncertain_rub` is the most that calls of unknown cost can cost, and
    `estimated_rub` what those of them cost by the prices whose tokens were told.

    `failed_rub` is of all calls for requests without an answer, `repeated_rub` of those before the
    one that brought it; beside each, how many calls of unknown cost are not in it.

    `prices` are all versions of the prices, oldest first: by them `saved_rub` is what reading from
    caches saved, and `unlisted` are calls that cost something else.
    """

    failed_rub: Decimal = ZERO
    failed_unknown: int = 0
    repeated_rub: Decimal = ZERO
    repeated_unknown: int = 0
    uncertain_calls: int = 0
    uncertain_rub: Decimal = ZERO
    estimated_rub: Decimal = ZERO
    unbounded_calls: int = 0
    saved_rub: Decimal = ZERO
    prices: list[PriceList] = field(default_factory=list)
    unlisted: Comparison = field(init=False)
    _sums: dict[tuple[str, str, str], _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    """By model, source and service tier: one addition for each call, and all other sums follow."""
    _shared: set[tuple[bool, str]] = field(default_factory=set)
    """Calls of unknown cost that several requests had together, once counted."""

    def __post_init__(self) -> None:
        self.unlisted = Comparison(self.prices)

    @property
    def rub(self) -> Decimal:
        """All known costs."""
        return total(each.rub for each in self._sums.values())

    @property
    def calls(self) -> int:
        """Calls that were or may have been billed."""
        return sum(each.calls for each in self._sums.values())

    @property
    def usage(self) -> Usage:
        """All tokens."""
        return sum((each.usage for each in self._sums.values()), NO_USAGE)

    @property
    def by_model(self) -> dict[str, ModelCost]:
        """What each model came to."""
        models: dict[str, ModelCost] = defaultdict(ModelCost)
        for (model, source, _), each in self._sums.items():
            so_far = models[model]
            so_far.rub = add(so_far.rub, each.rub)
            so_far.calls += each.calls
            so_far.usage += each.usage
            so_far.unknown += each.calls * (source == CostSource.UNKNOWN)
        return dict(models)

    @property
    def by_source(self) -> dict[str, Decimal]:
        """Known costs by who told them."""
        sources: dict[str, Decimal] = {}
        for (_, source, _), each in self._sums.items():
            if source != CostSource.UNKNOWN:
                sources[source] = add(sources.get(source, ZERO), each.rub)
        return sources

    @property
    def by_tier(self) -> dict[str, ModelCost]:
        """What each of the endpoint's lanes came to, by the tier that answers told."""
        tiers: dict[str, ModelCost] = defaultdict(ModelCost)
        for (_, _, lane), each in self._sums.items():
            so_far = tiers[lane or "default"]
            so_far.rub = add(so_far.rub, each.rub)
            so_far.calls += each.calls
            so_far.usage += each.usage
        return dict(tiers)

    @property
    def exact(self) -> bool:
        """Whether every figure is the endpoint's own."""
        return not self.uncertain_calls

    def count(self, call: Billed, model: str) -> None:
        """Adds a call that asked `model`."""
        known = self._sums[model, call.source, lane_of(call.provider)]
        known.calls += 1
        if call.prompt is not None:
            known.prompt += call.prompt
            known.completion += call.completion or 0
            known.cached += call.cached or 0
            known.written += call.written or 0
            known.reasoning += call.reasoning or 0
            if call.cached:
                self._save(call, model)
        if call.billing == Billing.UNKNOWN:
            self.uncertain_calls += 1
            self.unbounded_calls += call.bound is None
            self.uncertain_rub = add(self.uncertain_rub, Decimal(call.bound or 0))
            self._estimate(call, model)
            return
        if call.prompt is not None:
            self.unlisted.look(call, model)
        rub = Decimal(call.cost or 0)
        known.rub = add(known.rub, rub)

    def bear(self, part: Billed | CostShare, state: str | None, final: str | None) -> None:
        """Adds what a request bears that ended in `state` by the call `final`."""
        failed = state != ResultState.COMPLETED
        if not failed and final == part.id:
            return
        if part.cost is None:
            self._bear_unknown(part, failed=failed)
        elif failed:
            self.failed_rub = add(self.failed_rub, Decimal(part.cost))
        else:
            self.repeated_rub = add(self.repeated_rub, Decimal(part.cost))

    def _bear_unknown(self, part: Billed | CostShare, *, failed: bool) -> None:
        if isinstance(part, CostShare):
            # However many of those that had the call together ended so, it is one call.
            if (failed, part.id) in self._shared:
                return
            self._shared.add((failed, part.id))
        self.failed_unknown += failed
        self.repeated_unknown += not failed

    def _estimate(self, call: Billed, model: str) -> None:
        price = self._price(call, model)
        if price is not None and call.prompt is not None:
            cost = price.estimate(call.usage, call.provider)
            self.estimated_rub = add(self.estimated_rub, cost)

    def _save(self, call: Billed, model: str) -> None:
        price = self._price(call, model)
        if price is not None:
            self.saved_rub = add(self.saved_rub, price.saved(call.usage, call.provider))

    def _price(self, call: Billed, model: str) -> ModelPrice | None:
        """By the prices that were known when the call was sent."""
        known = [each for each in self.prices if each.taken_at <= call.sent_at]
        held = known[-1] if known else self.prices[0] if self.prices else None
        return held.models.get(model) if held else None


def cost_of(store: JobStore) -> Cost:
    """Adds up every call of the ledger."""
    cost = Cost(prices=store.all_prices())
    count_calls(store, cost)
    return cost


def cost_json(store: JobStore, cost: Cost | None = None) -> dict[str, Any]:
    """The content of cost.json; amounts are exact strings in ₽. `cost` if it was added up before.

    `lost` is what chunks may have cost whose workers fell silent for good: null without a cap.
    """
    with store.snapshot():
        return _content(store, cost or cost_of(store))


def _content(store: JobStore, cost: Cost) -> dict[str, Any]:
    job, lost, copies = store.job(), store.chunks.lost(), copies_of(store)
    return {
        "version": 1,
        "job": job.id,
        "name": job.spec.name,
        "currency": "RUB",
        "cost_rub": plain(cost.rub),
        "exact": cost.exact and not lost.chunks,
        "requests": job.requests,
        "completed": job.completed,
        "failed": job.failed,
        "invalid": job.invalid,
        **store.why().as_json(),
        "calls": cost.calls,
        "refused_calls": store.refusals(),
        "tokens": tokens_json(cost.usage),
        "by_model": {
            name: {
                "cost_rub": plain(each.rub),
                "calls": each.calls,
                "uncertain_calls": each.unknown,
                "tokens": tokens_json(each.usage),
            }
            for name, each in sorted(cost.by_model.items())
        },
        "by_service_tier": {
            name: {"cost_rub": plain(each.rub), "calls": each.calls}
            for name, each in sorted(cost.by_tier.items())
        },
        "by_source": {name: plain(rub) for name, rub in sorted(cost.by_source.items())},
        "saved_by_cache_rub": plain(cost.saved_rub),
        "unlisted": [
            {
                "model": each.model,
                "provider": each.provider,
                "calls": each.calls,
                "billed_rub": plain(each.billed_rub),
                "by_prices_rub": plain(each.listed_rub),
                "lines": lines_of(store, each.ordinals),
            }
            for each in cost.unlisted
        ],
        "of_failed_requests_rub": plain(cost.failed_rub),
        "of_repeated_calls_rub": plain(cost.repeated_rub),
        "uncertain": {
            **uncertain_json(cost.uncertain_calls, cost.unbounded_calls, cost.uncertain_rub),
            "estimated_rub": plain(cost.estimated_rub),
        },
        "lost": {"chunks": lost.chunks, "at_most_rub": _plain(lost.rub)},
        "copies": copies_json(copies),
        "reused": copies_json(reused_of(store)),
        "forecast_rub": _plain(cost_of_all(job)),
        "estimate": {
            "low_rub": _plain(job.guess.low),
            "likely_rub": _plain(job.guess.likely),
            "high_rub": _plain(job.guess.high),
            "at_most_rub": _plain(job.guess.at_most),
            "basis": job.guess.basis,
            "answers": job.guess.answers,
            "outcome_rub": plain(cost.rub),
            "ratio": _ratio(cost.rub, job.guess.likely),
        },
        "budget": {
            "rub": _plain(job.spec.budget.rub),
            "tokens": job.spec.budget.tokens,
            "requests": job.spec.budget.requests,
        },
        "prices": [
            {
                "taken_at": datetime.fromtimestamp(prices.taken_at, UTC).isoformat(),
                "source": prices.source,
                "sha256": prices.sha256,
                "models": {name: _listed(price) for name, price in sorted(prices.models.items())},
            }
            for prices in store.all_prices()
        ],
    }


def _listed(price: ModelPrice) -> dict[str, Any]:
    """₽ per token, and per request, as the first offer has them, and how many offers there are."""
    rates = price.offers[0].rates
    return {
        "prompt_rub": plain(rates.prompt),
        "completion_rub": plain(rates.completion),
        "cache_read_rub": _plain(rates.cache_read),
        "cache_write_rub": _plain(rates.cache_write),
        "request_rub": plain(rates.request),
        "offers": len(price.offers),
    }


def uncertain_json(calls: int, unbounded: int, rub: Decimal) -> dict[str, Any]:
    """Calls of unknown cost; `at_most_rub` is null where nothing bounds some of them."""
    most = None if unbounded else plain(rub)
    return {"calls": calls, "at_most_rub": most, "calls_without_bound": unbounded}


def tokens_json(usage: Usage) -> dict[str, int]:
    """Counts of tokens by kind."""
    return {
        "prompt": usage.prompt,
        "completion": usage.completion,
        "cached": usage.cached,
        "cache_written": usage.written,
        "reasoning": usage.reasoning,
    }


def lines_of(store: JobStore, ordinals: list[int]) -> list[int]:
    """Where these requests stand in the input, from 1."""
    return timeline.lines(store.db, ordinals)


def copies_of(store: JobStore) -> Copies:
    """Counts copies; of an original whose cost is uncertain nothing is counted as saved."""
    saved, count = ZERO, 0
    for copies, cost in timeline.copied(store.db):
        count += copies
        if cost is not None:
            saved = add(saved, times(cost, copies))
    return Copies(count, saved)


def _ratio(outcome: Decimal, likely: Decimal | None) -> float | None:
    """How many times the likely cost it came to; None without one."""
    return round(float(outcome) / float(likely), 4) if likely else None


def _plain(rub: Decimal | None) -> str | None:
    return None if rub is None else plain(rub)
