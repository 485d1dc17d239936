"""What a job will have cost: one figure, for all who show it."""

from __future__ import annotations

from decimal import Context, Decimal

from batch.store.jobstore import JobRow
from jobs.money import ZERO, rounded_up, subtract, total

ENOUGH = 10
"""So many results, and what they cost says more than the estimate."""

_ROUND = Context(prec=28)
_QUANTUM = Decimal("0.000001")


def cost_of_all(job: JobRow) -> Decimal | None:
    """₽ that all of the job will have cost: its price so far, carried on, or the estimate.

    A call of unknown cost counts as much as the others did, not its bound, which is several times
    that.
    """
    if not job.left:
        return None
    if _is_packed(job) and job.guess.basis == "sample" and job.guess.likely is not None:
        # What the sample cost says little of packs; the estimate was made of both.
        return max(job.guess.likely, _spent(job))
    if min(job.finished - job.reused, job.calls - job.unknown) < ENOUGH:
        return job.guess.likely
    bought = job.finished - job.reused
    each = _ROUND.divide(_spent(job), Decimal(bought))
    return _ROUND.multiply(each, Decimal(job.own)).quantize(_QUANTUM, context=_ROUND)


def _is_packed(job: JobRow) -> bool:
    return job.spec.task is not None and job.spec.task.pack > 1


def cost_of_rest(job: JobRow) -> Decimal | None:
    """₽ of that which are still to come."""
    forecast = cost_of_all(job)
    return None if forecast is None else max(subtract(forecast, _spent(job)), ZERO)


def enough_for_all(job: JobRow, used: Decimal, bound: Decimal) -> Decimal:
    """₽ under which the rest of a job goes, as far as can be told, and one call of this bound in
    any case: `used` are used already.
    """
    return rounded_up(total([used, cost_of_rest(job) or ZERO, bound]))


def shared_out(rub: Decimal, weights: list[Decimal]) -> list[Decimal]:
    """An amount by weights, which are not all 0."""
    whole = total(weights)
    parts = (_ROUND.divide(_ROUND.multiply(rub, weight), whole) for weight in weights)
    return [part.quantize(_QUANTUM, context=_ROUND) for part in parts]


def _spent(job: JobRow) -> Decimal:
    known = job.calls - job.unknown
    if not known:
        return job.settled_rub
    unknown = _ROUND.multiply(_ROUND.divide(job.settled_rub, Decimal(known)), Decimal(job.unknown))
    return total([job.settled_rub, min(unknown, job.booked_rub)])
