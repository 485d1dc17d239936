"""The limits of one dispatcher as this process knows it: leased from the pace all workers share.

A call costs no round trip: the process leases calls in flight, and requests, tokens and roubles
for the next moment, in one exchange for all that happened since the last (`leases`). What each gets
is decided by `limiter.lua`. Roubles are floats here: they pace, they do not account.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from jobs.bottleneck import Bound
from jobs.chunk import Terms
from workers.pacing.backoff import LONGEST_WAIT_S
from workers.pacing.leases import Lease, LeaseRequest, LimiterBackend, UsageReport
from workers.pacing.ratelimit_headers import RateLimitHeaders
from workers.usage_estimate import UsageEstimate, UsageEstimator

PATIENT_S = 60.0
"""A wait of more is looked into after so long, and then after twice as long, and so on: what names
a day may mean a minute."""

NOTICED_S = 30.0
"""A longer wait is told to whoever watches."""

MOST_IN_FLIGHT = 1024
"""Calls that one process keeps in flight at most: each holds a connection."""


class Limiter:
    """One dispatcher's allowance. Single-threaded: for the event loop's thread."""

    def __init__(
        self, scope: str, keeper: LimiterBackend, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scope = scope
        self._keeper = keeper
        self._clock = clock
        self._terms = Terms()
        self._headers = RateLimitHeaders()
        self._lifts = False
        self._usage = UsageEstimator()
        self._report = UsageReport()
        self.in_flight = 0
        self.slots = 0
        self.limit = 0
        self._wanted = 0
        self.down_s = 0.0
        self.may_probe = False
        # None: unlimited.
        self._requests: int | None = None
        self._tokens: float | None = None
        self._rub: float | None = None
        self._paused_until = 0.0
        self._rests = 0
        self._rests_until = 0.0
        self.told_until = self._wait_s = 0.0
        self._known = False
        self.heard_at = float("-inf")
        """When something was asked that was answered, by the clock."""

    def set_terms(self, terms: Terms) -> None:
        """The limits that the user set."""
        self._terms = terms

    def hear(self, headers: Mapping[str, str]) -> None:
        """The limits that the endpoint tells in its headers, if it does."""
        self._headers.hear(headers)

    @property
    def pause_s(self) -> float:
        """Seconds until calls may start again."""
        return max(0.0, self._paused_until - self._clock())

    @property
    def told_s(self) -> float:
        """Seconds that are left of the wait which the endpoint asked for."""
        return max(0.0, self.told_until - self._clock())

    @property
    def waits_long(self) -> bool:
        """Whether the endpoint asked to be left alone for longer than one would not notice."""
        return self._wait_s > NOTICED_S and self.told_until > self._clock()

    @property
    def is_metered(self) -> bool:
        """Whether requests, tokens or roubles come drop by drop."""
        return not (self._requests is self._tokens is self._rub is None)

    def try_admit(self, weight: int, most_rub: float = 0.0) -> UsageEstimate | None:
        """Takes what a call of at most `weight` tokens is expected to need, if it may start now.

        It counts as in flight then. A request larger than a bucket would never fit, so that the
        level may go below zero instead.
        """
        if not self._known or self.in_flight >= self.slots or self.pause_s > 0:
            return None
        if self._requests is not None and self._requests < 1:
            return None
        if (self._tokens is not None and self._tokens <= 0) or (
            self._rub is not None and self._rub <= 0
        ):
            return None
        estimate = self._usage.estimate(weight, most_rub)
        self.in_flight += 1
        self._report.started += 1
        self._pay(1, estimate.tokens, estimate.rub)
        return estimate

    @property
    def bound(self) -> Bound | None:
        """What keeps a call from starting that was not admitted; None where it is only that more
        was not asked for yet.
        """
        if self.pause_s > 0:
            return Bound.RETRY_AFTER
        if self.in_flight >= self.slots:
            return self._bound_of_slots()
        terms, told = self._terms, self._headers
        if self._requests is not None and self._requests < 1:
            is_ours = bool(terms.rpm) and _lower(terms.rpm or 0, told.rpm) == terms.rpm
            return Bound.RPM if is_ours else Bound.ENDPOINT_RPM
        if self._tokens is not None and self._tokens <= 0:
            is_ours = bool(terms.tpm) and _lower(terms.tpm or 0, told.tpm) == terms.tpm
            return Bound.TPM if is_ours else Bound.ENDPOINT_TPM
        return Bound.RUB_PER_HOUR

    def _bound_of_slots(self) -> Bound | None:
        if self.in_flight >= MOST_IN_FLIGHT:
            return Bound.CONNECTIONS
        if self.slots >= self._wanted:
            return None
        most = self._terms.max_in_flight
        return Bound.MAX_IN_FLIGHT if most and self.limit >= most else Bound.CONCURRENCY

    def cancel(self, estimate: UsageEstimate) -> None:
        """A call that was admitted does not start after all."""
        self.in_flight -= 1
        self._report.started -= 1
        self._pay(-1, -estimate.tokens, -estimate.rub)

    def ended(
        self, estimate: UsageEstimate, *, tokens: int | None = None, rub: float | None = None
    ) -> None:
        """A call ended that used so many tokens and roubles, if that is known."""
        self.in_flight -= 1
        more = self._usage.settle(estimate, tokens, rub)
        self._pay(0, *more)

    def learn(self, weight: int, tokens: int | None, rub: float | None) -> None:
        """What an answered call of at most `weight` tokens needed."""
        self._usage.learn(weight, tokens, rub)

    def _pay(self, requests: int, tokens: float, rub: float) -> None:
        if self._requests is not None:
            self._requests -= requests
        if self._tokens is not None:
            self._tokens -= tokens
        if self._rub is not None:
            self._rub -= rub

    def succeeded(self) -> None:
        """A call was answered."""
        self._report.successes += 1
        self._rests, self.told_until = 0, 0.0

    def throttled(self, retry_after: float | None, *, by_rate: bool) -> None:
        """A call was refused since there are too many, at once or (`by_rate`) per minute."""
        self._report.throttles += 1
        if by_rate:
            self._report.limited += 1
            self._report.window_s = max(self._report.window_s, retry_after or 0.0)
        self.pause(retry_after or 0.0)

    def alive(self) -> None:
        """The endpoint gave a sign of life."""
        self._report.alive, self._report.faults = 1, 0

    def faulty(self, weight: int = 1) -> None:
        """A call met what an endpoint that is down would do; it counts as so many."""
        self._report.faults += weight
        if weight > 1:
            self._report.alive = 0

    def pause(self, seconds: float) -> None:
        """Nothing starts for so long, here at once and for all workers with the next exchange; of
        a long wait, until it is time to look whether it was meant so.
        """
        if seconds > 0:
            if self._clock() + seconds > self.told_until:
                self.told_until, self._wait_s = self._clock() + seconds, seconds
            seconds = self._bearable(seconds)
            self._report.retry_after_s = max(self._report.retry_after_s, seconds)
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _bearable(self, seconds: float) -> float:
        now = self._clock()
        if seconds <= PATIENT_S:
            return seconds
        if now >= self._rests_until:
            # Of many that were told so at once the first decides.
            self._rests_until = now + min(PATIENT_S * 2.0**self._rests, LONGEST_WAIT_S)
            self._rests = min(self._rests + 1, 10)
        return min(seconds, self._rests_until - now)

    def lift(self) -> None:
        """What the endpoint asked for is not waited for any longer."""
        self._paused_until = self._rests_until = self.told_until = 0.0
        self._rests = 0
        self._lifts = True

    async def exchange(
        self, ready: int, weight_each: int, rub_each: float = 0.0, share: float = 1.0
    ) -> None:
        """Tells and asks; `ready` requests of at most about `weight_each` tokens and `rub_each` ₽
        wait, of jobs that have a `share` together. May raise `ConnectionError`: then the last share
        stays, and what happened is told next time. What comes drop by drop is handed back with each
        asking, whoever hears it: it was meant for that moment.
        """
        ask = self._ask(ready, weight_each, rub_each, share)
        self._pay(ask.left_requests, ask.left_tokens, ask.left_rub)
        if self._lifts:
            await self._keeper.lift(self.scope)
            self._lifts = False
        asked_at = self._clock()
        got = await self._keeper.exchange(self.scope, ask)
        self._wanted = ask.wanted
        self.heard_at = asked_at
        self._report.heard(ask)
        self._take(got)

    def _ask(self, ready: int, weight_each: int, rub_each: float, share: float) -> LeaseRequest:
        each = self._usage.estimate(weight_each, rub_each)
        terms, report = self._terms, self._report
        return LeaseRequest(
            wanted=min(self.in_flight + ready, MOST_IN_FLIGHT),
            in_flight=self.in_flight,
            weight=share,
            most=terms.max_in_flight or 0,
            rpm=_lower(terms.rpm or 0, self._headers.rpm),
            tpm=_lower(terms.tpm or 0, self._headers.tpm),
            rub_per_hour=terms.rub_per_hour or 0.0,
            requests=ready,
            tokens=ready * each.tokens,
            rub=ready * each.rub,
            left_requests=self._requests or 0,
            left_tokens=self._tokens or 0.0,
            left_rub=self._rub or 0.0,
            **vars(report),
        )

    def _take(self, lease: Lease) -> None:
        self._known = True
        self.slots, self.limit = lease.slots, lease.limit
        self.down_s, self.may_probe = lease.down_s, lease.probe
        self._requests = _more(self._requests, lease.requests)
        self._tokens = _more(self._tokens, lease.tokens)
        self._rub = _more(self._rub, lease.rub)
        if lease.pause_s > 0:
            self._paused_until = max(self._paused_until, self._clock() + lease.pause_s)


def strictest(terms: Iterable[Terms]) -> Terms:
    """Of several jobs' limits the lowest each: they share the endpoint, the key and the model."""
    some = list(terms)
    return Terms(
        rpm=_lowest(each.rpm for each in some),
        tpm=_lowest(each.tpm for each in some),
        max_in_flight=_lowest(each.max_in_flight for each in some),
        rub_per_hour=_lowest(each.rub_per_hour for each in some),
    )


N = TypeVar("N", int, float)


def _lowest(limits: Iterable[N | None]) -> N | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _lower(one: int, other: int) -> int:
    """The lower of two limits, of which 0 is none."""
    return min(one, other) if one and other else one or other


def _more(level: N | None, granted: N) -> N | None:
    """What is at hand now; None: as much as one likes."""
    return None if granted < 0 else (level or 0) + granted
