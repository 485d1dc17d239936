"""What the account held while nothing was in flight, and what follows for uncertain calls."""

from __future__ import annotations

import sqlite3
from decimal import Decimal

from batch.store import database, delivery_ledger
from jobs.money import total
from jobs.outcome import CostSource

_RELEASABLE = "billing = 'unknown' AND status IS NOT NULL AND (generation_id = '' OR lookups > 0)"
"""Of calls without a reply nobody knows when they will be billed."""


class Rests:
    """Of one job, by the fingerprint of the key; ₽, Unix seconds."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def keys(self) -> set[str]:
        """Of which there is a balance to compare with."""
        return {row[0] for row in self._db.execute("SELECT key FROM rests")}

    def get(self, key: str) -> tuple[Decimal, float, Decimal]:
        """What the account held, when, and what other jobs had spent by then."""
        query = "SELECT rub, at, others FROM rests WHERE key = ?"
        rub, at, others = self._db.execute(query, (key,)).fetchone()
        return Decimal(rub), at, Decimal(others)

    def is_wanted(self, key: str, at: float) -> bool:
        """Whether a balance of this moment is the last one before the first call, so far."""
        (calls,) = self._db.execute("SELECT calls FROM job").fetchone()
        known = self._db.execute("SELECT at FROM rests WHERE key = ?", (key,)).fetchone()
        if calls == 0:
            return known is None or known[0] < at
        return known is None and self._is_before_all(at)

    def _is_before_all(self, at: float) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM calls WHERE sent_at <= ?)"
        return not self._db.execute(query, (at,)).fetchone()[0]

    def put(self, key: str, rub: Decimal, at: float, others: Decimal) -> None:
        """Keeps a balance to compare with."""
        with database.transaction(self._db) as db:
            db.execute(
                "INSERT OR REPLACE INTO rests VALUES (?, ?, ?, ?)",
                (key, str(rub), at, str(others)),
            )

    def releasable(self) -> bool:
        """Whether a call ended with a reply, and nobody knows its cost."""
        query = f"SELECT EXISTS (SELECT 1 FROM calls WHERE {_RELEASABLE})"  # noqa: S608  ours
        return bool(self._db.execute(query).fetchone()[0])

    def last_end(self) -> float:
        """When the last call ended."""
        query = "SELECT coalesce(max(sent_at + latency_s), 0) FROM calls"
        return float(self._db.execute(query).fetchone()[0])

    def known_since(self, at: float) -> Decimal:
        """What calls cost that were sent after this moment."""
        query = "SELECT cost FROM calls WHERE billing = 'known' AND sent_at > ?"
        return total(Decimal(row[0]) for row in self._db.execute(query, (at,)))

    def release(self, at: float) -> int:
        """Calls that were sent after this moment, and may be released, cost nothing; how many."""
        return delivery_ledger.settle_all(
            self._db, f"{_RELEASABLE} AND sent_at > ?", (at,), CostSource.BALANCE
        )
