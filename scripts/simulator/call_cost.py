"""What a call costs, in roubles, exactly.

cost = (prompt - cached - written) x prompt + cached x input_cache_read
     + written x input_cache_write + completion x completion + request

Reasoning tokens are part of the completion tokens. A threshold is passed only by a prompt that is
strictly longer, and then holds for the whole request; a price that an override leaves out, or a
cache price that a provider does not list, falls back to the ordinary one.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext

from .catalogue import Hours, Prices, Provider, Threshold
from .exact_json import EXACT


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a call used; `cached` and `written` are within `prompt`, `reasoning` in `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0


def prices_for(provider: Provider, prompt_tokens: int, now: datetime) -> Prices:
    """The prices that hold for a prompt of this size at this moment (aware UTC)."""
    prices = dict(provider.prices)
    for each in provider.variable:
        if _holds(each, prompt_tokens, now):
            prices.update(each.prices)
    return prices


def cost_of(tokens: Tokens, prices: Prices, factor: Decimal = Decimal(1)) -> Decimal:
    """Roubles for `tokens` at `prices`, times `factor`; never rounded."""
    prompt = prices["prompt"]
    with localcontext(EXACT):
        cost = (
            (tokens.prompt - tokens.cached - tokens.written) * prompt
            + tokens.cached * prices.get("input_cache_read", prompt)
            + tokens.written * prices.get("input_cache_write", prompt)
            + tokens.completion * prices["completion"]
            + prices.get("request", Decimal(0))
        )
        return cost * factor


def _holds(each: Threshold | Hours, prompt_tokens: int, now: datetime) -> bool:
    if isinstance(each, Threshold):
        return prompt_tokens > each.tokens
    return each.holds(now.time())
