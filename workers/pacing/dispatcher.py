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
from workers.pacing.circuit_breaker import TROUBLE, CircuitBreaker, HealthSignal
from workers.pacing.fair_queue import FairQueue
from workers.pacing.limiter import Limiter, strictest
from workers.pacing.retry_budget import RetryBudget
from workers.pending import PendingRequest
from workers.usage_estimate import UsageEstimate

TICK_S = 0.1
"""The shared pace is asked this often while things happen: at most ten round trips a second."""

REST_S = 1.0
"""And this often while nothing does."""

log = logging.getLogger("nightshift.dispatcher")


@dataclass(frozen=True)
class Hindrance:
    """What the endpoint last said instead of an answer, to the request `body`."""

    code: str
    message: str
    status: int | None
    body: bytes


class Dispatcher:
    """The queue of one pace.

    `call` starts the call of a request that was admitted, `refuse` takes one that may not be called
    after all, `may_start` says whether anything may start at the moment.
    """

    def __init__(
        self,
        limiter: Limiter,
        call: Callable[[PendingRequest], None],
        refuse: Callable[[PendingRequest], bool],
        may_start: Callable[[], bool],
        dice: Dice,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limiter = limiter
        self.breaker = CircuitBreaker(dice, clock)
        self._clock = clock
        self._call = call
        self._refuse = refuse
        self._may_start = may_start
        self._dice = dice
        self._budget = RetryBudget(clock)
        self._queue = FairQueue()
        self._terms: dict[str, Terms] = {}
        self._later: dict[int, tuple[asyncio.TimerHandle, PendingRequest]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()
        self._probe: PendingRequest | None = None
        self.hindrance: Hindrance | None = None

    @property
    def waiting(self) -> int:
        """Requests that are ready or wait for their next try."""
        return len(self._queue) + len(self._later)

    @property
    def is_held_up(self) -> bool:
        """Whether nothing goes for long, or nothing but a probe now and then."""
        return self.breaker.is_on or self.limiter.waits_long

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, and the shared pace knows."""
        return not self._has_work and (self._task is None or self._task.done())

    @property
    def _has_work(self) -> bool:
        return bool(self._queue or self._later or self.limiter.in_flight)

    def set_terms(self, job: str, terms: Terms | None) -> None:
        """What a job wishes by now, None: it is done here. The strictest limits count for all."""
        if terms is None:
            self._terms.pop(job, None)
        else:
            self._terms[job] = terms
        self._queue.set_share(job, None if terms is None else terms.share)
        if self._terms:
            self.limiter.set_terms(strictest(self._terms.values()))

    def knows(self, job: str) -> bool:
        """Whether something of the job is, or lately was, here."""
        return job in self._terms

    def add(self, requests: list[PendingRequest]) -> None:
        """New requests, behind those of their job that wait."""
        self._queue.add(requests)
        self._ensure_running()
        self.pump()

    def again(self, request: PendingRequest, delay_s: float, *, budgeted: bool = False) -> None:
        """This request tries again after a while, before those that were never called.

        `budgeted`: only when the budget of repetitions has one left.
        """
        request.is_budgeted = budgeted
        handle = asyncio.get_running_loop().call_later(delay_s, self._due, request)
        self._later[id(request)] = (handle, request)
        self._ensure_running()

    def ended(self, request: PendingRequest, signal: HealthSignal) -> None:
        """The call of a request ended."""
        if self._probe is request:
            self._probe = None
        was_on = self.breaker.is_on
        told = self.breaker.note(signal, request.left_at)
        if told is HealthSignal.ALIVE:
            self.limiter.alive()
        elif told in {HealthSignal.FAULTY, HealthSignal.AWAY}:
            # What this process takes for an outage is one for all.
            self.limiter.faulty(1 if was_on or not self.breaker.is_on else TROUBLE)
        if signal is HealthSignal.ALIVE:
            self.hindrance = None
        self._stir.set()

    def lift(self) -> None:
        """Waits end now, and somebody looks at once whether the endpoint is back."""
        self.limiter.lift()
        self.breaker.look_now()
        for handle, request in list(self._later.values()):
            handle.cancel()
            self._due(request)
        self._ensure_running()

    def take_back(self, wanted: Callable[[PendingRequest], bool]) -> list[PendingRequest]:
        """Removes and returns all waiting requests of which `wanted` is true."""
        back = self._queue.take_back(wanted)
        for key, (handle, request) in list(self._later.items()):
            if wanted(request):
                handle.cancel()
                del self._later[key]
                back.append(request)
        self._stir.set()
        return back

    def pump(self) -> None:
        """Starts as many calls as may start now."""
        while self._queue and self._may_start():
            work = self._queue.peek().work
            if self.breaker.is_on and not self._may_probe():
                return
            estimate = self.limiter.try_admit(work.tokens, float(work.rub or 0))
            if estimate is None:
                return
            self._let_through(self._queue.pop(), estimate)

    def _let_through(self, request: PendingRequest, estimate: UsageEstimate) -> None:
        if self._refuse(request):
            self.limiter.cancel(estimate)
            return
        request.estimate, request.left_at = estimate, self._clock()
        if request.calls == request.work.attempts:
            self._budget.called()
        if self.breaker.is_on:
            self._probe = request
            self.limiter.may_probe = False
        self._call(request)

    def _may_probe(self) -> bool:
        return self.breaker.may_probe(told=self.limiter.may_probe, probing=self._probe is not None)

    def _due(self, request: PendingRequest) -> None:
        self._later.pop(id(request), None)
        if request.is_budgeted and not self._budget.take():
            self.again(request, self._dice(1.0, 3.0), budgeted=True)
            return
        if self.breaker.is_on:
            # Others probe first, so that no request uses itself up.
            self._queue.add([request])
        else:
            self._queue.add_first(request)
        self._ensure_running()
        self.pump()

    def _ensure_running(self) -> None:
        self._stir.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"dispatcher {self.limiter.scope}")

    async def _run(self) -> None:
        """Talks to the shared pace while there is something to do."""
        while True:
            while self._has_work:
                self._stir.clear()
                await self._tick(len(self._queue))
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
        if self._queue and self.limiter.is_metered and not self.limiter.pause_s:
            return
        rest = min(self.limiter.pause_s or REST_S, self.breaker.wait_s, REST_S)
        try:
            async with asyncio.timeout(rest):
                await self._stir.wait()
        except TimeoutError:
            return

    async def _tick(self, ready: int) -> None:
        work = self._queue.peek().work if self._queue else None
        try:
            await self.limiter.exchange(
                ready,
                work.tokens if work else 0,
                float(work.rub or 0) if work else 0.0,
                self._queue.share,
            )
        except ConnectionError:
            # Without Redis the last share stays; what happened is told when it is back.
            return
        except Exception as error:
            log.error("shared limiter failure: %s", type(error).__name__)  # noqa: TRY400
            log.debug("", exc_info=error)
            return
        self.breaker.heard(self.limiter.down_s)
