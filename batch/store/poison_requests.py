"""Requests that may kill whoever makes their call, and how much each is suspected.

Whoever was in flight when a worker died is suspected, most of them wrongly. So suspects travel
apart from all others, first some of them together, and after a second death one at a time with
nothing beside it, when all else is done: then only the one that really kills is ever there at a
third.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable

IN_FLIGHT = 2
"""Counted for a death of a worker that had a call of the request in flight."""

PERHAPS = 1
"""Counted for each request of a chunk whose worker fell silent, until its journal tells more."""

SUSPECT, ALONE, POISON = 2, 4, 6
"""From these on a request travels with suspects only, alone, and never again."""

TOGETHER, ONE_ALONE = 1, 2
"""Kinds of trial: what a chunk of suspects is."""

_FEWEST = 4


def trial_size(suspects: int) -> int:
    """How many travel together: as many as there are such groups, so that a death costs least."""
    return max(_FEWEST, math.isqrt(max(suspects - 1, 0)) + 1)


def suspect(db: sqlite3.Connection, ordinals: Iterable[int], weight: int) -> None:
    """These were perhaps the reason."""
    db.executemany(
        "INSERT INTO suspects VALUES (?1, ?2) ON CONFLICT DO UPDATE SET suspicion = suspicion + ?2",
        [(ordinal, weight) for ordinal in ordinals],
    )


def clear(db: sqlite3.Connection, ordinals: Iterable[int], weight: int) -> None:
    """These were not, though so much was counted for it."""
    if weight:
        db.executemany(
            "UPDATE suspects SET suspicion = suspicion - ?2 WHERE ordinal = ?1",
            [(ordinal, weight) for ordinal in ordinals],
        )
        db.execute("DELETE FROM suspects WHERE suspicion <= 0")
