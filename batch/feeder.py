"""Turns waiting requests into chunks with a grant, and hands them to the post.

Only a window of the job is ever under way, so neither Redis nor a worker grows with the file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from batch.post import Post
from batch.sender import Sender
from batch.splitter import UNKNOWN_OUTPUT, chunk_size, request_bound
from batch.store.jobstore import JobRow, JobStore, OpenChunk, Waiting
from jobs.budget import UNCAPPED, Amount
from jobs.chunk import Payload, Work
from jobs.money import ZERO
from jobs.prices import PriceList

POISON = 3
"""So many calls of a request whose outcome nobody knows, and it is set aside."""


@dataclass(frozen=True)
class Fed:
    """What one feeding did. `exhausted`: requests wait, but not one more fits the budget."""

    chunks: list[OpenChunk]
    exhausted: bool


class Feeder:
    """Feeds one job."""

    def __init__(self, store: JobStore, post: Post, sender: Sender) -> None:
        self._store = store
        self._post = post
        self._sender = sender
        self._prices: PriceList | None = store.prices()

    def feed(self, job: JobRow, room: int) -> Fed:
        """Sets up to `room` chunks aside on disk, then sends them.

        Raises `ServiceUnavailable` if the post does not take one: it is on disk as open then, and
        `send_again` sends it.
        """
        size = chunk_size(job.requests, job.spec.chunk_size)
        fed: list[OpenChunk] = []
        exhausted = False
        while len(fed) < room and not exhausted:
            waiting = self._store.waiting(size)
            if not waiting:
                break
            chosen, grant = self._afford(job, waiting)
            exhausted = len(chosen) < len(waiting)
            if not chosen:
                break
            chunk = self._store.grant(chosen, grant, time.time())
            fed.append(chunk)
            self._send(job, chunk, chosen)
        return Fed(fed, exhausted and not self._store.open_chunks())

    def send_again(self, job: JobRow, chunk: OpenChunk) -> None:
        """A message or payload got lost: the same chunk, those of its requests that have no
        result.
        """
        self._send(job, chunk, self._store.details(self._store.unfinished(chunk)))

    def _send(self, job: JobRow, chunk: OpenChunk, requests: list[Waiting]) -> None:
        self._post.put_payload(self._payload(job, chunk, requests))
        self._sender.run_chunk(job.id, job.spec.name, job.spec.base_url, chunk.chunk, len(requests))

    def _afford(self, job: JobRow, waiting: list[Waiting]) -> tuple[list[Waiting], Amount]:
        """As many of the waiting as the budget has room for, and their grant."""
        left = self._left(job)
        if left == UNCAPPED and job.spec.budget.requests is None:
            return waiting, UNCAPPED
        if job.spec.budget.requests is not None:
            out = job.finished + self._store.under_way()
            waiting = waiting[: max(0, job.spec.budget.requests - out)]
        grant = Amount(None if left.rub is None else ZERO, None if left.tokens is None else 0)
        chosen: list[Waiting] = []
        for request in waiting:
            more = _plus(grant, self._bound(request))
            if not more.fits(left):
                break
            chosen.append(request)
            grant = more
        return chosen, grant

    def _left(self, job: JobRow) -> Amount:
        budget = job.spec.budget
        if budget.rub is None and budget.tokens is None:
            return UNCAPPED
        return Amount(budget.rub, budget.tokens) - self._store.exposure()

    def _bound(self, request: Waiting) -> Amount:
        return request_bound(
            request.model, request.prompt_bound, request.output_bound, self._prices
        )

    def _payload(self, job: JobRow, chunk: OpenChunk, requests: list[Waiting]) -> Payload:
        models = tuple(dict.fromkeys(request.model for request in requests))
        number = {model: place for place, model in enumerate(models)}
        return Payload(
            job=job.id,
            name=job.spec.name,
            chunk=chunk.chunk,
            base_url=job.spec.base_url,
            terms=job.spec.terms(),
            grant=chunk.grant,
            models=models,
            requests=[self._work(request, number[request.model]) for request in requests],
        )

    def _work(self, request: Waiting, model: int) -> Work:
        bound = self._bound(request)
        return Work(
            ordinal=request.ordinal,
            model=model,
            body=self._store.body(request.ordinal),
            rub=bound.rub,
            tokens=bound.tokens or request.prompt_bound + UNKNOWN_OUTPUT,
            attempts=request.attempts,
            uncertain=request.uncertain,
        )


def _plus(grant: Amount, bound: Amount) -> Amount:
    """Adds in the parts that are capped; a bound that is unknown there makes the sum unknown."""
    rub = None if grant.rub is None else (Amount(grant.rub) + Amount(bound.rub)).rub
    tokens = None if grant.tokens is None else (grant.tokens + (bound.tokens or 2**62))
    if grant.rub is not None and rub is None:
        return Amount(None, tokens)
    return Amount(rub, tokens)
