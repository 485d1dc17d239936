"""Requests of one model on their way to the endpoint, in turn, as the pace allows.

    ready ──admitted──→ called ──→ ended
      ▲                   │
      └──── later ◄───────┘

After `TROUBLE` faults in a row the endpoint seems to be down: then one call at a time probes it,
and the waits between the probes grow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from workers.backoff import Dice
from workers.pace import Pace
from workers.ticket import Ticket

TICK_S = 0.1
"""The shared pace is asked this often while there is work."""

TROUBLE = 8
"""So many faults in a row, with no success between, are an outage: probe instead of trying all."""

LONGEST_PROBE_S = 32.0
"""Waits between probes double up to this: half an hour's outage sees about sixty of them."""

log = logging.getLogger("nightshift.lane")


class Sign(Enum):
    """What the end of a call says of the endpoint."""

    ALIVE = "alive"
    FAULTY = "faulty"
    NONE = "none"


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
        self._call = call
        self._refuse = refuse
        self._may_start = may_start
        self._dice = dice
        self._clock = clock
        self._ready: deque[Ticket] = deque()
        self._later: dict[int, tuple[asyncio.TimerHandle, Ticket]] = {}
        self._task: asyncio.Task[None] | None = None
        self._trouble = 0
        self._trouble_since = 0.0
        self._probes = 0
        self._probe: Ticket | None = None

    @property
    def waiting(self) -> int:
        """Tickets that are ready or wait for their next try."""
        return len(self._ready) + len(self._later)

    @property
    def in_outage(self) -> bool:
        """Whether the endpoint seems to be down for this model."""
        return self._trouble >= TROUBLE

    @property
    def outage_s(self) -> float:
        """For how long it has seemed so, in seconds."""
        return self._clock() - self._trouble_since if self.in_outage else 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, and the shared pace knows."""
        return not self._has_work and (self._task is None or self._task.done())

    @property
    def _has_work(self) -> bool:
        return bool(self._ready or self._later or self.pace.in_flight)

    def add(self, tickets: list[Ticket]) -> None:
        """New tickets, behind those that wait."""
        self._ready.extend(tickets)
        self._ensure_running()
        self.pump()

    def again(self, ticket: Ticket, delay_s: float) -> None:
        """This ticket tries again after a while, before those that were never called."""
        handle = asyncio.get_running_loop().call_later(delay_s, self._due, ticket)
        self._later[id(ticket)] = (handle, ticket)
        self._ensure_running()

    def ended(self, ticket: Ticket, sign: Sign) -> None:
        """The call of a ticket ended."""
        was_probe = self._probe is ticket
        if was_probe:
            self._probe = None
        if sign is Sign.ALIVE:
            self._trouble = self._probes = 0
        elif sign is Sign.FAULTY:
            self._trouble += 1
            if self._trouble == TROUBLE:
                self._trouble_since = self._clock()
            if self._trouble == TROUBLE or was_probe:
                # For all workers: the pause is shared.
                self.pace.pause(probe_wait(self._probes, self._dice))
                self._probes += 1

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
        while self._ready and self._may_start() and self._probe is None:
            tokens = self._ready[0].work.tokens
            if not self.pace.try_admit(tokens):
                return
            ticket = self._ready.popleft()
            if self._refuse(ticket):
                self.pace.cancel(tokens)
                continue
            if self.in_outage:
                self._probe = ticket
            self._call(ticket)

    def _due(self, ticket: Ticket) -> None:
        self._later.pop(id(ticket), None)
        if self.in_outage:
            # Others probe first, so that no request uses itself up.
            self._ready.append(ticket)
        else:
            self._ready.appendleft(ticket)
        self._ensure_running()
        self.pump()

    def _ensure_running(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"lane {self.pace.scope}")

    async def _run(self) -> None:
        """Talks to the shared pace while there is something to do."""
        while True:
            while self._has_work:
                await self._tick(len(self._ready))
                self.pump()
                await asyncio.sleep(max(TICK_S, min(self.pace.pause_s, 1.0)))
            await self._tick(0)
            # Work may have come while the pace was told that there is none.
            if not self._has_work:
                return

    async def _tick(self, ready: int) -> None:
        try:
            await self.pace.exchange(ready, self._ready[0].work.tokens if self._ready else 0)
        except ConnectionError:
            # Without Redis the last share stays; what happened is told when it is back.
            return
        except Exception as error:
            log.error("the shared pace stumbled: %s", type(error).__name__)  # noqa: TRY400
            log.debug("", exc_info=error)


def probe_wait(failures: int, dice: Dice) -> float:
    """Seconds until the next probe, after so many that failed; a little apart among workers."""
    return float(min(2.0 ** min(failures, 10), LONGEST_PROBE_S)) * dice(0.9, 1.0)
