"""How the answers of a job fared that were checked: which were valid, and what was wrong."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from typing import NamedTuple

from batch.store.jobstore import JobStore

_MOST_REASONS = 20
_OWN = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"|\d+")


class Checked(NamedTuple):
    """Requests by their end: valid at once, after a free repair, asked again, answered by another
    model, never. `reasons` are those for which some were asked again or given up, the commonest
    first, each with its count.
    """

    at_once: int
    repaired: int
    asked_again: int
    escalated: int
    invalid: int
    reasons: list[tuple[str, int]]


def _checked_of(db: sqlite3.Connection, escalated: int) -> Checked:
    """Of all requests that have ended; `escalated` are those that another model answered."""
    at_once, repaired, again, invalid = db.execute(
        "SELECT count(*) FILTER (WHERE state = 'completed' AND climbs.ordinal IS NULL"
        "  AND NOT repaired), count(*) FILTER (WHERE state = 'completed'"
        "  AND climbs.ordinal IS NULL AND repaired),"
        " count(*) FILTER (WHERE state = 'completed' AND climbs.ordinal IS NOT NULL),"
        " count(*) FILTER (WHERE code = 'answer.invalid')"
        " FROM (SELECT *, ',' || flags || ',' LIKE '%,repaired,%' AS repaired FROM results)"
        " LEFT JOIN climbs USING (ordinal)"
    ).fetchone()
    reasons = Counter[str]()
    for (problem,) in db.execute(
        "SELECT problem FROM climbs UNION ALL SELECT message FROM results"
        " WHERE code = 'answer.invalid' AND ordinal NOT IN (SELECT ordinal FROM climbs)"
    ):
        reasons[_OWN.sub("…", problem)] += 1
    common = reasons.most_common(_MOST_REASONS)
    return Checked(at_once, repaired, again - escalated, escalated, invalid, common)


def how_checked(store: JobStore) -> Checked | None:
    """How the answers of a job fared; None where any will do, or there is none yet."""
    spec = store.job().spec
    if not (spec.check or (spec.task is not None and spec.task.checked)):
        return None
    found = _checked_of(store.db, len(store.units.escalated()))
    return found if sum(found[:5]) else None
