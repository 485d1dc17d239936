"""What is filled in before a click: what it holds, and what of it is new."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from batch import language
from batch.coordinator.flower_commands import BUDGET, IN_FLIGHT, PRIORITY, WINDOW
from batch.coordinator.flower_queries import Retried
from batch.flower.status_reader import Job
from batch.store.failure_causes import LASTING
from jobs.money import plain, total
from jobs.priority import NAMED

_LONGEST = 100


class Cause(NamedTuple):
    """Failures with one code. ₽; None: not known, or nothing bounds it. `lasts`: it fails again."""

    code: str
    requests: int
    likely: Decimal | None
    highest: Decimal | None
    lasts: bool


class Causes(NamedTuple):
    """All of them, and what they cost together."""

    causes: list[Cause]
    requests: int
    likely: Decimal | None
    highest: Decimal | None


def retried(told: list[Retried]) -> Causes:
    """What a coordinator told of a job's failures, the most frequent first."""
    causes = [
        Cause(
            each.code,
            each.requests,
            _amount(each.likely_rub),
            _amount(each.at_most_rub),
            each.code in LASTING,
        )
        for each in sorted(told, key=lambda each: (-each.requests, each.code))
    ]
    return Causes(
        causes,
        sum(each.requests for each in causes),
        _together([each.likely for each in causes]),
        _together([each.highest for each in causes]),
    )


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _together(amounts: list[Decimal | None]) -> Decimal | None:
    known = [each for each in amounts if each is not None]
    return total(known) if len(known) == len(amounts) else None


def current(job: Job) -> dict[str, str]:
    """The settings of a job, as its form has them."""
    return {
        BUDGET: "" if job.budget_rub is None else plain(job.budget_rub),
        PRIORITY: priority(job.priority),
        IN_FLIGHT: str(job.max_in_flight or ""),
        WINDOW: job.window or "",
    }


def priority(share: float) -> str:
    """Its word, or the figure where it has none."""
    return next((word for word, named in NAMED.items() if named == share), f"{share:g}")


def figures(job: Job, given: Callable[[str, str], str]) -> dict[str, str]:
    """What was filled in and is other than it stands. Hours without a zone are those of whoever
    looks; a budget is not taken away by leaving its field empty. What is as the form
    showed it is left alone: somebody else may have changed it meanwhile.
    """
    stands = current(job)
    found = {name: given(name, stands[name]).strip()[:_LONGEST] for name in stands}
    found[BUDGET] = found[BUDGET] or stands[BUDGET]
    shown = {name: given(f"was_{name}", now) for name, now in stands.items()}
    new = {name: text for name, text in found.items() if text not in (stands[name], shown[name])}
    if new.get(WINDOW) and "@" not in new[WINDOW]:
        new[WINDOW] += f"@{language.zone_key()}"
    return new
