"""The chunks of a job that are under way, and what is set aside for them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from batch.store import database
from batch.store.call_units import Unit, drop_bodies, keep
from batch.store.events import Event, EventKind, note
from batch.store.finished_requests import grow, unfinished
from batch.store.poison_requests import IN_FLIGHT, PERHAPS, suspect
from batch.store.request_queue import Triple, Waiting, decode_triples
from jobs.budget import UNCAPPED, Amount
from jobs.money import ZERO, subtract, total
from jobs.wire import Begin, Permit

UNKNOWN = "?"
"""Some attempt has begun a chunk, but nobody knows whose."""


@dataclass(frozen=True)
class Lost:
    """What went with workers that fell silent and have told nothing since.

    `rub` is what their calls can have cost at most, None where that is not known.
    """

    chunks: int = 0
    rub: Decimal | None = ZERO


@dataclass(frozen=True)
class OpenChunk:
    """A chunk that was fed and has not been closed. `lost`: its worker fell silent; `begun_by`: the
    attempt that may have made calls of it, UNKNOWN where nobody knows whose. These have cost no
    more than is `opened`; a part that is None is not known.
    """

    chunk: int
    requests: list[Triple]
    grant: Amount
    spent: Amount
    fed_at: float
    lost: bool = False
    begun_by: str | None = None
    opened: Amount = UNCAPPED

    @property
    def is_unspent(self) -> bool:
        """Whether surely no call of it was made: each has a token at least."""
        return self.begun_by is None or self.opened.tokens == 0


class Chunks:
    """What was fed of one job and is not closed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def grant(
        self,
        requests: list[Waiting],
        amount: Amount,
        now: float,
        *,
        trial: int = 0,
        units: Sequence[Unit] = (),
    ) -> OpenChunk:
        """Sets requests and their grant aside as a new chunk: on disk when this returns.

        Requests before them that were never fed go on waiting among those that came back.
        """
        triples = [(each.ordinal, each.attempts, each.uncertain) for each in requests]
        with database.transaction(self._db) as db:
            (number,) = db.execute(
                "UPDATE job SET next_chunk = next_chunk + 1 RETURNING next_chunk - 1"
            ).fetchone()
            self._insert(number, triples, amount, now, trial)
            keep(db, number, units)
            pass_over(db, max(each.rank for each in requests), now)
            db.executemany(
                "DELETE FROM returned WHERE ordinal = ?", [(ordinal,) for ordinal, _, _ in triples]
            )
        return OpenChunk(number, triples, amount, Amount(ZERO, 0), now)

    def _insert(
        self, number: int, triples: list[Triple], amount: Amount, now: float, trial: int
    ) -> None:
        self._db.execute(
            "INSERT INTO chunks (chunk, state, ordinals, grant_rub, grant_tokens,"
            " fed_at, trial) VALUES (?, 'open', ?, ?, ?, ?, ?)",
            (
                number,
                msgspec.msgpack.encode(triples),
                *_columns(amount),
                now,
                trial,
            ),
        )

    def lose(self, chunk: OpenChunk, *, taken: bool = False, now: float | None = None) -> None:
        """The chunk's worker fell silent at `now`, Unix seconds: its unfinished requests wait
        again.

        Of its grant stays set aside what its worker had opened until the worker's outbox tells what
        was in flight; nobody else can know. Until then each request of a chunk that a worker has
        `taken` is a little suspected of having killed it.
        """
        at = time.time() if now is None else now
        grant = chunk.grant.least(chunk.opened)
        with database.transaction(self._db) as db:
            lost = db.execute(
                "UPDATE chunks SET state = 'lost', lost_at = ?, grant_rub = ?, grant_tokens = ?"
                " WHERE chunk = ? AND state = 'open' RETURNING trial",
                (at, *_columns(grant), chunk.chunk),
            ).fetchone()
            if not lost:
                return
            give_back(db, chunk.requests)
            if taken:
                count = len(chunk.requests)
                note(db, Event(at, EventKind.WORKER_LOST, requests=count))
                weight = IN_FLIGHT if lost["trial"] else PERHAPS
                suspect(db, [each[0] for each in unfinished(db, chunk.requests)], weight)
                db.execute("UPDATE chunks SET suspected = ? WHERE chunk = ?", (weight, chunk.chunk))

    def begin(self, asks: Iterable[Begin], *, may_start: bool = True) -> dict[int, Permit]:
        """Whose attempt at each of these chunks may make its calls, and what these may cost: the
        first that asks, and no other, and none at a chunk that is closed or was given up, nor a
        new one unless any `may_start`. What was opened once stays so.

        On disk when this returns.
        """
        with database.transaction(self._db) as db:
            return {ask.chunk: _permit(db, ask, may_start=may_start) for ask in asks}

    def next_number(self) -> int:
        """The number of the next chunk."""
        (number,) = self._db.execute("SELECT next_chunk FROM job").fetchone()
        return int(number)

    def doubt(self, now: float) -> None:
        """This file is older than the job: any chunk may have been begun, and any number used."""
        with database.transaction(self._db) as db:
            db.execute(
                "UPDATE chunks SET begun_by = coalesce(begun_by, ?), opened_rub = NULL,"
                " opened_tokens = NULL WHERE state = 'open'",
                (UNKNOWN,),
            )
            self.skip_numbers(now)

    def skip_numbers(self, now: float) -> None:
        """Chunks from now on (Unix seconds) have numbers that no copy of this file has used: nobody
        ever feeds so many chunks as milliseconds have passed since 1970.
        """
        with database.transaction(self._db) as db:
            db.execute("UPDATE job SET next_chunk = max(next_chunk, ?)", (int(now * 1000),))

    def take_back(self, chunk: OpenChunk) -> None:
        """No worker ever began the chunk: its requests wait again, its grant is free."""
        with database.transaction(self._db) as db:
            db.execute(
                "UPDATE chunks SET state = 'closed', ordinals = x'90' WHERE chunk = ?",
                (chunk.chunk,),
            )
            drop_bodies(db, chunk.chunk)
            give_back(db, chunk.requests)

    def give_up(self) -> int:
        """The grants of all lost chunks are free; whatever is told of them yet is booked all the
        same. Returns how many they were.
        """
        with database.transaction(self._db) as db:
            gone = db.execute(
                "UPDATE chunks SET state = 'closed', ordinals = x'90'"
                " WHERE state <> 'closed' AND state = 'lost' RETURNING chunk"
            ).fetchall()
            for (chunk,) in gone:
                drop_bodies(db, chunk)
            if gone:
                grow(db)
        return len(gone)

    def keep(self, chunk: OpenChunk, requests: list[Triple]) -> None:
        """No other requests belong to the chunk any more; within a transaction."""
        self._db.execute(
            "UPDATE chunks SET ordinals = ? WHERE chunk = ?",
            (msgspec.msgpack.encode(requests), chunk.chunk),
        )

    def trial_out(self) -> int:
        """What kind of trial is under way, 0 for none."""
        (trial,) = self._db.execute(
            "SELECT coalesce(max(trial), 0) FROM chunks WHERE state <> 'closed' AND state = 'open'"
        ).fetchone()
        return int(trial)

    def alive(self) -> list[OpenChunk]:
        """All chunks that are not closed, lost ones included."""
        rows = self._db.execute("SELECT * FROM chunks WHERE state <> 'closed' ORDER BY chunk")
        return [self._chunk(row) for row in rows]

    def out(self) -> list[int]:
        """The numbers of the chunks that are with a worker, or on their way to one."""
        return [
            row[0]
            for row in self._db.execute(
                "SELECT chunk FROM chunks WHERE state <> 'closed' AND state = 'open'"
            )
        ]

    def untold(self) -> set[int]:
        """The numbers of the chunks whose closing has not come yet, nor the refusals it tells."""
        query = "SELECT chunk FROM chunks WHERE state <> 'closed' AND NOT told"
        return {row[0] for row in self._db.execute(query)}

    def unlimited_out(self, *, rub: bool, tokens: bool) -> bool:
        """Whether a chunk is out that has no grant in roubles, or none in tokens."""
        (out,) = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM chunks WHERE state <> 'closed' AND state = 'open'"
            " AND (?1 AND grant_rub IS NULL OR ?2 AND grant_tokens IS NULL))",
            (rub, tokens),
        ).fetchone()
        return bool(out)

    def lost(self) -> Lost:
        """What is set aside for chunks whose worker fell silent."""
        rows = self._db.execute(
            "SELECT grant_rub, spent_rub FROM chunks WHERE state <> 'closed' AND state = 'lost'"
        ).fetchall()
        if any(row["grant_rub"] is None for row in rows):
            return Lost(len(rows), None)
        return Lost(len(rows), total(_unspent(row) for row in rows))

    def _chunk(self, row: sqlite3.Row) -> OpenChunk:
        return OpenChunk(
            row["chunk"],
            decode_triples(row["ordinals"]),
            _amount(row["grant_rub"], row["grant_tokens"]),
            _amount(row["spent_rub"], row["spent_tokens"]),
            row["fed_at"],
            lost=row["state"] == "lost",
            begun_by=row["begun_by"],
            opened=_amount(row["opened_rub"], row["opened_tokens"]),
        )

    def unfinished(self, chunk: OpenChunk) -> list[Triple]:
        """Those of the chunk's requests that have no result yet."""
        return unfinished(self._db, chunk.requests)

    def exposure(self) -> Amount:
        """₽ and tokens that are spent, may have been spent, or are set aside to be spent."""
        job = self._db.execute(
            "SELECT settled_rub, booked_rub, settled_tokens + booked_tokens FROM job"
        ).fetchone()
        rub, tokens = [Decimal(job[0]), Decimal(job[1])], job[2]
        for row in self._db.execute(
            "SELECT grant_rub, grant_tokens, spent_rub, spent_tokens FROM chunks"
            " WHERE state <> 'closed'"
        ):
            rub.append(_unspent(row))
            tokens += max((row["grant_tokens"] or 0) - row["spent_tokens"], 0)
        return Amount(total(rub), tokens)

    def set_aside(self, start: float) -> Decimal:
        """₽ that chunks may still spend of their grants, or may have spent since `start`."""
        rows = self._db.execute(
            "SELECT grant_rub, spent_rub FROM chunks WHERE state <> 'closed'"
            " AND (state = 'open' OR coalesce(lost_at, ?1) >= ?1)",
            (start,),
        )
        return total(_unspent(row) for row in rows)

    def out_aside(self) -> Decimal:
        """₽ that chunks with a worker, or on their way to one, may still spend of their grants."""
        rows = self._db.execute(
            "SELECT grant_rub, spent_rub FROM chunks WHERE state <> 'closed' AND state = 'open'"
        )
        return total(_unspent(row) for row in rows)

    def under_way(self) -> int:
        """Requests that are out with a worker or in the queue."""
        return sum(len(self.unfinished(chunk)) for chunk in self.alive() if not chunk.lost)


