"""What the endpoint says of money when it is asked: the cost of a call, the balance."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from jobs.credits import balance_of
from jobs.gateways import ONE
from jobs.money import is_amount, parse_amount, times
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


_MOST_TOKENS = 2**40
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_decoder = msgspec.json.Decoder(_Generation)


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
    """The balance in the endpoint's money, None where it isn't told; may be below zero."""
    if not isinstance(answer, Reply) or answer.status != 200:
        return None
    return balance_of(answer.body)
