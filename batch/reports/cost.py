"""cost.json: what the job cost, to the last digit, recounted from the ledger."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from batch.store.jobstore import JobStore
from jobs.money import ZERO, add, plain, total
from jobs.outcome import Billing
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
    """A job's cost: ₽, exact. `uncertain_rub` is the most that calls of unknown outcome cost."""

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

    @property
    def exact(self) -> bool:
        """Whether every figure is the endpoint's own."""
        return not self.uncertain_calls and not self.by_source.get("estimate")


def cost_of(store: JobStore) -> Cost:
    """Adds up every call of the ledger."""
    cost = Cost()
    calls = store.db.execute(
        "SELECT calls.*, name, results.state AS state, results.call AS final"
        " FROM calls JOIN requests USING (ordinal) JOIN models ON models.id = requests.model"
        " LEFT JOIN results USING (ordinal)"
    )
    for call in calls:
        _count(cost, call)
    return cost


def _count(cost: Cost, call: sqlite3.Row) -> None:
    model = cost.by_model.setdefault(call["name"], ModelCost())
    cost.calls += 1
    model.calls += 1
    if call["prompt"] is not None:
        usage = Usage(
            call["prompt"], call["completion"], call["cached"], call["written"], call["reasoning"]
        )
        cost.usage, model.usage = cost.usage + usage, model.usage + usage
    if call["billing"] == Billing.UNKNOWN:
        cost.uncertain_calls += 1
        cost.unbounded_calls += call["bound"] is None
        cost.uncertain_rub = add(cost.uncertain_rub, Decimal(call["bound"] or 0))
        return
    rub = Decimal(call["cost"])
    cost.rub, model.rub = add(cost.rub, rub), add(model.rub, rub)
    cost.by_source[call["source"]] = add(cost.by_source.get(call["source"], ZERO), rub)
    if call["final"] not in (None, call["id"]):
        cost.repeated_rub = add(cost.repeated_rub, rub)
    elif call["state"] == "failed":
        cost.failed_rub = add(cost.failed_rub, rub)


def cost_json(store: JobStore) -> dict[str, Any]:
    """The content of cost.json; amounts are exact strings in ₽."""
    job, cost = store.job(), cost_of(store)
    return {
        "job": job.id,
        "name": job.spec.name,
        "currency": "RUB",
        "cost_rub": plain(cost.rub),
        "exact": cost.exact,
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
        "of_failed_requests_rub": plain(cost.failed_rub),
        "of_repeated_calls_rub": plain(cost.repeated_rub),
        "uncertain": {
            "calls": cost.uncertain_calls,
            "at_most_rub": plain(cost.uncertain_rub),
            "calls_without_bound": cost.unbounded_calls,
        },
        "budget": {
            "rub": None if job.spec.budget.rub is None else plain(job.spec.budget.rub),
            "tokens": job.spec.budget.tokens,
            "requests": job.spec.budget.requests,
        },
        "prices": [
            {
                "taken_at": datetime.fromtimestamp(prices.taken_at, UTC).isoformat(),
                "source": prices.source,
                "sha256": prices.sha256,
            }
            for prices in store.all_prices()
        ],
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


def check_sum(store: JobStore) -> bool:
    """Whether the sum over the ledger is the sum that was kept while the job ran."""
    return cost_of(store).rub == total([store.job().settled_rub])
