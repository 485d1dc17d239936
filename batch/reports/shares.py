"""What a request bears of calls that it had together with others: exact to the last digit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from jobs.money import stretch


class Share(NamedTuple):
    """A request's part of a call: ₽ of its cost, or of its bound where that is not known."""

    source: str
    cost: Decimal | None
    bound: Decimal | None


def are_shared(db: sqlite3.Connection) -> bool:
    """Whether any requests had a call together."""
    (found,) = db.execute("SELECT EXISTS (SELECT 1 FROM shares)").fetchone()
    return bool(found)


def shares_of(db: sqlite3.Connection, ordinal: int) -> Iterator[Share]:
    """What a request bears of each call that it had with others."""
    for source, cost, bound, start, stop, whole in db.execute(
        "SELECT source, cost, bound, start, stop, whole FROM shares"
        " JOIN calls ON calls.ordinal = shares.lead AND calls.chunk = shares.chunk"
        " WHERE shares.ordinal = ?",
        (ordinal,),
    ):
        amounts = (
            None if amount is None else stretch(Decimal(amount), start, stop, whole)
            for amount in (cost, bound)
        )
        yield Share(source, *amounts)


def together(db: sqlite3.Connection, ordinal: int, call: str) -> int:
    """How many requests the call was for by which one ended; 1: for it alone."""
    (found,) = db.execute(
        "SELECT count(*) FROM shares AS mine JOIN calls ON calls.ordinal = mine.lead"
        " AND calls.chunk = mine.chunk AND calls.id = ?2"
        " JOIN shares AS theirs ON theirs.lead = mine.lead AND theirs.chunk = mine.chunk"
        " WHERE mine.ordinal = ?1",
        (ordinal, call),
    ).fetchone()
    return max(1, int(found))
