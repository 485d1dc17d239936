"""Prices that the user gives by hand, for endpoints that list none: a small TOML or JSON file.

currency = "RUB"                # or "USD", with --usd-rate

[models."my/model"]
prompt = "45"                   # per million tokens, exact: as text, or as a number
completion = "180"
cached = "22.5"                 # optional: prompt tokens that were read from a cache
cache_write = "56.25"           # optional
request = "0.01"                # optional: per request
max_completion_tokens = 16384   # optional: the longest answer

[[models."my/model".over]]      # optional: prices of whole requests with a longer prompt
prompt_tokens = 200000
prompt = "90"
completion = "360"
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jobs.errors import InvalidValue, UsageError, told_by
from jobs.gateways import ONE, RUB, USD
from jobs.message import N_, Message
from jobs.money import is_amount, parse_amount, times
from jobs.prices import MILLION, ModelPrice, Offer, PriceList, Rates, Tier

_PER_TOKEN = Decimal(1) / MILLION
_LARGEST = 2**20


def _amount(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        # pydantic takes no other error for a mistake in the data.
        raise InvalidValue(N_('is not a price; write it as text, such as "45.50"'))
    return parse_amount(str(value))


Amount = Annotated[Decimal, BeforeValidator(_amount)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Prices(_Form):
    prompt: Amount
    completion: Amount
    cached: Amount | None = None
    cache_write: Amount | None = None
    request: Amount = Decimal(0)


class _Over(_Prices):
    prompt_tokens: Annotated[int, Field(ge=0, strict=True)]


class _Model(_Prices):
    max_completion_tokens: Annotated[int, Field(gt=0, strict=True)] | None = None
    over: tuple[_Over, ...] = ()


class _File(_Form):
    currency: str = RUB
    models: dict[str, _Model]


def read_price_file(path: Path, usd_rate: Decimal | None, *, now: float) -> PriceList:
    """The prices in the file, as a list of its own. `UsageError` names the place of a mistake."""
    data = _bytes(path)
    try:
        content = _File.model_validate(_content(path, data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or N_("the file")
        told = Message("{path}: {where}: {why}", path=path, where=where, why=told_by(first))
        raise UsageError(told, hint=_HINT) from None
    rate = _rate(path, content.currency, usd_rate)
    try:
        models = {name: _model(name, each, rate) for name, each in content.models.items()}
    except (ValueError, ArithmeticError):
        raise UsageError(N_("{path}: a price has too many digits", path=path), hint=_HINT) from None
    return PriceList(now, str(path), hashlib.sha256(data).hexdigest(), models)


_HINT = N_("docs/money.md describes price files")


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(
            N_("the price file {path} cannot be read: {why}", path=path, why=error)
        ) from None
    if len(data) > _LARGEST:
        raise UsageError(N_("the price file {path} is larger than 1 MiB", path=path))
    return data


def _content(path: Path, data: bytes) -> Any:
    try:
        text = data.decode()
        if path.suffix == ".json":
            return json.loads(text, parse_float=Decimal, parse_constant=_no_number)
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise UsageError(
            N_("{path} is not {kind}: {why}", path=path, kind=kind, why=error), hint=_HINT
        ) from None


def _no_number(text: str) -> Decimal:
    raise InvalidValue(N_("{text} is not a number", text=text))


def _rate(path: Path, currency: str, usd_rate: Decimal | None) -> Decimal:
    if currency == RUB:
        return ONE
    if currency != USD:
        raise UsageError(
            N_(
                "{path}: the currency must be RUB or USD, not {currency!r}",
                path=path,
                currency=currency,
            )
        )
    if usd_rate is None:
        raise UsageError(
            N_("{path} has prices in dollars", path=path), hint=N_("set the rate: --usd-rate 90.5")
        )
    return usd_rate


def _model(name: str, model: _Model, rate: Decimal) -> ModelPrice:
    tiers = tuple(Tier(_rates(over, rate), prompt_over=over.prompt_tokens) for over in model.over)
    offer = Offer("", _rates(model, rate), tiers, model.max_completion_tokens)
    return ModelPrice(name, (offer,), by_hand=True)


def _rates(prices: _Prices, rate: Decimal) -> Rates:
    per_token = times(rate, _PER_TOKEN)
    return Rates(
        _times(prices.prompt, per_token),
        _times(prices.completion, per_token),
        None if prices.cached is None else _times(prices.cached, per_token),
        None if prices.cache_write is None else _times(prices.cache_write, per_token),
        _times(prices.request, rate),
    )


def _times(amount: Decimal, rate: Decimal) -> Decimal:
    found = times(amount, rate)
    if not is_amount(found):
        raise InvalidValue(N_("too many digits"))
    return found
