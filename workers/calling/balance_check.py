"""The balance, asked for when a call is told that there is no money: that is not always true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from jobs.worker_heartbeat import Rest
from workers.calling.endpoint import Answer
from workers.calling.lookup import balance_in

REST_S = 1.0
"""So long after the last call the account is thought to have heard of it."""

FRESH_S = 10.0
PATIENCE_S = 20.0


class Teller(Protocol):
    """What is asked of the endpoint's client."""

    async def credits(self) -> Answer:
        """The balance."""


class Resting:
    """Asks for the balance when a worker begins and whenever it has come to rest.

    What the account lost between two rests, and what is known to have been spent: where they agree,
    calls whose cost nobody told cost nothing.
    """

    def __init__(self, teller: Teller, clock: Callable[[], float]) -> None:
        self._teller = teller
        self._clock = clock
        self._rests_since = float("-inf")
        self._is_asked = False
        self.last: Rest | None = None

    def stirred(self) -> None:
        """Something is in flight, or may be at any moment."""
        self._rests_since = self._clock()
        self._is_asked = False

    async def look(self) -> bool:
        """To be called now and then while nothing is in flight; whether it asked."""
        since = self._rests_since
        if self._is_asked or self._clock() - since < REST_S:
            return False
        rub = await _told(self._teller)
        if self._rests_since == since:
            self._is_asked = True
            self.last = None if rub is None else Rest(rub, time.time())
        return True


async def _told(teller: Teller) -> Decimal | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return balance_in(await teller.credits())
    except TimeoutError:
        return None


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
                balance = await _told(self._teller)
                self._known = (self._clock(), balance)
            return balance
