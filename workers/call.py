"""One call of an admitted request, from its turn in the queue to what becomes of the request.

take       may it still be called? its bound out of the grant, of which more is opened where it has
           no room, its departure into the journal
send       the endpoint's answer, raw into the journal
read       what the answer means: classified; of a missing balance the balance is asked; judged
release    its place, what it took of the limits and of the grant come back: all ways meet here
conclude   answered or refused → result; retry → back into the queue; stop → back to the home
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from jobs.budget import AHEAD_S, NOTHING, Amount
from jobs.chunk import DRAINED, UNAFFORDABLE, ReturnReason, because
from jobs.errors import StorageUnavailable
from jobs.message import N_
from jobs.money import ZERO
from jobs.outcome import Answered, Billing, Outcome, Refused, Retry, RetryKind, Stop
from jobs.pause_reasons import PauseReason
from jobs.request_kinds import CHAT, RESPONSES
from jobs.result import Call, ResultState
from workers.calling.balance_check import Balance
from workers.calling.classifier import classify
from workers.calling.endpoint import Answer, Listener
from workers.calling.responses import Responses
from workers.calling.shown_text import own_words
from workers.delivery.journal import Sent
from workers.delivery.outbox import Outbox
from workers.delivery.records import (
    GENERATION_ID,
    call_row,
    call_without_answer,
    raw_body,
    result_of,
)
from workers.pacing.backoff import Dice
from workers.pacing.circuit_breaker import HealthSignal
from workers.pacing.dispatcher import Dispatcher, Hindrance
from workers.pacing.feedback import dearer, is_dearer, spent, tell_limiter
from workers.pacing.retry import FAULTS, decide
from workers.pacing.stop_verdict import Judge
from workers.pending import PendingRequest, RunningChunk
from workers.stops import Stops

ADDRESS = frozenset({"endpoint.redirect", "endpoint.wrong_address", "endpoint.blocked"})

REACH, REACH_OF = 4, 4
"""A chunk whose turn comes within so many calls, or such a part of those in flight, is opened; or
as many as left in the last `AHEAD_S`, since calls that are quick outrun the leave for the next.
"""

_LOOK_S = 0.05

MaySpend = Callable[[RunningChunk, Amount], Awaitable[bool | None]]
"""Whether the calls of a chunk may cost so much in all; None: nobody said so in time."""

log = logging.getLogger("nightshift.call")


class Caller(Protocol):
    """What is asked of the endpoint's client; neither raises but `CancelledError`."""

    base_url: str

    async def call(
        self,
        body: bytes,
        *,
        kind: str = CHAT.url,
        idle_timeout_s: float | None = None,
        total_timeout_s: float | None = None,
        on_headers: Listener | None = None,
    ) -> Answer:
        """One request of that kind."""

    async def credits(self) -> Answer:
        """The balance."""


class Ended(NamedTuple):
    """What was `sent`, the answer to it, what that means, and its row of the ledger."""

    sent: Sent
    answer: Answer
    outcome: Outcome
    row: Call


@dataclass(slots=True, eq=False)
class Attempt:
    """A call and what it holds: a place at its dispatcher from the start, its bound of the grant
    (`has_grant`), and a record in the journal (`sent`). `ended` is how it ended; without it the
    request goes `back` for that reason.
    """

    dispatcher: Dispatcher
    request: PendingRequest
    has_grant: bool = False
    sent: Sent | None = None
    task: asyncio.Task[None] | None = None
    generation_id: str = ""
    ended: Ended | None = None
    back: ReturnReason = DRAINED


