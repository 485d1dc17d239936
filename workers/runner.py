"""The life of a request at the worker.

    request ─ dispatcher (waits its turn) ─ grant.take ─ outbox.sent ─ endpoint.call ─ outbox.ended
           ─ classify ─ answered | refused      → result
                      ─ retry                   → back into the dispatcher, later
                      ─ stop                    → everything of the job goes back to the home

Every request leaves by one of two doors: `_finish` with a result, `_give_back` without.
Runs on one event loop; hundreds of calls in flight, over several open chunks.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, cast

import msgspec

from jobs.budget import Grant
from jobs.chunk import (
    DONE,
    DRAINED,
    HELD,
    UNAFFORDABLE,
    ChunkClosed,
    Payload,
    ReturnReason,
    Speed,
)
from jobs.errors import BadMessage, StorageUnavailable
from jobs.heartbeat import JobStatus, Wait
from jobs.money import ZERO, add
from jobs.names import scope_name
from jobs.outcome import Answered, Billing, Outcome, Refused, Retry, RetryKind, Stop
from jobs.result import Call, ResultState
from jobs.states import PauseReason
from workers.calling.balance import Balance
from workers.calling.classifier import classify
from workers.calling.endpoint import Answer, Broken, BrokenKind, Listener
from workers.calling.words import own_words
from workers.delivery.journal import Sent
from workers.delivery.outbox import Outbox
from workers.delivery.records import (
    GENERATION_ID,
    call_row,
    call_without_answer,
    never_sent,
    raw_body,
    result_of,
)
from workers.pacing.backoff import Backoff, delay
from workers.pacing.circuit_breaker import HealthSignal
from workers.pacing.dispatcher import Dispatcher, Hindrance
from workers.pacing.feedback import NOTHING, dearer, is_dearer, spent, tell_limiter
from workers.pacing.judge import Judge
from workers.pacing.limiter import Limiter, LimiterBackend
from workers.pending import OpenChunk, PendingRequest, Summary

RETRIES = Backoff(base=0.5, cap=60.0)
DOUBTS = Backoff(base=0.5, cap=8.0)

LEASE_S = 6.0
"""So long after the last renewal of the claims nothing starts: a beat's pause, a command's time.

The claims live more than twice as long, and a chunk is given to others only after a look that finds
its claim gone; so no other worker can have a chunk of which this one still starts calls. But what a
worker that is cut off has in flight can be bought again, so it stops early, and not only when it
must.
"""

FAULTS = frozenset({RetryKind.PASSING, RetryKind.UNCERTAIN})
"""What the endpoint may have worked for in vain: repeated within a budget."""

OUTAGE_IS_OVER_S = 2 * 3600.0
"""Faults after so long an outage use up attempts again: it may be the requests themselves."""

QUICK_S = 2.0
"""An endpoint that cuts a connection sooner, as it does all, hardly worked on what it got."""

ADDRESS = frozenset({"endpoint.redirect", "endpoint.wrong_address", "endpoint.blocked"})

QUIET_S = 2.0
"""So long after Redis was last asked something that it answered nothing starts: what is in flight
when a worker is cut off for long is bought again, so there should be no more of it. At work it asks
ten times a second.
"""

LOST = ReturnReason("lost", "the chunk has been reassigned")

log = logging.getLogger("nightshift.runner")


async def _at_once(job: str, chunk: int) -> bool:  # noqa: ARG001
    return True


class Caller(Protocol):
    """What the runner asks of the endpoint's client; neither raises but `CancelledError`."""

    base_url: str

    async def call(
        self,
        body: bytes,
        *,
        idle_timeout_s: float | None = None,
        total_timeout_s: float | None = None,
        on_headers: Listener | None = None,
    ) -> Answer:
        """One chat completion."""

    async def credits(self) -> Answer:
        """The balance."""


