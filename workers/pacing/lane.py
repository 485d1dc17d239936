"""Requests of one model on their way to the endpoint, in turn, as the pace allows.

    ready ──admitted──→ called ──→ ended
      ▲                   │
      └──── later ◄───────┘

Where the endpoint seems to be down, one call at a time probes it (`outage`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.chunk import Terms
from workers.pacing.backoff import Dice
from workers.pacing.line import Line
from workers.pacing.outage import TROUBLE, Outage, Sign
from workers.pacing.pace import Pace, strictest
from workers.pacing.retry_budget import RetryBudget
from workers.ticket import Ticket
from workers.toll import Toll

TICK_S = 0.1
"""The shared pace is asked this often while things happen: at most ten round trips a second."""

REST_S = 1.0
"""And this often while nothing does."""

log = logging.getLogger("nightshift.lane")


@dataclass(frozen=True)
class Hindrance:
    """What the endpoint last said instead of an answer, to the request `body`."""

    code: str
    message: str
    status: int | None
    body: bytes


class Lane:
    """The queue of one pace.

    `call` starts the call of a ticket that was admitted, `refuse` takes one that may not be called
    after all, `may_start` says whether anything may start at the moment.
    """

    def __init__(
        self,
        pace: Pace,
        call: Callable[[Ticket], None],
        refuse: Callable[[Ticket], bool],
        may_start: Callable[[], bool],
        dice: Dice,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace = pace
        self.outage = Outage(dice, clock)
        self._clock = clock
        self._call = call
        self._refuse = refuse
        self._may_start = may_start
        self._dice = dice
        self._budget = RetryBudget(clock)
        self._line = Line()
        self._terms: dict[str, Terms] = {}
        self._later: dict[int, tuple[asyncio.TimerHandle, Ticket]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()
        self._probe: Ticket | None = None
        self.hindrance: Hindrance | None = None

    @property
    def waiting(self) -> int:
        """Tickets that are ready or wait for their next try."""
        return len(self._line) + len(self._later)

    @property
    def is_held_up(self) -> bool:
        """Whether nothing goes for long, or nothing but a probe now and then."""
        return self.outage.is_on or self.pace.waits_long

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, and the shared pace knows."""
        return not self._has_work and (self._task is None or self._task.done())

    @property
    def _has_work(self) -> bool:
        return bool(self._line or self._later or self.pace.in_flight)

    def set_terms(self, job: str, terms: Terms | None) -> None:
        """What a job wishes by now, None: it is done here. The strictest limits count for all."""
        if terms is None:
            self._terms.pop(job, None)
        else:
            self._terms[job] = terms
        self._line.set_share(job, None if terms is None else terms.share)
        if self._terms:
            self.pace.set_terms(strictest(self._terms.values()))

    def knows(self, job: str) -> bool:
        """Whether something of the job is, or lately was, here."""
        return job in self._terms

    def add(self, tickets: list[Ticket]) -> None:
        """New tickets, behind those of their job that wait."""
        self._line.add(tickets)
        self._ensure_running()
        self.pump()

    def again(self, ticket: Ticket, delay_s: float, *, budgeted: bool = False) -> None:
        """This ticket tries again after a while, before those that were never called.

        `budgeted`: only when the budget of repetitions has one left.
        """
        ticket.is_budgeted = budgeted
        handle = asyncio.get_running_loop().call_later(delay_s, self._due, ticket)
        self._later[id(ticket)] = (handle, ticket)
        self._ensure_running()

    def ended(self, ticket: Ticket, sign: Sign) -> None:
        """The call of a ticket ended."""
        if self._probe is ticket:
            self._probe = None
        was_on = self.outage.is_on
        told = self.outage.note(sign, ticket.left_at)
        if told is Sign.ALIVE:
            self.pace.alive()
        elif told in {Sign.FAULTY, Sign.AWAY}:
            # What this process takes for an outage is one for all.
            self.pace.faulty(1 if was_on or not self.outage.is_on else TROUBLE)
        if sign is Sign.ALIVE:
            self.hindrance = None
        self._stir.set()

    def lift(self) -> None:
        """Waits end now, and somebody looks at once whether the endpoint is back."""
        self.pace.lift()
        self.outage.look_now()
        for handle, ticket in list(self._later.values()):
            handle.cancel()
            self._due(ticket)
        self._ensure_running()

    def take_back(self, wanted: Callable[[Ticket], bool]) -> list[Ticket]:
        """Removes and returns all waiting tickets of which `wanted` is true."""
        back = self._line.take_back(wanted)
        for key, (handle, ticket) in list(self._later.items()):
            if wanted(ticket):
                handle.cancel()
                del self._later[key]
                back.append(ticket)
        self._stir.set()
        return back

    def pump(self) -> None:
        """Starts as many calls as may start now."""
        while self._line and self._may_start():
            work = self._line.peek().work
            if self.outage.is_on and not self._may_probe():
                return
            toll = self.pace.try_admit(work.tokens, float(work.rub or 0))
            if toll is None:
                return
            self._let_through(self._line.pop(), toll)

    def _let_through(self, ticket: Ticket, toll: Toll) -> None:
        if self._refuse(ticket):
            self.pace.cancel(toll)
            return
        ticket.toll, ticket.left_at = toll, self._clock()
        if ticket.calls == ticket.work.attempts:
            self._budget.called()
        if self.outage.is_on:
            self._probe = ticket
            self.pace.may_probe = False
        self._call(ticket)

    def _may_probe(self) -> bool:
        return self.outage.may_probe(told=self.pace.may_probe, probing=self._probe is not None)

    def _due(self, ticket: Ticket) -> None:
        self._later.pop(id(ticket), None)
        if ticket.is_budgeted and not self._budget.take():
            self.again(ticket, self._dice(1.0, 3.0), budgeted=True)
            return
        if self.outage.is_on:
            # Others probe first, so that no request uses itself up.
            self._line.add([ticket])
        else:
            self._line.add_first(ticket)
        self._ensure_running()
        self.pump()

    def _ensure_running(self) -> None:
        self._stir.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"lane {self.pace.scope}")

    async def _run(self) -> None:
        """Talks to the shared pace while there is something to do."""
        while True:
            while self._has_work:
                self._stir.clear()
                await self._tick(len(self._line))
                self.pump()
                await self._rest()
            await self._tick(0)
            # Work may have come while the pace was told that there is none.
            if not self._has_work:
                return

    async def _rest(self) -> None:
        """Until it is time to ask again: soon if something happened or drops are waited for."""
        # A little apart each time, so that no worker's turn is always before another's.
        await asyncio.sleep(TICK_S * self._dice(0.8, 1.2))
        if self._line and self.pace.is_metered and not self.pace.pause_s:
            return
        rest = min(self.pace.pause_s or REST_S, self.outage.wait_s, REST_S)
        try:
            async with asyncio.timeout(rest):
                await self._stir.wait()
        except TimeoutError:
            return

    async def _tick(self, ready: int) -> None:
        work = self._line.peek().work if self._line else None
        try:
            await self.pace.exchange(
                ready,
                work.tokens if work else 0,
                float(work.rub or 0) if work else 0.0,
                self._line.share,
            )
        except ConnectionError:
            # Without Redis the last share stays; what happened is told when it is back.
            return
        except Exception as error:
            log.error("the shared pace stumbled: %s", type(error).__name__)  # noqa: TRY400
            log.debug("", exc_info=error)
            return
        self.outage.heard(self.pace.down_s)
