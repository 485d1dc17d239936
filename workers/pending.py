"""A chunk that runs here, and a request of it with what was tried so far."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from jobs.budget import Amount, Grant
from jobs.chunk import DONE, NOBODY, ChunkClosed, Payload, ReturnReason, Work
from jobs.money import ZERO, add
from jobs.request_kinds import CHAT
from workers.usage_estimate import NO_USAGE, UsageEstimate


@dataclass
class Summary:
    """What came of a chunk; shown in Flower as the task's result."""

    completed: int = 0
    failed: int = 0
    returned: int = 0
    cost: Decimal = ZERO
    reason: str = DONE.code


class RunningChunk:
    """A chunk that runs here. Each of its requests leaves once: by `finish` or by `give_back`.

    `stopped` is why no more of it may be called, `refusals` counts what its calls met by code.
    """

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.token = secrets.token_hex(8)
        """Tells this attempt at the chunk from any other."""
        self.grant = Grant(payload.grant, (work.bound for work in payload.requests))
        self.widening: asyncio.Task[bool | None] | None = None
        """While it is asked whether more of the grant may be used."""
        self.kept_waiting = 0
        """Calls that wait for that."""
        self.has_begun = self.has_prepared = self.is_refused = False
        """Whether its calls may leave, whether the chunk after it was opened for that, and whether
        it is another's, or nobody's.
        """
        self.stopped: ReturnReason | None = None
        self.refusals: Counter[str] = Counter()
        self.summary = Summary()
        self.returned: list[PendingRequest] = []
        self.reason: ReturnReason = DONE
        """Why some went back."""
        self._left = len(payload.requests)
        self._done = asyncio.Event()
        self._count_off(0)

    @property
    def key(self) -> tuple[str, int]:
        """(job, chunk)."""
        return self.payload.job, self.payload.chunk

    def finish(self, *, completed: bool) -> None:
        """A request has its result."""
        self.summary.completed += completed
        self.summary.failed += not completed
        self._count_off(1)

    def give_back(self, request: PendingRequest, reason: ReturnReason) -> None:
        """A request goes back to the home, to be sent again or not."""
        self.returned.append(request)
        if self.reason is DONE or reason.pause is not None:
            self.reason = reason
        self._count_off(1)

    def charge(self, cost: Decimal) -> None:
        """A call of it cost so much."""
        self.summary.cost = add(self.summary.cost, cost)

    @property
    def waiting(self) -> int:
        """Requests of which no call is in flight."""
        return self._left - self.grant.out

    async def wait(self) -> None:
        """Until all its requests have left."""
        await self._done.wait()

    def closing(self) -> ChunkClosed:
        """What the home is told at its end."""
        back = [(each.work.ordinal, each.calls, each.tried.uncertain) for each in self.returned]
        self.summary.returned, self.summary.reason = len(back), self.reason.code
        return ChunkClosed(
            self.payload.chunk,
            self.reason,
            back,
            dict(self.refusals),
            outbox=NOBODY if self.is_refused else "",
            began=self.has_begun,
        )

    def _count_off(self, count: int) -> None:
        self._left -= count
        if self._left == 0:
            self._done.set()


class Tried(NamedTuple):
    """What a request's calls came to, as far as it decides whether there is another.

    `faults` count towards `max_attempts`; `uncertain` may have been billed in vain; `odd` were
    refused for what is not so; `backoffs` are the waits, for the growth of the next.
    """

    faults: int = 0
    uncertain: int = 0
    odd: int = 0
    backoffs: int = 0


class Apart(NamedTuple):
    """How often a request alone met something, and when it last did, monotonic seconds."""

    times: int = 0
    at: float = 0.0


NEVER = Apart()


@dataclass(slots=True)
class PendingRequest:
    """A request at the worker, with its history.

    `job` is the id of its job, `bound` the most that its next call can cost. `calls` counts all
    calls made, in earlier chunks too. `doubted` and `throttled` are what it met
    while others were answered: what would stop the job, and too many calls. `estimate` is what its
    last call took of the limits, which left at `left_at`, monotonic seconds; a request that
    `is_budgeted` needs one of the repetitions that are left. `kind`: what is asked
    (`jobs.request_kinds`).
    """

    chunk: RunningChunk
    job: str
    work: Work
    bound: Amount
    model: str
    calls: int
    tried: Tried
    doubted: Apart = NEVER
    throttled: Apart = NEVER
    estimate: UsageEstimate = NO_USAGE
    left_at: float = 0.0
    is_budgeted: bool = False
    kind: str = CHAT.url

    @classmethod
    def of(cls, chunk: RunningChunk, work: Work) -> PendingRequest:
        """As it comes with its chunk."""
        payload = chunk.payload
        model, kinds = payload.models[work.model], payload.kinds
        kind = kinds[work.model] if kinds else CHAT.url
        tried = Tried(uncertain=work.uncertain)
        return cls(chunk, payload.job, work, work.bound, model, work.attempts, tried, kind=kind)