class Runner:
    """Runs chunks. Single-threaded: every method belongs to the event loop's thread."""

    def __init__(
        self,
        endpoint: Caller,
        outbox: Outbox,
        keeper: LimiterBackend,
        key_fingerprint: str,
        dice: random.Random,
        clock: Callable[[], float] = time.monotonic,
        on_stop: Callable[[str], None] = lambda _: None,
        begin: Callable[[str, int], Awaitable[bool]] = _at_once,
    ) -> None:
        """`begin`: whether calls of a (job, chunk) may leave, asked once it is in the journal."""
        self._endpoint = endpoint
        self._outbox = outbox
        self._keeper = keeper
        self._fingerprint = key_fingerprint
        self._dice = dice
        self._clock = clock
        self._on_stop = on_stop
        self._begin = begin
        self._renewed_at = clock()
        self._dispatchers: dict[str, Dispatcher] = {}
        self._judge = Judge(clock)
        self._balance = Balance(endpoint, clock)
        self._calls: set[asyncio.Task[tuple[Answer, Outcome]]] = set()
        self._flying: Counter[str] = Counter()
        self._held: set[str] = set()
        self._stopped_models: set[tuple[str, str]] = set()
        self._lifted_at: dict[str, float] = {}
        self._generation_ids: dict[str, str] = {}
        self.draining = False
        self.chunks: dict[tuple[str, int], OpenChunk] = {}

    @property
    def in_flight(self) -> int:
        """Calls that have left and not ended."""
        return len(self._calls)

    def standing(self) -> dict[str, JobStatus]:
        """For each job that runs here its chunks, calls in flight, and the refusals met so far.

        Refusals are told by chunk: whoever knows a chunk's closing has those of it already.
        """
        jobs: dict[str, list[OpenChunk]] = {}
        for chunk in self.chunks.values():
            jobs.setdefault(chunk.payload.job, []).append(chunk)
        return {
            job: JobStatus(
                chunks=len(chunks),
                in_flight=self._flying[job],
                refused={chunk.payload.chunk: chunk.refusals for chunk in chunks if chunk.refusals},
                down_s=self._down_s(chunks),
                wait=self._wait(chunks),
            )
            for job, chunks in jobs.items()
        }

    def _dispatchers_of(self, chunks: list[OpenChunk]) -> list[Dispatcher]:
        models = {model for chunk in chunks for model in chunk.payload.models}
        return [self._dispatchers[model] for model in models & self._dispatchers.keys()]

    def _down_s(self, chunks: list[OpenChunk]) -> float:
        """For how long the endpoint has seemed down for a model of these."""
        dispatchers = self._dispatchers_of(chunks)
        return round(
            max((dispatcher.breaker.lasts_s for dispatcher in dispatchers), default=0.0), 3
        )

    def _wait(self, chunks: list[OpenChunk]) -> Wait | None:
        """What holds a model of these up, if something does, in the endpoint's own words."""
        waiting = [
            each for each in self._dispatchers_of(chunks) if each.hindrance and each.is_held_up
        ]
        if not waiting:
            return None
        dispatcher = max(waiting, key=lambda each: each.limiter.told_until)
        said, now = cast("Hindrance", dispatcher.hindrance), self._clock()
        left, rest = max(0.0, dispatcher.limiter.told_until - now), dispatcher.limiter.pause_s
        return Wait(
            code=said.code,
            said=own_words(said.message, said.body, said.status),
            until=time.time() + left if left else None,
            next_at=time.time() + rest if rest else None,
        )

    def dispatchers(self) -> Iterable[Dispatcher]:
        """All dispatchers, for a look at their pace."""
        return self._dispatchers.values()

    # ---- a chunk ----------------------------------------------------------------------------

    async def run(self, payload: Payload) -> Summary:
        """Returns when each of the chunk's requests has its result or goes back to the home.

        `BadMessage` for a payload that makes no sense; nothing of it was run then.
        """
        check_payload(payload)
        chunk = OpenChunk(
            payload,
            Grant(payload.grant),
            len(payload.requests),
            asyncio.get_running_loop().create_future(),
        )
        self.chunks[chunk.key] = chunk
        self._outbox.claimed(
            *chunk.key,
            [(work.ordinal, work.attempts, work.uncertain) for work in payload.requests],
            payload.terms.tariff,
        )
        try:
            if not await self._begin(*chunk.key):
                chunk.stopped = chunk.stopped or LOST
            self._distribute(chunk)
            await chunk.done
        finally:
            del self.chunks[chunk.key]
            self._flying += Counter()  # forgets jobs of which nothing is in flight
            if all(job != payload.job for job, _ in self.chunks):
                self._forget(payload.job)
        self._close(chunk)
        return chunk.summary

    def _forget(self, job: str) -> None:
        self._judge.forget(job)
        self._stopped_models = {key for key in self._stopped_models if key[0] != job}
        for dispatcher in self._dispatchers.values():
            dispatcher.set_terms(job, None)

    def _distribute(self, chunk: OpenChunk) -> None:
        requests: dict[str, list[PendingRequest]] = {}
        if not chunk.left:
            chunk.done.set_result(None)
        for work in chunk.payload.requests:
            model = chunk.payload.models[work.model]
            request = PendingRequest(chunk, work, model, work.attempts, work.uncertain)
            if reason := self._why_not(request):
                self._give_back(request, reason)
            elif chunk.payload.terms.never_pay_twice and work.uncertain:
                self._fail_unsent(request)
            else:
                requests.setdefault(model, []).append(request)
        for model, some in requests.items():
            dispatcher = self._dispatcher(model)
            dispatcher.set_terms(chunk.payload.job, chunk.payload.terms)
            dispatcher.add(some)

    def _dispatcher(self, model: str) -> Dispatcher:
        if model not in self._dispatchers:
            self._dispatchers = {
                name: dispatcher
                for name, dispatcher in self._dispatchers.items()
                if not dispatcher.is_idle
            }
            scope = scope_name(self._endpoint.base_url, self._fingerprint, model)
            self._dispatchers[model] = Dispatcher(
                Limiter(scope, self._keeper, self._clock),
                self._start,
                self._refuse,
                self._may_start,
                self._dice.uniform,
                self._clock,
            )
        return self._dispatchers[model]

    def renew_speed(self, job: str, speed: Speed) -> None:
        """The user changed what the job may have, while it runs."""
        newest = max((key for key in self.chunks if key[0] == job), default=None)
        if newest is None:
            return
        old = self.chunks[newest].payload.terms
        terms = msgspec.structs.replace(old, **msgspec.structs.asdict(speed))
        for dispatcher in self._dispatchers.values():
            if dispatcher.knows(job):
                dispatcher.set_terms(job, terms)

    def lift(self, job: str, at: float) -> None:
        """The user wanted, at that Unix time, that nothing of the job waits any longer."""
        if at <= self._lifted_at.get(job, 0.0):
            return
        self._lifted_at[job] = at
        self._stopped_models = {key for key in self._stopped_models if key[0] != job}
        for dispatcher in self._dispatchers_of(
            [each for each in self.chunks.values() if each.key[0] == job]
        ):
            dispatcher.lift()

    def _close(self, chunk: OpenChunk) -> None:
        back = [(t.work.ordinal, t.calls, t.uncertain) for t in chunk.returned]
        chunk.summary.returned = len(back)
        chunk.summary.reason = chunk.reason.code
        self._outbox.put_closed(
            chunk.payload.job,
            ChunkClosed(chunk.payload.chunk, chunk.reason, back, dict(chunk.refusals)),
        )

    def _settle(self, chunk: OpenChunk) -> None:
        chunk.left -= 1
        if chunk.left == 0 and not chunk.done.done():
            chunk.done.set_result(None)

    def _give_back(self, request: PendingRequest, reason: ReturnReason) -> None:
        chunk = request.chunk
        chunk.returned.append(request)
        if chunk.reason is DONE or reason.pause is not None:
            chunk.reason = reason
        self._settle(chunk)

    def _fail_unsent(self, request: PendingRequest) -> None:
        """An earlier call may have been billed, and the user forbade to risk a second."""
        self._outbox.put_result(
            request.chunk.payload.job, never_sent(request.work.ordinal, request.calls, time.time())
        )
        request.chunk.summary.failed += 1
        self._settle(request.chunk)

    # ---- stopping ---------------------------------------------------------------------------

    def drain(self) -> None:
        """Nothing new starts; what waits goes back; calls in flight end and are kept."""
        self.draining = True
        self._return_all(lambda _: True, DRAINED)

    @property
    def held(self) -> set[str]:
        """The jobs of which nothing may start."""
        return self._held

    def hold(self, jobs: set[str]) -> None:
        """Exactly these jobs are paused or cancelled: nothing of them starts."""
        self._held = jobs
        if jobs:
            self._return_all(lambda request: request.chunk.payload.job in jobs, HELD)

    def abort(self) -> None:
        """Cuts the calls in flight; each may be billed and is booked so."""
        self.drain()
        for task in list(self._calls):
            task.cancel()

    def renewed(self, lost: set[tuple[str, int]], asked_at: float) -> None:
        """The claims on all open chunks hold from `asked_at` on, but for those that are `lost`.

        That is when the renewal was about to leave, not when its answer came: Redis may have
        counted from any moment between the two.
        """
        self._renewed_at = asked_at
        for key in lost & self.chunks.keys():
            self._stop_chunk(self.chunks[key], LOST)

    def _may_start(self) -> bool:
        now = self._clock()
        heard_at = max(
            self._renewed_at,
            *(dispatcher.limiter.heard_at for dispatcher in self._dispatchers.values()),
        )
        return now - self._renewed_at < LEASE_S and now - heard_at < QUIET_S

    def _stop_job(self, job: str, reason: ReturnReason) -> None:
        """What the queue still has of it waits too, until the home has had the time to say."""
        self._held = self._held | {job}
        self._on_stop(job)
        for chunk in list(self.chunks.values()):
            if chunk.payload.job == job:
                self._stop_chunk(chunk, reason)

    def _stop_model(self, job: str, reason: ReturnReason) -> None:
        """Nothing of the job for that model starts here any more; the others go on."""
        self._stopped_models.add((job, reason.model))
        self._return_all(
            lambda request: (request.chunk.payload.job, request.model) == (job, reason.model),
            reason,
        )

    def _stop_chunk(self, chunk: OpenChunk, reason: ReturnReason) -> None:
        chunk.stopped = chunk.stopped or reason
        self._return_all(lambda request: request.chunk is chunk, reason)

    def _return_all(self, wanted: Callable[[PendingRequest], bool], reason: ReturnReason) -> None:
        for dispatcher in self._dispatchers.values():
            for request in dispatcher.take_back(wanted):
                self._give_back(request, reason)

    def _why_not(self, request: PendingRequest) -> ReturnReason | None:
        """Why a request may not be called any more."""
        if self.draining:
            return DRAINED
        job = request.chunk.payload.job
        if job in self._held:
            return HELD
        if request.chunk.stopped:
            return request.chunk.stopped
        # Why was told by whoever met it first; the home may have thought better of it by now.
        return HELD if (job, request.model) in self._stopped_models else None

    def _refuse(self, request: PendingRequest) -> bool:
        """Whether a request whose turn it is may not be called after all; then it goes back."""
        reason = self._why_not(request)
        if reason is None and not request.chunk.grant.take(request.bound):
            reason = UNAFFORDABLE
        if reason is None:
            return False
        self._give_back(request, reason)
        return True

    # ---- a call -----------------------------------------------------------------------------

    def _start(self, request: PendingRequest) -> None:
        dispatcher = self._dispatchers[request.model]
        try:
            sent = self._sent(request)
        except StorageUnavailable:
            # What cannot be remembered is not sent.
            dispatcher.limiter.cancel(request.estimate)
            dispatcher.ended(request, HealthSignal.NONE)
            request.chunk.grant.settle(request.bound, NOTHING)
            self._give_back(request, DRAINED)
            return
        task = asyncio.get_running_loop().create_task(self._call(request, sent))
        self._calls.add(task)
        self._flying[sent.job] += 1
        # Not within the task: one that is cut before its first step never runs.
        task.add_done_callback(functools.partial(self._ended, dispatcher, request, sent))

    def _sent(self, request: PendingRequest) -> Sent:
        job, chunk = request.chunk.key
        sent = Sent(
            self._outbox.new_call_id(),
            job,
            chunk,
            request.work.ordinal,
            request.calls + 1,
            request.uncertain,
            time.time(),
            request.model,
            request.bound,
        )
        self._outbox.sent(sent)
        request.calls += 1
        return sent

    async def _call(self, request: PendingRequest, sent: Sent) -> tuple[Answer, Outcome]:
        terms = request.chunk.payload.terms
        answer = await self._endpoint.call(
            request.work.body,
            idle_timeout_s=terms.idle_timeout_s,
            total_timeout_s=terms.total_timeout_s,
            on_headers=lambda headers: self._heard(sent.call, headers),
        )
        self._outbox.ended(sent.call, answer)
        outcome = classify(answer, asked_model=request.model, now=time.time(), tariff=terms.tariff)
        if isinstance(outcome, Stop) and outcome.reason is PauseReason.INSUFFICIENT_BALANCE:
            outcome = await self._doubt(request, outcome)
        return answer, outcome

    def _heard(self, call: str, headers: dict[str, str]) -> None:
        if generation_id := headers.get(GENERATION_ID):
            self._generation_ids[call] = generation_id
            self._outbox.heard(call, generation_id)

    async def _doubt(self, request: PendingRequest, stop: Stop) -> Outcome:
        """402 also comes in bursts though there is money: the balance decides."""
        again = Retry(RetryKind.THROTTLED, stop.code, stop.message, stop.charge)
        try:
            enough = await self._balance.bears(request.bound.rub or ZERO)
        except asyncio.CancelledError:
            # Cut while asking: the call itself had ended, and was refused.
            return again
        return again if enough else msgspec.structs.replace(stop, is_sure=enough is False)

    def _ended(
        self,
        dispatcher: Dispatcher,
        request: PendingRequest,
        sent: Sent,
        task: asyncio.Task[tuple[Answer, Outcome]],
    ) -> None:
        """A call is over, however it went: no row may get lost."""
        self._calls.discard(task)
        self._flying[sent.job] -= 1
        generation_id = self._generation_ids.pop(sent.call, "")
        if task.cancelled():
            self._lose(dispatcher, request, sent, generation_id, DRAINED)
        elif error := task.exception():
            # Texts of exceptions may quote prompts, so only the class is told.
            log.error("internal error in a call: %s", type(error).__name__)
            log.debug("", exc_info=error)
            reason = ReturnReason("system.error", type(error).__name__)
            self._lose(dispatcher, request, sent, generation_id, reason)
        else:
            self._account(dispatcher, request, sent, *task.result())
        dispatcher.pump()

    def _lose(
        self,
        dispatcher: Dispatcher,
        request: PendingRequest,
        sent: Sent,
        generation_id: str,
        reason: ReturnReason,
    ) -> None:
        """The call is cut: it may be billed, and its request goes back."""
        dispatcher.limiter.ended(request.estimate)
        dispatcher.ended(request, HealthSignal.NONE)
        request.chunk.grant.settle(request.bound, request.bound)
        request.uncertain += 1
        self._outbox.put(sent.job, call_without_answer(sent, generation_id, reason.code), None)
        self._give_back(request, reason)

    def _account(
        self,
        dispatcher: Dispatcher,
        request: PendingRequest,
        sent: Sent,
        answer: Answer,
        outcome: Outcome,
    ) -> None:
        """Writes down what the call led to and acts upon it."""
        outcome = self._judge.judge(request, outcome, in_flight=self._flying[sent.job])
        if not isinstance(outcome, Answered | Refused):
            said = Hindrance(outcome.code, outcome.message, answer.status, request.work.body)
            dispatcher.hindrance = said
        row = call_row(sent, answer, outcome)
        request.chunk.grant.settle(request.bound, spent(row, request.bound))
        if row.billing is Billing.KNOWN:
            request.chunk.summary.cost = add(request.chunk.summary.cost, row.cost or ZERO)
        dispatcher.ended(request, tell_limiter(dispatcher.limiter, request, answer, outcome))
        match outcome:
            case Answered() | Refused():
                self._finish(request, sent, answer, outcome, row)
            case Retry():
                self._retry(dispatcher, request, sent, answer, outcome, row)
            case Stop():
                self._note(request, row)
                reason = self._reason_of(request, answer, outcome)
                self._give_back(request, reason)
                if reason.model:
                    self._stop_model(sent.job, reason)
                else:
                    self._stop_job(sent.job, reason)
        if is_dearer(row):
            self._stop_job(sent.job, dearer(row))

    def _reason_of(self, request: PendingRequest, answer: Answer, stop: Stop) -> ReturnReason:
        """Why it stops, in the endpoint's own words."""
        text = own_words(stop.message, request.work.body, answer.status)
        if stop.code in ADDRESS and not self._judge.has_answered(request):
            text = f"{text}: check the base URL"
        return ReturnReason(stop.code, text, stop.reason, stop.model)

    def _finish(
        self, request: PendingRequest, sent: Sent, answer: Answer, outcome: Outcome, row: Call
    ) -> None:
        result = result_of(sent, answer, outcome, time.time())
        self._outbox.put(sent.job, row, result, raw_body(answer, outcome))
        if result.state is ResultState.COMPLETED:
            request.chunk.summary.completed += 1
        else:
            request.chunk.summary.failed += 1
        self._settle(request.chunk)

    def _note(self, request: PendingRequest, row: Call) -> None:
        """A call that did not end its request: into the ledger if it may have cost something."""
        if row.billing is Billing.NONE:
            self._outbox.dismiss(row.id)
        else:
            self._outbox.put(request.chunk.payload.job, row, None)
        request.chunk.refusals[row.code] += 1

    def _retry(
        self,
        dispatcher: Dispatcher,
        request: PendingRequest,
        sent: Sent,
        answer: Answer,
        outcome: Retry,
        row: Call,
    ) -> None:
        if self._spends_an_attempt(dispatcher, request, answer, outcome):
            self._finish(request, sent, answer, outcome, row)
            return
        self._note(request, row)
        if reason := self._why_not(request):
            self._give_back(request, reason)
            return
        backoff = DOUBTS if outcome.kind is RetryKind.DOUBTED else RETRIES
        after = (
            outcome.after
            if outcome.after is None
            else min(outcome.after, dispatcher.limiter.pause_s)
        )
        wait = delay(request.backoffs, after, backoff, self._dice.uniform)
        request.backoffs += 1
        dispatcher.again(
            request, wait, budgeted=outcome.kind in FAULTS and not dispatcher.breaker.is_on
        )

    def _spends_an_attempt(
        self, dispatcher: Dispatcher, request: PendingRequest, answer: Answer, outcome: Retry
    ) -> bool:
        """Counts the fault; True when the request has no attempt left and so has failed."""
        terms = request.chunk.payload.terms
        maybe_billed = outcome.charge.billing is not Billing.NONE
        is_outage = dispatcher.breaker.is_on and dispatcher.breaker.lasts_s < OUTAGE_IS_OVER_S
        if terms.never_pay_twice and maybe_billed:
            return True
        if is_cut(answer) and dispatcher.breaker.is_near:
            # All are cut, so it is not this request's own.
            request.faults += not (is_outage and answer.latency_s < QUICK_S)
            return request.faults >= terms.max_attempts
        if maybe_billed or outcome.kind is RetryKind.UNCERTAIN:
            request.uncertain += 1
        if outcome.kind is RetryKind.UNCERTAIN:
            return request.uncertain >= 2
        if outcome.kind is RetryKind.ONCE:
            request.odd += 1
            return request.odd >= 2
        if outcome.kind is RetryKind.PASSING and not is_outage:
            request.faults += 1
            return request.faults >= terms.max_attempts
        return False


def is_cut(answer: Answer) -> bool:
    """Whether the connection ended before the answer did."""
    return isinstance(answer, Broken) and answer.kind is BrokenKind.CUT


def check_payload(payload: Payload) -> None:
    """`BadMessage` unless it makes sense; that its figures do was checked when it was unpacked."""
    if len({work.ordinal for work in payload.requests}) != len(payload.requests):
        raise BadMessage("a payload contains a request twice")
    terms = payload.terms
    limits = (terms.rpm, terms.tpm, terms.max_in_flight, terms.rub_per_hour)
    needed = (terms.max_attempts, terms.idle_timeout_s, terms.total_timeout_s, terms.share)
    if not all(limit is None or 0 < limit < float("inf") for limit in (*limits, *needed)):
        raise BadMessage("a payload has invalid terms")
