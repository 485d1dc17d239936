"""A chunk that runs here, and a request of it with what was tried so far."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from jobs.budget import Amount, Grant
from jobs.chunk import DONE, Payload, ReturnReason, Work
from jobs.money import ZERO
from workers.usage_estimate import NO_USAGE, UsageEstimate


@dataclass
class Summary:
    """What came of a chunk; shown in Flower as the task's result."""

    completed: int = 0
    failed: int = 0
    returned: int = 0
    cost: Decimal = ZERO
    reason: str = DONE.code


@dataclass
class OpenChunk:
    """A chunk that runs here.

    `left` requests have neither a result nor gone back. `reason` is why some went back, `stopped`
    why no more of it may be called.
    """

    payload: Payload
    grant: Grant
    left: int
    done: asyncio.Future[None]
    returned: list[PendingRequest] = field(default_factory=list)
    reason: ReturnReason = DONE
    stopped: ReturnReason | None = None
    refusals: Counter[str] = field(default_factory=Counter)
    summary: Summary = field(default_factory=Summary)

    @property
    def key(self) -> tuple[str, int]:
        """(job, chunk)."""
        return self.payload.job, self.payload.chunk


class Apart(NamedTuple):
    """How often a request alone met something, and when it last did, monotonic seconds."""

    times: int = 0
    at: float = 0.0


NEVER = Apart()


@dataclass(slots=True)
class PendingRequest:
    """A request at the worker, with what was tried so far.

    `calls` counts all calls made, in earlier chunks too; `faults` those that count towards
    `max_attempts`; `uncertain` those that may have been billed in vain;
    `backoffs` the waits, for the growth of the next; `odd` the refusals for what is not so;
    `doubted` and `throttled` are what it met while others were answered: what would stop the job,
    and too many calls. `estimate` is what its last call took of the pace, which left at `left_at`,
    monotonic seconds; a request that `is_budgeted`
    needs one of the repetitions that are left.
    """

    chunk: OpenChunk
    work: Work
    model: str
    calls: int
    uncertain: int
    faults: int = 0
    backoffs: int = 0
    odd: int = 0
    doubted: Apart = NEVER
    throttled: Apart = NEVER
    estimate: UsageEstimate = NO_USAGE
    left_at: float = 0.0
    is_budgeted: bool = False

    @property
    def bound(self) -> Amount:
        """The most that its next call can cost."""
        return self.work.bound
