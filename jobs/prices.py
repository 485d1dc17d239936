"""Prices in roubles per token, what a call costs by them, and the most it can cost.

cost = (prompt - cached - written) x prompt + cached x cache_read + written x cache_write
       + completion x completion + request

as RouterAI and OpenRouter describe their `pricing`. A tier applies when the prompt has strictly
more tokens than its threshold, and then to the whole request; what it leaves out it inherits.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from functools import lru_cache

import msgspec

from jobs.message import N_, Message
from jobs.money import ZERO, add, round_up, subtract, times, total
from jobs.usage import Usage

MOST_RISE = Decimal(20)
"""Percent by which a price may rise while a job runs, unless its spec says otherwise."""


def margin(percent: Decimal) -> Decimal:
    """Bounds are taken so many times higher, so that a price rise up to `percent` breaks no cap."""
    return add(Decimal(1), times(percent, Decimal("0.01")))


MARGIN = margin(MOST_RISE)


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


FLEX, PRIORITY = "flex", "priority"
SERVICE_TIERS = (FLEX, PRIORITY)
"""Lanes that an endpoint sells beside the usual one: cheaper and slower, dearer and faster."""


class Offer(msgspec.Struct, frozen=True):
    """What one provider asks for a model; `tag` is how a request names it.

    A lane of a provider is an offer of its own: its tag ends in `/flex`, and so does its name here.
    """

    provider: str
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    max_completion_tokens: int | None = None
    tag: str = ""

    @property
    def service_tier(self) -> str:
        """The lane, "" for the usual one."""
        return lane_of(self.tag)

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates of the highest size tier that the prompt exceeds, else the plain ones."""
        best, over = self.rates, -1
        for tier in self.tiers:
            if tier.prompt_over is not None and over < tier.prompt_over < prompt_tokens:
                best, over = tier.rates, tier.prompt_over
        return best

    @property
    def names(self) -> set[str]:
        """What a request may call the provider: its tag with the variant or without, its name."""
        tag = self.tag.casefold()
        return {tag, tag.partition("/")[0], self.provider.casefold()} - {""}

    def reachable(self, prompt_tokens: int | None = None) -> tuple[Rates, ...]:
        """All rates that may come to apply; a prompt of at most so many tokens excludes some."""
        tiers = (
            tier
            for tier in self.tiers
            if prompt_tokens is None or tier.prompt_over is None or tier.prompt_over < prompt_tokens
        )
        return (self.rates, *(tier.rates for tier in tiers))


@lru_cache(maxsize=256)
def lane_of(provider: str) -> str:
    """The lane that a provider's tag or name ends in, "" for the usual one."""
    ending = provider.rpartition("/")[2]
    return ending if ending in SERVICE_TIERS and "/" in provider else ""


class ModelPrice(msgspec.Struct, frozen=True):
    """All offers of a model; the first is the default provider's.

    `by_hand`: from a file of the user's, and the catalogue has no say in it. `parameters` are those
    of a request that the model heeds, as far as the catalogue tells.
    """

    model: str
    offers: tuple[Offer, ...]
    context_length: int | None = None
    by_hand: bool = False
    parameters: tuple[str, ...] = ()

    def estimate(self, usage: Usage, provider: str = "") -> Decimal:
        """₽ of a call whose cost the endpoint did not tell, by the offer that served it."""
        named = [offer for offer in self.offers if offer.provider == provider]
        offer = (named or list(self.offers))[0]
        return offer.rates_for(usage.prompt).cost(usage)

    def saved(self, usage: Usage, provider: str = "") -> Decimal:
        """₽ that a call would have cost more, had none of its prompt been read from a cache."""
        named = [offer for offer in self.offers if offer.provider == provider]
        rates = (named or list(self.offers))[0].rates_for(usage.prompt)
        if rates.cache_read is None or rates.cache_read >= rates.prompt:
            return ZERO
        return times(subtract(rates.prompt, rates.cache_read), usage.cached)

    def dearest(self, prompt_tokens: int | None = None) -> Rates:
        """Rates that no offer and no tier exceeds in any part.

        Part by part, since a size and an hour may apply together, and any provider may serve. A
        prompt of at most `prompt_tokens` leaves out the tiers that it cannot reach.
        """
        every = [rates for offer in self.offers for rates in offer.reachable(prompt_tokens)]
        return Rates(
            max(rates.dearest_prompt for rates in every),
            max(rates.completion for rates in every),
            request=max(rates.request for rates in every),
        )

    def bound(
        self, prompt_tokens: int, completion_tokens: int, margin: Decimal = MARGIN
    ) -> Decimal:
        """₽ that one call cannot exceed, whatever serves it, at prices up to `margin` times these.

        Rounded up.
        """
        most = self.dearest(prompt_tokens).cost(Usage(prompt_tokens, completion_tokens))
        return round_up(times(most, margin))

    def served_by(self, providers: Collection[str]) -> ModelPrice:
        """The same with the offers of these providers alone, by tag or name, if there are any."""
        wanted = {each.casefold() for each in providers}
        theirs = tuple(offer for offer in self.offers if wanted & offer.names)
        return msgspec.structs.replace(self, offers=theirs) if theirs else self

    def off_peak(self) -> Tier | None:
        """The hours in which the default provider asks less, and never more, if there are any."""
        usual = self.offers[0].rates
        for tier in self.offers[0].tiers:
            pairs = ((tier.rates.prompt, usual.prompt), (tier.rates.completion, usual.completion))
            cheaper = all(now <= then for now, then in pairs) and pairs[0][0] + pairs[1][0] < (
                pairs[0][1] + pairs[1][1]
            )
            if tier.utc_start and tier.utc_end and cheaper:
                return tier
        return None

    def at_off_peak(self) -> ModelPrice:
        """The same as if those hours were always."""
        tier, (first, *others) = self.off_peak(), self.offers
        if tier is None:
            return self
        first = msgspec.structs.replace(first, rates=tier.rates)
        return msgspec.structs.replace(self, offers=(first, *others))

    def in_lane(self, lane: str) -> ModelPrice:
        """The same with the offers that may serve a request for this lane, its own ones first.

        What asks for less may be given the usual; nobody is given the dearer one unasked.
        """
        kept = [one for one in self.offers if one.service_tier in ("", FLEX, lane)]
        kept.sort(key=lambda one: one.service_tier != lane)
        return msgspec.structs.replace(self, offers=tuple(kept or self.offers))

    def sells(self, lane: str) -> bool:
        """Whether there is an offer in this lane."""
        return any(offer.service_tier == lane for offer in self.offers)

    @property
    def caches(self) -> bool:
        """Whether the default provider asks less for what its cache holds."""
        rates = self.offers[0].rates
        return rates.cache_read is not None and rates.cache_read < rates.prompt

    @property
    def takes_schemas(self) -> bool:
        """Whether a `response_format` may hold a JSON Schema."""
        return "structured_outputs" in self.parameters

    @property
    def surely_answers(self) -> int | None:
        """Tokens of an answer that any provider gives, as far as they tell."""
        told = [offer.max_completion_tokens for offer in self.offers]
        return min((length for length in told if length is not None), default=None)

    @property
    def max_completion_tokens(self) -> int | None:
        """The longest answer that any provider gives, if all of them tell it."""
        told = [offer.max_completion_tokens for offer in self.offers]
        lengths = [length for length in told if length is not None]
        return max(lengths) if len(lengths) == len(told) and lengths else self.context_length


