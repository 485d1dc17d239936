"""Turns waiting requests into chunks with a grant, and hands them to the post.

Only a window of the job is ever under way, so neither Redis nor a worker grows with the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from msgspec import structs

from batch.coordinator.post import Post
from batch.coordinator.sender import Sender
from batch.coordinator.splitter import (
    MOST_BYTES,
    UNKNOWN_OUTPUT,
    Pulse,
    chunk_size,
)
from batch.money.bounds import request_bound
from batch.money.caps import Room
from batch.store.chunks import OpenChunk
from batch.store.jobstore import JobRow, JobStore
from batch.store.queue import Suspects, Waiting
from batch.store.suspects import ONE_ALONE, TOGETHER
from jobs.budget import UNCAPPED, Amount
from jobs.chunk import MOST_MODELS, Payload, ReturnReason, Work
from jobs.money import ZERO
from jobs.prices import PriceList, margin
from jobs.spec import Budget

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


@dataclass(frozen=True)
class _Choice:
    """Requests that go next and their grant. `exhausted`: of those that wait, some do not fit."""

    requests: list[Waiting] = field(default_factory=list)
    grant: Amount = UNCAPPED
    home: Room | None = None
    exhausted: bool = False


_NOTHING = _Choice()


class Feeder:
    """Feeds one job."""

    def __init__(
        self,
        store: JobStore,
        post: Post,
        sender: Sender,
        room_at_home: Callable[[], Room | None] = lambda: None,
    ) -> None:
        self._room_at_home = room_at_home
        self.may_try = True
        """Whether suspects may be out: those of several jobs could die of each other's."""
        self.aside: dict[str, ReturnReason] = {}
        """Models of which nothing is fed for now, and why."""
        self._store = store
        self._post = post
        self._sender = sender
        self._prices: PriceList | None = None
        self._prices_of: tuple[float | None, float | None] = (None, None)

    def feed(self, job: JobRow, room: int, pulse: Pulse | None = None) -> Fed:
        """Sets up to `room` chunks aside on disk, then sends them; `pulse` is how the job goes.

        Raises `ServiceUnavailable` if the post does not take one: it is on disk as open then, and
        `send_again` sends it.
        """
        if self._unlimited(job.spec.budget):
            return Fed([], exhausted=False)
        self._renew_prices()
        suspects = self._store.queue.suspects()
        if self._store.chunks.trial_out() == ONE_ALONE:
            return Fed([], exhausted=False)
        fed = [] if suspects.alone else self._try(job, suspects)
        size, head = chunk_size(job.requests, job.spec.chunk_size, pulse), self._head(job)
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

    def _choose(self, job: JobRow, size: int, head: int | None) -> _Choice:
        """What goes next: at most `size` requests, with `head` of so many at the queue's front."""
        waiting = _portable(self._store.queue.waiting(size, head, self.aside))
        home = self._room_at_home() if waiting else None
        if not waiting or _waits(home):
            return _NOTHING
        requests, grant = self._afford(job, waiting, home)
        exhausted = len(requests) < len(waiting)
        if not requests and head is None and not self._store.chunks.out():
            # Nothing will settle, so what does not fit now never does: something else may.
            smallest = _portable(self._store.queue.smallest(size, self.aside))
            requests, grant = self._afford(job, smallest, home)
        return _Choice(requests, grant, home, exhausted)

    def _start(self, job: JobRow, choice: _Choice, trial: int = 0) -> OpenChunk:
        """Sets a chunk aside on disk, then sends it."""
        chunk = self._store.chunks.grant(choice.requests, choice.grant, time.time(), trial=trial)
        self._send(job, chunk, choice.requests)
        return chunk

    def _full(self, job: JobRow, size: int, suspects: Suspects, home: Room | None) -> Room | None:
        """The room at home if it is that, and not the job's own budget, which lets nothing go."""
        least = self._store.queue.smallest(size, self.aside) or suspects.requests
        requests, _ = self._afford(job, _portable(least), None)
        return home if requests else None

    def _try(self, job: JobRow, suspects: Suspects) -> list[OpenChunk]:
        """Feeds requests that may kill their worker: at most one such chunk is out at a time."""
        if not suspects.requests or not self.may_try or self._store.chunks.trial_out():
            return []
        home = self._room_at_home()
        if _waits(home):
            return []
        requests, grant = self._afford(job, _portable(suspects.requests), home)
        if not requests:
            return []
        trial = ONE_ALONE if suspects.alone else TOGETHER
        return [self._start(job, _Choice(requests, grant), trial)]

    def _head(self, job: JobRow) -> int | None:
        """How many at the front of the queue may be fed now; None for all of it."""
        if job.sample:
            return job.sample
        if not job.warm:
            return None
        waits = job.started_at is None or time.time() < job.started_at + WARMING_S
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
        self._send(job, chunk, self._store.queue.details(self._store.chunks.unfinished(chunk)))

    def _send(self, job: JobRow, chunk: OpenChunk, requests: list[Waiting]) -> None:
        self._post.put_payload(self._payload(job, chunk, requests))
        spec = job.spec
        self._sender.run_chunk(
            job.id, spec.name, spec.target, chunk.chunk, len(requests), spec.priority
        )

    def _afford(
        self, job: JobRow, waiting: list[Waiting], home: Room | None
    ) -> tuple[list[Waiting], Amount]:
        """As many of the waiting as the budget and the home have room for, and their grant.

        One that does not fit is passed over: those behind it need not wait for it.
        """
        left = self._left(job, home)
        most = self._allowed(job, waiting)
        if left == UNCAPPED:
            return waiting[:most], UNCAPPED
        grant = Amount(None if left.rub is None else ZERO, None if left.tokens is None else 0)
        chosen: list[Waiting] = []
        for request in waiting:
            if len(chosen) >= most:
                break
            more = _plus(grant, self._bound(job, request))
            if more.fits(left):
                chosen.append(request)
                grant = more
        return sorted(chosen, key=lambda request: (request.rank, request.ordinal)), grant

    def _allowed(self, job: JobRow, waiting: list[Waiting]) -> int:
        """How many of them a cap in requests lets go."""
        left = self._requests_left(job)
        return len(waiting) if left is None else max(0, left)

    def _requests_left(self, job: JobRow) -> int | None:
        cap = job.spec.budget.requests
        if cap is None:
            return None
        return cap - job.finished + self._store.queue.copied() - self._store.chunks.under_way()

    def _left(self, job: JobRow, home: Room | None) -> Amount:
        budget = job.spec.budget
        left = UNCAPPED
        if budget.rub is not None or budget.tokens is not None:
            left = Amount(budget.rub, budget.tokens) - self._store.chunks.exposure()
        if home is None:
            return left
        return Amount(home.rub if left.rub is None else min(left.rub, home.rub), left.tokens)

    def _bound(self, job: JobRow, request: Waiting) -> Amount:
        return request_bound(
            request.model,
            request.prompt_bound,
            request.output_bound,
            self._prices,
            margin(job.spec.max_price_rise),
            bounded=request.bounded,
            answered_for=job.spec.request_bound_rub,
        )

    def _payload(self, job: JobRow, chunk: OpenChunk, requests: list[Waiting]) -> Payload:
        models = tuple(dict.fromkeys(request.model for request in requests))
        number = {model: place for place, model in enumerate(models)}
        return Payload(
            job=job.id,
            name=job.spec.name,
            chunk=chunk.chunk,
            base_url=job.spec.base_url,
            key=job.spec.key,
            terms=structs.replace(job.spec.terms(), answered=job.completed > 0, left=job.left),
            grant=chunk.grant,
            models=models,
            requests=[self._work(job, request, number[request.model]) for request in requests],
        )

    def _work(self, job: JobRow, request: Waiting, model: int) -> Work:
        bound = self._bound(job, request)
        return Work(
            ordinal=request.ordinal,
            model=model,
            body=self._store.queue.body(request.ordinal),
            rub=bound.rub,
            tokens=bound.tokens or request.prompt_bound + UNKNOWN_OUTPUT,
            attempts=request.attempts,
            uncertain=request.uncertain,
        )


def _waits(home: Room | None) -> bool:
    """Whether other jobs come first to what the home has left."""
    return home is not None and home.waits


def _portable(waiting: list[Waiting]) -> list[Waiting]:
    """As many as may travel together, and one at least: a token has a byte, so bounds tell."""
    sizes = accumulate(request.prompt_bound for request in waiting)
    together = waiting[: max(1, sum(size <= MOST_BYTES for size in sizes))]
    models = list(dict.fromkeys(request.model for request in together))
    known = set(models[:MOST_MODELS])
    return [request for request in together if request.model in known]


def _plus(grant: Amount, bound: Amount) -> Amount:
    """Adds in the parts that are capped; a bound that is unknown there makes the sum unknown."""
    rub = None if grant.rub is None else (Amount(grant.rub) + Amount(bound.rub)).rub
    tokens = None if grant.tokens is None else (grant.tokens + (bound.tokens or 2**62))
    if grant.rub is not None and rub is None:
        return Amount(None, tokens)
    return Amount(rub, tokens)
