"""What happened when, and what was saved: for charts, reports and the time left."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from jobs.result import ResultState


class Timed(NamedTuple):
    """A call of the ledger; Unix seconds, seconds, ₽ or None where nobody knows."""

    sent_at: float
    latency_s: float
    cost: Decimal | None


def calls(db: sqlite3.Connection) -> Iterator[Timed]:
    """All calls of a job."""
    for sent_at, latency_s, cost in db.execute("SELECT sent_at, latency_s, cost FROM calls"):
        yield Timed(sent_at, latency_s, None if cost is None else Decimal(cost))


def answered(db: sqlite3.Connection) -> Iterator[tuple[float, float]]:
    """(finished_at, latency_s) of each answer."""
    query = (
        "SELECT finished_at, latency_s FROM results WHERE state = ?"
        " AND ordinal NOT IN (SELECT ordinal FROM reused)"
    )
    return db.execute(query, (ResultState.COMPLETED,))


def failed(db: sqlite3.Connection) -> Iterator[tuple[float, int, str, int | None, int]]:
    """(finished_at, line, code, status, attempts) of each failure."""
    return db.execute(
        "SELECT finished_at, line, code, status, attempts FROM results"
        " JOIN requests USING (ordinal) WHERE state = ?",
        (ResultState.FAILED,),
    )


def span(db: sqlite3.Connection) -> tuple[float | None, float | None]:
    """When the first and the last result came; None, None where there is none."""
    first, last = db.execute("SELECT min(finished_at), max(finished_at) FROM results").fetchone()
    return first, last


def calls_at_once(db: sqlite3.Connection) -> float:
    """Calls in flight, on average; 0 where nobody can tell."""
    first, last, busy = db.execute(
        "SELECT min(sent_at), max(sent_at + latency_s), sum(latency_s) FROM calls"
    ).fetchone()
    return float(busy / (last - first)) if first is not None and last > first else 0.0


def lines(db: sqlite3.Connection, ordinals: Iterable[int]) -> list[int]:
    """Where these requests stand in the input, from 1, in order."""
    asked = "SELECT line FROM requests WHERE ordinal = ?"
    return sorted(db.execute(asked, (each,)).fetchone()[0] for each in ordinals)


def reused(db: sqlite3.Connection) -> tuple[int, list[Decimal]]:
    """How many requests were given an earlier job's answer, and the ₽ that these had cost as far
    as that is known.
    """
    (count,) = db.execute("SELECT count(*) FROM reused").fetchone()
    rows = db.execute("SELECT rub FROM reused WHERE rub IS NOT NULL")
    return int(count), [Decimal(row[0]) for row in rows]


def copied(db: sqlite3.Connection) -> Iterator[tuple[int, Decimal | None]]:
    """Of each request whose result was given to others: how many they are, and its cost in ₽."""
    rows = db.execute(
        "SELECT count(*), (SELECT group_concat(cost) FROM calls"
        "  WHERE calls.ordinal = copies.original AND calls.id = final.call AND cost IS NOT NULL)"
        " FROM copies JOIN results ON results.ordinal = copies.ordinal"
        " JOIN results AS final ON final.ordinal = copies.original GROUP BY copies.original"
    )
    for count, cost in rows:
        yield count, None if cost is None else Decimal(cost)


def some_completed(db: sqlite3.Connection) -> list[int]:
    """Ordinals of the first, the middle and the last request that was answered."""
    (count,) = db.execute("SELECT count(*) FROM results WHERE state = 'completed'").fetchone()
    query = "SELECT ordinal FROM results WHERE state = 'completed' ORDER BY ordinal LIMIT 1"
    places = sorted({0, count // 2, count - 1}) if count else []
    return [db.execute(f"{query} OFFSET {place}").fetchone()[0] for place in places]
