"""Single requests of a job: found by their line or `custom_id`, and by what is notable in them."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import NamedTuple

from batch.store.failure_causes import TRUNCATED_IN_FLAGS


class Notable(StrEnum):
    """Why a person may want to look at a request."""

    FAILED = "failed"
    TRUNCATED = "truncated"
    FLAGGED = "flagged"
    SLOWEST = "slowest"
    COSTLIEST = "costliest"


_CONDITIONS = {
    Notable.FAILED: "state = 'failed'",
    Notable.TRUNCATED: f"flags <> '' AND {TRUNCATED_IN_FLAGS}",
    Notable.FLAGGED: "flags <> ''",
}
_RANKED = {
    Notable.SLOWEST: "SELECT ordinal FROM results{where}"
    " ORDER BY latency_s DESC, ordinal LIMIT :limit",
    # As floats: it only orders.
    Notable.COSTLIEST: "SELECT ordinal FROM calls{where} GROUP BY ordinal"
    " ORDER BY sum(CAST(coalesce(cost, bound, 0) AS REAL)) DESC, ordinal LIMIT :limit",
}


MOST_RANKED = 10_000
"""Of the slowest or costliest."""


class Page(NamedTuple):
    """Ordinals, and where the pages before and after begin; None where there is none."""

    ordinals: list[int]
    before: int | None
    after: int | None


def page(db: sqlite3.Connection, kind: Notable | None, text: str, start: int, size: int) -> Page:
    """Requests of a kind with `text` in their `custom_id`, from a start on: an ordinal, or of a
    ranking the place. Costs a walk at most, and no memory beyond a page.
    """
    if kind in _RANKED:
        return _ranked_page(db, kind, text, start, size)
    source, where = _filtered(kind, text)
    query = f"SELECT ordinal FROM {source} WHERE ordinal {{}} :start{where} ORDER BY ordinal"  # noqa: S608  ours
    found = {"start": start, "text": text, "limit": size + 1}
    later = [row[0] for row in db.execute(query.format(">=") + " LIMIT :limit", found)]
    found["limit"] = size
    earlier = [row[0] for row in db.execute(query.format("<") + " DESC LIMIT :limit", found)]
    after = later[size] if len(later) > size else None
    return Page(later[:size], earlier[-1] if earlier else None, after)


def before(db: sqlite3.Connection, kind: Notable | None, text: str, ordinal: int) -> int | None:
    """The last request of a kind, with `text` in its `custom_id`, that stands before this one."""
    source, conditions = _filtered(kind, text)
    row = db.execute(
        f"SELECT max(ordinal) FROM {source} WHERE ordinal < :start{conditions}",  # noqa: S608  ours
        {"start": ordinal, "text": text},
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _filtered(kind: Notable | None, text: str) -> tuple[str, str]:
    """A table, and conditions that follow others."""
    source, conditions = ("requests", []) if kind is None else ("results", [_CONDITIONS[kind]])
    if text:
        conditions.append(_named(source))
    return source, "".join(f" AND {each}" for each in conditions)


def _named(source: str) -> str:
    if source == "requests":
        return "instr(custom_id, :text) > 0"
    own = f"(SELECT custom_id FROM requests WHERE ordinal = {source}.ordinal)"  # noqa: S608  ours
    return f"instr({own}, :text) > 0"


def _ranked_page(db: sqlite3.Connection, kind: Notable, text: str, start: int, size: int) -> Page:
    start = min(max(start, 0), MOST_RANKED)
    source = "results" if kind is Notable.SLOWEST else "calls"
    where = f" WHERE {_named(source)}" if text else ""
    query = _RANKED[kind].format(where=where) + " OFFSET :start"
    found = {"limit": size + 1, "start": start, "text": text}
    ordinals = [row[0] for row in db.execute(query, found)]
    after = start + size if len(ordinals) > size and start + size < MOST_RANKED else None
    return Page(ordinals[:size], max(start - size, 0) if start else None, after)


class CallFacts(NamedTuple):
    """A call of the ledger; ₽ as exact text, None while unknown."""

    sent_at: float
    latency_s: float
    status: int | None
    code: str
    cost: str | None
    bound: str | None
    prompt: int | None
    completion: int | None
    cached: int | None
    reasoning: int | None
    provider: str
    generation_id: str


def find(db: sqlite3.Connection, named: str) -> int | None:
    """The ordinal of the request of this `custom_id` or, if there is none, of this input line."""
    row = db.execute("SELECT ordinal FROM requests WHERE custom_id = ?", (named,)).fetchone()
    if row is None and named.isascii() and named.isdigit() and len(named) < 19:
        row = db.execute("SELECT ordinal FROM requests WHERE line = ?", (int(named),)).fetchone()
    return None if row is None else int(row[0])


def notable(db: sqlite3.Connection, kind: Notable, limit: int) -> list[int]:
    """Ordinals: in input order, or the slowest or costliest first."""
    query = _RANKED.get(kind)
    if query is None:
        condition = _CONDITIONS[kind]
        query = f"SELECT ordinal FROM results WHERE {condition} ORDER BY ordinal LIMIT :limit"  # noqa: S608
    return [row[0] for row in db.execute(query.format(where=""), {"limit": limit})]


def first(db: sqlite3.Connection) -> int | None:
    """The first request that failed, else the first one; None for a job without any."""
    for query in (
        "SELECT min(ordinal) FROM results WHERE state = 'failed'",
        "SELECT min(ordinal) FROM requests",
    ):
        (found,) = db.execute(query).fetchone()
        if found is not None:
            return int(found)
    return None


def next_line(db: sqlite3.Connection, kind: Notable, ordinal: int) -> int | None:
    """The input line of the next request that failed, was cut off or has a flag."""
    row = db.execute(
        f"SELECT line FROM results JOIN requests USING (ordinal) WHERE {_CONDITIONS[kind]}"  # noqa: S608
        " AND ordinal > ? ORDER BY ordinal LIMIT 1",
        (ordinal,),
    ).fetchone()
    return None if row is None else int(row[0])


def calls_of(db: sqlite3.Connection, ordinal: int) -> list[CallFacts]:
    """What was or may have been billed for a request, oldest first; also calls that it shared."""
    columns = ", ".join(f"calls.{name}" for name in CallFacts._fields)
    rows = db.execute(
        f"SELECT {columns} FROM calls WHERE ordinal = ?1 UNION"  # noqa: S608  names of columns
        f" SELECT {columns} FROM shares JOIN calls ON calls.ordinal = shares.lead"
        " AND calls.chunk = shares.chunk WHERE shares.ordinal = ?1 ORDER BY 1",
        (ordinal,),
    )
    return [CallFacts(*row) for row in rows]
