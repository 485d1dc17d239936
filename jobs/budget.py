"""Caps, and the grant: what a chunk may spend, set aside before it is sent.

settled + granted <= cap, at every moment and whatever dies: the coordinator sets a chunk's grant
aside on disk before the chunk leaves, and the worker takes each call's bound from the grant before
it sends the call. It opens the grant little by little, and may use no more than the coordinator has
on disk as opened: of a worker that is gone for good, only that much can have been spent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar

import msgspec

from jobs.constraints import Count
from jobs.money import ZERO, add, subtract, times

N = TypeVar("N", Decimal, int)


class Amount(msgspec.Struct, frozen=True, array_like=True):
    """Roubles and tokens together; a part that is None is not counted (no price, no cap)."""

    rub: Decimal | None = None
    tokens: Count | None = None

    def fits(self, within: Amount) -> bool:
        """Whether this much may be taken out of `within`; an unknown cost never fits a cap."""
        rub_fits = within.rub is None or (self.rub is not None and self.rub <= within.rub)
        tokens_fit = within.tokens is None or (
            self.tokens is not None and self.tokens <= within.tokens
        )
        return rub_fits and tokens_fit

    def __add__(self, other: Amount) -> Amount:
        rub = None if self.rub is None or other.rub is None else add(self.rub, other.rub)
        tokens = None
        if self.tokens is not None and other.tokens is not None:
            tokens = self.tokens + other.tokens
        return Amount(rub, tokens)

    def __sub__(self, other: Amount) -> Amount:
        rub = None if self.rub is None or other.rub is None else subtract(self.rub, other.rub)
        tokens = None
        if self.tokens is not None and other.tokens is not None:
            tokens = self.tokens - other.tokens
        return Amount(rub, tokens)

    def __mul__(self, count: int) -> Amount:
        return Amount(
            None if self.rub is None else times(self.rub, count),
            None if self.tokens is None else self.tokens * count,
        )

    def least(self, other: Amount) -> Amount:
        """The smaller of each part; a part that only one has is that one's."""
        return Amount(_least(self.rub, other.rub), _least(self.tokens, other.tokens))

    def most(self, other: Amount) -> Amount:
        """The larger of each part, if both have it."""
        return Amount(_most(self.rub, other.rub), _most(self.tokens, other.tokens))


def _least(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _most(one: N | None, other: N | None) -> N | None:
    return None if one is None or other is None else max(one, other)


UNCAPPED = Amount()
NOTHING = Amount(ZERO, 0)

AHEAD_OF = 4
"""A grant is opened for one call more than are in flight or wait for it, and a part of these."""

AHEAD_S = 0.5
"""And at least for what its calls use up in so long: to ask takes a tenth of that."""


class Grant:
    """A chunk's allowance at the worker, of which it uses no more than is `opened`.

    What is used is what calls have or may have cost, with the bounds of those in flight, of which
    there are `out`. A part that no cap limits is not counted where a call has no bound in it.
    """

    def __init__(self, whole: Amount, bounds: Iterable[Amount] | None = None) -> None:
        """`bounds` are those of its calls, of which nothing is opened yet; without them the whole
        is open.
        """
        self._whole = whole
        self._largest = UNCAPPED if bounds is None else _largest(whole, list(bounds))
        self.opened = self._room = whole if bounds is None else self._largest * 0
        self.out = 0
        self._low = NOTHING
        self._ended, self._opened_at, self._in_a_while = 0.0, float("-inf"), 0

    @property
    def left(self) -> Amount:
        """What is not used, opened or not; None in the parts that no cap limits."""
        return self._whole - self.opened + self._room

    @property
    def is_low(self) -> bool:
        """Whether more is to be opened by now, so that no call will wait for it."""
        return not self._low.fits(self._room) and self.wider() != self.opened

    def has_room(self, bound: Amount) -> bool:
        """Whether a call fits what is opened."""
        return bound.fits(self._room)

    def take(self, bound: Amount) -> bool:
        """Sets one call's bound aside; False when it does not fit what is opened."""
        if not bound.fits(self._room):
            return False
        self._room = _less(self._room, bound)
        self.out += 1
        return True

    def settle(self, bound: Amount, spent: Amount) -> None:
        """A call ended: its bound comes back but for what it cost, or may have cost."""
        self._room = _less(self._room, _less(spent, bound))
        self.out -= 1

    def wider(self, calls: int = 0) -> Amount:
        """What is to be opened, so that so many more calls may leave, and a few behind them."""
        wanted = self._largest * (calls + self._ahead(calls)) - self._room + self.opened
        return wanted.most(self.opened).least(self._whole)

    def _ahead(self, calls: int) -> int:
        return max(1 + (self.out + calls) // AHEAD_OF, self._in_a_while)

    def open(self, amount: Amount, now: float) -> None:
        """So much may be used by `now`, monotonic seconds: that is on disk in the home."""
        self._room += amount - self.opened
        self.opened = amount
        ended = max(0.0, self._in_calls(amount - self._room) - self.out)
        lasted = max(now - self._opened_at, AHEAD_S)
        self._in_a_while = math.ceil(max(0.0, ended - self._ended) * AHEAD_S / lasted)
        self._ended, self._opened_at = ended, now
        # The half of what is ahead, or of what is not opened.
        low = self._largest * ((self._ahead(0) + 1) // 2)
        self._low = low.least(self._whole - amount)

    def _in_calls(self, amount: Amount) -> float:
        """How many of the largest calls may cost that."""
        if amount.rub is not None and self._largest.rub:
            return float(amount.rub) / float(self._largest.rub)
        return (amount.tokens or 0) / (self._largest.tokens or 1)


def _less(amount: Amount, part: Amount) -> Amount:
    """What is left; a part of which nothing is known takes nothing."""
    rub, tokens = amount.rub, amount.tokens
    if rub is not None and part.rub is not None:
        rub = subtract(rub, part.rub)
    if tokens is not None and part.tokens is not None:
        tokens -= part.tokens
    return Amount(rub, tokens)


def _largest(whole: Amount, bounds: list[Amount]) -> Amount:
    """The most of each part; None where it is not known of one of them, and no cap asks for it."""
    rub = [each.rub for each in bounds if each.rub is not None]
    tokens = [each.tokens for each in bounds if each.tokens is not None]
    return Amount(
        None if whole.rub is None and len(rub) < len(bounds) else max(rub, default=ZERO),
        None if whole.tokens is None and len(tokens) < len(bounds) else max(tokens, default=0),
    )
