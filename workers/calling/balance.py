"""The balance, asked for when a call is told that there is no money: that is not always true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from workers.calling.endpoint import Answer
from workers.calling.lookup import balance_in

FRESH_S = 10.0
PATIENCE_S = 20.0


class Teller(Protocol):
    """What is asked of the endpoint's client."""

    async def credits(self) -> Answer:
        """The balance."""


class Balance:
    """₽ on the account, asked for once however many calls wonder."""

    def __init__(self, teller: Teller, clock: Callable[[], float]) -> None:
        self._teller = teller
        self._clock = clock
        self._known: tuple[float, Decimal | None] = (float("-inf"), None)
        self._asking = asyncio.Lock()

    async def bears(self, cost: Decimal) -> bool | None:
        """Whether there is money for a call of this cost; None where nobody tells."""
        balance = await self._ask()
        return None if balance is None else balance > 0 and balance >= cost

    async def _ask(self) -> Decimal | None:
        async with self._asking:
            when, balance = self._known
            if self._clock() - when > FRESH_S:
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        balance = balance_in(await self._teller.credits())
                except TimeoutError:
                    balance = None
                self._known = (self._clock(), balance)
            return balance