def pass_over(db: sqlite3.Connection, rank: int, now: float) -> None:
    """All requests up to that place of the queue count as fed `now`, Unix seconds; those before it
    that never were wait among those that came back.
    """
    db.execute(
        "INSERT INTO returned SELECT ordinal, 0, 0 FROM queue"
        " WHERE rank > (SELECT cursor FROM job) AND rank < ?",
        (rank,),
    )
    db.execute(
        "UPDATE job SET cursor = max(cursor, ?), started_at = coalesce(started_at, ?)", (rank, now)
    )


def give_back(db: sqlite3.Connection, triples: list[Triple]) -> None:
    """Requests wait again, but for those that have their result."""
    db.executemany(
        "INSERT OR IGNORE INTO returned SELECT ?1, ?2, ?3"
        " WHERE NOT EXISTS (SELECT 1 FROM results WHERE ordinal = ?1)",
        triples,
    )


def _amount(rub: str | None, tokens: int | None) -> Amount:
    return Amount(None if rub is None else Decimal(rub), tokens)


def _columns(amount: Amount) -> tuple[str | None, int | None]:
    return None if amount.rub is None else str(amount.rub), amount.tokens


def _permit(db: sqlite3.Connection, ask: Begin, *, may_start: bool) -> Permit:
    row = db.execute(
        "SELECT begun_by, opened_rub, opened_tokens FROM chunks"
        " WHERE chunk = ? AND state = 'open' AND NOT told",
        (ask.chunk,),
    ).fetchone()
    if row is None or (row["begun_by"] is None and not may_start):
        return Permit()
    before = Permit(row["begun_by"] or "", _amount(row["opened_rub"], row["opened_tokens"]))
    if before.attempt not in {"", ask.attempt}:
        return before
    opened = ask.opened.most(before.opened) if before.attempt else ask.opened
    db.execute(
        "UPDATE chunks SET begun_by = ?, opened_rub = ?, opened_tokens = ? WHERE chunk = ?",
        (ask.attempt, *_columns(opened), ask.chunk),
    )
    return Permit(ask.attempt, opened)


def _unspent(row: sqlite3.Row) -> Decimal:
    """What is left of a chunk's grant in roubles; nothing where there is no cap."""
    if row["grant_rub"] is None:
        return ZERO
    return max(subtract(Decimal(row["grant_rub"]), Decimal(row["spent_rub"])), ZERO)
