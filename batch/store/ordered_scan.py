"""Requests and calls in the order of the input, for those who go through all of them.

Tuples are read in half the time that rows with names take; nothing is sorted or kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from batch.store.billed import BILLED, Billed

_ORIGINAL = (
    "originals.custom_id, originals.ordinal,"
    " (SELECT call FROM results AS ends WHERE ends.ordinal = copies.original)"
)
_ORIGIN = (
    "LEFT JOIN copies ON copies.ordinal = requests.ordinal"
    " LEFT JOIN requests AS originals ON originals.ordinal = copies.original"
)
_EARLIER, _GIVEN = (
    "reused.job, reused.rub",
    "LEFT JOIN reused ON reused.ordinal = requests.ordinal",
)
_COLUMNS = (
    "requests.ordinal, requests.line, requests.custom_id, name, state, code, message, status,"
    " attempts, call, latency_s, finished_at, request_id, flags, answer, body"
)


def requests_in_order(
    db: sqlite3.Connection, *, finished: bool = False, only: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """`_COLUMNS` of each request, (custom_id, ordinal, call) of the one that it is a copy of, and
    (job, ₽) of the earlier answer that it was given.

    `finished`: those that have their result; `only`: the one of this ordinal.
    """
    original, origin = (_ORIGINAL, _ORIGIN) if has_any(db, "copies") else ("NULL, NULL, NULL", "")
    earlier, given = (_EARLIER, _GIVEN) if has_any(db, "reused") else ("NULL, NULL", "")
    return _tuples(
        db,
        f"SELECT {_COLUMNS}, {original}, {earlier} FROM requests"  # noqa: S608  names of columns
        f" JOIN models ON models.id = requests.model {'' if finished else 'LEFT'} JOIN results"
        f" ON results.ordinal = requests.ordinal {origin} {given} {_among('requests', only)}"
        # Named in full: `ordinal` alone is that of the result, which a request may not have.
        " ORDER BY requests.ordinal",
    )


def ends_in_order(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """(ordinal, model, state, call) of each request."""
    return _tuples(
        db,
        "SELECT requests.ordinal, name, state, call FROM requests JOIN models"
        " ON models.id = requests.model LEFT JOIN results ON results.ordinal = requests.ordinal"
        " ORDER BY requests.ordinal",
    )


def answered_as_they_came(db: sqlite3.Connection, offset: int, limit: int) -> list[int]:
    """Ordinals of answered requests, the first that came home first: each keeps its place when more
    come.
    """
    query = (
        "SELECT ordinal FROM results WHERE state = 'completed'"
        " ORDER BY answer, body, ordinal LIMIT ? OFFSET ?"
    )
    return [ordinal for (ordinal,) in db.execute(query, (limit, offset))]


def calls_in_order(db: sqlite3.Connection, only: int | None = None) -> Iterator[Billed]:
    """Every call of the ledger by its request, or those of one."""
    among = _among("calls", only)
    query = f"SELECT {BILLED} FROM calls {among} ORDER BY ordinal, id"  # noqa: S608  names
    return map(Billed._make, _tuples(db, query))


def unit_of(db: sqlite3.Connection, chunk: int, ordinal: int) -> tuple[str | None, bool]:
    """Which model a call was for, if not the request's own, and whether others had it, too."""
    asked, shared = db.execute(
        "SELECT (SELECT model FROM units WHERE chunk = ?1 AND ordinal = ?2),"
        " EXISTS (SELECT 1 FROM shares WHERE chunk = ?1 AND ordinal = ?2)",
        (chunk, ordinal),
    ).fetchone()
    return asked, bool(shared)


def packed_answers(db: sqlite3.Connection, pack: int) -> bytes:
    """Raw answers, many in one."""
    (data,) = db.execute("SELECT bodies FROM answers WHERE id = ?", (pack,)).fetchone()
    return bytes(data)


def has_any(db: sqlite3.Connection, table: str) -> bool:
    """Whether there is a row in it."""
    (found,) = db.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()  # noqa: S608
    return bool(found)


def _among(table: str, only: int | None) -> str:
    return "" if only is None else f"WHERE {table}.ordinal = {int(only)}"


def _tuples(db: sqlite3.Connection, query: str) -> sqlite3.Cursor:
    cursor = db.cursor()
    cursor.row_factory = None
    return cursor.execute(query)
