"""The pace of one lane as this process knows it: leased from the pace all workers share.

A call costs no round trip: the process leases calls in flight, and requests and tokens for the
next moments, in one exchange every `TICK_S`. The decision itself is `pace.lua`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from jobs.chunk import Terms

SCRIPT = resources.files("workers").joinpath("pace.lua").read_text()
LEASE_S = 15.0
"""A worker that fell silent gives its calls in flight back after this."""

AHEAD_S = 0.5
"""Requests and tokens are leased for so long ahead."""

STALE_S = 1.0
"""Leased requests that could not start within this are void: they were meant for that moment."""

MOST_IN_FLIGHT = 1024
"""Calls that one process keeps in flight at most: each holds a connection."""


@dataclass(frozen=True)
class Ask:
    """What a process tells and asks in one exchange; see pace.lua."""

    wanted: int
    in_flight: int
    successes: int
    throttles: int
    retry_after_s: float
    most: int
    rpm: int
    tpm: int
    requests: int
    tokens: int


@dataclass(frozen=True)
class Share:
    """What it gets: calls in flight, requests and tokens (-1: unlimited), a pause, the limit."""

    slots: int
    requests: int
    tokens: int
    pause_s: float
    limit: int


class PaceKeeper(Protocol):
    """The one atomic verb of the shared pace. May raise `ConnectionError`."""

    async def exchange(self, scope: str, ask: Ask) -> Share:
        """Tells what happened, gets this process's share."""


class Pace:
    """One lane's allowance. Single-threaded: for the event loop's thread."""

    def __init__(
        self, scope: str, keeper: PaceKeeper, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scope = scope
        self._keeper = keeper
        self._clock = clock
        self._terms = Terms()
        self.in_flight = 0
        self.slots = 0
        self.limit = 0
        self._requests = 0
        self._tokens = 0
        self._leased_at = float("-inf")
        self._paused_until = 0.0
        self._successes = 0
        self._throttles = 0
        self._retry_after = 0.0
        self._known = False

    def set_terms(self, terms: Terms) -> None:
        """The limits that the user set; the newest job's count for all of the scope."""
        self._terms = terms

    @property
    def pause_s(self) -> float:
        """Seconds until calls may start again."""
        return max(0.0, self._paused_until - self._clock())

    def try_admit(self, tokens: int) -> bool:
        """Whether a call of at most `tokens` may start now; if so it counts as in flight."""
        if not self._known or self.in_flight >= self.slots or self.pause_s > 0:
            return False
        if self._terms.rpm and self._requests < 1:
            return False
        if self._terms.tpm and self._tokens <= 0:
            return False
        self.in_flight += 1
        self._requests -= 1
        # A request larger than the bucket would never fit: the level may go below zero instead.
        self._tokens -= tokens
        return True

    def ended(
        self,
        *,
        reserved: int,
        used: int | None,
        throttled: bool,
        success: bool,
        retry_after: float | None,
    ) -> None:
        """A call ended that had `reserved` tokens and used `used`, if that is known."""
        self.in_flight -= 1
        if used is not None:
            self._tokens += reserved - used
        if throttled:
            self._throttles += 1
            self.pause(retry_after or 0.0)
        elif success:
            self._successes += 1

    def pause(self, seconds: float) -> None:
        """Nothing starts for so long, here at once and for all workers with the next exchange."""
        if seconds > 0:
            self._retry_after = max(self._retry_after, seconds)
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def cancel(self, tokens: int) -> None:
        """A call that was admitted does not start after all."""
        self.in_flight -= 1
        self._requests += 1
        self._tokens += tokens

    async def exchange(self, ready: int, tokens_each: int) -> None:
        """Tells and asks; `ready` requests of about `tokens_each` wait. May raise
        `ConnectionError`: then the last share stays, and what happened is told next time.
        """
        ask = self._ask(ready, tokens_each)
        share = await self._keeper.exchange(self.scope, ask)
        self._successes -= ask.successes
        self._throttles -= ask.throttles
        self._retry_after = 0.0 if self._retry_after <= ask.retry_after_s else self._retry_after
        self._take(share, ask)

    def _ask(self, ready: int, tokens_each: int) -> Ask:
        rpm, tpm = self._terms.rpm or 0, self._terms.tpm or 0
        if self._clock() - self._leased_at > STALE_S:
            self._requests = min(self._requests, 0)
        requests = min(ready, int(rpm / 60 * AHEAD_S) + 1) - max(self._requests, 0)
        tokens = min(ready * tokens_each, int(tpm / 60 * AHEAD_S) + tokens_each) - self._tokens
        return Ask(
            wanted=min(self.in_flight + ready, MOST_IN_FLIGHT),
            in_flight=self.in_flight,
            successes=self._successes,
            throttles=self._throttles,
            retry_after_s=self._retry_after,
            most=self._terms.max_in_flight or 0,
            rpm=rpm,
            tpm=tpm,
            requests=max(requests, 0) if rpm else 0,
            tokens=max(tokens, 0) if tpm else 0,
        )

    def _take(self, share: Share, ask: Ask) -> None:
        self._known = True
        if share.requests > 0:
            self._leased_at = self._clock()
        self.slots, self.limit = share.slots, share.limit
        self._requests = self._requests + share.requests if ask.rpm else 0
        self._tokens = self._tokens + share.tokens if ask.tpm else 0
        if share.pause_s > 0:
            self._paused_until = max(self._paused_until, self._clock() + share.pause_s)
