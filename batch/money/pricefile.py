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

from jobs.errors import UsageError
from jobs.gateways import ONE, RUB, USD
from jobs.money import is_amount, parse_amount, times
from jobs.prices import MILLION, ModelPrice, Offer, PriceList, Rates, Tier

_PER_TOKEN = Decimal(1) / MILLION
_LARGEST = 2**20


def _amount(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        # pydantic takes no other error for a mistake in the data.
        raise ValueError('is not a price; write it as text, such as "45.50"')  # noqa: TRY004
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
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        what = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: {where}: {what}", hint=_HINT) from None
    rate = _rate(path, content.currency, usd_rate)
    try:
        models = {name: _model(name, each, rate) for name, each in content.models.items()}
    except (ValueError, ArithmeticError):
        raise UsageError(f"{path}: a price has too many digits", hint=_HINT) from None
    return PriceList(now, str(path), hashlib.sha256(data).hexdigest(), models)


_HINT = "docs/money.md describes price files"


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"the price file {path} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise UsageError(f"the price file {path} is larger than 1 MiB")
    return data


def _content(path: Path, data: bytes) -> Any:
    try:
        text = data.decode()
        if path.suffix == ".json":
            return json.loads(text, parse_float=Decimal, parse_constant=_no_number)
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise UsageError(f"{path} is not {kind}: {error}", hint=_HINT) from None


def _no_number(text: str) -> Decimal:
    raise ValueError(f"{text} is not a number")


def _rate(path: Path, currency: str, usd_rate: Decimal | None) -> Decimal:
    if currency == RUB:
        return ONE
    if currency != USD:
        raise UsageError(f"{path}: the currency must be RUB or USD, not {currency!r}")
    if usd_rate is None:
        raise UsageError(f"{path} has prices in dollars", hint="set the rate: --usd-rate 90.5")
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
        raise ValueError("too many digits")
    return found
