"""Caps, and the grant: what a chunk may spend, set aside before it is sent.

settled + granted <= cap, at every moment and whatever dies: the coordinator sets a chunk's grant
aside on disk before the chunk leaves, and the worker takes each call's bound from the grant before
it sends the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import msgspec

from jobs.counts import Count
from jobs.money import add, subtract


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


UNCAPPED = Amount()


@dataclass
class Grant:
    """A chunk's allowance at the worker. `left` has None in the parts that no cap limits."""

    left: Amount

    def take(self, bound: Amount) -> bool:
        """Sets one call's bound aside; False when it no longer fits."""
        if not bound.fits(self.left):
            return False
        self._change(bound, -1)
        return True

    def settle(self, bound: Amount, spent: Amount) -> None:
        """A call ended: its bound comes back but for what it cost, or may have cost."""
        self._change(bound, 1)
        self._change(spent, -1)

    def _change(self, amount: Amount, sign: int) -> None:
        rub, tokens = self.left.rub, self.left.tokens
        if rub is not None and amount.rub is not None:
            rub = add(rub, amount.rub) if sign > 0 else subtract(rub, amount.rub)
        if tokens is not None and amount.tokens is not None:
            tokens += sign * amount.tokens
        self.left = Amount(rub, tokens)
