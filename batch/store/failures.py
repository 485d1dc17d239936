"""Requests that fail without another call, and failed ones that are tried anew."""

from __future__ import annotations

import json
import sqlite3

from batch.store import database
from batch.store.chunks import Chunks
from batch.store.results import give_copies, grow
from batch.store.suspects import POISON

_AMONG = "state = 'failed' AND (?1 IS NULL OR code IN (SELECT value FROM json_each(?1)))"

_BOUGHT = "ordinal NOT IN (SELECT ordinal FROM copies)"


class Failures:
    """Of one job."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def set_poison_aside(self, deaths: int, now: float) -> int:
        """Fails the waiting requests whose calls ended `deaths` times with nobody knowing how, and
        those that by all that is known kill whoever makes their call.
        """
        (worst, found) = self._db.execute(
            "SELECT (SELECT max(uncertain) FROM returned WHERE uncertain > 0),"
            " EXISTS (SELECT 1 FROM suspects JOIN returned USING (ordinal) WHERE suspicion >= ?)",
            (POISON,),
        ).fetchone()
        if not found and (worst is None or worst < deaths):
            return 0
        with database.transaction(self._db) as db:
            failed = db.execute(
                "INSERT OR IGNORE INTO results SELECT ordinal, 'failed', 'system.poison_row',"
                " iif(uncertain >= ?2, 'nobody knows how ' || uncertain || ' of its calls ended',"
                " 'its workers died again and again'), NULL, attempts, '',"
                " 0, ?1, '', '', NULL, -1 FROM returned LEFT JOIN suspects USING (ordinal)"
                " WHERE uncertain >= ?2 OR suspicion >= ?3",
                (now, deaths, POISON),
            ).rowcount
            failed += give_copies(
                db, "results", "code = 'system.poison_row' AND finished_at = ?", now
            )
            db.execute(
                "DELETE FROM returned WHERE ordinal IN (SELECT ordinal FROM results"
                " WHERE code = 'system.poison_row' AND finished_at = ?)",
                (now,),
            )
            db.execute("UPDATE job SET failed = failed + ?", (failed,))
        return failed

    def retry(self, codes: tuple[str, ...] = ()) -> int:
        """Failed requests wait again, all or those with one of these codes; returns how many."""
        among = json.dumps(codes) if codes else None
        with database.transaction(self._db) as db:
            db.execute(
                f"INSERT OR IGNORE INTO retried SELECT ordinal, call FROM results"  # noqa: S608
                f" WHERE {_AMONG} AND {_BOUGHT}",
                (among,),
            )
            db.execute(
                "INSERT OR IGNORE INTO returned SELECT ordinal, attempts, 0 FROM results"  # noqa: S608
                f" WHERE {_AMONG} AND {_BOUGHT}",
                (among,),
            )
            db.execute(
                "DELETE FROM suspects WHERE ordinal IN (SELECT ordinal FROM results"  # noqa: S608
                f" WHERE {_AMONG})",
                (among,),
            )
            db.execute(
                "DELETE FROM climbs WHERE ordinal IN (SELECT ordinal FROM results"  # noqa: S608
                f" WHERE {_AMONG})",
                (among,),
            )
            self._leave_chunks(among)
            back = db.execute(
                f"DELETE FROM results WHERE {_AMONG}",  # noqa: S608  a constant
                (among,),
            ).rowcount
            db.execute("UPDATE job SET failed = failed - ?", (back,))
            grow(db)
        return back

    def _leave_chunks(self, among: str | None) -> None:
        """A request that waits again belongs no more to the chunk in which it failed."""
        chunks = Chunks(self._db)
        for chunk in chunks.alive():
            ordinals = json.dumps([ordinal for ordinal, _, _ in chunk.requests])
            found = self._db.execute(
                f"SELECT ordinal FROM results WHERE {_AMONG}"  # noqa: S608  a constant
                " AND ordinal IN (SELECT value FROM json_each(?2))",
                (among, ordinals),
            )
            failed = {row[0] for row in found}
            chunks.keep(chunk, [triple for triple in chunk.requests if triple[0] not in failed])
