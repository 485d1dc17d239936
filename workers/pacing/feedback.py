"""What the end of a call means for the pace, the endpoint's health and the grant. No IO."""

from __future__ import annotations

from jobs.budget import NOTHING, Amount
from jobs.chunk import ReturnReason, because
from jobs.message import N_
from jobs.money import ZERO
from jobs.outcome import Answered, Billing, Outcome, Retry, RetryKind
from jobs.pause_reasons import PauseReason
from jobs.result import Call
from workers.calling.endpoint import Answer, Broken
from workers.pacing.circuit_breaker import HealthSignal
from workers.pacing.limiter import PATIENT_S, Limiter
from workers.pending import PendingRequest

_BY_RATE = "endpoint.rate_limited"


def tell_limiter(
    limiter: Limiter, request: PendingRequest, answer: Answer, outcome: Outcome
) -> HealthSignal:
    """The pace learns what the call took and how it ended; returns what it says of the endpoint."""
    charge = outcome.charge
    free = charge.billing is Billing.NONE
    throttled = isinstance(outcome, Retry) and outcome.kind is RetryKind.THROTTLED
    # A refusal for too many tokens gives none back: others would be refused at once in its place.
    nothing = None if throttled else 0
    tokens = charge.usage.total if charge.usage else nothing if free else None
    rub = float(charge.cost) if charge.cost is not None else 0.0 if free else None
    limiter.ended(request.estimate, tokens=tokens, rub=rub)
    if isinstance(outcome, Answered):
        limiter.succeeded()
        limiter.learn(request.work.tokens, tokens, rub)
        limiter.hear(answer.headers)
    elif isinstance(outcome, Retry) and outcome.kind is RetryKind.THROTTLED:
        limiter.throttled(outcome.after, by_rate=outcome.code == _BY_RATE)
    elif isinstance(outcome, Retry) and outcome.after is not None:
        limiter.pause(outcome.after)
    return signal_of(answer, outcome, alone=limiter.in_flight == 0)


def signal_of(answer: Answer, outcome: Outcome, *, alone: bool) -> HealthSignal:
    """What a call's end says of the endpoint."""
    if not isinstance(outcome, Retry):
        return HealthSignal.ALIVE
    match outcome.kind:
        case RetryKind.DOUBTED if outcome.at_first:
            # Before anything else is sent it should be known whether anything is answered.
            return HealthSignal.AWAY
        case RetryKind.UNREACHABLE | RetryKind.PASSING | RetryKind.DOUBTED:
            return HealthSignal.FAULTY
        case RetryKind.ONCE:
            return HealthSignal.ALIVE
        case RetryKind.UNCERTAIN:
            return HealthSignal.FAULTY if isinstance(answer, Broken) else HealthSignal.ALIVE
        case RetryKind.THROTTLED if (outcome.after or 0.0) > PATIENT_S:
            return HealthSignal.AWAY
        case RetryKind.THROTTLED:
            # Of a crowd some are refused. One alone is too where the endpoint is not well.
            return HealthSignal.FAULTY if alone and outcome.after is None else HealthSignal.NONE


def is_dearer(row: Call) -> bool:
    """Whether a call cost more than it could."""
    return row.cost is not None and row.bound is not None and row.cost > row.bound


def dearer(row: Call) -> ReturnReason:
    """Why a job stops after a call that cost more than it could."""
    text = N_(
        "a call cost {cost:exact} ₽, more than the maximum of {bound:exact} ₽",
        cost=row.cost or ZERO,
        bound=row.bound or ZERO,
    )
    return because("price_rise", text, PauseReason.PRICE_RISE)


def spent(row: Call, bound: Amount) -> Amount:
    """What a call takes out of the grant: its cost and tokens, their bounds where they were not
    told, or nothing.
    """
    if row.billing is Billing.NONE:
        return NOTHING
    tokens = row.usage.total if row.usage else bound.tokens
    if row.billing is Billing.UNKNOWN:
        return Amount(bound.rub, tokens)
    return Amount(row.cost or ZERO, tokens)
