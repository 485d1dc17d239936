"""Reads the endpoint's prices: its catalogue, and what each provider of a model asks.

    GET /models                            every model, with the prices of its default provider
    GET /models/{author}/{slug}/endpoints  every provider of one model, with its tiers; RouterAI and
                                           OpenRouter have it, elsewhere the catalogue must do

RouterAI and OpenRouter show them to all, others want the key, so it is sent. Prices are JSON
numbers or strings, ₽ per token or as the gateway lists them (`jobs.gateways`); their digits are
taken from the bytes as they came, never through a float. A model of which any price cannot be read
is left out: a bound that leaves a provider out would be none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Raw

from batch.endpoint_queries import HINT, Ask, Page, asking
from jobs import gateways
from jobs.address import join
from jobs.errors import InvalidValue, ServiceUnavailable
from jobs.message import N_
from jobs.modelname import is_alias, take_apart
from jobs.money import is_amount, parse_amount, times
from jobs.prices import ModelPrice, Offer, PriceList, Rates, Tier, lane_of

NO_CATALOGUE = "no catalogue"
"""So the source of a list says that there was nothing to read."""

_OK = 200
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 530})
_NULL = Raw(b"null")
_COUNT = re.compile(r"[0-9]{1,15}")
_T = TypeVar("_T")


class Form(NamedTuple):
    """How a gateway lists prices, and how many roubles a unit of its money is.

    `numbers_only`: prices are strings are not read, since those are dollars elsewhere. `lane`:
    the service tier that is asked for.
    """

    keys: Mapping[str, gateways.Listed] = gateways.PER_TOKEN
    rate: Decimal = gateways.ONE
    numbers_only: bool = False
    lane: str = ""


PLAIN = Form()


def read_prices(base_url: str, models: list[str], *, now: float, form: Form = PLAIN) -> PriceList:
    """Fetch the prices of `models`; those that the catalogue does not price are not in the list.

    `now` is Unix time in seconds. Without a catalogue (404, HTML, JSON of another form) the list
    is empty and its `source` says so. `sha256` is of the bytes read: the catalogue, then the
    endpoints of each model in the order of `models`. Raises `ServiceUnavailable` when the endpoint
    cannot be reached or has a passing fault (5xx, 429, an error under 200): not to know the prices
    differs from there being none.
    """
    url = join(base_url, "models")
    read = asking(base_url, lambda ask: _read(ask, base_url, models))
    catalogue, listed, wanted, endpoints, aliases = read
    return PriceList(
        taken_at=now,
        source=url if listed is not None else f"{url} ({NO_CATALOGUE}: HTTP {catalogue.status})",
        sha256=hashlib.sha256(b"".join((catalogue.body, *endpoints.values()))).hexdigest(),
        models=_priced(wanted, endpoints, aliases, listed or {}, form),
        aliases=aliases,
        listed=tuple(listed or ()),
        in_texts=form.numbers_only and any(map(_is_in_texts, wanted.values())),
    )


class _Read(NamedTuple):
    """What was read: the catalogue, its models by id, those wanted by the name that was asked for,
    endpoints by id, and what aliases stand for.
    """

    catalogue: Page
    listed: dict[str, Listed] | None
    wanted: dict[str, Listed]
    endpoints: dict[str, bytes]
    aliases: dict[str, str]


async def _read(ask: Ask, base_url: str, models: list[str]) -> _Read:
    catalogue = await _get(ask, join(base_url, "models"))
    listed = read_catalogue(catalogue.body)
    wanted = _wanted(models, listed or {})
    ids = dict.fromkeys(listing.id for listing in wanted.values())
    endpoints = {model: await _endpoints(ask, base_url, model) for model in ids}
    aliases = _aliases(ids, endpoints, listed or {})
    for alias, target in aliases.items():
        endpoints[alias] = endpoints.get(target) or await _endpoints(ask, base_url, target)
    return _Read(catalogue, listed, wanted, endpoints, aliases)


async def _endpoints(ask: Ask, base_url: str, model: str) -> bytes:
    author, _, slug = model.partition("/")
    if not author or not slug or "/" in slug:
        return b""
    path = f"models/{quote(author)}/{quote(slug, safe=':')}/endpoints"
    return (await _get(ask, join(base_url, path))).body


async def _get(ask: Ask, url: str) -> Page:
    """No body unless the status is 200; `ServiceUnavailable` for a fault that passes."""
    page = await ask(url, b"")
    if page.status in _PASSING:
        raise ServiceUnavailable(
            N_("{url} answers with HTTP {status}", url=url, status=page.status), hint=HINT
        )
    return page if page.status == _OK else page._replace(body=b"")


def _wanted(models: list[str], listed: Mapping[str, Listed]) -> dict[str, Listed]:
    """How the catalogue lists each model, if it does."""
    found = {}
    for model in dict.fromkeys(models):
        name = next((each for each in take_apart(model).listed if each in listed), None)
        if name is not None:
            found[model] = listed[name]
    return found


def _aliases(
    ids: Iterable[str], endpoints: Mapping[str, bytes], listed: Mapping[str, Listed]
) -> dict[str, str]:
    """What each alias stands for now, where the endpoint tells it."""
    found = {}
    for alias in (each for each in ids if is_alias(each)):
        entry = _decode(_data(endpoints[alias]), _Named) or _Named()
        told = (entry.id, entry.canonical_slug, listed[alias].canonical_slug)
        known = (name for name in told if name and name in listed and not is_alias(name))
        target = next(known, None)
        if target is not None:
            found[alias] = target
    return found


def _priced(
    wanted: Mapping[str, Listed],
    endpoints: Mapping[str, bytes],
    aliases: Mapping[str, str],
    listed: Mapping[str, Listed],
    form: Form,
) -> dict[str, ModelPrice]:
    """Prices by the names that were asked for, and by what aliases among them stand for."""
    found = {}
    for model, listing in wanted.items():
        target = listed[aliases.get(listing.id, listing.id)]
        price = model_price(target, endpoints[listing.id], form)
        if price is not None:
            pinned = price.served_by(take_apart(model).providers)
            found[model] = msgspec.structs.replace(pinned, model=model)
            if target is not listing:
                found.setdefault(target.id, price)
    return found


# ── What the documents say ───────────────────────────────────────────────────────────────────────


class _Document(msgspec.Struct):
    data: Raw = _NULL
    error: object = None


class _Entry(msgspec.Struct):
    """What a model in the catalogue and a provider of a model have in common."""

    pricing: dict[str, Raw] | None = None
    variable_pricings: list[dict[str, Raw]] | None = None
    max_completion_tokens: Raw = _NULL


class _Named(msgspec.Struct):
    """What an alias may be told to stand for."""

    id: str = ""
    canonical_slug: str = ""


class _TopProvider(msgspec.Struct):
    max_completion_tokens: Raw = _NULL
    pricing: dict[str, Raw] | None = None


class Listed(_Entry, kw_only=True):
    """A model of the catalogue: its id, and what its default provider asks."""

    id: str
    canonical_slug: str | None = None
    context_length: Raw = _NULL
    supported_parameters: object = None
    top_provider: _TopProvider | None = None


def _is_in_texts(listed: Listed) -> bool:
    pricing = listed.pricing or (listed.top_provider and listed.top_provider.pricing) or {}
    return any(bytes(pricing.get(key, _NULL)).startswith(b'"') for key in ("prompt", "completion"))


class _Provider(_Entry):
    provider_name: str | None = None
    name: str | None = None
    tag: str | None = None


class _Providers(msgspec.Struct):
    endpoints: list[Raw]


def read_catalogue(document: bytes) -> dict[str, Listed] | None:
    """Parse `GET /models` into its models by id; None for anything that is no catalogue.

    Entries of another form are left out. Raises `ServiceUnavailable` for an error under 200.
    """
    entries = _decode(_data(document), list[Raw])
    if entries is None:
        return None
    listed = (_decode(entry, Listed) for entry in entries)
    return {model.id: model for model in listed if model is not None}


def model_price(listed: Listed, endpoints: bytes = b"", form: Form = PLAIN) -> ModelPrice | None:
    """Join a model of the catalogue and its `…/endpoints`; None if any price cannot be read.

    `endpoints` that are empty or of another form leave the catalogue's word alone. The default
    offer comes first: the one with the catalogue's prices, or the catalogue itself (provider "").
    Raises `ServiceUnavailable` for an error under 200.
    """
    providers = _decode(_data(endpoints), _Providers)
    try:
        offers = (
            [_provider_offer(entry, form) for entry in providers.endpoints] if providers else []
        )
        if listed.pricing is not None or (listed.top_provider and listed.top_provider.pricing):
            offers = _default_first(_listed_offer(listed, form), offers)
    except (ValueError, RecursionError):
        return None
    if not offers:
        return None
    context, parameters = _count(listed.context_length) or None, _names(listed)
    price = ModelPrice(listed.id, tuple(offers), context, parameters=parameters)
    return price.in_lane(form.lane)


def _names(listed: Listed) -> tuple[str, ...]:
    told = listed.supported_parameters
    return tuple(str(each) for each in told) if isinstance(told, list) else ()


def _default_first(listed: Offer, offers: list[Offer]) -> list[Offer]:
    usual = (offer for offer in offers if not offer.service_tier)
    default = next((offer for offer in usual if offer.rates == listed.rates), listed)
    return [default, *(offer for offer in offers if offer is not default)]


def _listed_offer(listed: Listed, form: Form) -> Offer:
    top = listed.top_provider or _TopProvider()
    if listed.pricing is None:
        listed = msgspec.structs.replace(listed, pricing=top.pricing)
    return _offer(listed, "", top.max_completion_tokens, form)


def _provider_offer(entry: Raw, form: Form) -> Offer:
    provider = msgspec.json.decode(entry, type=_Provider)
    name = provider.provider_name or provider.name or ""
    offer = _offer(provider, name, provider.max_completion_tokens, form)
    tag = provider.tag or ""
    lane = lane_of(tag)
    return msgspec.structs.replace(offer, tag=tag, provider=f"{name}/{lane}" if lane else name)


def _offer(entry: _Entry, provider: str, max_completion_tokens: Raw, form: Form) -> Offer:
    base = entry.pricing or {}
    tiers = tuple(_tier(base, variable, form) for variable in entry.variable_pricings or ())
    # A longest answer of 0 tokens would be a bound of nothing, so it counts as not told.
    return Offer(provider, _rates(base, form), tiers, _count(max_completion_tokens) or None)


def _tier(base: Mapping[str, Raw], variable: Mapping[str, Raw], form: Form) -> Tier:
    """Of a condition that is not known here, the rates are kept all the same: for the bound."""
    rates = _rates({**base, **_given(variable)}, form)
    kind = _text(variable.get("type", _NULL))
    if kind == "prompt-threshold":
        return Tier(rates, prompt_over=_count(variable.get("threshold", _NULL)))
    if kind == "time-of-day":
        start, end = (_text(variable.get(key, _NULL)) for key in ("utc_start", "utc_end"))
        return Tier(rates, utc_start=start, utc_end=end)
    return Tier(rates)


def _rates(pricing: Mapping[str, Raw], form: Form) -> Rates:
    """`ValueError` without both main prices, or for one that is not an amount (`-1`, text)."""
    given = _given(pricing)
    if form.numbers_only and any(bytes(given.get(key, b"")).startswith(b'"') for key in form.keys):
        raise InvalidValue(N_("prices are strings"))
    told = {
        listed.part: _per_one(parse_amount(_text(given[key])), listed.per, form.rate)
        for key, listed in form.keys.items()
        if key in given
    }
    if "prompt" not in told or "completion" not in told:
        raise InvalidValue(N_("the input or output price is missing"))
    return Rates(**told)


def _per_one(amount: Decimal, per: int, rate: Decimal) -> Decimal:
    found = times(times(amount, Decimal(1) / per), rate)
    if not is_amount(found):
        raise InvalidValue(N_("a price has too many digits"))
    return found


def _given(pricing: Mapping[str, Raw]) -> dict[str, Raw]:
    return {key: value for key, value in pricing.items() if bytes(value) not in (b"null", b"{}")}


def _text(value: Raw) -> str:
    """Take a number as written, or a string without its quotes; escapes stay as they are."""
    text = bytes(value).decode()
    return text[1:-1] if text.startswith('"') else text


def _count(value: Raw) -> int | None:
    text = _text(value)
    return int(text) if _COUNT.fullmatch(text) else None


def _data(document: bytes) -> bytes | Raw:
    found = _decode(document, _Document)
    if found is None:
        return _NULL
    if found.error:
        raise ServiceUnavailable(
            N_("the endpoint answered with an error when asked for its prices"), hint=HINT
        )
    return found.data


def _decode(document: bytes | Raw, form: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(document, type=form)
    except (ValueError, RecursionError):
        return None
