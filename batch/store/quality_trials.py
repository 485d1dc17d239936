"""Rows that were asked once more in packs, to compare; rows whose answer is known; what was found.

A trial is a unit whose rung is below zero: minus the number of rows that it packs. Its members have
their results, so its answer ends nothing; it is only kept beside them, and paid like any other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from batch.store import database
from jobs.money import ZERO, add
from jobs.wire import unpack_bodies

_OF_TRIALS = "chunk IN (SELECT chunk FROM units WHERE rung < 0)"


@dataclass(frozen=True)
class Bill:
    """What some calls came to: ₽, None where one of unknown cost is among them; tokens."""

    calls: int = 0
    rub: Decimal | None = ZERO
    prompt: int = 0
    completion: int = 0


class Trials:
    """Of one job."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def head(self, count: int) -> list[int]:
        """The requests at the front of the queue."""
        rows = self._db.execute("SELECT ordinal FROM queue WHERE rank < ? ORDER BY rank", (count,))
        return [row[0] for row in rows]

    def sizes(self) -> list[int]:
        """Of the packs that were tried."""
        rows = self._db.execute("SELECT DISTINCT -rung FROM units WHERE rung < 0 ORDER BY 1")
        return [row[0] for row in rows]

    def is_out(self) -> bool:
        """Whether one is with a worker, or on its way to one."""
        (out,) = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM chunks WHERE state <> 'closed' AND state = 'open'"  # noqa: S608
            f" AND {_OF_TRIALS})"
        ).fetchone()
        return bool(out)

    def said(self, size: int) -> dict[int, str | None]:
        """By request what it was answered in a pack of this size; absent: no answer came."""
        rows = self._db.execute(
            "SELECT ordinal, said FROM trials WHERE chunk IN"
            " (SELECT chunk FROM units WHERE rung = ?)",
            (-size,),
        )
        return {row[0]: row[1] for row in rows}

    def asked(self, size: int) -> int:
        """How many rows were asked in packs of this size."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM shares WHERE chunk IN (SELECT chunk FROM units WHERE rung = ?)",
            (-size,),
        ).fetchone()
        return int(count)

    def bill(self, size: int | None = None, among: Sequence[int] | None = None) -> Bill:
        """What packs of this size came to; None: all calls that were no trial, `among` these
        requests alone if they are named.
        """
        which = f"NOT {_OF_TRIALS}" if size is None else _OF_TRIALS.replace("< 0", "= ?")
        given: tuple[object, ...] = () if size is None else (-size,)
        if among is not None:
            which += " AND calls.ordinal IN (SELECT value FROM json_each(?))"
            given = (*given, json.dumps(list(among)))
        calls, rub, prompt, completion = 0, ZERO, 0, 0
        known = True
        for cost, tokens_in, tokens_out in self._db.execute(
            f"SELECT cost, prompt, completion FROM calls WHERE {which}",  # noqa: S608  constants
            given,
        ):
            calls += 1
            known = known and cost is not None
            rub = add(rub, Decimal(cost or 0))
            prompt, completion = prompt + (tokens_in or 0), completion + (tokens_out or 0)
        return Bill(calls, rub if known else None, prompt, completion)

    def overhead(self) -> float:
        """How many times the cost of the calls that brought answers all calls cost: repairs, other
        models, calls in vain. 1 where nothing is known.
        """
        every = self.bill().rub
        final = ZERO
        for (cost,) in self._db.execute(
            "SELECT cost FROM results JOIN calls ON calls.ordinal = results.ordinal"  # noqa: S608
            f" AND calls.id = call WHERE cost IS NOT NULL AND NOT {_OF_TRIALS}"
        ):
            final = add(final, Decimal(cost))
        return float(every) / float(final) if every and final else 1.0

    def answers(self, ordinals: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """The raw answers of those of these requests that were answered."""
        for ordinal in ordinals:
            row = self._db.execute(
                "SELECT bodies, body FROM results JOIN answers ON answers.id = answer"
                " WHERE ordinal = ? AND state = 'completed'",
                (ordinal,),
            ).fetchone()
            if row is not None:
                yield ordinal, unpack_bodies(row[0])[row[1]]

    def expected(self) -> dict[int, str]:
        """By request the answer that the user knows."""
        return dict(self._db.execute("SELECT ordinal, expected FROM gold").fetchall())

    def found(self, kind: str) -> str | None:
        """What was found, JSON."""
        row = self._db.execute("SELECT told FROM findings WHERE kind = ?", (kind,)).fetchone()
        return None if row is None else str(row[0])

    def find(self, kind: str, told: str) -> None:
        """Keeps what was found; the outputs show it from then on."""
        with database.transaction(self._db) as db:
            db.execute("INSERT OR REPLACE INTO findings VALUES (?, ?)", (kind, told))
            db.execute("UPDATE job SET revision = revision + 1")
