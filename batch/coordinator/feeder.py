"""Turns waiting requests into chunks with a grant, and hands them to Redis.

Only a window of the job is ever under way, so neither Redis nor a worker grows with the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import accumulate
from typing import NamedTuple

from msgspec import structs

from batch.coordinator.chunk_size import (
    MOST_BYTES,
    UNKNOWN_OUTPUT,
    Pulse,
    chunk_size,
)
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.money.bounds import request_bound
from batch.money.caps import Room
from batch.money.cost_forecast import enough_for_all
from batch.reading.rewriting import in_line
from batch.store.call_units import Judge, Unit
from batch.store.chunks import OpenChunk
from batch.store.jobstore import JobRow, JobStore
from batch.store.poison_requests import ONE_ALONE, TOGETHER
from batch.store.request_queue import Suspects, Triple, Waiting
from batch.tables.pack_sizes import MOST_ROWS
from jobs.budget import UNCAPPED, Amount
from jobs.chunk import MOST_MODELS, Payload, ReturnReason, Work
from jobs.job_options import Budget, Spec
from jobs.money import ZERO, plain, rounded_up, subtract
from jobs.prices import PriceList, margin
from jobs.wire import VERSION

POISON = 3
"""So many calls of a request whose outcome nobody knows, and it is set aside."""

WARMING_S = 30.0
"""So long requests wait at most for those that warm the provider's cache for them."""


@dataclass(frozen=True)
class Fed:
    """What one feeding did. `exhausted`: requests wait, but not one more fits the budget, and no
    chunk is out that could give back some of its grant. Then `full` is the room that the caps of
    the home leave, if it is they that do not let one more go.
    """

    chunks: list[OpenChunk]
    exhausted: bool
    full: Room | None = None


class _Call(NamedTuple):
    """One call of a worker for these requests. `unit` None: for one, as the input has it."""

    requests: tuple[Waiting, ...]
    bound: Amount
    unit: Unit | None = None


@dataclass(frozen=True)
class _Choice:
    """Requests that go next and their grant. `exhausted`: of those that wait, some do not fit."""

    requests: list[Waiting] = field(default_factory=list)
    grant: Amount = UNCAPPED
    calls: list[_Call] = field(default_factory=list)
    home: Room | None = None
    exhausted: bool = False


_NOTHING = _Choice()


