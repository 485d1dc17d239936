"""The life of a request at the worker.

    ticket ─ lane (waits its turn) ─ grant.take ─ outbox.sent ─ endpoint.call ─ outbox.ended
           ─ classify ─ answered | refused      → result
                      ─ retry                   → back into the lane, later
                      ─ stop                    → everything of the job goes back to the home

Every ticket leaves by one of two doors: `_finish` with a result, `_give_back` without.
Runs on one event loop; hundreds of calls in flight, over several open chunks.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Protocol

from jobs.budget import Amount, Grant
from jobs.chunk import (
    DONE,
    DRAINED,
    HELD,
    UNAFFORDABLE,
    ChunkClosed,
    Payload,
    ReturnReason,
    Terms,
)
from jobs.errors import BadMessage, StorageUnavailable
from jobs.money import ZERO, add, plain
from jobs.names import scope_name
from jobs.outcome import Answered, Billing, Outcome, Refused, Retry, RetryKind, Stop
from jobs.result import Call, ResultState
from jobs.states import PauseReason
from workers.backoff import Backoff, delay
from workers.classifier import classify
from workers.endpoint import Answer, Broken, Listener
from workers.journal import Sent
from workers.lane import Lane, Sign
from workers.lookup import balance_in
from workers.outbox import Outbox
from workers.pace import Pace, PaceKeeper
from workers.ticket import OpenChunk, Summary, Ticket
from workers.verdict import (
    GENERATION_ID,
    call_row,
    call_without_answer,
    never_sent,
    raw_body,
    result_of,
)

RETRIES = Backoff(base=0.5, cap=60.0)

LEASE_S = 6.0
"""So long after the last renewal of the claims nothing starts: a beat's pause, a command's time.

