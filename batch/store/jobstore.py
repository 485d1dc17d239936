"""One job in the home: its state, what is to be sent next, and what is under way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from batch.store import database
from batch.store.blocks import BlockReader
from batch.store.draft import store_prices
from jobs.budget import Amount
from jobs.money import ZERO, add, subtract, total
from jobs.names import BLOCKS, DATABASE
from jobs.prices import PriceList
from jobs.spec import Spec
from jobs.states import ENDED, JobState, PauseReason, check_arrow

Triple = tuple[int, int, int]
"""(ordinal, attempts, uncertain): a request and the calls already made for it."""

_FAILED_AMONG = "state = 'failed' AND (?1 IS NULL OR code IN (SELECT value FROM json_each(?1)))"

_ordinals = msgspec.msgpack.Decoder(list[Triple])


@dataclass(frozen=True)
class JobRow:
    """What a job's row says; money in ₽, times in Unix seconds."""

    id: str
    spec: Spec
    state: JobState
    reason: str
    reason_text: str
    wanted: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    requests: int
    invalid: int
    cursor: int
    completed: int
    failed: int
    settled_rub: Decimal
    booked_rub: Decimal
    settled_tokens: int
    booked_tokens: int
    calls: int

    @property
    def finished(self) -> int:
        """Requests that have their result."""
        return self.completed + self.failed

    @property
    def left(self) -> int:
        """Requests that have none yet."""
        return self.requests - self.finished

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED


@dataclass(frozen=True)
class Waiting:
    """A request that is to be fed."""

    ordinal: int
    model: str
    prompt_bound: int
    output_bound: int | None
    attempts: int
    uncertain: int


@dataclass(frozen=True)
class OpenChunk:
    """A chunk that was fed and has not been closed. `lost`: its worker fell silent."""

    chunk: int
    requests: list[Triple]
    grant: Amount
    spent: Amount
    fed_at: float
    lost: bool = False