class Feeder:
    """Feeds one job."""

    def __init__(
        self,
        store: JobStore,
        redis: CoordinatorRedis,
        sender: Sender,
        room_at_home: Callable[[], Room | None] = lambda: None,
        judge: Judge | None = None,
    ) -> None:
        """`judge` writes the calls of a job whose answers are checked."""
        self._room_at_home = room_at_home
        self._judge = judge
        self._compared = False
        self.may_try = True
        """Whether suspects may be out: those of several jobs could die of each other's."""
        self.aside: dict[str, ReturnReason] = {}
        """Models of which nothing is fed for now, and why."""
        self._store = store
        self._redis = redis
        self._sender = sender
        self._prices: PriceList | None = None
        self._prices_of: tuple[float | None, float | None] = (None, None)

    def feed(self, job: JobRow, room: int, pulse: Pulse | None = None) -> Fed:
        """Sets up to `room` chunks aside on disk, then sends them; `pulse` is how the job goes.

        Raises `ServiceUnavailable` if Redis does not take one: it is on disk as open then, and
        `send_again` sends it.
        """
        if self._unlimited(job.spec.budget):
            return Fed([], exhausted=False)
        self._renew_prices()
        suspects = self._store.queue.suspects()
        if self._store.chunks.trial_out() == ONE_ALONE:
            return Fed([], exhausted=False)
        if job.sample and not self.compared and self._store.queue.head_is_done(job.sample):
            return Fed(self._compare(job), exhausted=False)
        fed = [] if suspects.alone else self._try(job, suspects)
        size = chunk_size(job.requests, job.spec.chunk_size, pulse) * _packed(job.spec)
        head = self._head(job)
        choice = _NOTHING
        while len(fed) < room and not choice.exhausted:
            choice = self._choose(job, size, head)
            if not choice.requests:
                break
            fed.append(self._start(job, choice))
        if suspects.alone and not fed and not self._store.chunks.out():
            # Only when nothing else is left to do: it would have to wait for this.
            fed = self._try(job, suspects)
            if fed:
                return Fed(fed, exhausted=False)
        if not fed and suspects.requests and self.may_try:
            # Nothing else waits, and what a trial may cost is not left either.
            home = self._room_at_home()
            choice = _Choice(home=home, exhausted=choice.exhausted or not _waits(home))
        if not choice.exhausted or self._store.chunks.out():
            return Fed(fed, exhausted=False)
        return Fed(fed, exhausted=True, full=self._full(job, size, suspects, choice.home))

    def _compare(self, job: JobRow) -> list[OpenChunk]:
        """Feeds the sample once more, in packs of each size that is to be compared: a chunk each,
        as far as they fit.
        """
        fed = list[OpenChunk]()
        home = self._room_at_home()
        if _waits(home) or self._judge is None:
            return fed
        rows = self._store.trials.head(job.sample)[:MOST_ROWS]
        waiting = {each.ordinal: each for each in self._store.queue.details(_fresh(rows))}
        for units in self._judge.trials(self._store.units.asked(rows)):
            calls = [self._unit_call(job, unit, waiting) for unit in units]
            left = self._left(job, home)
            grant = Amount(None if left.rub is None else ZERO, None if left.tokens is None else 0)
            for call in calls:
                grant = grant if left == UNCAPPED else _plus(grant, call.bound)
            if not grant.fits(left):
                break
            requests = [each for call in calls for each in call.requests]
            fed.append(self._start(job, _Choice(requests, grant, calls, home)))
        self._compared = True
        return fed

    @property
    def compared(self) -> bool:
        """Whether all that was to be compared was fed, or nothing is."""
        return self._compared or self._judge is None or bool(self._store.trials.sizes())

    def judge_by(self, judge: Judge | None) -> None:
        """Who writes the calls from now on."""
        self._judge = judge

    def _choose(self, job: JobRow, size: int, head: int | None) -> _Choice:
        """What goes next: at most `size` requests, with `head` of so many at the queue's front."""
        waiting = _portable(self._store.queue.waiting(size, head, self.aside))
        home = self._room_at_home() if waiting else None
        if not waiting or _waits(home):
            return _NOTHING
        # A sample is asked alone, whatever the others are: packs are held against that.
        choice = self._afford(job, waiting, home, alone=bool(job.sample))
        exhausted = len(choice.requests) < len(waiting)
        if not choice.requests and head is None and not self._store.chunks.out():
            # Nothing will settle, so what does not fit now never does: something else may.
            smallest = _portable(self._store.queue.smallest(size, self.aside))
            choice = self._afford(job, smallest, home)
        return replace(choice, exhausted=exhausted)

    def _start(self, job: JobRow, choice: _Choice, trial: int = 0) -> OpenChunk:
        """Sets a chunk aside on disk, then sends it."""
        units = [call.unit for call in choice.calls if call.unit is not None]
        chunk = self._store.chunks.grant(
            choice.requests, choice.grant, time.time(), trial=trial, units=units
        )
        self._send(job, chunk, choice.calls)
        return chunk

    def _full(self, job: JobRow, size: int, suspects: Suspects, home: Room | None) -> Room | None:
        """The room at home if it is that, and not the job's own budget, which lets nothing go."""
        least = self._store.queue.smallest(size, self.aside) or suspects.requests
        return home if self._afford(job, _portable(least), None).requests else None

    def _try(self, job: JobRow, suspects: Suspects) -> list[OpenChunk]:
        """Feeds requests that may kill their worker: at most one such chunk is out at a time."""
        if not suspects.requests or not self.may_try or self._store.chunks.trial_out():
            return []
        home = self._room_at_home()
        if _waits(home):
            return []
        choice = self._afford(job, _portable(suspects.requests), home, alone=True)
        if not choice.requests:
            return []
        return [self._start(job, choice, ONE_ALONE if suspects.alone else TOGETHER)]

    def _head(self, job: JobRow) -> int | None:
        """How many at the front of the queue may be fed now; None for all of it."""
        if job.sample:
            return job.sample
        if not job.warm:
            return None
        waits = job.started_at is None or 0 <= time.time() - job.started_at < WARMING_S
        if waits and not self._store.queue.head_is_done(job.warm):
            return job.warm
        self._store.queue.leave_head()
        return None

    def is_beyond(self, job: JobRow) -> bool:
        """Whether what is out may take more than the job's caps leave: somebody lowered one."""
        left = self._left(job, None)
        amounts = (left.rub, left.tokens, self._requests_left(job))
        return self._unlimited(job.spec.budget) or any(
            amount is not None and amount < 0 for amount in amounts
        )

    def lacks(self, job: JobRow) -> str:
        """The options that let the rest of the job go, with figures by what is expected of it."""
        budget, left, spent = job.spec.budget, self._left(job, None), self._store.chunks.exposure()
        bound, found = self._least(job), ""
        if budget.rub is not None and bound.rub is None:
            found += " --request-bound-rub RUB"
        elif left.rub is not None and bound.rub is not None and bound.rub > left.rub:
            found += f" --budget-rub {plain(enough_for_all(job, spent.rub or ZERO, bound.rub))}"
        if left.tokens is not None and (bound.tokens or 0) > left.tokens:
            most = (spent.tokens or 0) + job.left * (bound.tokens or 0)
            found += f" --budget-tokens {plain(rounded_up(Decimal(most)))}"
        requests = self._requests_left(job)
        if requests is not None and requests <= 0:
            found += f" --budget-requests {job.requests}"
        return found

    def cap_for_all(self, job: JobRow, room: Room) -> Decimal:
        """₽ that a cap of the home must be, so that the rest of the job goes under it."""
        bound = self._least(job).rub or ZERO
        return enough_for_all(job, subtract(room.cap, room.rub), bound)

    def _least(self, job: JobRow) -> Amount:
        """The lowest bound of a call that waits."""
        waiting = self._store.queue.smallest(1, self.aside)
        calls = self._calls(job, waiting or self._store.queue.suspects().requests, alone=True)
        bounds = [call.bound for call in calls]
        return min(bounds, key=lambda each: (each.rub is None, each.rub or ZERO), default=Amount())

    def _unlimited(self, budget: Budget) -> bool:
        """Whether a chunk is out that was fed before there was this cap, and may spend anything."""
        if budget.rub is None and budget.tokens is None:
            return False
        return self._store.chunks.unlimited_out(
            rub=budget.rub is not None, tokens=budget.tokens is not None
        )

    def _renew_prices(self) -> None:
        """Bounds hold for what was accepted and for what is asked now, whichever is dearer."""
        known = self._store.prices_of()
        if known != self._prices_of:
            newest, accepted = self._store.prices(), self._store.accepted_prices()
            self._prices = newest.joined(accepted) if newest and accepted else newest
            self._prices_of = known

    def send_again(self, job: JobRow, chunk: OpenChunk) -> None:
        """A message or payload got lost: the same chunk, those of its requests that have no
        result.
        """
        self._renew_prices()
        left = self._store.chunks.unfinished(chunk)
        units = self._store.units.of_chunk(chunk.chunk)
        members = {member for unit in units for member in unit.members}
        plain = [triple for triple in left if triple[0] not in members]
        waiting = {each.ordinal: each for each in self._store.queue.details(left)}
        calls = [self._plain_call(job, waiting[ordinal]) for ordinal, _, _ in plain]
        calls += [
            self._unit_call(job, unit, waiting)
            for unit in units
            if not waiting.keys().isdisjoint(unit.members)
        ]
        self._send(job, chunk, calls)

    def _send(self, job: JobRow, chunk: OpenChunk, calls: list[_Call]) -> None:
        self._redis.chunks.put_payload(self._payload(job, chunk, calls))
        spec = job.spec
        count = sum(len(call.requests) for call in calls)
        self._sender.run_chunk(job.id, spec.name, spec.target, chunk.chunk, count, spec.priority)

    def _afford(
        self, job: JobRow, waiting: list[Waiting], home: Room | None, *, alone: bool = False
    ) -> _Choice:
        """As many of the waiting as the budget and the home have room for, and their grant.

        One that does not fit is passed over: those behind it need not wait for it.
        """
        left = self._left(job, home)
        most = self._allowed(job, waiting)
        grant = Amount(None if left.rub is None else ZERO, None if left.tokens is None else 0)
        chosen, count = list[_Call](), 0
        for call in self._calls(job, waiting, alone=alone):
            if count + len(call.requests) > most:
                continue
            more = grant if left == UNCAPPED else _plus(grant, call.bound)
            if more.fits(left):
                chosen.append(call)
                count += len(call.requests)
                grant = more
        if not chosen and most and self._judge is not None and not alone:
            # Several rows in a call don't fit: perhaps one does.
            return self._afford(job, waiting, home, alone=True)
        requests = sorted(
            (each for call in chosen for each in call.requests),
            key=lambda request: (request.rank, request.ordinal),
        )
        return _Choice(requests, grant, chosen, home)

    def _calls(self, job: JobRow, waiting: list[Waiting], *, alone: bool) -> Iterator[_Call]:
        """The calls for these requests, each of which is in one of them."""
        if self._judge is None:
            yield from (self._plain_call(job, request) for request in waiting)
            return
        by_ordinal = {request.ordinal: request for request in waiting}
        for unit in self._judge.units(self._store.units.asked(by_ordinal), alone=alone):
            yield self._unit_call(job, unit, by_ordinal)

    def _plain_call(self, job: JobRow, request: Waiting) -> _Call:
        bound = self._bound(job, request, request.prompt_bound, request.output_bound)
        return _Call((request,), bound)

    def _unit_call(self, job: JobRow, unit: Unit, waiting: dict[int, Waiting]) -> _Call:
        requests = tuple(waiting[member] for member in unit.members if member in waiting)
        if unit.plain:
            return self._plain_call(job, requests[0])
        first = replace(requests[0], model=unit.model or requests[0].model)
        bound = self._bound(job, first, unit.prompt_bound, unit.max_output)
        return _Call(requests, bound, unit)

    def _allowed(self, job: JobRow, waiting: list[Waiting]) -> int:
        """How many of them a cap in requests lets go."""
        left = self._requests_left(job)
        return len(waiting) if left is None else max(0, left)

    def _requests_left(self, job: JobRow) -> int | None:
        cap = job.spec.budget.requests
        if cap is None:
            return None
        bought = job.finished - job.reused - self._store.queue.copied()
        return cap - bought - self._store.chunks.under_way()

    def _left(self, job: JobRow, home: Room | None) -> Amount:
        budget = job.spec.budget
        left = UNCAPPED
        if budget.rub is not None or budget.tokens is not None:
            left = Amount(budget.rub, budget.tokens) - self._store.chunks.exposure()
        if home is None:
            return left
        return Amount(home.rub if left.rub is None else min(left.rub, home.rub), left.tokens)

    def _bound(self, job: JobRow, request: Waiting, prompt: int, output: int | None) -> Amount:
        return request_bound(
            request.model,
            prompt,
            output,
            self._prices,
            margin(job.spec.max_price_rise),
            bounded=request.bounded,
            answered_for=job.spec.request_bound_rub,
            pin=request.pin,
        )

    def _payload(self, job: JobRow, chunk: OpenChunk, calls: list[_Call]) -> Payload:
        asked = list(dict.fromkeys(map(_asked, calls)))
        number = {each: place for place, each in enumerate(asked)}
        return Payload(
            job=job.id,
            name=job.spec.name,
            chunk=chunk.chunk,
            base_url=job.spec.base_url,
            key=job.spec.key,
            terms=structs.replace(
                job.spec.terms(), answered=job.completed > job.reused, left=job.left
            ),
            grant=chunk.grant,
            models=tuple(model for model, _ in asked),
            kinds=tuple(kind for _, kind in asked),
            requests=[self._work(job, call, number[_asked(call)]) for call in calls],
            version=VERSION,
        )

    def _work(self, job: JobRow, call: _Call, model: int) -> Work:
        lead, unit = call.requests[0], call.unit
        prompt = lead.prompt_bound if unit is None else unit.prompt_bound
        body = self._store.queue.body(lead.ordinal) if unit is None else unit.body
        if job.spec.revised:
            most, limit = lead.output_bound if unit is None else None, job.spec.max_tokens_field
            body = in_line(body, _asked(call)[0], most, limit, lead.kind)
        return Work(
            ordinal=lead.ordinal if unit is None else unit.members[0],
            model=model,
            body=body,
            rub=call.bound.rub,
            tokens=call.bound.tokens or prompt + UNKNOWN_OUTPUT,
            attempts=max(each.attempts for each in call.requests),
            uncertain=max(each.uncertain for each in call.requests),
        )


