"""Prices in roubles per token, what a call costs by them, and the most it can cost.

cost = (prompt - cached - written) x prompt + cached x cache_read + written x cache_write
       + completion x completion + request

as RouterAI and OpenRouter describe their `pricing`. A tier applies when the prompt has strictly
more tokens than its threshold, and then to the whole request; what it leaves out it inherits.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from jobs.money import ZERO, round_up, times, total
from jobs.usage import Usage

MARGIN = Decimal("1.2")
"""Bounds are taken this much higher, so that a price rise up to it cannot break a cap."""


class Rates(msgspec.Struct, frozen=True):
    """₽ per token, and ₽ per request; cache rates left out cost as the prompt does."""

    prompt: Decimal = ZERO
    completion: Decimal = ZERO
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    request: Decimal = ZERO

    def cost(self, usage: Usage) -> Decimal:
        """₽ of one call with this usage."""
        fresh = max(usage.prompt - usage.cached - usage.written, 0)
        read = self.prompt if self.cache_read is None else self.cache_read
        write = self.prompt if self.cache_write is None else self.cache_write
        return total(
            (
                times(self.prompt, fresh),
                times(read, usage.cached),
                times(write, usage.written),
                times(self.completion, usage.completion),
                self.request,
            )
        )

    @property
    def dearest_prompt(self) -> Decimal:
        """₽ that a token of the prompt cannot exceed, however it is cached."""
        return max(self.prompt, self.cache_read or ZERO, self.cache_write or ZERO)


class Tier(msgspec.Struct, frozen=True):
    """Other rates: for prompts over a size (tokens), or between two hours (UTC, `HH:MM`)."""

    rates: Rates
    prompt_over: int | None = None
    utc_start: str | None = None
    utc_end: str | None = None


class Offer(msgspec.Struct, frozen=True):
    """What one provider asks for a model."""

    provider: str
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    max_completion_tokens: int | None = None

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates of the highest size tier that the prompt exceeds, else the plain ones."""
        best, over = self.rates, -1
        for tier in self.tiers:
            if tier.prompt_over is not None and over < tier.prompt_over < prompt_tokens:
                best, over = tier.rates, tier.prompt_over
        return best

    def most(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """₽ that a call of at most so many tokens cannot exceed, whichever tiers come to apply.

        A size and an hour may apply together, each with rates of its own, so the dearest of each
        kind are taken.
        """
        every = (self.rates, *(tier.rates for tier in self.tiers))
        return total(
            (
                times(max(rates.dearest_prompt for rates in every), prompt_tokens),
                times(max(rates.completion for rates in every), completion_tokens),
                max(rates.request for rates in every),
            )
        )


class ModelPrice(msgspec.Struct, frozen=True):
    """All offers of a model; the first is the default provider's."""

    model: str
    offers: tuple[Offer, ...]
    context_length: int | None = None

    def estimate(self, usage: Usage, provider: str = "") -> Decimal:
        """₽ of a call whose cost the endpoint did not tell, by the offer that served it."""
        named = [offer for offer in self.offers if offer.provider == provider]
        offer = (named or list(self.offers))[0]
        return offer.rates_for(usage.prompt).cost(usage)

    def bound(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """₽ that one call cannot exceed: the dearest offer, with the margin, rounded up."""
        dearest = max(offer.most(prompt_tokens, completion_tokens) for offer in self.offers)
        return round_up(times(dearest, MARGIN))

    @property
    def max_completion_tokens(self) -> int | None:
        """The longest answer that any provider gives, if all of them tell it."""
        told = [offer.max_completion_tokens for offer in self.offers]
        lengths = [length for length in told if length is not None]
        return max(lengths) if len(lengths) == len(told) and lengths else self.context_length


class PriceList(msgspec.Struct, frozen=True):
    """A snapshot of the catalogue: prices by model, when it was taken and what it was read from."""

    taken_at: float
    source: str
    sha256: str
    models: dict[str, ModelPrice]
