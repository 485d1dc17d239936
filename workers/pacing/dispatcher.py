"""Requests of one model on their way to the endpoint, in turn, as the limits allow.

    ready ──taken──→ called ──released──→ done
      ▲                 │
      └──── later ◄─────┘

`admitted` hands each out as its turn comes; who takes one holds a place until it is released.
Where the endpoint seems to be down, one call at a time probes it (`circuit_breaker`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from jobs.bottleneck import Bound
from jobs.chunk import Terms
from jobs.message import N_
from workers.pacing.backoff import Dice
from workers.pacing.circuit_breaker import TROUBLE, CircuitBreaker, HealthSignal
from workers.pacing.fair_queue import FairQueue
from workers.pacing.limiter import Limiter, strictest
from workers.pacing.redis_contact import RedisContact
from workers.pacing.retry import Health
from workers.pacing.retry_budget import RetryBudget
from workers.pacing.wait_meter import Waits
from workers.pending import PendingRequest

TICK_S = 0.1
"""The shared limiter is asked this often while things happen: at most ten round trips a second."""

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
    """The requests of one limiter; nothing of them is handed out while `contact` does not hold."""

    def __init__(
        self,
        limiter: Limiter,
        contact: RedisContact,
        dice: Dice,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limiter = limiter
        self.breaker = CircuitBreaker(dice, clock)
        self.hindrance: Hindrance | None = None
        self.waits = Waits(clock)
        self._was_held_up = False
        self._contact = contact
        self._clock = clock
        self._dice = dice
        self._budget = RetryBudget(clock)
        self._queue = FairQueue()
        self._terms: dict[str, Terms] = {}
        self._later: dict[int, tuple[asyncio.TimerHandle, PendingRequest]] = {}
        self._probe: PendingRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()
        self._ready = asyncio.Event()

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

    @property
    def may_start(self) -> bool:
        """Whether calls may start that were handed out a while ago."""
        return self._contact.holds

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

    @property
    def health(self) -> Health:
        """What is known of the endpoint by now."""
        breaker = self.breaker
        return Health(breaker.is_on, breaker.is_near, breaker.lasts_s, self.limiter.pause_s)

    def add(self, requests: list[PendingRequest]) -> None:
        """New requests, behind those of their job that wait."""
        self._queue.add(requests)
        self._wake()

    def retry(self, request: PendingRequest, wait_s: float, *, budgeted: bool = False) -> None:
        """This request tries again after a while, before those that were never called.

        `budgeted`: only when the budget of repetitions has one left.
        """
        request.is_budgeted = budgeted
        handle = asyncio.get_running_loop().call_later(wait_s, self._due, request)
        self._later[id(request)] = (handle, request)
        self._wake()

    # ---- handing out ------------------------------------------------------------------------

    async def admitted(self) -> AsyncIterator[PendingRequest]:
        """Each request that may be called, as soon as it may; for ever. It is to be released."""
        while True:
            while (request := self.take()) is not None:
                yield request
            self._ready.clear()
            await self._ready.wait()

    def take(self) -> PendingRequest | None:
        """The request whose turn it is, if it may be called now; it is to be released."""
        if not self._queue:
            self.waits.begin(Bound.BACKOFF if self._later else None)
            return None
        if not self._contact.holds:
            self.waits.begin(Bound.REDIS)
            return None
        is_down = self.breaker.is_on
        if is_down and not self._may_probe():
            self.waits.begin(Bound.OUTAGE)
            return None
        work = self._queue.peek().work
        estimate = self.limiter.try_admit(work.tokens, float(work.rub or 0))
        if estimate is None:
            self.waits.begin(self.limiter.bound)
            return None
        request = self._queue.pop()
        request.estimate, request.left_at = estimate, self._clock()
        if request.calls == request.work.attempts:
            self._budget.called()
        if is_down:
            self._probe, self.limiter.may_probe = request, False
        return request

    def put_back(self, request: PendingRequest) -> None:
        """A request that was taken is not called after all: its place is free."""
        self.limiter.cancel(request.estimate)
        if self._probe is request:
            self._probe, self.limiter.may_probe = None, True
        self._wake()

    def release(
        self, request: PendingRequest, signal: HealthSignal, *, in_vain: bool = True
    ) -> None:
        """The call of a request ended, and with it what it held of the limits; `in_vain` where the
        endpoint may have worked for it and did not answer.
        """
        if request.is_budgeted and not in_vain:
            self._budget.give_back()
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
        self._ready.set()

    def lift(self) -> None:
        """Waits end now, and somebody looks at once whether the endpoint is back."""
        self.limiter.lift()
        self.breaker.look_now()
        for handle, request in list(self._later.values()):
            handle.cancel()
            self._due(request)
        self._wake()

    def take_back(self, wanted: Callable[[PendingRequest], bool]) -> list[PendingRequest]:
        """Removes and returns all waiting requests of which `wanted` is true."""
        back = self._queue.take_back(wanted)
        for key, (handle, request) in list(self._later.items()):
            if wanted(request):
                handle.cancel()
                del self._later[key]
                back.append(request)
        self._stir.set()
        # Somebody looks, and finds that nothing is waited for.
        self._ready.set()
        return back

    def _may_probe(self) -> bool:
        return self.breaker.may_probe(told=self.limiter.may_probe, probing=self._probe is not None)

    def _due(self, request: PendingRequest) -> None:
        self._later.pop(id(request), None)
        if request.is_budgeted and not self._budget.take():
            self.retry(request, self._dice(1.0, 3.0), budgeted=True)
            return
        if self.breaker.is_on:
            # Others probe first, so that no request uses itself up.
            self._queue.add([request])
        else:
            self._queue.add_first(request)
        self._wake()

    # ---- the shared limiter -----------------------------------------------------------------

    def _wake(self) -> None:
        self._stir.set()
        self._ready.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"limiter {self.limiter.scope}")

    async def _run(self) -> None:
        """Talks to the shared limiter while there is something to do."""
        while True:
            while self._has_work:
                self._stir.clear()
                await self._tick(len(self._queue))
                self._ready.set()
                await self._rest()
            await self._tick(0)
            # Work may have come while the limiter was told that there is none.
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

    def _log_pauses(self) -> None:
        """A line when the endpoint has nothing sent to it for long, and when it has again."""
        if self.is_held_up is self._was_held_up:
            return
        self._was_held_up = self.is_held_up
        if self._was_held_up:
            code = self.hindrance.code if self.hindrance else "endpoint.outage"
            until = f" for {self.limiter.told_s:.0f} s" if self.limiter.waits_long else ""
            log.info("calls are held back%s: %s (%s)", until, code, self.limiter.scope)
        else:
            log.info("calls go on (%s)", self.limiter.scope)

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
            log.error(N_("shared limiter failure: {kind}", kind=type(error).__name__))  # noqa: TRY400
            log.debug("", exc_info=error)
            return
        self._log_pauses()
        self._contact.heard(self.limiter.heard_at)
        self.breaker.heard(self.limiter.down_s)