class PriceList(msgspec.Struct, frozen=True):
    """A snapshot of the catalogue: prices by model, when it was taken and what it was read from.

    `aliases` are names that stand for a listed model at that moment. `listed` are all names of the
    catalogue, empty where none was read; they are not stored.
    `in_texts`: prices were there, but as texts, which may be of another currency, so none was read.
    """

    taken_at: float
    source: str
    sha256: str
    models: dict[str, ModelPrice]
    aliases: dict[str, str] = {}
    listed: tuple[str, ...] = ()
    in_texts: bool = False

    def kept_up(self, newer: PriceList) -> PriceList:
        """The newer list; models that it prices no more keep the price that was last known, and
        those whose price was given by hand keep that.
        """
        kept = {
            name: old
            for name, old in self.models.items()
            if name not in newer.models or (old.by_hand and not newer.models[name].by_hand)
        }
        return msgspec.structs.replace(newer, models={**newer.models, **kept})

    def joined(self, other: PriceList) -> PriceList:
        """This list with all offers of the other one too: for bounds that both must respect."""
        models = {**other.models, **self.models}
        for name in self.models.keys() & other.models.keys():
            offers = (*self.models[name].offers, *other.models[name].offers)
            models[name] = msgspec.structs.replace(
                models[name], offers=tuple(dict.fromkeys(offers))
            )
        return msgspec.structs.replace(self, models=models)


class Rise(msgspec.Struct, frozen=True):
    """A part of a model's price rose further than is allowed: ₽ a token, or a request."""

    model: str
    part: str
    old: Decimal
    new: Decimal

    @property
    def message(self) -> Message:
        """The sentence for people."""
        return N_(
            "{model} asks {now:exact} ₽ {unit} ({part}) and asked {before:exact} ₽{times_more}",
            model=self.model,
            now=self._shown(self.new),
            unit=N_("a request") if self.part == "request" else N_("per million tokens"),
            part=self.part,
            before=self._shown(self.old),
            times_more=f" (+{_percent(self.old, self.new)} %)" if self.old else "",
        )

    def _shown(self, price: Decimal) -> Decimal:
        return price if self.part == "request" else times(price, MILLION)


MILLION = 10**6


def _percent(old: Decimal, new: Decimal) -> int:
    return int((new - old) * 100 / old)


def find_rise(old: PriceList, new: PriceList, percent: Decimal) -> Rise | None:
    """The first model of which any part costs more than `percent` above the old list."""
    for name, price in new.models.items():
        if name not in old.models:
            continue
        before, now = old.models[name].dearest(), price.dearest()
        for part in ("prompt", "completion", "request"):
            was, asks = getattr(before, part), getattr(now, part)
            if asks > times(was, margin(percent)):
                return Rise(name, part, was, asks)
    return None
