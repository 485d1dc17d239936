"""The balance of an account, as `GET /credits` tells it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from jobs.money import is_amount, subtract


class _Balance(msgspec.Struct):
    """RouterAI tells `credits`; OpenRouter what was bought and what was used."""

    credits: Decimal | None = None
    total_credits: Decimal | None = None
    total_usage: Decimal | None = None


class _Credits(msgspec.Struct):
    data: _Balance


_decode = msgspec.json.Decoder(_Credits).decode


def balance_of(body: bytes) -> Decimal | None:
    """The balance in the endpoint's money, None where it isn't told; may be below zero."""
    try:
        balance = _difference(_decode(body).data)
    except (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError):
        return None
    return balance if balance is not None and is_amount(balance.copy_abs()) else None


def _difference(data: _Balance) -> Decimal | None:
    if data.credits is not None:
        return data.credits
    if data.total_credits is None or data.total_usage is None:
        return None
    return subtract(data.total_credits, data.total_usage)
