"""Requests of one model on their way to the endpoint, in turn, as the pace allows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from workers.pace import Pace
from workers.ticket import Ticket

TICK_S = 0.1
"""The shared pace is asked this often while there is work."""

TROUBLE = 8
"""So many faults in a row, with no success between, are an outage: probe instead of trying all."""


class Lane:
    """The queue of one pace. `call` starts the call of a ticket that was admitted."""

    def __init__(
        self, pace: Pace, call: Callable[[Ticket], None], refuse: Callable[[Ticket], bool]
    ) -> None:
        self.pace = pace
        self._call = call
        self._refuse = refuse
        self._ready: deque[Ticket] = deque()
        self._later: dict[int, tuple[asyncio.TimerHandle, Ticket]] = {}
        self._task: asyncio.Task[None] | None = None
        self.trouble = 0

    @property
    def waiting(self) -> int:
        """Tickets that are ready or wait for their next try."""
        return len(self._ready) + len(self._later)

    @property
    def in_outage(self) -> bool:
        """Whether the endpoint seems to be down for this model."""
        return self.trouble >= TROUBLE

    def add(self, tickets: list[Ticket]) -> None:
        """New tickets, behind those that wait."""
        self._ready.extend(tickets)
        self._ensure_running()
        self.pump()

    def again(self, ticket: Ticket, delay_s: float) -> None:
        """This ticket tries again after a while, before those that were never called."""
        loop = asyncio.get_running_loop()
        handle = loop.call_later(delay_s, self._due, ticket)
        self._later[id(ticket)] = (handle, ticket)

    def _due(self, ticket: Ticket) -> None:
        self._later.pop(id(ticket), None)
        self._ready.appendleft(ticket)
        self._ensure_running()
        self.pump()

    def take_back(self, wanted: Callable[[Ticket], bool]) -> list[Ticket]:
        """Removes and returns all waiting tickets of which `wanted` is true."""
        back = [ticket for ticket in self._ready if wanted(ticket)]
        if back:
            self._ready = deque(ticket for ticket in self._ready if not wanted(ticket))
        for key, (handle, ticket) in list(self._later.items()):
            if wanted(ticket):
                handle.cancel()
                del self._later[key]
                back.append(ticket)
        return back

    def pump(self) -> None:
        """Starts as many calls as may start now."""
        pace = self.pace
        while self._ready:
            if self.in_outage and pace.in_flight > 0:
                return
            ticket = self._ready[0]
            tokens = ticket.work.tokens
            if not pace.try_admit(tokens):
                return
            self._ready.popleft()
            if self._refuse(ticket):
                pace.cancel(tokens)
            else:
                self._call(ticket)

    def _ensure_running(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"lane {self.pace.scope}")

    async def _run(self) -> None:
        """Talks to the shared pace while there is something to do."""
        while self._ready or self._later or self.pace.in_flight:
            tokens = self._ready[0].work.tokens if self._ready else 0
            try:
                await self.pace.exchange(len(self._ready), tokens)
            except ConnectionError:
                # Without Redis the last share stays; what happened is told when it is back.
                await asyncio.sleep(TICK_S)
            self.pump()
            await asyncio.sleep(max(TICK_S, min(self.pace.pause_s, 1.0)))
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        try:
            await self.pace.exchange(0, 0)
        except ConnectionError:
            return