class Pulse:
    """How many calls left lately: in the last whole stretch of `AHEAD_S`, or a longer one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since, self._beats = clock(), 0
        self.lately = 0

    def beat(self) -> None:
        """A call leaves."""
        self._beats += 1
        lasted = self._clock() - self._since
        if lasted >= AHEAD_S:
            self.lately = int(self._beats * AHEAD_S / lasted)
            self._since, self._beats = self._since + lasted, 0


class Calls:
    """Makes calls. Single-threaded: for the event loop's thread."""

    def __init__(
        self,
        endpoint: Caller,
        outbox: Outbox,
        chunks: dict[tuple[str, int], RunningChunk],
        stops: Stops,
        may_spend: MaySpend,
        dice: Dice,
        clock: Callable[[], float],
    ) -> None:
        self.judge = Judge(clock)
        self.by_job: Counter[str] = Counter()
        """Calls in flight of each job."""
        self._in_flight: set[Attempt] = set()
        self._endpoint, self._responses = endpoint, Responses(endpoint.call)
        self._outbox = outbox
        self._chunks = chunks
        self._stops = stops
        self._may_spend = may_spend
        self._clock = clock
        self._dice = dice
        self._balance = Balance(endpoint, clock)
        self._pulse = Pulse(clock)

    def __len__(self) -> int:
        """Calls that have left and not ended."""
        return len(self._in_flight)

    def cut(self) -> None:
        """Each call in flight ends now; it may be billed and is booked so."""
        for attempt in self._in_flight:
            if attempt.task:
                attempt.task.cancel()

    async def run(self, dispatcher: Dispatcher, request: PendingRequest) -> None:
        """The way of one call; whatever befalls it, what it took is released and no row is lost."""
        attempt = Attempt(dispatcher, request)
        try:
            if not attempt.request.chunk.grant.has_room(attempt.request.bound):
                await self._wait_for_room(attempt)
            if sent := self._take(attempt):
                answer = await self._send(attempt, sent)
                attempt.ended = await self._read(attempt, sent, answer)
        except asyncio.CancelledError:
            attempt.back = DRAINED
        except Exception as error:
            # Texts of exceptions may quote prompts, so only the class is told.
            log.error(N_("internal error in a call: {kind}", kind=type(error).__name__))  # noqa: TRY400
            log.debug("", exc_info=error)
            attempt.back = ReturnReason("system.error", type(error).__name__)
        self._release(attempt)
        self._conclude(attempt)

    # ---- what calls may cost ----------------------------------------------------------------

    async def begin(self, chunk: RunningChunk) -> bool:
        """Whether calls of a chunk may leave; opens nothing of one whose turn comes later."""
        before = sum(
            other.waiting
            for other in self._chunks.values()
            if other is not chunk and other.payload.job == chunk.payload.job
        )
        calls = min(self._reach - before, len(chunk.payload.requests))
        opened = chunk.grant.wider(calls) if calls > 0 else chunk.grant.opened
        said = await self._open(chunk, opened)
        chunk.has_begun, chunk.is_refused = said is True, said is False
        return chunk.has_begun

    def end(self, chunk: RunningChunk) -> None:
        """Nothing of the chunk leaves any more."""
        if chunk.widening is not None:
            chunk.widening.cancel()

    @property
    def _reach(self) -> int:
        return max(REACH, len(self._in_flight) // REACH_OF, self._pulse.lately)

    async def _open(self, chunk: RunningChunk, amount: Amount) -> bool | None:
        said = await self._may_spend(chunk, amount)
        if said:
            chunk.grant.open(amount, self._clock())
        return said

    async def _wait_for_room(self, attempt: Attempt) -> None:
        """Until the call fits what is opened of its grant, or may not be made all the same."""
        request, chunk = attempt.request, attempt.request.chunk
        grant, bound = chunk.grant, request.bound
        chunk.kept_waiting += 1
        try:
            while self._stops.why_not(request) is None:
                if not attempt.dispatcher.may_start:
                    await asyncio.sleep(_LOOK_S)
                elif grant.has_room(bound) or not bound.fits(grant.left):
                    return
                else:
                    await asyncio.shield(self._widen(chunk))
        finally:
            chunk.kept_waiting -= 1

    def _widen(self, chunk: RunningChunk) -> asyncio.Task[bool | None]:
        """Asks for more of the grant, once at a time."""
        if chunk.widening is None:
            chunk.widening = asyncio.create_task(self._widened(chunk))
        return chunk.widening

    async def _widened(self, chunk: RunningChunk) -> bool | None:
        try:
            await asyncio.sleep(0)  # those that were admitted at the same time are counted, too
            calls = max(chunk.kept_waiting, min(self._reach, chunk.waiting))
            said = await self._open(chunk, chunk.grant.wider(calls))
            if said is False:
                self._stops.lose({chunk.key})
            elif said is None and not self._stops.is_stopped(chunk):
                # Its coordinator is away: what cannot go on holds no place that others need.
                job = chunk.payload.job
                self._stops.lose({key for key in self._chunks if key[0] == job})
            return said
        finally:
            chunk.widening = None

    def _look_ahead(self, chunk: RunningChunk) -> None:
        """Opens more before it is needed: of this chunk, and of those that come after it."""
        if chunk.widening is None and chunk.grant.is_low:
            self._widen(chunk)
        if not chunk.has_prepared and chunk.waiting <= self._reach:
            chunk.has_prepared = True
            self._prepare_next(chunk.payload.job)

    def _prepare_next(self, job: str) -> None:
        ahead = 0
        for chunk in self._chunks.values():
            if chunk.payload.job == job and chunk.has_begun:
                if chunk.grant.opened.tokens == 0:
                    self._widen(chunk)
                    if ahead + chunk.waiting >= self._reach:
                        return
                ahead += chunk.waiting

    # ---- take, send, read -------------------------------------------------------------------

    def _take(self, attempt: Attempt) -> Sent | None:
        """The record of the call's departure, if it may leave; then it has all that it needs."""
        request = attempt.request
        why = self._stops.why_not(request)
        if why is None and not request.chunk.grant.take(request.bound):
            why = UNAFFORDABLE
        if why is not None:
            attempt.back = why
            return None
        attempt.has_grant = True
        sent = Sent(
            self._outbox.new_call_id(),
            *request.chunk.key,
            request.work.ordinal,
            request.calls + 1,
            request.tried.uncertain,
            time.time(),
            request.model,
            request.bound,
            request.kind,
        )
        try:
            self._outbox.sent(sent)
        except StorageUnavailable:
            # What cannot be remembered is not sent.
            return None
        attempt.sent, attempt.task = sent, asyncio.current_task()
        request.calls += 1
        self._pulse.beat()
        self._in_flight.add(attempt)
        self.by_job[request.job] += 1
        self._look_ahead(request.chunk)
        return sent

    async def _send(self, attempt: Attempt, sent: Sent) -> Answer:
        """The endpoint's answer, on its way to the disk before anybody reads it."""
        request, terms = attempt.request, attempt.request.chunk.payload.terms

        def heard(headers: dict[str, str]) -> None:
            if generation_id := headers.get(GENERATION_ID):
                attempt.generation_id = generation_id
                self._outbox.heard(sent.call, generation_id)

        how: dict[str, Any] = {
            "idle_timeout_s": terms.idle_timeout_s,
            "total_timeout_s": terms.total_timeout_s,
            "on_headers": heard,
        }
        body = request.work.body
        if request.kind == RESPONSES.url:
            answer = await self._responses.call(body, terms.responses_by, **how)
        else:
            answer = await self._endpoint.call(body, kind=request.kind, **how)
        attempt.generation_id = answer.generation_id or attempt.generation_id
        self._outbox.ended(sent.call, answer)
        return answer

    async def _read(self, attempt: Attempt, sent: Sent, answer: Answer) -> Ended:
        """What an answer means, by itself and after all that was answered before."""
        request = attempt.request
        outcome = classify(
            answer,
            asked_model=request.model,
            now=time.time(),
            tariff=request.chunk.payload.terms.tariff,
            kind=request.kind,
        )
        if isinstance(outcome, Stop) and outcome.reason is PauseReason.INSUFFICIENT_BALANCE:
            outcome = await self._ask_balance(request, outcome)
        outcome = self.judge.judge(request, outcome, in_flight=self.by_job[request.job] - 1)
        if not isinstance(outcome, Answered | Refused):
            attempt.dispatcher.hindrance = Hindrance(
                outcome.code, outcome.message, answer.status, request.work.body
            )
        return Ended(sent, answer, outcome, call_row(sent, answer, outcome))

    async def _ask_balance(self, request: PendingRequest, stop: Stop) -> Outcome:
        """402 also comes in bursts though there is money: the balance decides."""
        throttled = Retry(RetryKind.THROTTLED, stop.code, stop.message, stop.charge)
        try:
            enough = await self._balance.bears(request.bound.rub or ZERO)
        except asyncio.CancelledError:
            # Cut while asking: the call itself had ended, and was refused.
            return throttled
        return throttled if enough else msgspec.structs.replace(stop, is_sure=enough is False)

    # ---- release ----------------------------------------------------------------------------

    def _release(self, attempt: Attempt) -> None:
        """Gives back all that the call held."""
        request, dispatcher, ended = attempt.request, attempt.dispatcher, attempt.ended
        bound, grant = request.bound, request.chunk.grant
        if attempt.sent is None:
            if attempt.has_grant:
                grant.settle(bound, NOTHING)
            dispatcher.put_back(request)
            return
        self._in_flight.discard(attempt)
        self.by_job[request.job] -= 1
        if ended is None:
            grant.settle(bound, bound)
            dispatcher.limiter.ended(request.estimate)
            dispatcher.release(request, HealthSignal.NONE)
            return
        grant.settle(bound, spent(ended.row, bound))
        signal = tell_limiter(dispatcher.limiter, request, ended.answer, ended.outcome)
        outcome = ended.outcome
        in_vain = isinstance(outcome, Retry) and outcome.kind in FAULTS
        dispatcher.release(request, signal, in_vain=in_vain)

    # ---- conclude ---------------------------------------------------------------------------

    def _conclude(self, attempt: Attempt) -> None:
        """Writes down what the call led to, and lets its request go where it goes next."""
        request, ended = attempt.request, attempt.ended
        if ended is None:
            self._give_back(attempt)
            return
        if ended.row.billing is Billing.KNOWN:
            request.chunk.charge(ended.row.cost or ZERO)
        match ended.outcome:
            case Answered() | Refused():
                self._finish(request, ended)
            case Retry():
                self._retry(attempt, ended, ended.outcome)
            case Stop():
                self._note(request, ended.row)
                reason = self._reason_of(request, ended.answer, ended.outcome)
                request.chunk.give_back(request, reason)
                self._stops.stop(request.job, reason)
        if is_dearer(ended.row):
            self._stops.stop(request.job, dearer(ended.row))

    def _give_back(self, attempt: Attempt) -> None:
        """The call was not made; or it was cut: then it may be billed."""
        request = attempt.request
        if attempt.sent:
            request.tried = request.tried._replace(uncertain=request.tried.uncertain + 1)
            row = call_without_answer(attempt.sent, attempt.generation_id, attempt.back.code)
            self._outbox.put(request.job, row, None)
        request.chunk.give_back(request, attempt.back)

    def _finish(self, request: PendingRequest, ended: Ended) -> None:
        result = result_of(ended.sent, ended.answer, ended.outcome, time.time())
        self._outbox.put(request.job, ended.row, result, raw_body(ended.answer, ended.outcome))
        request.chunk.finish(completed=result.state is ResultState.COMPLETED)

    def _retry(self, attempt: Attempt, ended: Ended, outcome: Retry) -> None:
        request, dispatcher = attempt.request, attempt.dispatcher
        terms, health = request.chunk.payload.terms, dispatcher.health
        decision = decide(outcome, ended.answer, request.tried, terms, health, self._dice)
        request.tried = decision.tried
        if decision.wait_s is None:
            self._finish(request, ended)
            return
        self._note(request, ended.row)
        if reason := self._stops.why_not(request):
            request.chunk.give_back(request, reason)
        else:
            dispatcher.retry(request, decision.wait_s, budgeted=decision.budgeted)

    def _note(self, request: PendingRequest, row: Call) -> None:
        """A call that did not end its request: into the ledger if it may have cost something."""
        if row.billing is Billing.NONE:
            self._outbox.dismiss(row.id)
        else:
            self._outbox.put(request.job, row, None)
        request.chunk.refusals[row.code] += 1

    def _reason_of(self, request: PendingRequest, answer: Answer, stop: Stop) -> ReturnReason:
        """Why it stops, in the endpoint's own words."""
        text = own_words(stop.message, request.work.body, answer.status)
        if stop.code in ADDRESS and not self.judge.has_answered(request):
            text = N_("{text}: check the base URL", text=text)
        return because(stop.code, text, stop.reason, stop.model)
