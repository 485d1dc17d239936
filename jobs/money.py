"""Roubles: exact decimals from the endpoint's bytes to the page.

A cost such as 0.0000522948192 has more digits than a float keeps when a million of them are
summed, and Python's default decimal precision of 28 would round without a word. Here precision is
60 and rounding is an error; only `show` rounds, to kopecks, for the eye.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

ZERO = Decimal(0)
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])
_ROUNDING = Context(prec=60, traps=[InvalidOperation, Overflow, DivisionByZero])
_AMOUNT = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")
_QUANTUM = Decimal("1e-12")
_SMALLEST = Decimal("1e-18")
_KOPECK = Decimal("0.01")
_HIGHEST, _LOWEST = 15, -30
"""Powers of ten that a digit may stand for; of the 60 digits this leaves 14 to sums and counts."""

_MOST_ZEROS = 200
"""Zeros that a zero may be written with."""


def parse_amount(text: str) -> Decimal:
    """A non-negative amount in plain or exponent notation, ASCII digits only.

    Raises `ValueError` for signs, NaN, Infinity, underscores, foreign digits, and for amounts of
    10^16 and more or with digits below 10^-30: none of them is a price or a cost.
    """
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"not an amount of money: {text[:40]!r}")
    amount = Decimal(text)
    if not is_amount(amount):
        raise ValueError(f"not an amount of money: {text[:40]!r}")
    return amount


def is_amount(value: Decimal) -> bool:
    """Whether a number can be a price or a cost: finite, unsigned, of a size that sums bear."""
    # Nearly all are as short as this, and `as_tuple` alone takes three times as long (1.3 µs).
    text = str(value)
    if len(text) <= _HIGHEST and text.replace(".", "", 1).isdigit():
        return True
    if not value.is_finite() or value.is_signed():
        return False
    exponent = int(value.as_tuple().exponent)
    if not value:
        return abs(exponent) <= _MOST_ZEROS
    return value.adjusted() <= _HIGHEST and exponent >= _LOWEST


def add(left: Decimal, right: Decimal) -> Decimal:
    """The exact sum."""
    return EXACT.add(left, right)


def subtract(left: Decimal, right: Decimal) -> Decimal:
    """The exact difference."""
    return EXACT.subtract(left, right)


def times(amount: Decimal, count: int | Decimal) -> Decimal:
    """The exact product."""
    return EXACT.multiply(amount, Decimal(count))


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum of all."""
    result = ZERO
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def round_up(amount: Decimal) -> Decimal:
    """The amount rounded up at 1e-12 rouble: upper bounds may only grow."""
    return amount.quantize(_QUANTUM, ROUND_CEILING, _ROUNDING)


def stretch(amount: Decimal, start: int, stop: int, whole: int) -> Decimal:
    """What falls on the stretch from `start` to `stop` of an amount that is laid out over `whole`.

    Both ends are rounded down at 1e-18 rouble, the last is not rounded: stretches that follow each
    other add up to the amount exactly.
    """
    return EXACT.subtract(_until(amount, stop, whole), _until(amount, start, whole))


def _until(amount: Decimal, place: int, whole: int) -> Decimal:
    if place == whole:
        return amount
    share = _ROUNDING.divide(_ROUNDING.multiply(amount, Decimal(place)), Decimal(whole))
    return share.quantize(_SMALLEST, ROUND_FLOOR, _ROUNDING)


def plain(amount: Decimal) -> str:
    """The exact amount as a plain decimal string, without exponent or trailing zeros."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rounded_up(amount: Decimal) -> Decimal:
    """The next figure with two digits: 0.0123 → 0.013, 1234 → 1300; for a person to type."""
    return amount.quantize(Decimal(1).scaleb(amount.adjusted() - 1), ROUND_CEILING, _ROUNDING)


def show(amount: Decimal) -> str:
    """The amount for a person: kopecks, half-even, thousands apart: `1,234.56 ₽`.

    Amounts under a rouble keep four significant digits, since whole jobs may cost kopecks.
    """
    rounded = amount.quantize(_KOPECK, ROUND_HALF_EVEN, _ROUNDING)
    if ZERO < abs(amount) < 1:
        places = 3 - amount.adjusted()
        rounded = amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN, _ROUNDING)
        whole, _, kopecks = plain(rounded).partition(".")
        return f"{whole}.{kopecks:0<2} ₽"
    return f"{rounded:,.2f} ₽"
