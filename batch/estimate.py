"""What a job will cost, before anything is sent: at most, and likely."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from batch.splitter import request_bound
from jobs.money import ZERO, add
from jobs.prices import MARGIN, PriceList
from jobs.request import HIDDEN_TOKENS
from jobs.usage import Usage

BYTES_PER_TOKEN = 4
"""Rough: English takes about 4 bytes a token, Russian about 5."""

HIDDEN_LIKELY = 447
"""Prompt tokens that RouterAI adds to each call, as others observed."""

OUTPUT_LIKELY = 200
"""Tokens of an answer that is not told to be short; a guess until answers were seen."""


@dataclass
class Estimate:
    """₽ and tokens. `highest` is None when one request has no bound or no price; `unbounded` counts
    those of which nobody can tell how long the answer may get.
    """

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    likely: Decimal | None = ZERO
    highest: Decimal | None = ZERO
    unpriced: tuple[str, ...] = ()
    unbounded: int = 0


def estimate(
    requests: Iterable[tuple[str, int, int | None]],
    prices: PriceList | None,
    margin: Decimal = MARGIN,
) -> Estimate:
    """Adds up (model, prompt bound, output bound) of all requests."""
    result = Estimate()
    unpriced: set[str] = set()
    for model, prompt_bound, output_bound in requests:
        prompt = (prompt_bound - HIDDEN_TOKENS) // BYTES_PER_TOKEN + HIDDEN_LIKELY
        output = min(output_bound or OUTPUT_LIKELY, OUTPUT_LIKELY)
        result.requests += 1
        result.prompt_tokens += prompt
        result.output_tokens += output
        price = prices.models.get(model) if prices else None
        most = request_bound(model, prompt_bound, output_bound, prices, margin)
        result.unbounded += most.tokens is None
        if price is None:
            unpriced.add(model)
            result.likely = result.highest = None
            continue
        if result.likely is not None:
            result.likely = add(result.likely, price.estimate(Usage(prompt, output)))
        if most.rub is None or result.highest is None:
            result.highest = None
        else:
            result.highest = add(result.highest, most.rub)
    result.unpriced = tuple(sorted(unpriced))
    return result
