"""cost.json: what the job cost, to the last digit, recounted from the ledger."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from batch.store.jobstore import JobStore
from jobs.money import ZERO, add, plain, times
from jobs.outcome import Billing, CostSource
from jobs.prices import ModelPrice, PriceList
from jobs.result import ResultState
from jobs.usage import Usage

NO_USAGE = Usage()


@dataclass
class ModelCost:
    """What one model's calls came to."""

    rub: Decimal = ZERO
    calls: int = 0
    usage: Usage = NO_USAGE


@dataclass
class Cost:
    """A job's cost: ₽, exact. `uncertain_rub` is the most that calls of unknown outcome cost.

    `prices` are all versions of the prices, oldest first: by them `saved_rub` is what reading from
    caches saved.
    """

    rub: Decimal = ZERO
    calls: int = 0
    usage: Usage = NO_USAGE
    by_model: dict[str, ModelCost] = field(default_factory=dict)
    by_source: dict[str, Decimal] = field(default_factory=dict)
    failed_rub: Decimal = ZERO
    repeated_rub: Decimal = ZERO
    uncertain_calls: int = 0
    uncertain_rub: Decimal = ZERO
    unbounded_calls: int = 0
    saved_rub: Decimal = ZERO
    prices: list[PriceList] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether every figure is the endpoint's own."""
        return not self.uncertain_calls and CostSource.ESTIMATE not in self.by_source

    def count(self, call: sqlite3.Row, model: str, state: str | None, final: str | None) -> None:
        """Adds a call of a request for `model` that ended in `state` by the call `final`."""
        of_model = self.by_model.setdefault(model, ModelCost())
        self.calls += 1
        of_model.calls += 1
        if call["prompt"] is not None:
            usage = Usage(
                call["prompt"],
                call["completion"],
                call["cached"],
                call["written"],
                call["reasoning"],
            )
            self.usage, of_model.usage = self.usage + usage, of_model.usage + usage
            if usage.cached:
                self._save(call, model, usage)
        if call["billing"] == Billing.UNKNOWN:
            self.uncertain_calls += 1
            self.unbounded_calls += call["bound"] is None
            self.uncertain_rub = add(self.uncertain_rub, Decimal(call["bound"] or 0))
            return
        rub = Decimal(call["cost"])
        self.rub, of_model.rub = add(self.rub, rub), add(of_model.rub, rub)
        source = call["source"]
        self.by_source[source] = add(self.by_source.get(source, ZERO), rub)
        if final and final != call["id"]:
            self.repeated_rub = add(self.repeated_rub, rub)
        elif state == ResultState.FAILED:
            self.failed_rub = add(self.failed_rub, rub)

    def _save(self, call: sqlite3.Row, model: str, usage: Usage) -> None:
        """By the prices that were known when the call was sent."""
        known = [each for each in self.prices if each.taken_at <= call["sent_at"]]
        held = known[-1] if known else self.prices[0] if self.prices else None
        price = held.models.get(model) if held else None
        if price is not None:
            self.saved_rub = add(self.saved_rub, price.saved(usage, call["provider"]))


def cost_of(store: JobStore) -> Cost:
    """Adds up every call of the ledger."""
    cost = Cost(prices=store.all_prices())
    calls = store.db.execute(
        "SELECT calls.*, name, results.state AS state, results.call AS final"
        " FROM calls JOIN requests USING (ordinal) JOIN models ON models.id = requests.model"
        " LEFT JOIN results USING (ordinal)"
    )
    for call in calls:
        cost.count(call, call["name"], call["state"], call["final"])
    return cost


def cost_json(store: JobStore, cost: Cost | None = None) -> dict[str, Any]:
    """The content of cost.json; amounts are exact strings in ₽. `cost` if it was added up before.

    `lost` is what chunks may have cost whose workers fell silent for good: null without a cap.
    """
    with store.snapshot():
        return _content(store, cost or cost_of(store))


def _content(store: JobStore, cost: Cost) -> dict[str, Any]:
    job, lost = store.job(), store.lost()
    return {
        "job": job.id,
        "name": job.spec.name,
        "currency": "RUB",
        "cost_rub": plain(cost.rub),
        "exact": cost.exact and not lost.chunks,
        "requests": job.requests,
        "completed": job.completed,
        "failed": job.failed,
        "invalid": job.invalid,
        "calls": cost.calls,
        "refused_calls": store.refusals(),
        "tokens": tokens_json(cost.usage),
        "by_model": {
            name: {
                "cost_rub": plain(each.rub),
                "calls": each.calls,
                "tokens": tokens_json(each.usage),
            }
            for name, each in sorted(cost.by_model.items())
        },
        "by_source": {name: plain(rub) for name, rub in sorted(cost.by_source.items())},
        "saved_by_cache_rub": plain(cost.saved_rub),
        "of_failed_requests_rub": plain(cost.failed_rub),
        "of_repeated_calls_rub": plain(cost.repeated_rub),
        "uncertain": {
            "calls": cost.uncertain_calls,
            "at_most_rub": plain(cost.uncertain_rub),
            "calls_without_bound": cost.unbounded_calls,
        },
        "lost": {"chunks": lost.chunks, "at_most_rub": _plain(lost.rub)},
        "copies": copies_json(store),
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


def tokens_json(usage: Usage) -> dict[str, int]:
    """Counts of tokens by kind."""
    return {
        "prompt": usage.prompt,
        "completion": usage.completion,
        "cached": usage.cached,
        "cache_written": usage.written,
        "reasoning": usage.reasoning,
    }


def copies_json(store: JobStore) -> dict[str, Any]:
    """How many requests were given the answer of one alike, and the ₽ that this saved.

    Of an original whose cost is uncertain nothing is counted as saved.
    """
    saved, count = ZERO, 0
    rows = store.db.execute(
        "SELECT copies.original, count(*), (SELECT group_concat(cost) FROM calls"
        "  WHERE calls.ordinal = copies.original AND calls.id = final.call AND cost IS NOT NULL)"
        " FROM copies JOIN results ON results.ordinal = copies.ordinal"
        " JOIN results AS final ON final.ordinal = copies.original GROUP BY copies.original"
    )
    for _, copies, cost in rows:
        count += copies
        if cost is not None:
            saved = add(saved, times(Decimal(cost), copies))
    return {"requests": count, "saved_rub": plain(saved)}


def _ratio(outcome: Decimal, likely: Decimal | None) -> float | None:
    """How many times the likely cost it came to; None without one."""
    return round(float(outcome) / float(likely), 4) if likely else None


def _plain(rub: Decimal | None) -> str | None:
    return None if rub is None else plain(rub)
