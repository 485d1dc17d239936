"""Which requests of a job have their result, and those that get the result of one alike."""

from __future__ import annotations

import json
import sqlite3

from batch.store.queue import Triple


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


def grow(db: sqlite3.Connection) -> None:
    """The outputs do not show all results and costs any more."""
    db.execute("UPDATE job SET revision = revision + 1")
