"""What the endpoint says of money when it is asked: the cost of a call, the balance."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from jobs.gateways import ONE
from jobs.money import is_amount, parse_amount, subtract, times
from jobs.usage import Usage
from jobs.wire import Found
from workers.calling.endpoint import Answer, Reply


class _Data(msgspec.Struct):
    total_cost: Decimal | None = None
    tokens_prompt: int | None = None
    tokens_completion: int | None = None
    native_tokens_cached: int | None = None
    native_tokens_reasoning: int | None = None
    provider_name: str | None = None


class _Generation(msgspec.Struct):
    data: _Data


class _Balance(msgspec.Struct):
    """RouterAI tells `credits`; OpenRouter what was bought and what was used."""

    credits: Decimal | None = None
    total_credits: Decimal | None = None
    total_usage: Decimal | None = None


class _Credits(msgspec.Struct):
    data: _Balance


_MOST_TOKENS = 2**40
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_decoder = msgspec.json.Decoder(_Generation)
_credits = msgspec.json.Decoder(_Credits)


def found_in(answer: Answer, ordinal: int, call: str, rate: Decimal = ONE) -> Found:
    """The cost in ₽, exact from the raw bytes; `cost` None while the endpoint does not know it.

    `rate` is how many roubles a unit of the endpoint's money is.
    """
    data = _data(answer)
    if data is None or data.total_cost is None:
        return Found(ordinal, call, None)
    try:
        cost = times(parse_amount(str(data.total_cost)), rate)
    except (ValueError, ArithmeticError):
        return Found(ordinal, call, None)
    if not is_amount(cost):
        return Found(ordinal, call, None)
    return Found(ordinal, call, cost, _usage(data), data.provider_name or "")


def _data(answer: Answer) -> _Data | None:
    if not isinstance(answer, Reply) or answer.status != 200:
        return None
    try:
        return _decoder.decode(answer.body).data
    except _UNREADABLE:
        return None


def _usage(data: _Data) -> Usage | None:
    if data.tokens_prompt is None or data.tokens_completion is None:
        return None
    usage = Usage(
        data.tokens_prompt,
        data.tokens_completion,
        data.native_tokens_cached or 0,
        0,
        data.native_tokens_reasoning or 0,
    )
    sane = all(0 <= count <= _MOST_TOKENS for count in msgspec.structs.astuple(usage))
    return usage if sane else None


def balance_in(answer: Answer) -> Decimal | None:
    """The balance in ₽, None where the endpoint does not tell it; may be below zero."""
    if not isinstance(answer, Reply) or answer.status != 200:
        return None
    try:
        data = _credits.decode(answer.body).data
    except _UNREADABLE:
        return None
    try:
        balance = _balance(data)
    except ArithmeticError:
        return None
    return balance if balance is not None and is_amount(balance.copy_abs()) else None


def _balance(data: _Balance) -> Decimal | None:
    if data.credits is not None:
        return data.credits
    if data.total_credits is None or data.total_usage is None:
        return None
    return subtract(data.total_credits, data.total_usage)
