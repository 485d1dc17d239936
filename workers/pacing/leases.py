"""What a worker and the shared limiter tell each other: usage, a request for a lease, the lease.

The other side is `limiter.lua`, which takes the fields of a request in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple, Protocol, cast

from jobs.errors import BadMessage
from jobs.message import N_

SCRIPT = resources.files("workers.pacing").joinpath("limiter.lua").read_text()
LEASE_S = 15.0
"""A worker that fell silent gives its calls in flight back after this."""

_MOST = 1e15
"""No figure of the shared pace is larger."""


@dataclass(kw_only=True)
class UsageReport:
    """What happened since the last exchange.

    Calls `started`, `successes`, `throttles` (429, 503, 402 for a moment), of which `limited` by a
    rate, `faults` of an endpoint that may be down, whether there was a sign that it is `alive`, the
    longest Retry-After, and the longest of a rate limit (`window_s`).
    """

    started: int = 0
    successes: int = 0
    throttles: int = 0
    limited: int = 0
    faults: int = 0
    alive: int = 0
    retry_after_s: float = 0.0
    window_s: float = 0.0

    def heard(self, told: UsageReport) -> None:
        """What was told is no news any more; what came meanwhile is."""
        for name in ("started", "successes", "throttles", "limited", "faults"):
            setattr(self, name, getattr(self, name) - getattr(told, name))
        self.alive = 0 if told.alive else self.alive
        for name in ("retry_after_s", "window_s"):
            if getattr(self, name) <= getattr(told, name):
                setattr(self, name, 0.0)


@dataclass(kw_only=True)
class LeaseRequest(UsageReport):
    """What a process tells and asks in one exchange; `limiter.lua` takes the fields in this order.

    `weight` is the sum of the shares of the jobs that wait here; a limit of 0 is none. `left` is
    what the last share has left, below zero what was used beyond it: the next one replaces it.
    """

    wanted: int
    in_flight: int
    weight: float = 1.0
    most: int = 0
    rpm: int = 0
    tpm: int = 0
    rub_per_hour: float = 0.0
    requests: int = 0
    tokens: float = 0.0
    rub: float = 0.0
    left_requests: int = 0
    left_tokens: float = 0.0
    left_rub: float = 0.0


class Lease(NamedTuple):
    """What it gets: calls in flight; requests, tokens and roubles (-1: unlimited); a pause; the
    limit of all; for how long the endpoint has been down (0: it is not); whether to probe it.
    """

    slots: int
    requests: int = -1
    tokens: float = -1.0
    rub: float = -1.0
    pause_s: float = 0.0
    limit: int = 0
    down_s: float = 0.0
    probe: bool = False


def lease_of(answer: object) -> Lease:
    """What `limiter.lua` answered; `BadMessage` for figures that can be none of its own."""
    try:
        slots, requests, tokens, rub, pause_s, limit, down_s, probe = cast("list[bytes]", answer)
        share = Lease(
            int(slots),
            int(requests),
            float(tokens),
            float(rub),
            float(pause_s),
            int(limit),
            float(down_s),
            probe=bool(probe),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BadMessage(N_("the state of the shared limiter is malformed")) from error
    least = (0, -1, -1.0, -1.0, 0.0, 0, 0.0, 0)
    if all(low <= figure <= _MOST for low, figure in zip(least, share, strict=True)):
        return share
    raise BadMessage(N_("the state of the shared limiter is malformed"))


class LimiterBackend(Protocol):
    """The one atomic verb of the shared pace. May raise `ConnectionError`."""

    async def exchange(self, scope: str, ask: LeaseRequest) -> Lease:
        """Tells what happened, gets this process's share."""

    async def lift(self, scope: str) -> None:
        """Nobody waits any longer for what the endpoint asked for."""