class JobStore:
    """A job's folder. One process writes feeding and results; commands write state and wishes."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.db = database.connect(folder / DATABASE, read_only=read_only)
        self._blocks = BlockReader(folder / BLOCKS)
        self._models: dict[int, str] = dict(
            self.db.execute("SELECT id, name FROM models").fetchall()
        )

    def close(self) -> None:
        """Lets go of the files."""
        self.db.close()
        self._blocks.close()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """All of it or nothing; on disk when it ends."""
        return database.transaction(self.db)

    # ---- the job -------------------------------------------------------------------------

    def job(self) -> JobRow:
        """The job as it stands on disk."""
        row = dict(self.db.execute("SELECT * FROM job").fetchone())
        row.pop("next_chunk")
        row["spec"] = Spec.model_validate_json(row["spec"])
        row["state"] = JobState(row["state"])
        row["settled_rub"] = Decimal(row["settled_rub"])
        row["booked_rub"] = Decimal(row["booked_rub"])
        return JobRow(**row)

    def set_state(
        self,
        state: JobState,
        *,
        reason: PauseReason | None = None,
        text: str = "",
        now: float | None = None,
    ) -> None:
        """Moves the job along a lawful arrow; raises `UsageError` for any other."""
        with self.transaction() as db:
            (old,) = db.execute("SELECT state FROM job").fetchone()
            if old != state:
                check_arrow(JobState(old), state)
            db.execute(
                "UPDATE job SET state = ?, reason = ?, reason_text = ?, ended_at = ?",
                (state, reason or "", text, now if state in ENDED else None),
            )

    def start(self, now: float) -> None:
        """Notes when the first request was fed."""
        self.db.execute("UPDATE job SET started_at = coalesce(started_at, ?)", (now,))

    def want(self, wish: str) -> None:
        """Leaves a wish for the coordinator: `pause`, `cancel` or nothing."""
        with self.transaction() as db:
            db.execute("UPDATE job SET wanted = ?", (wish,))

    def change_spec(self, spec: Spec) -> None:
        """Stores new limits, budget or window."""
        with self.transaction() as db:
            db.execute("UPDATE job SET spec = ?", (spec.model_dump_json(),))

    def prices(self) -> PriceList | None:
        """The newest prices known, None where the endpoint told none."""
        row = self.db.execute("SELECT list FROM prices ORDER BY taken_at DESC LIMIT 1").fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=PriceList)

    def all_prices(self) -> list[PriceList]:
        """Every version of the prices that was used, oldest first."""
        rows = self.db.execute("SELECT list FROM prices ORDER BY taken_at")
        return [msgspec.msgpack.decode(row[0], type=PriceList) for row in rows]

    def add_prices(self, prices: PriceList) -> None:
        """Keeps a newer version of the prices."""
        with self.transaction() as db:
            store_prices(db, prices)

    # ---- feeding -------------------------------------------------------------------------

    def waiting(self, limit: int) -> list[Waiting]:
        """The next requests to feed: those that came back first, then the file's order."""
        came_back = self.db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, attempts, uncertain"
            " FROM returned JOIN requests USING (ordinal) ORDER BY ordinal LIMIT ?",
            (limit,),
        ).fetchall()
        fresh = self.db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, 0, 0 FROM requests"
            " WHERE ordinal > (SELECT cursor FROM job) ORDER BY ordinal LIMIT ?",
            (limit - len(came_back),),
        ).fetchall()
        return [Waiting(row[0], self._models[row[1]], *row[2:]) for row in (*came_back, *fresh)]

    def grant(self, requests: list[Waiting], amount: Amount, now: float) -> OpenChunk:
        """Sets requests and their grant aside as a new chunk: on disk when this returns."""
        triples = [(each.ordinal, each.attempts, each.uncertain) for each in requests]
        with self.transaction() as db:
            (number,) = db.execute(
                "UPDATE job SET next_chunk = next_chunk + 1 RETURNING next_chunk - 1"
            ).fetchone()
            self._insert_chunk(number, triples, amount, now)
            db.executemany(
                "DELETE FROM returned WHERE ordinal = ?", [(ordinal,) for ordinal, _, _ in triples]
            )
            db.execute(
                "UPDATE job SET cursor = max(cursor, ?), started_at = coalesce(started_at, ?)",
                (max(ordinal for ordinal, _, _ in triples), now),
            )
        return OpenChunk(number, triples, amount, Amount(ZERO, 0), now)

    def _insert_chunk(self, number: int, triples: list[Triple], amount: Amount, now: float) -> None:
        self.db.execute(
            "INSERT INTO chunks (chunk, state, ordinals, grant_rub, grant_tokens,"
            " fed_at) VALUES (?, 'open', ?, ?, ?, ?)",
            (
                number,
                msgspec.msgpack.encode(triples),
                None if amount.rub is None else str(amount.rub),
                amount.tokens,
                now,
            ),
        )

    def lose(self, chunk: OpenChunk) -> None:
        """The chunk's worker fell silent: its unfinished requests wait again.

        The chunk stays booked with what is left of its grant until the worker's outbox tells what
        was in flight, or until `settle_lost`.
        """
        with self.transaction() as db:
            db.execute("UPDATE chunks SET state = 'lost' WHERE chunk = ?", (chunk.chunk,))
            self._give_back(chunk.requests)

    def _give_back(self, triples: list[Triple]) -> None:
        self.db.executemany(
            "INSERT OR IGNORE INTO returned SELECT ?1, ?2, ?3"
            " WHERE NOT EXISTS (SELECT 1 FROM results WHERE ordinal = ?1)",
            triples,
        )

    def set_poison_aside(self, deaths: int, now: float) -> int:
        """Fails the waiting requests whose calls ended `deaths` times with nobody knowing how."""
        (worst,) = self.db.execute("SELECT max(uncertain) FROM returned").fetchone()
        if worst is None or worst < deaths:
            return 0
        with self.transaction() as db:
            failed = db.execute(
                "INSERT OR IGNORE INTO results SELECT ordinal, 'failed', 'system.poison_row',"
                " 'its calls were cut ' || uncertain || ' times', NULL, attempts, '', 0, ?, '', '',"
                " NULL, -1 FROM returned WHERE uncertain >= ?",
                (now, deaths),
            ).rowcount
            db.execute("DELETE FROM returned WHERE uncertain >= ?", (deaths,))
            db.execute("UPDATE job SET failed = failed + ?", (failed,))
        return failed

    def retry_failed(self, codes: tuple[str, ...] = ()) -> int:
        """Failed requests wait again, all or those with one of these codes; returns how many."""
        among = json.dumps(codes) if codes else None
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO returned SELECT ordinal, attempts, 0 FROM results"  # noqa: S608
                f" WHERE {_FAILED_AMONG}",
                (among,),
            )
            back = db.execute(
                f"DELETE FROM results WHERE {_FAILED_AMONG}",  # noqa: S608  a constant
                (among,),
            ).rowcount
            db.execute("UPDATE job SET failed = failed - ?", (back,))
        return back

    def uncertain(self) -> list[sqlite3.Row]:
        """Calls that were or may have been billed, at a cost that is not known yet."""
        return self.db.execute(
            "SELECT ordinal, id, generation_id, sent_at + latency_s AS ended_at, lookups,"
            " prompt IS NOT NULL AS answered"
            " FROM calls WHERE billing = 'unknown' ORDER BY sent_at"
        ).fetchall()

    def open_chunks(self) -> list[OpenChunk]:
        """All chunks that are not closed, lost ones included."""
        rows = self.db.execute("SELECT * FROM chunks WHERE state <> 'closed'")
        return [self._open_chunk(row) for row in rows]

    def _open_chunk(self, row: sqlite3.Row) -> OpenChunk:
        rub = None if row["grant_rub"] is None else Decimal(row["grant_rub"])
        return OpenChunk(
            row["chunk"],
            _ordinals.decode(row["ordinals"]),
            Amount(rub, row["grant_tokens"]),
            Amount(Decimal(row["spent_rub"]), row["spent_tokens"]),
            row["fed_at"],
            lost=row["state"] == "lost",
        )

    def unfinished(self, chunk: OpenChunk) -> list[Triple]:
        """Those of the chunk's requests that have no result yet."""
        if not chunk.requests:
            return []
        ordinals = [ordinal for ordinal, _, _ in chunk.requests]
        done = {
            row[0]
            for row in self.db.execute(
                "SELECT ordinal FROM results WHERE ordinal BETWEEN ? AND ?",
                (min(ordinals), max(ordinals)),
            )
        }
        return [triple for triple in chunk.requests if triple[0] not in done]

    def details(self, triples: list[Triple]) -> list[Waiting]:
        """What is stored of these requests."""
        found = []
        for ordinal, attempts, uncertain in triples:
            row = self.db.execute(
                "SELECT model, prompt_bound, output_bound FROM requests WHERE ordinal = ?",
                (ordinal,),
            ).fetchone()
            found.append(
                Waiting(ordinal, self._models[row[0]], row[1], row[2], attempts, uncertain)
            )
        return found

    def body(self, ordinal: int) -> bytes:
        """The request's JSON as it will be sent."""
        first, offset, length = self.db.execute(
            "SELECT first, offset, length FROM blocks WHERE first <= ? ORDER BY first DESC LIMIT 1",
            (ordinal,),
        ).fetchone()
        body: bytes = self._blocks.block(first, offset, length)[ordinal - first]
        return body

    def exposure(self) -> Amount:
        """₽ and tokens that are spent, may have been spent, or are set aside to be spent."""
        job = self.job()
        rub = [job.settled_rub, job.booked_rub]
        tokens = job.settled_tokens + job.booked_tokens
        for chunk in self.open_chunks():
            if chunk.grant.rub is not None and chunk.spent.rub is not None:
                rub.append(max(subtract(chunk.grant.rub, chunk.spent.rub), ZERO))
            if chunk.grant.tokens is not None and chunk.spent.tokens is not None:
                tokens += max(chunk.grant.tokens - chunk.spent.tokens, 0)
        return Amount(total(rub), tokens)

    def under_way(self) -> int:
        """Requests that are out with a worker or in the queue."""
        return sum(len(self.unfinished(chunk)) for chunk in self.open_chunks() if not chunk.lost)

    # ---- reading -------------------------------------------------------------------------

    def faults(self) -> Iterator[sqlite3.Row]:
        """Skipped lines: line, code, message, custom_id, in order."""
        yield from self.db.execute("SELECT * FROM faults ORDER BY line")

    def refusals(self) -> dict[str, int]:
        """How often each refusal that cost nothing was met."""
        return dict(self.db.execute("SELECT code, count FROM refusals ORDER BY code").fetchall())


def decimal_sum(left: str, right: Decimal) -> str:
    """Adds to an amount stored as text."""
    return str(add(Decimal(left), right))
