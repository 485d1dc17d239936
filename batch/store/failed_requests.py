"""Requests that fail without another call, and failed ones that are tried anew."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from batch.store import database
from batch.store.chunks import Chunks
from batch.store.failure_causes import TRUNCATED_IN_FLAGS
from batch.store.finished_requests import count_again, give_copies, grow, restore
from batch.store.poison_requests import POISON

_CUT = f"(flags <> '' AND {TRUNCATED_IN_FLAGS} AND coalesce(output_bound, 1) BETWEEN 1 AND ?2 - 1)"
_CHOSEN = (
    "CREATE TEMP TABLE chosen AS"  # noqa: S608  constants
    " SELECT ordinal, state FROM results JOIN requests USING (ordinal)"
    " WHERE (state = 'failed' AND (?1 IS NULL OR code IN (SELECT value FROM json_each(?1))))"
    f" OR {_CUT}"
)
_AMONG = "ordinal IN (SELECT ordinal FROM chosen)"
_BOUGHT = "ordinal NOT IN (SELECT ordinal FROM copies)"

_POISON = (
    "FROM returned LEFT JOIN suspects USING (ordinal) WHERE uncertain >= ?2 OR suspicion >= ?3"
)


class Failures:
    """Of one job."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def set_poison_aside(self, deaths: int, now: float) -> int:
        """Ends the waiting requests whose calls ended `deaths` times with nobody knowing how, and
        those that by all that is known kill whoever makes their call. Returns how many.
        """
        (worst, found) = self._db.execute(
            "SELECT (SELECT max(uncertain) FROM returned WHERE uncertain > 0),"
            " EXISTS (SELECT 1 FROM suspects JOIN returned USING (ordinal) WHERE suspicion >= ?)",
            (POISON,),
        ).fetchone()
        if not found and (worst is None or worst < deaths):
            return 0
        with database.transaction(self._db) as db:
            given = (now, deaths, POISON)
            restore(db, f"SELECT ordinal {_POISON}", given)
            db.execute(
                "INSERT OR IGNORE INTO results SELECT ordinal, 'failed', 'system.poison_row',"
                " iif(uncertain >= ?2, 'nobody knows how ' || uncertain || ' of its calls ended',"
                " 'its workers died again and again'), NULL, attempts, '',"
                f" 0, ?1, '', '', NULL, -1 {_POISON}",
                given,
            )
            give_copies(db, "results", "code = 'system.poison_row' AND finished_at = ?", now)
            db.execute(f"DELETE FROM returned WHERE ordinal IN (SELECT ordinal {_POISON})", given)  # noqa: S608
            before, after = count_again(db)
        return after - before

    def retry(self, codes: Iterable[str] | None = None, *, max_tokens: int | None = None) -> int:
        """Failed requests wait again, all or those with one of these codes; returns how many.

        With `max_tokens` also those whose answer was cut off at a lower limit: they are sent with
        this one, and keep their answer until there is a better one.
        """
        among = None if codes is None else json.dumps(list(codes))
        with database.transaction(self._db) as db:
            db.execute(_CHOSEN, (among, max_tokens))
            for table, what in (("retried", "ordinal, call"), ("returned", "ordinal, attempts, 0")):
                db.execute(
                    f"INSERT OR IGNORE INTO {table} SELECT {what} FROM results"  # noqa: S608
                    f" WHERE {_AMONG} AND {_BOUGHT}"
                )
            for table in ("suspects", "climbs"):
                db.execute(f"DELETE FROM {table} WHERE {_AMONG}")  # noqa: S608  constants
            self._leave_chunks()
            _raise_limits(db, max_tokens)
            back = db.execute(f"DELETE FROM results WHERE {_AMONG}").rowcount  # noqa: S608
            db.execute("DROP TABLE chosen")
            count_again(db)
            grow(db)
        return back

    def truncated_below(self, max_tokens: int) -> bool:
        """Whether an answer was cut off at a lower limit than this."""
        found = self._db.execute(
            f"SELECT 1 FROM results JOIN requests USING (ordinal) WHERE ?1 AND {_CUT} LIMIT 1",  # noqa: S608
            (True, max_tokens),
        )
        return found.fetchone() is not None

    def restore(self) -> None:
        """Who was to get a better answer and did not keeps the one that was there."""
        with database.transaction(self._db) as db:
            if restore(db, "SELECT ordinal FROM former"):
                count_again(db)

    def _leave_chunks(self) -> None:
        """A request that waits again belongs no more to the chunk in which it ended."""
        chunks = Chunks(self._db)
        chosen = {row[0] for row in self._db.execute("SELECT ordinal FROM chosen")}
        for chunk in chunks.alive():
            left = [triple for triple in chunk.requests if triple[0] not in chosen]
            if len(left) < len(chunk.requests):
                chunks.keep(chunk, left)


def _raise_limits(db: sqlite3.Connection, max_tokens: int | None) -> None:
    """Keeps the answers of those that were chosen though answered; they get another limit."""
    answered = "SELECT ordinal FROM chosen WHERE state = 'completed'"
    db.execute(f"INSERT INTO former SELECT * FROM results WHERE ordinal IN ({answered})")  # noqa: S608
    db.execute(f"INSERT OR REPLACE INTO raised SELECT ordinal, ? FROM ({answered})", (max_tokens,))  # noqa: S608
    db.execute(
        f"UPDATE requests SET output_bound = ? WHERE ordinal IN ({answered})",  # noqa: S608
        (max_tokens,),
    )