def _fresh(rows: list[int]) -> list[Triple]:
    return [(ordinal, 0, 0) for ordinal in rows]


def _asked(call: _Call) -> tuple[str, str]:
    """Which model, and what kind of request."""
    lead = call.requests[0]
    return (call.unit.model or lead.model) if call.unit else lead.model, lead.kind


def _packed(spec: Spec) -> int:
    """Rows in a call."""
    return 1 if spec.task is None else spec.task.pack


def _waits(home: Room | None) -> bool:
    """Whether other jobs come first to what the home has left."""
    return home is not None and home.waits


def _portable(waiting: list[Waiting]) -> list[Waiting]:
    """As many as may travel together, and one at least: a token has a byte, so bounds tell."""
    sizes = accumulate(request.prompt_bound for request in waiting)
    together = waiting[: max(1, sum(size <= MOST_BYTES for size in sizes))]
    asked = list(dict.fromkeys((request.model, request.kind) for request in together))
    known = set(asked[:MOST_MODELS])
    return [request for request in together if (request.model, request.kind) in known]


def _plus(grant: Amount, bound: Amount) -> Amount:
    """Adds in the parts that are capped; a bound that is unknown there makes the sum unknown."""
    rub = None if grant.rub is None else (Amount(grant.rub) + Amount(bound.rub)).rub
    tokens = None if grant.tokens is None else (grant.tokens + (bound.tokens or 2**62))
    return Amount(rub, tokens)
