"""The life of a request at the worker.

    ticket ─ lane (waits its turn) ─ grant.take ─ outbox.sent ─ endpoint.call ─ outbox.ended
           ─ classify ─ answered | refused      → result
                      ─ retry                   → back into the lane, later
                      ─ stop                    → everything of the job goes back to the home

Runs on one event loop; hundreds of calls in flight, over several open chunks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

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
from jobs.money import ZERO, add
from jobs.names import scope_name
from jobs.outcome import Answered, Billing, Outcome, Refused, Retry, RetryKind, Stop
from jobs.result import Call, ResultState
from jobs.states import PauseReason
from workers.backoff import Backoff, delay
from workers.classifier import classify
from workers.endpoint import Answer, Endpoint
from workers.journal import Sent
from workers.lane import TROUBLE, Lane
from workers.lookup import balance_in
from workers.outbox import Outbox
from workers.pace import Pace, PaceKeeper
from workers.ticket import OpenChunk, Summary, Ticket
from workers.verdict import GENERATION_ID, call_row, call_without_answer, raw_body, result_of

RETRIES = Backoff(base=0.5, cap=60.0)
PROBES = Backoff(base=1.0, cap=30.0)
"""Waits between the probes of an endpoint that seems to be down."""

_CREDITS_FRESH_S = 10.0

log = logging.getLogger("nightshift.runner")


class Runner:
    """Runs chunks. Single-threaded: every method belongs to the event loop's thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        outbox: Outbox,
        keeper: PaceKeeper,
        key_fingerprint: str,
        dice: random.Random,
    ) -> None:
        self._endpoint = endpoint
        self._outbox = outbox
        self._keeper = keeper
        self._fingerprint = key_fingerprint
        self._dice = dice
        self._lanes: dict[str, Lane] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._held: dict[str, ReturnReason] = {}
        self._generation_ids: dict[str, str] = {}
        self._credits: tuple[float, bool] = (float("-inf"), False)
        self.draining = False
        self.chunks: dict[tuple[str, int], OpenChunk] = {}

    @property
    def in_flight(self) -> int:
        """Calls that have left and not ended."""
        return len(self._calls)

    def lanes(self) -> Iterable[Lane]:
        """All lanes, for a look at their pace."""
        return self._lanes.values()

    # ---- a chunk ----------------------------------------------------------------------------

    async def run(self, payload: Payload) -> Summary:
        """Returns when each of the chunk's requests has its result or goes back to the home."""
        chunk = OpenChunk(
            payload,
            Grant(payload.grant),
            len(payload.requests),
            asyncio.get_running_loop().create_future(),
        )
        self.chunks[chunk.key] = chunk
        self._outbox.claimed(
            *chunk.key, [(work.ordinal, work.attempts, work.uncertain) for work in payload.requests]
        )
        try:
            self._distribute(chunk)
            await chunk.done
        finally:
            del self.chunks[chunk.key]
        self._close(chunk)
        return chunk.summary

    def _distribute(self, chunk: OpenChunk) -> None:
        tickets: dict[str, list[Ticket]] = {}
        for work in chunk.payload.requests:
            model = chunk.payload.models[work.model]
            ticket = Ticket(chunk, work, model, work.attempts, work.uncertain)
            tickets.setdefault(model, []).append(ticket)
        if not tickets:
            chunk.done.set_result(None)
        for model, some in tickets.items():
            self._lane(model, chunk.payload.terms).add(some)

    def _lane(self, model: str, terms: Terms) -> Lane:
        if model not in self._lanes:
            scope = scope_name(self._endpoint.base_url, self._fingerprint, model)
            self._lanes[model] = Lane(Pace(scope, self._keeper), self._start, self._refuse)
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

    # ---- stopping ---------------------------------------------------------------------------

    def drain(self) -> None:
        """Nothing new starts; what waits goes back; calls in flight end and are kept."""
        self.draining = True
        self._return_all(lambda _: True, DRAINED)

    def hold(self, jobs: set[str]) -> None:
        """Exactly these jobs are paused or cancelled: nothing of them starts."""
        self._held = dict.fromkeys(jobs, HELD)
        if jobs:
            self._return_all(lambda ticket: ticket.chunk.payload.job in jobs, HELD)

    def abort(self) -> None:
        """Cuts the calls in flight; each may be billed and is booked so."""
        self.drain()
        for task in list(self._calls):
            task.cancel()

    def _stop_job(self, job: str, reason: ReturnReason) -> None:
        self._return_all(lambda ticket: ticket.chunk.payload.job == job, reason)

    def _return_all(self, wanted: Callable[[Ticket], bool], reason: ReturnReason) -> None:
        for lane in self._lanes.values():
            for ticket in lane.take_back(wanted):
                self._give_back(ticket, reason)

    def _refuse(self, ticket: Ticket) -> bool:
        """Whether a ticket whose turn it is may not be called after all; then it goes back."""
        reason = DRAINED if self.draining else self._held.get(ticket.chunk.payload.job)
        if reason is None and ticket.chunk.reason.pause is not None:
            reason = ticket.chunk.reason
        if reason is None and not ticket.chunk.grant.take(ticket.bound):
            reason = UNAFFORDABLE
        if reason is None:
            return False
        self._give_back(ticket, reason)
        return True

    # ---- a call -----------------------------------------------------------------------------

    def _start(self, ticket: Ticket) -> None:
        task = asyncio.get_running_loop().create_task(self._call_safely(ticket))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call_safely(self, ticket: Ticket) -> None:
        """A call of which no row may get lost, whatever befalls it."""
        sent = self._sent(ticket)
        try:
            await self._call(ticket, sent)
        except asyncio.CancelledError:
            self._lose(ticket, sent, DRAINED)
        except Exception as error:
            # Texts of exceptions may quote prompts, so only the class is told.
            log.error("a call went wrong here: %s", type(error).__name__)  # noqa: TRY400
            log.debug("", exc_info=error)
            self._lose(ticket, sent, ReturnReason("system.error", type(error).__name__))

    def _lose(self, ticket: Ticket, sent: Sent, reason: ReturnReason) -> None:
        """The call is cut: it may be billed, and its request goes back."""
        lane = self._lanes[ticket.model]
        lane.pace.ended(
            reserved=ticket.work.tokens, used=None, throttled=False, success=False, retry_after=None
        )
        ticket.chunk.grant.settle(ticket.bound, ticket.bound)
        ticket.uncertain += 1
        ticket.chunk.in_flight -= 1
        generation_id = self._generation_ids.pop(sent.call, "")
        self._outbox.put(sent.job, call_without_answer(sent, generation_id, reason.code), None)
        self._give_back(ticket, reason)

    async def _call(self, ticket: Ticket, sent: Sent) -> None:
        terms = ticket.chunk.payload.terms
        answer = await self._endpoint.call(
            ticket.work.body,
            idle_timeout_s=terms.idle_timeout_s,
            total_timeout_s=terms.total_timeout_s,
            on_headers=lambda headers: self._heard(sent.call, headers),
        )
        self._generation_ids.pop(sent.call, None)
        self._outbox.ended(sent.call, answer)
        outcome = classify(answer, asked_model=ticket.model, now=time.time())
        if isinstance(outcome, Stop) and outcome.reason is PauseReason.INSUFFICIENT_BALANCE:
            outcome = await self._doubt(outcome)
        self._account(ticket, sent, answer, outcome)

    def _sent(self, ticket: Ticket) -> Sent:
        ticket.calls += 1
        job, chunk = ticket.chunk.key
        sent = Sent(
            self._outbox.new_call_id(),
            job,
            chunk,
            ticket.work.ordinal,
            ticket.calls,
            ticket.uncertain,
            time.time(),
            ticket.model,
            ticket.bound,
        )
        self._outbox.sent(sent)
        ticket.chunk.in_flight += 1
        return sent

    def _heard(self, call: str, headers: dict[str, str]) -> None:
        if generation_id := headers.get(GENERATION_ID):
            self._generation_ids[call] = generation_id
            self._outbox.heard(call, generation_id)

    async def _doubt(self, stop: Stop) -> Outcome:
        """402 also comes in bursts though there is money: the balance decides."""
        when, money = self._credits
        if time.monotonic() - when > _CREDITS_FRESH_S:
            balance = balance_in(await self._endpoint.credits())
            money = balance is not None and balance > 0
            self._credits = (time.monotonic(), money)
        if not money:
            return stop
        return Retry(RetryKind.THROTTLED, stop.code, stop.message, stop.charge)

    def _account(self, ticket: Ticket, sent: Sent, answer: Answer, outcome: Outcome) -> None:
        """Writes down what the call led to and acts upon it."""
        lane = self._lanes[ticket.model]
        row = call_row(sent, answer, outcome)
        ticket.chunk.in_flight -= 1
        ticket.chunk.grant.settle(ticket.bound, _spent(row, ticket.bound))
        if row.billing is Billing.KNOWN:
            ticket.chunk.summary.cost = add(ticket.chunk.summary.cost, row.cost or ZERO)
        self._tell_pace(lane, ticket, outcome)
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
        lane.pump()

    def _tell_pace(self, lane: Lane, ticket: Ticket, outcome: Outcome) -> None:
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
        broken = isinstance(outcome, Retry) and outcome.kind in (
            RetryKind.UNREACHABLE,
            RetryKind.PASSING,
        )
        if not broken:
            lane.trouble = 0
            return
        lane.trouble += 1
        if lane.in_outage:
            # A probe now and then, by all workers together; the waits grow up to the ceiling.
            lane.pace.pause(delay(lane.trouble - TROUBLE, None, PROBES, self._dice.uniform))

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
        if self.draining or ticket.chunk.payload.job in self._held:
            self._give_back(ticket, DRAINED if self.draining else HELD)
            return
        wait = delay(ticket.backoffs, outcome.after, RETRIES, self._dice.uniform)
        ticket.backoffs += 1
        lane.again(ticket, wait)

    def _spends_an_attempt(self, lane: Lane, ticket: Ticket, outcome: Retry) -> bool:
        """Counts the fault; True when the request has no attempt left and so has failed."""
        terms = ticket.chunk.payload.terms
        maybe_billed = outcome.charge.billing is not Billing.NONE
        if maybe_billed:
            ticket.uncertain += 1
        if terms.never_pay_twice and maybe_billed:
            return True
        if outcome.kind is RetryKind.UNCERTAIN:
            return ticket.uncertain >= 2
        if outcome.kind is RetryKind.PASSING and not lane.in_outage:
            ticket.faults += 1
            return ticket.faults >= terms.max_attempts
        return False


def _spent(row: Call, bound: Amount) -> Amount:
    """What a call takes out of the grant: its cost, its bound if that is unknown, or nothing."""
    if row.billing is Billing.NONE:
        return Amount(ZERO, 0)
    if row.billing is Billing.UNKNOWN:
        return bound
    return Amount(row.cost or ZERO, row.usage.total if row.usage else bound.tokens)
