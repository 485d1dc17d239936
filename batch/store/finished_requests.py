"""Which requests of a job have their result, and those that get the result of one alike."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from batch.store.failure_causes import TRUNCATED_IN_FLAGS
from batch.store.request_queue import Triple


def unfinished(db: sqlite3.Connection, triples: list[Triple]) -> list[Triple]:
    """Those that have no result yet."""
    ordinals = json.dumps([ordinal for ordinal, _, _ in triples])
    done = {
        row[0]
        for row in db.execute(
            "SELECT ordinal FROM results WHERE ordinal IN (SELECT value FROM json_each(?))",
            (ordinals,),
        )
    }
    return [triple for triple in triples if triple[0] not in done]


def give_copies(db: sqlite3.Connection, among: str, which: str, value: float) -> int:
    """Copies of those requests of a table get their results; returns how many."""
    return db.execute(
        "INSERT OR IGNORE INTO results SELECT copies.ordinal, state, code, message, status, 0, '',"  # noqa: S608
        " latency_s, finished_at, request_id, flags, answer, body"
        " FROM copies JOIN results ON results.ordinal = original"
        f" WHERE original IN (SELECT ordinal FROM {among} WHERE {which})",
        (value,),
    ).rowcount


def restore(db: sqlite3.Connection, which: str, given: Sequence[object] = ()) -> int:
    """Requests that a query selects, and their copies, get back the answers that they had before.

    Returns how many; who has another by now keeps that. The job's counts are to be taken anew.
    """
    back = db.execute(
        f"INSERT OR IGNORE INTO results SELECT * FROM former WHERE ordinal IN ({which})"  # noqa: S608
        f" OR ordinal IN (SELECT ordinal FROM copies WHERE original IN ({which}))",
        given,
    ).rowcount
    if back:
        db.execute("DELETE FROM returned WHERE ordinal IN (SELECT ordinal FROM results)")
        db.execute("DELETE FROM former WHERE ordinal IN (SELECT ordinal FROM results)")
        grow(db)
    return back


def count_again(db: sqlite3.Connection) -> tuple[int, int]:
    """Takes the job's counts of results anew; how many had one before, and have one now."""
    (before,) = db.execute("SELECT completed + failed FROM job").fetchone()
    completed, failed, truncated = db.execute(
        "SELECT count(*) FILTER (WHERE state = 'completed'),"  # noqa: S608  constants
        " count(*) FILTER (WHERE state = 'failed'),"
        f" count(*) FILTER (WHERE flags <> '' AND {TRUNCATED_IN_FLAGS}) FROM results"
    ).fetchone()
    db.execute(
        "UPDATE job SET completed = ?, failed = ?, truncated = ?", (completed, failed, truncated)
    )
    return before, completed + failed


def grow(db: sqlite3.Connection) -> None:
    """The outputs do not show all results and costs any more."""
    db.execute("UPDATE job SET revision = revision + 1")
