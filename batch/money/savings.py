"""What answers saved that were there already."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from batch.store import timeline
from batch.store.jobstore import JobStore
from jobs.money import plain, total


@dataclass(frozen=True)
class Copies:
    """Requests that were given the answer of one alike, of this job or of an earlier one, and the ₽
    that this saved.
    """

    requests: int
    saved_rub: Decimal


def reused_of(store: JobStore) -> Copies:
    """Counts requests that were given an earlier job's answer, and what these had cost there."""
    count, costs = timeline.reused(store.db)
    return Copies(count, total(costs))


def copies_json(copies: Copies) -> dict[str, Any]:
    """For programs."""
    return {"requests": copies.requests, "saved_rub": plain(copies.saved_rub)}
