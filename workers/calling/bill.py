"""What an answer says of its price: tokens and money, in all the forms that gateways use."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from jobs.gateways import ROUBLES, Tariff
from jobs.money import is_amount, parse_amount, times
from jobs.outcome import Billing, Charge
from jobs.prices import SERVICE_TIERS
from jobs.usage import Usage
from workers.calling.reading import Json, count_in, text_of

_COST_HEADER = "x-litellm-response-cost"
_TOTALS = ("total_cost", "total", "cost")
"""Where a cost is an object of its parts."""


def charge_of(
    document: Json, tariff: Tariff = ROUBLES, headers: Mapping[str, str] | None = None
) -> Charge | None:
    """What an answer says of its price, or None when it says nothing of one.

    Only the fields of the tariff count, and LiteLLM's header where it may tell a cost at all:
    `cost_details` is in dollars everywhere.
    """
    fields = document.get("usage") if isinstance(document, dict) else None
    header = (headers or {}).get(_COST_HEADER) if tariff.fields else None
    if not isinstance(fields, dict):
        if header is None:
            return None
        fields = {}
    told = _first(fields, tariff.fields, header)
    amount = _amount(told, tariff.rate)
    billing = Billing.UNKNOWN if amount is None else Billing.KNOWN
    return Charge(billing, amount, _usage(fields), served_by(document))


def served_by(document: Json) -> str:
    """The provider, and behind a slash the service tier where it was not the usual one."""
    if not isinstance(document, dict):
        return ""
    provider, tier = text_of(document.get("provider")), document.get("service_tier")
    return f"{provider}/{tier}" if tier in SERVICE_TIERS else provider


def _amount(told: Json, rate: Decimal) -> Decimal | None:
    """An exact cost in ₽: a number, the same as text, or the total of an object."""
    if isinstance(told, dict):
        told = _first(told, _TOTALS, None)
    # A bool is an int, but no price.
    if not (isinstance(told, str) or type(told) is int):
        return None
    try:
        amount = parse_amount(str(told).strip())
    except ValueError:
        return None
    if rate == 1:
        return amount
    amount = times(amount, rate)
    return amount if is_amount(amount) else None


def _first(fields: dict[str, Json], names: tuple[str, ...], otherwise: Json) -> Json:
    for name in names:
        if (value := fields.get(name)) is not None:
            return value
    return otherwise


def _usage(fields: dict[str, Json]) -> Usage | None:
    prompt = fields.get("prompt_tokens_details") or fields.get("input_tokens_details")
    answer = fields.get("completion_tokens_details") or fields.get("output_tokens_details")
    alone = () if "completion_tokens" in fields else ("total_tokens",)
    usage = Usage(
        count_in(fields, "prompt_tokens", "input_tokens", *alone),
        count_in(fields, "completion_tokens", "output_tokens"),
        count_in(prompt, "cached_tokens"),
        count_in(prompt, "cache_write_tokens"),
        count_in(answer, "reasoning_tokens"),
    )
    return usage if usage.total else None


def charge(told: Charge | None, otherwise: Charge) -> Charge:
    """The body's word when it names a cost, else what the fault lets us assume."""
    if told is None:
        return otherwise
    if told.billing is Billing.KNOWN:
        return told
    return Charge(otherwise.billing, None, told.usage, told.provider)
