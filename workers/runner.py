"""Runs chunks: their requests go to the dispatchers, and each comes back with a result or unsent.

    chunk → requests → dispatchers (wait their turn) → one call each (`workers.call`) ─┬→ result
                            ▲                                                          ├→ the home
                            └──────────────────────────────────────────── later ───────┘

Runs on one event loop; hundreds of calls in flight, over several open chunks.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import asdict, replace

from jobs.chunk import Payload, Speed, Terms
from jobs.errors import BadMessage
from jobs.message import N_
from jobs.names import scope_name
from workers.call import Caller, Calls, MaySpend
from workers.delivery.outbox import Outbox
from workers.delivery.records import never_sent
from workers.dispatch_loops import Dispatchers
from workers.pacing.dispatcher import Dispatcher
from workers.pacing.leases import LimiterBackend
from workers.pacing.limiter import Limiter
from workers.pacing.redis_contact import RedisContact
from workers.pending import PendingRequest, RunningChunk, Summary
from workers.stops import LOST, Stops

log = logging.getLogger("nightshift.runner")


class Runner:
    """The chunks of one worker. Single-threaded: every method belongs to the event loop's thread.

    `may_spend` is asked before calls of a chunk may leave, once it is in the journal, and before
    they may cost more than was said then.
    """

    def __init__(
        self,
        endpoint: Caller,
        outbox: Outbox,
        limiters: LimiterBackend,
        may_spend: MaySpend,
        key_fingerprint: str,
        dice: random.Random,
        clock: Callable[[], float] = time.monotonic,
        on_stop: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.chunks: dict[tuple[str, int], RunningChunk] = {}
        self.contact = RedisContact(clock)
        self.dispatchers = Dispatchers(self._make, self._call)
        self.stops = Stops(self.chunks, self.dispatchers, on_stop)
        self.calls = Calls(
            endpoint, outbox, self.chunks, self.stops, may_spend, dice.uniform, clock
        )
        self._outbox = outbox
        self._limiters = limiters
        self._place = endpoint.base_url, key_fingerprint
        self._dice = dice
        self._clock = clock
        self._lifted_at: dict[str, float] = {}
        self._speeds: dict[str, Speed] = {}
        """What was last told of the jobs here; a chunk may be older than that."""

    def _make(self, model: str) -> Dispatcher:
        limiter = Limiter(scope_name(*self._place, model), self._limiters, self._clock)
        return Dispatcher(limiter, self.contact, self._dice.uniform, self._clock)

    def _call(self, dispatcher: Dispatcher, request: PendingRequest) -> Coroutine[Any, Any, None]:
        return self.calls.run(dispatcher, request)

    async def run(self, payload: Payload) -> Summary:
        """Returns when each of the chunk's requests has its result or goes back to the home.

        `BadMessage` for a payload that makes no sense; nothing of it was run then.
        """
        check_payload(payload)
        chunk = self.chunks[payload.job, payload.chunk] = RunningChunk(payload)
        taken = [(work.ordinal, work.attempts, work.uncertain) for work in payload.requests]
        self._outbox.claimed(*chunk.key, taken, payload.terms.tariff)
        try:
            if await self._begin(chunk):
                self._outbox.claimed(*chunk.key, taken, payload.terms.tariff, began=True)
            else:
                chunk.stopped = chunk.stopped or LOST
            self._distribute(chunk)
            await chunk.wait()
        finally:
            self.calls.end(chunk)
            del self.chunks[chunk.key]
            self.calls.by_job += Counter()  # forgets jobs of which nothing is in flight
            if all(job != payload.job for job, _ in self.chunks):
                self._forget(payload.job)
        self._outbox.put_closed(payload.job, chunk.closing())
        return chunk.summary

    async def _begin(self, chunk: RunningChunk) -> bool:
        """Whether its calls may leave. A fault on the way is a no: what is never closed would stay
        open at home for as long as this worker lives.
        """
        try:
            return await self.calls.begin(chunk)
        except Exception as error:
            log.error(N_("a task failed: {kind}", kind=type(error).__name__))  # noqa: TRY400
            log.debug("", exc_info=error)
            return False

    def _forget(self, job: str) -> None:
        self._speeds.pop(job, None)
        self.calls.judge.forget(job)
        self.stops.resume(job)
        self.dispatchers.forget(job)

    def _distribute(self, chunk: RunningChunk) -> None:
        waiting: dict[str, list[PendingRequest]] = defaultdict(list)
        for work in chunk.payload.requests:
            request = PendingRequest.of(chunk, work)
            if reason := self.stops.why_not(request):
                chunk.give_back(request, reason)
            elif chunk.payload.terms.never_pay_twice and work.uncertain:
                self._fail_unsent(request)
            else:
                waiting[request.model].append(request)
        terms = self._by_now(chunk)
        for model, requests in waiting.items():
            self.dispatchers.add(model, terms, requests)

    def _by_now(self, chunk: RunningChunk) -> Terms:
        """The chunk's terms, with the pace that its job may have by now."""
        terms, speed = chunk.payload.terms, self._speeds.get(chunk.payload.job)
        return replace(terms, **asdict(speed)) if speed else terms

    def _fail_unsent(self, request: PendingRequest) -> None:
        """An earlier call may have been billed, and the user forbade to risk a second."""
        result = never_sent(request.work.ordinal, request.calls, time.time())
        self._outbox.put_result(request.job, result)
        request.chunk.finish(completed=False)

    # ---- what is told from outside ----------------------------------------------------------

    def renew_speed(self, job: str, speed: Speed) -> None:
        """The user changed what the job may have, while it runs."""
        newest = max((key for key in self.chunks if key[0] == job), default=None)
        if newest is not None and speed != self._speeds.get(job):
            self._speeds[job] = speed
            self.dispatchers.set_terms(job, self._by_now(self.chunks[newest]))

    def lift(self, job: str, at: float) -> None:
        """The user wanted, at that Unix time, that nothing of the job waits any longer."""
        # Not "later": the home's clock may have been set back.
        if at in (0.0, self._lifted_at.get(job)):
            return
        self._lifted_at[job] = at
        self.stops.resume(job)
        mine = [chunk for chunk in self.chunks.values() if chunk.payload.job == job]
        for dispatcher in self.dispatchers.of(mine):
            dispatcher.lift()

    def renewed(self, lost: set[tuple[str, int]], asked_at: float) -> None:
        """The claims on all open chunks hold from `asked_at` on, but for those that are `lost`.

        That is when the renewal was about to leave, not when its answer came: Redis may have
        counted from any moment between the two.
        """
        self.contact.renewed(asked_at)
        self.stops.lose(lost)

    def abort(self) -> None:
        """Cuts the calls in flight; each may be billed and is booked so."""
        self.stops.drain()
        self.calls.cut()


def check_payload(payload: Payload) -> None:
    """`BadMessage` unless it makes sense; that its figures do was checked when it was unpacked."""
    if len({work.ordinal for work in payload.requests}) != len(payload.requests):
        raise BadMessage(N_("a payload contains a request twice"))
    terms = payload.terms
    limits = (terms.rpm, terms.tpm, terms.max_in_flight, terms.rub_per_hour)
    needed = (terms.max_attempts, terms.idle_timeout_s, terms.total_timeout_s, terms.share)
    if not all(limit is None or 0 < limit < float("inf") for limit in (*limits, *needed)):
        raise BadMessage(N_("a payload has invalid terms"))