The claims live more than twice as long, and a chunk is given to others only after a look that finds
its claim gone; so no other worker can have a chunk of which this one still starts calls. But what a
worker that is cut off has in flight can be bought again, so it stops early, and not only when it
must.
"""

CREDITS_FRESH_S = 10.0
CREDITS_PATIENCE_S = 20.0
MOST_DOUBTS = 8
"""So often a request may hear that there is no money, though the balance says there is."""

MISSING_MODEL = 3
"""So many answers in a row that there is no such model are believed for all of its requests."""

OUTAGE_IS_OVER_S = 2 * 3600.0
"""Faults after so long an outage use up attempts again: it may be the requests themselves."""

LOST = ReturnReason("lost", "the chunk was given to others meanwhile")
_NO_MODEL = "endpoint.model_not_found"
_NOTHING = Amount(ZERO, 0)

log = logging.getLogger("nightshift.runner")


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
        keeper: PaceKeeper,
        key_fingerprint: str,
        dice: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._outbox = outbox
        self._keeper = keeper
        self._fingerprint = key_fingerprint
        self._dice = dice
        self._clock = clock
        self._renewed_at = clock()
        self._lanes: dict[str, Lane] = {}
        self._missing: dict[str, int] = {}
        self._calls: set[asyncio.Task[tuple[Answer, Outcome]]] = set()
        self._flying: Counter[str] = Counter()
        self._held: set[str] = set()
        self._generation_ids: dict[str, str] = {}
        self._credits: tuple[float, Decimal | None] = (float("-inf"), None)
        self._asking = asyncio.Lock()
        self.draining = False
        self.chunks: dict[tuple[str, int], OpenChunk] = {}

    @property
    def in_flight(self) -> int:
        """Calls that have left and not ended."""
        return len(self._calls)

    def standing(self) -> dict[str, dict[str, object]]:
        """For each job that runs here its chunks, calls in flight, and the refusals met so far."""
        jobs: dict[str, list[OpenChunk]] = {}
        for chunk in self.chunks.values():
            jobs.setdefault(chunk.payload.job, []).append(chunk)
        return {
            job: {
                "chunks": len(chunks),
                "in_flight": self._flying[job],
                "refusals": sum((chunk.refusals for chunk in chunks), Counter[str]()),
            }
            for job, chunks in jobs.items()
        }

    def lanes(self) -> Iterable[Lane]:
        """All lanes, for a look at their pace."""
        return self._lanes.values()

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
            self._distribute(chunk)
            await chunk.done
        finally:
            del self.chunks[chunk.key]
            self._flying += Counter()  # forgets jobs of which nothing is in flight
        self._close(chunk)
        return chunk.summary

    def _distribute(self, chunk: OpenChunk) -> None:
        tickets: dict[str, list[Ticket]] = {}
        if not chunk.left:
            chunk.done.set_result(None)
        for work in chunk.payload.requests:
            model = chunk.payload.models[work.model]
            ticket = Ticket(chunk, work, model, work.attempts, work.uncertain)
            if reason := self._why_not(ticket):
                self._give_back(ticket, reason)
            elif chunk.payload.terms.never_pay_twice and work.uncertain:
                self._fail_unsent(ticket)
            else:
                tickets.setdefault(model, []).append(ticket)
        for model, some in tickets.items():
            self._lane(model, chunk.payload.terms).add(some)

    def _lane(self, model: str, terms: Terms) -> Lane:
        if model not in self._lanes:
            self._lanes = {name: lane for name, lane in self._lanes.items() if not lane.is_idle}
            self._missing = {name: self._missing.get(name, 0) for name in self._lanes}
            scope = scope_name(self._endpoint.base_url, self._fingerprint, model)
            self._lanes[model] = Lane(
                Pace(scope, self._keeper, self._clock),
                self._start,
                self._refuse,
                self._may_start,
                self._dice.uniform,
                self._clock,
            )
        lane = self._lanes[model]
        lane.pace.set_terms(terms)
        return lane

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

    def _give_back(self, ticket: Ticket, reason: ReturnReason) -> None:
        chunk = ticket.chunk
        chunk.returned.append(ticket)
        if chunk.reason is DONE or reason.pause is not None:
            chunk.reason = reason
        self._settle(chunk)

    def _fail_unsent(self, ticket: Ticket) -> None:
        """An earlier call may have been billed, and the user forbade to risk a second."""
        self._outbox.put_result(
            ticket.chunk.payload.job, never_sent(ticket.work.ordinal, ticket.calls, time.time())
        )
        ticket.chunk.summary.failed += 1
        self._settle(ticket.chunk)

    # ---- stopping ---------------------------------------------------------------------------

    def drain(self) -> None:
        """Nothing new starts; what waits goes back; calls in flight end and are kept."""
        self.draining = True
        self._return_all(lambda _: True, DRAINED)

    def hold(self, jobs: set[str]) -> None:
        """Exactly these jobs are paused or cancelled: nothing of them starts."""
        self._held = jobs
        if jobs:
            self._return_all(lambda ticket: ticket.chunk.payload.job in jobs, HELD)

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
        return self._clock() - self._renewed_at < LEASE_S

    def _stop_job(self, job: str, reason: ReturnReason) -> None:
        for chunk in list(self.chunks.values()):
            if chunk.payload.job == job:
                self._stop_chunk(chunk, reason)

    def _stop_chunk(self, chunk: OpenChunk, reason: ReturnReason) -> None:
        chunk.stopped = chunk.stopped or reason
        self._return_all(lambda ticket: ticket.chunk is chunk, reason)

    def _return_all(self, wanted: Callable[[Ticket], bool], reason: ReturnReason) -> None:
        for lane in self._lanes.values():
            for ticket in lane.take_back(wanted):
                self._give_back(ticket, reason)

    def _why_not(self, ticket: Ticket) -> ReturnReason | None:
        """Why a ticket may not be called any more."""
        if self.draining:
            return DRAINED
        return HELD if ticket.chunk.payload.job in self._held else ticket.chunk.stopped

    def _refuse(self, ticket: Ticket) -> bool:
        """Whether a ticket whose turn it is may not be called after all; then it goes back."""
        reason = self._why_not(ticket)
        if reason is None and not ticket.chunk.grant.take(ticket.bound):
            reason = UNAFFORDABLE
        if reason is None:
            return False
        self._give_back(ticket, reason)
        return True

    # ---- a call -----------------------------------------------------------------------------

    def _start(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.model]
        try:
            sent = self._sent(ticket)
        except StorageUnavailable:
            # What cannot be remembered is not sent.
            lane.pace.cancel(ticket.work.tokens)
            lane.ended(ticket, Sign.NONE)
            ticket.chunk.grant.settle(ticket.bound, _NOTHING)
            self._give_back(ticket, DRAINED)
            return
        task = asyncio.get_running_loop().create_task(self._call(ticket, sent))
        self._calls.add(task)
        self._flying[sent.job] += 1
        # Not within the task: one that is cut before its first step never runs.
        task.add_done_callback(functools.partial(self._ended, lane, ticket, sent))

    def _sent(self, ticket: Ticket) -> Sent:
        job, chunk = ticket.chunk.key
        sent = Sent(
            self._outbox.new_call_id(),
            job,
            chunk,
            ticket.work.ordinal,
            ticket.calls + 1,
            ticket.uncertain,
            time.time(),
            ticket.model,
            ticket.bound,
        )
        self._outbox.sent(sent)
        ticket.calls += 1
        return sent

    async def _call(self, ticket: Ticket, sent: Sent) -> tuple[Answer, Outcome]:
        terms = ticket.chunk.payload.terms
        answer = await self._endpoint.call(
            ticket.work.body,
            idle_timeout_s=terms.idle_timeout_s,
            total_timeout_s=terms.total_timeout_s,
            on_headers=lambda headers: self._heard(sent.call, headers),
        )
        self._outbox.ended(sent.call, answer)
        outcome = classify(answer, asked_model=ticket.model, now=time.time(), tariff=terms.tariff)
        if isinstance(outcome, Stop) and outcome.reason is PauseReason.INSUFFICIENT_BALANCE:
            outcome = await self._doubt(ticket, outcome)
        return answer, outcome

    def _heard(self, call: str, headers: dict[str, str]) -> None:
        if generation_id := headers.get(GENERATION_ID):
            self._generation_ids[call] = generation_id
            self._outbox.heard(call, generation_id)

    async def _doubt(self, ticket: Ticket, stop: Stop) -> Outcome:
        """402 also comes in bursts though there is money: the balance decides."""
        ticket.doubts += 1
        again = Retry(RetryKind.THROTTLED, stop.code, stop.message, stop.charge)
        try:
            balance = await self._balance()
        except asyncio.CancelledError:
            # Cut while asking: the call itself had ended, and was refused.
            return again
        enough = balance is not None and balance > 0 and balance >= (ticket.bound.rub or ZERO)
        return again if enough and ticket.doubts <= MOST_DOUBTS else stop

    async def _balance(self) -> Decimal | None:
        """₽ on the account, asked for once however many calls wonder; None if nobody tells."""
        async with self._asking:
            when, balance = self._credits
            if self._clock() - when > CREDITS_FRESH_S:
                try:
                    async with asyncio.timeout(CREDITS_PATIENCE_S):
                        balance = balance_in(await self._endpoint.credits())
                except TimeoutError:
                    balance = None
                self._credits = (self._clock(), balance)
            return balance

    def _ended(
        self, lane: Lane, ticket: Ticket, sent: Sent, task: asyncio.Task[tuple[Answer, Outcome]]
    ) -> None:
        """A call is over, however it went: no row may get lost."""
        self._calls.discard(task)
        self._flying[sent.job] -= 1
        generation_id = self._generation_ids.pop(sent.call, "")
        if task.cancelled():
            self._lose(lane, ticket, sent, generation_id, DRAINED)
        elif error := task.exception():
            # Texts of exceptions may quote prompts, so only the class is told.
            log.error("a call went wrong here: %s", type(error).__name__)
            log.debug("", exc_info=error)
            reason = ReturnReason("system.error", type(error).__name__)
            self._lose(lane, ticket, sent, generation_id, reason)
        else:
            self._account(lane, ticket, sent, *task.result())
        lane.pump()

    def _lose(
        self, lane: Lane, ticket: Ticket, sent: Sent, generation_id: str, reason: ReturnReason
    ) -> None:
        """The call is cut: it may be billed, and its request goes back."""
        lane.pace.ended(
            reserved=ticket.work.tokens, used=None, throttled=False, success=False, retry_after=None
        )
        lane.ended(ticket, Sign.NONE)
        ticket.chunk.grant.settle(ticket.bound, ticket.bound)
        ticket.uncertain += 1
        self._outbox.put(sent.job, call_without_answer(sent, generation_id, reason.code), None)
        self._give_back(ticket, reason)

    def _account(
        self, lane: Lane, ticket: Ticket, sent: Sent, answer: Answer, outcome: Outcome
    ) -> None:
        """Writes down what the call led to and acts upon it."""
        outcome = self._believe(ticket.model, outcome)
        row = call_row(sent, answer, outcome)
        ticket.chunk.grant.settle(ticket.bound, _spent(row, ticket.bound))
        if row.billing is Billing.KNOWN:
            ticket.chunk.summary.cost = add(ticket.chunk.summary.cost, row.cost or ZERO)
        self._tell_pace(lane, ticket, answer, outcome)
        match outcome:
            case Answered() | Refused():
                self._finish(ticket, sent, answer, outcome, row)
            case Retry():
                self._retry(lane, ticket, sent, answer, outcome, row)
            case Stop():
                self._note(ticket, row)
                reason = ReturnReason(outcome.code, outcome.message, outcome.reason)
                self._give_back(ticket, reason)
                self._stop_job(sent.job, reason)
        if row.cost is not None and row.bound is not None and row.cost > row.bound:
            self._stop_job(sent.job, _dearer(row))

    def _believe(self, model: str, outcome: Outcome) -> Outcome:
        """A model that is missing for several requests in a row is missing for all."""
        if not isinstance(outcome, Refused) or outcome.code != _NO_MODEL:
            self._missing.pop(model, None)
            return outcome
        self._missing[model] = self._missing.get(model, 0) + 1
        if self._missing[model] < MISSING_MODEL:
            return outcome
        return Stop(PauseReason.MISCONFIGURED, outcome.code, outcome.message, outcome.charge)

    def _tell_pace(self, lane: Lane, ticket: Ticket, answer: Answer, outcome: Outcome) -> None:
        throttled = isinstance(outcome, Retry) and outcome.kind is RetryKind.THROTTLED
        usage = outcome.charge.usage
        free = outcome.charge.billing is Billing.NONE
        lane.pace.ended(
            reserved=ticket.work.tokens,
            used=usage.total if usage else 0 if free else None,
            throttled=throttled,
            success=isinstance(outcome, Answered),
            retry_after=outcome.after if isinstance(outcome, Retry) else None,
        )
        lane.ended(ticket, _sign(answer, outcome, alone=lane.pace.in_flight == 0))

    def _finish(
        self, ticket: Ticket, sent: Sent, answer: Answer, outcome: Outcome, row: Call
    ) -> None:
        result = result_of(sent, answer, outcome, time.time())
        self._outbox.put(sent.job, row, result, raw_body(answer))
        if result.state is ResultState.COMPLETED:
            ticket.chunk.summary.completed += 1
        else:
            ticket.chunk.summary.failed += 1
        self._settle(ticket.chunk)

    def _note(self, ticket: Ticket, row: Call) -> None:
        """A call that did not end its request: into the ledger if it may have cost something."""
        if row.billing is Billing.NONE:
            self._outbox.dismiss(row.id)
        else:
            self._outbox.put(ticket.chunk.payload.job, row, None)
        ticket.chunk.refusals[row.code] += 1

    def _retry(
        self, lane: Lane, ticket: Ticket, sent: Sent, answer: Answer, outcome: Retry, row: Call
    ) -> None:
        if self._spends_an_attempt(lane, ticket, outcome):
            self._finish(ticket, sent, answer, outcome, row)
            return
        self._note(ticket, row)
        if reason := self._why_not(ticket):
            self._give_back(ticket, reason)
            return
        wait = delay(ticket.backoffs, outcome.after, RETRIES, self._dice.uniform)
        ticket.backoffs += 1
        lane.again(ticket, wait)

    def _spends_an_attempt(self, lane: Lane, ticket: Ticket, outcome: Retry) -> bool:
        """Counts the fault; True when the request has no attempt left and so has failed."""
        terms = ticket.chunk.payload.terms
        maybe_billed = outcome.charge.billing is not Billing.NONE
        if maybe_billed or outcome.kind is RetryKind.UNCERTAIN:
            ticket.uncertain += 1
        if terms.never_pay_twice and maybe_billed:
            return True
        if outcome.kind is RetryKind.UNCERTAIN:
            return ticket.uncertain >= 2
        is_outage = lane.in_outage and lane.outage_s < OUTAGE_IS_OVER_S
        if outcome.kind is RetryKind.PASSING and not is_outage:
            ticket.faults += 1
            return ticket.faults >= terms.max_attempts
        return False


def check_payload(payload: Payload) -> None:
    """`BadMessage` unless it makes sense; that its figures do was checked when it was unpacked."""
    if len({work.ordinal for work in payload.requests}) != len(payload.requests):
        raise BadMessage("a payload names a request twice")
    terms = payload.terms
    limits = (terms.rpm, terms.tpm, terms.max_in_flight, terms.max_attempts)
    timeouts = (terms.idle_timeout_s, terms.total_timeout_s)
    if not all(limit is None or limit > 0 for limit in (*limits, *timeouts)):
        raise BadMessage("a payload's terms make no sense")


def _sign(answer: Answer, outcome: Outcome, *, alone: bool) -> Sign:
    """What a call's end says of the endpoint."""
    if not isinstance(outcome, Retry):
        return Sign.ALIVE
    match outcome.kind:
        case RetryKind.UNREACHABLE | RetryKind.PASSING:
            return Sign.FAULTY
        case RetryKind.UNCERTAIN:
            return Sign.FAULTY if isinstance(answer, Broken) else Sign.ALIVE
        case RetryKind.THROTTLED:
            # Of a crowd some are refused. One alone is too where the endpoint is not well.
            return Sign.FAULTY if alone and outcome.after is None else Sign.NONE


def _dearer(row: Call) -> ReturnReason:
    cost, bound = plain(row.cost or ZERO), plain(row.bound or ZERO)
    text = f"a call cost {cost} ₽, though {bound} ₽ should have been the most"
    return ReturnReason("price_rise", text, PauseReason.PRICE_RISE)


def _spent(row: Call, bound: Amount) -> Amount:
    """What a call takes out of the grant: its cost, its bound if that is unknown, or nothing."""
    if row.billing is Billing.NONE:
        return _NOTHING
    if row.billing is Billing.UNKNOWN:
        return bound
    return Amount(row.cost or ZERO, row.usage.total if row.usage else bound.tokens)
