"""What a request bears of calls that it had together with others: exact to the last digit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import msgspec

from jobs.money import stretch


class CostShare(NamedTuple):
    """A request's part of a call: ₽ of its cost, or of its bound where that is not known."""

    id: str
    source: str
    cost: Decimal | None
    bound: Decimal | None


def shares_of(db: sqlite3.Connection, ordinal: int) -> Iterator[CostShare]:
    """What a request bears of each call that it had with others."""
    for call, source, cost, bound, start, stop, whole in db.execute(
        "SELECT id, source, cost, bound, start, stop, whole FROM shares"
        " JOIN calls ON calls.ordinal = shares.lead AND calls.chunk = shares.chunk"
        " WHERE shares.ordinal = ?",
        (ordinal,),
    ):
        amounts = (
            None if amount is None else stretch(Decimal(amount), start, stop, whole)
            for amount in (cost, bound)
        )
        yield CostShare(call, source, *amounts)


def together(db: sqlite3.Connection, ordinal: int, call: str) -> tuple[int, ...]:
    """The requests that had the call by which one ended: it alone or several, in their order."""
    found = db.execute(
        "SELECT members FROM shares JOIN calls ON calls.ordinal = shares.lead"
        " AND calls.chunk = shares.chunk AND calls.id = ?2"
        " JOIN units ON units.chunk = shares.chunk AND units.ordinal = shares.lead"
        " WHERE shares.ordinal = ?1",
        (ordinal, call),
    ).fetchone()
    return (ordinal,) if found is None else tuple(member for member, _ in _members(found[0]))


_members = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode
