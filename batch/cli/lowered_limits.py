"""What may still come after somebody lowered what jobs may have: told once workers have heard."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

from batch.cli.terminal import say
from batch.language import _, money
from batch.store.jobstore import JobStore
from jobs.budget import Amount
from jobs.money import ZERO, add

PATIENCE_S = 8.0
"""A coordinator takes half a second to hear of a change, workers two, calls as long as they do."""


def wait_until_within(is_over: Callable[[], bool]) -> None:
    """Returns when what was beyond the caps of the home has come back, or is in flight."""
    _wait(lambda: not is_over())


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)


def is_beyond(store: JobStore) -> bool:
    """Whether what is out may take more than the job's caps in roubles and tokens leave."""
    budget = store.job().spec.budget
    caps = Amount(budget.rub, budget.tokens)
    return bool(store.chunks.out()) and not store.chunks.exposure().fits(caps)


def tell_what_may_come(store: JobStore) -> None:
    """What is spent, and what may still come, when what is beyond the job's caps has come back."""
    _wait(lambda: not store.job().wanted and not is_beyond(store))
    with store.snapshot():
        job, aside = store.job(), store.chunks.out_aside()
        unlimited = store.chunks.unlimited_out(rub=True, tokens=False)
    if job.wanted:
        say(_("the coordinator has not picked it up yet, but will"))
    spent = add(job.settled_rub, job.booked_rub)
    say(_("applies to everything not sent yet; {spent} spent").format(spent=money(spent)))
    if unlimited:
        say("  " + _("calls in flight finish first; they were sent without a cap"))
    elif aside:
        say("  " + _("calls in flight may still cost {rub} at most").format(rub=money(aside)))
    _tell_excess(job.spec.budget.rub, add(spent, ZERO if unlimited else aside))


def _tell_excess(cap: Decimal | None, most: Decimal) -> None:
    if cap is not None and most > cap:
        told = _("the total may reach {most}; nothing more is sent under a cap of {cap}")
        say("  " + told.format(most=money(most), cap=money(cap)))
