"""Calls of a job whose cost nobody knows, and when they are asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

_NEVER = 1e15
"""After any moment, Unix seconds."""


class UncertainCalls:
    """Those of one job that have a generation id, by which the endpoint can be asked."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def due(self, ended_by: Sequence[float], limit: int, now: float) -> list[sqlite3.Row]:
        """Uncertain calls that can be looked up: ordinal, id, generation_id; the oldest first.

        Of those that were asked for n times already, the ones that ended by `ended_by[n]` (Unix
        seconds), at most `limit` of each n. What left after `now` did so by a clock that was set
        back since: nobody waits until then.
        """
        found: list[sqlite3.Row] = []
        for times, moment in enumerate(ended_by):
            for after, by in ((0.0, moment), (now, _NEVER)):
                found += self._db.execute(
                    "SELECT ordinal, id, generation_id FROM calls WHERE billing = 'unknown'"
                    " AND generation_id <> '' AND lookups = ?1 AND sent_at > ?2 AND sent_at <= ?3"
                    " AND sent_at + latency_s <= ?3 ORDER BY sent_at LIMIT ?4",
                    (times, after, by, limit),
                )
        return found

    def next_at(self, waits_s: Sequence[float]) -> float | None:
        """When (Unix seconds) the next uncertain call is to be asked for, None if none is.

        One that was asked for n times, `waits_s[n]` after its end.
        """
        moments = []
        for times, wait in enumerate(waits_s):
            (ended,) = self._db.execute(
                "SELECT min(sent_at + latency_s) FROM calls WHERE billing = 'unknown'"
                " AND generation_id <> '' AND lookups = ?",
                (times,),
            ).fetchone()
            if ended is not None:
                moments.append(ended + wait)
        return min(moments, default=None)

    def calls(self) -> list[sqlite3.Row]:
        """Calls of unknown cost that can be asked for: ordinal, id, generation_id, lookups."""
        return self._db.execute(
            "SELECT ordinal, id, generation_id, lookups FROM calls"
            " WHERE billing = 'unknown' AND generation_id <> ''"
        ).fetchall()

    def awaits(self, *, answered: int, unanswered: int) -> bool:
        """Whether an uncertain call was asked for fewer times than this."""
        (awaited,) = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM calls WHERE billing = 'unknown' AND generation_id <> ''"
            " AND lookups < max(?1, ?2) AND lookups < iif(prompt IS NULL, ?2, ?1))",
            (answered, unanswered),
        ).fetchone()
        return bool(awaited)
