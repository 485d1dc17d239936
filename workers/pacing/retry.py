"""Whether a call is made again, and when: one decision, of values alone.

    may be billed, and paying twice is forbidden → no
    cut, as all are in an outage                 → yes; a fault, unless it was cut at once
    uncertain                                    → once more
    refused for what is not so (once)            → once more
    a passing fault                              → `max_attempts` in all; none counts in an outage
    throttled, unreachable, doubted              → yes; who ends them is the judge

Which of these an answer is decides the classifier; whether what would stop a job is believed, the
judge; whether there is a repetition left for a fault, the retry budget, when the wait is over.
"""

from __future__ import annotations

from typing import NamedTuple

from jobs.chunk import Terms
from jobs.outcome import Billing, Retry, RetryKind
from workers.calling.endpoint import Answer, Broken, BrokenKind
from workers.pacing.backoff import Backoff, Dice, delay
from workers.pending import Tried

BACKOFF = Backoff(base=0.5, cap=60.0)
BACKOFF_IN_DOUBT = Backoff(base=0.5, cap=8.0)

FAULTS = frozenset({RetryKind.PASSING, RetryKind.UNCERTAIN})
"""What the endpoint may have worked for in vain: repeated within a budget."""

OUTAGE_IS_OVER_S = 2 * 3600.0
"""Faults after so long an outage use up attempts again: it may be the requests themselves."""

QUICK_S = 2.0
"""An endpoint that cuts a connection sooner, as it does all, hardly worked on what it got."""


class Health(NamedTuple):
    """What is known of the endpoint as a call ends: whether it seems down, or is about to or was
    just now (`near`); for how long; and how long nothing starts in any case. Seconds.
    """

    down: bool = False
    near: bool = False
    down_s: float = 0.0
    pause_s: float = 0.0


class RetryDecision(NamedTuple):
    """`wait_s` is None where there is no further call. `budgeted`: it needs a repetition of those
    that are left.
    """

    tried: Tried
    wait_s: float | None
    budgeted: bool = False


def decide(
    retry: Retry, answer: Answer, tried: Tried, terms: Terms, health: Health, dice: Dice
) -> RetryDecision:
    """What becomes of a request whose call ended so, after what was `tried` before."""
    tried, is_last = _count(retry, answer, tried, terms, health)
    if is_last:
        return RetryDecision(tried, None)
    backoff = BACKOFF_IN_DOUBT if retry.kind is RetryKind.DOUBTED else BACKOFF
    told_s = None if retry.after is None else min(retry.after, health.pause_s)
    return RetryDecision(
        tried._replace(backoffs=tried.backoffs + 1),
        delay(tried.backoffs, told_s, backoff, dice),
        budgeted=retry.kind in FAULTS and not health.down,
    )


def _count(
    retry: Retry, answer: Answer, tried: Tried, terms: Terms, health: Health
) -> tuple[Tried, bool]:
    """With this call; and whether it was the last."""
    maybe_billed = retry.charge.billing is not Billing.NONE
    in_outage = health.down and health.down_s < OUTAGE_IS_OVER_S
    if terms.never_pay_twice and maybe_billed:
        return tried, True
    if is_cut(answer) and health.near:
        # All are cut, so it is not this request's own.
        faults = tried.faults + (not (in_outage and answer.latency_s < QUICK_S))
        return tried._replace(faults=faults), faults >= terms.max_attempts
    if maybe_billed or retry.kind is RetryKind.UNCERTAIN:
        tried = tried._replace(uncertain=tried.uncertain + 1)
    if retry.kind is RetryKind.UNCERTAIN:
        return tried, tried.uncertain >= 2
    if retry.kind is RetryKind.ONCE:
        tried = tried._replace(odd=tried.odd + 1)
        return tried, tried.odd >= 2
    if retry.kind is RetryKind.PASSING and not in_outage:
        tried = tried._replace(faults=tried.faults + 1)
        return tried, tried.faults >= terms.max_attempts
    return tried, False


def is_cut(answer: Answer) -> bool:
    """Whether the connection ended before the answer did."""
    return isinstance(answer, Broken) and answer.kind is BrokenKind.CUT
