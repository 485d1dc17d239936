"""One job in the home: its state, what is to be sent next, and what is under way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import msgspec

from batch.store import database, trouble
from batch.store.blocks import BlockReader
from batch.store.draft import store_prices
from batch.store.guess import Guess, packed, unpacked
from batch.store.suspects import ALONE, IN_FLIGHT, PERHAPS, POISON, SUSPECT, suspect, trial_size
from batch.store.trouble import Trouble
from jobs.budget import Amount
from jobs.errors import StorageUnavailable
from jobs.money import ZERO, subtract, total
from jobs.names import BLOCKS, DATABASE
from jobs.period import QUARTER_S
from jobs.prices import PriceList
from jobs.spec import Spec
from jobs.states import ENDED, JobState, PauseReason, check_arrow

Triple = tuple[int, int, int]
"""(ordinal, attempts, uncertain): a request and the calls already made for it."""

_FAILED_AMONG = "state = 'failed' AND (?1 IS NULL OR code IN (SELECT value FROM json_each(?1)))"

_BOUGHT = "ordinal NOT IN (SELECT ordinal FROM copies)"

_PASSING = (PauseReason.WINDOW_CLOSED, PauseReason.DEADLINE)
"""Reasons for a pause that end without anybody's doing."""

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
    goes_on_at: float | None
    started_at: float | None
    ended_at: float | None
    likely_rub: Decimal | None
    highest_rub: Decimal | None
    guess: Guess
    sample: int
    warm: int
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
    troubles: tuple[Trouble, ...]

    @property
    def finished(self) -> int:
        """Requests that have their result."""
        return self.completed + self.failed

    @property
    def left(self) -> int:
        """Requests that have none yet."""
        return self.requests - self.finished

    @property
    def needs_user(self) -> bool:
        """Whether it rests, and does not go on by itself: at an hour, or on another day."""
        by_itself = self.reason in _PASSING or self.goes_on_at is not None
        return self.state is JobState.PAUSED and not by_itself

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
    bounded: bool
    attempts: int
    uncertain: int
    rank: int = -1
    """Its place in the queue, -1 for one that was fed before."""


@dataclass(frozen=True)
class Suspects:
    """Requests that may kill a worker and are to be tried next, `alone` with nothing beside."""

    requests: list[Waiting]
    alone: bool


@dataclass(frozen=True)
class Lost:
    """What went with workers that fell silent and have told nothing since.

    `rub` is what is left of the chunks' grants, None for those that had none: no cap, no figure.
    """

    chunks: int = 0
    rub: Decimal | None = ZERO


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
        try:
            with database.readable(folder / DATABASE):
                self._models: dict[int, str] = dict(
                    self.db.execute("SELECT id, name FROM models").fetchall()
                )
        except StorageUnavailable:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the files."""
        self.db.close()
        self._blocks.close()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """All of it or nothing; on disk when it ends."""
        return database.transaction(self.db)

    def snapshot(self) -> AbstractContextManager[None]:
        """What is read within belongs together, whoever writes meanwhile."""
        return database.snapshot(self.db)

    # ---- the job -------------------------------------------------------------------------

    def job(self) -> JobRow:
        """The job as it stands on disk."""
        row = dict(self.db.execute("SELECT * FROM job").fetchone())
        for name in ("next_chunk", "revision", "written"):
            row.pop(name)
        row["spec"] = _spec(row["spec"])
        row["state"] = JobState(row["state"])
        row["guess"] = unpacked(row["guess"])
        row["troubles"] = trouble.unpacked(row["troubles"])
        for name in ("likely_rub", "highest_rub", "settled_rub", "booked_rub"):
            row[name] = _amount(row[name])
        return JobRow(**row)

    def set_state(
        self,
        state: JobState,
        *,
        reason: PauseReason | None = None,
        text: str = "",
        now: float | None = None,
        standing: JobState | None = None,
        goes_on_at: float | None = None,
    ) -> bool:
        """Moves the job along a lawful arrow; raises `UsageError` for any other.

        A paused job goes on by itself at `goes_on_at`, Unix seconds; else the user must act.

        With `standing`, only a job that still stands there is moved, and False is returned for one
        that somebody else has moved meanwhile.
        """
        with self.transaction() as db:
            (old,) = db.execute("SELECT state FROM job").fetchone()
            if standing is not None and old != standing:
                return False
            if old != state:
                check_arrow(JobState(old), state)
            if old in ENDED:
                _grow(db)
            db.execute(
                "UPDATE job SET state = ?, reason = ?, reason_text = ?, ended_at = ?,"
                " goes_on_at = ?",
                (state, reason or "", text, now if state in ENDED else None, goes_on_at),
            )
        return True

    def revision(self) -> int:
        """Grows whenever a result or a cost changes."""
        (number,) = self.db.execute("SELECT revision FROM job").fetchone()
        return int(number)

    def is_written(self) -> bool:
        """Whether the outputs show all results and costs."""
        (is_so,) = self.db.execute("SELECT written = revision FROM job").fetchone()
        return bool(is_so)

    def written(self, revision: int) -> None:
        """The outputs stand, and show this revision."""
        with self.transaction() as db:
            db.execute("UPDATE job SET written = ?", (revision,))

    def tell(self, text: str) -> None:
        """Leaves a sentence for whoever looks at the job; its state stays."""
        with self.transaction() as db:
            db.execute("UPDATE job SET reason_text = ?", (text,))

    def keep_troubles(self, troubles: Sequence[Trouble]) -> None:
        """Stores what troubled the job, the last first."""
        with self.transaction() as db:
            db.execute("UPDATE job SET troubles = ?", (trouble.packed(troubles),))

    def want(self, wish: str) -> None:
        """Leaves a wish for the coordinator: `pause`, `cancel` or nothing."""
        with self.transaction() as db:
            db.execute("UPDATE job SET wanted = ?", (wish,))

    def change_spec(self, spec: Spec) -> None:
        """Stores new limits, budget or window."""
        with self.transaction() as db:
            db.execute("UPDATE job SET spec = ?", (spec.model_dump_json(),))

    def set_guess(self, guess: Guess) -> None:
        """Stores what the job is expected to cost, by what is known now."""
        with self.transaction() as db:
            db.execute(
                "UPDATE job SET guess = ?, likely_rub = ?, highest_rub = ?",
                (packed(guess), _text(guess.likely), _text(guess.at_most)),
            )

    def prices_of(self) -> tuple[float | None, float | None]:
        """When the newest prices were taken, and when those that were last accepted."""
        newest, accepted = self.db.execute(
            "SELECT max(taken_at), max(taken_at) FILTER (WHERE accepted) FROM prices"
        ).fetchone()
        return newest, accepted

    def prices(self) -> PriceList | None:
        """The newest prices known, None where the endpoint told none."""
        return self._prices("SELECT list FROM prices ORDER BY taken_at DESC LIMIT 1")

    def accepted_prices(self) -> PriceList | None:
        """The prices that the user agreed to, by submitting the job or by resuming it."""
        return self._prices("SELECT list FROM prices WHERE accepted ORDER BY taken_at DESC LIMIT 1")

    def _prices(self, query: str) -> PriceList | None:
        row = self.db.execute(query).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=PriceList)

    def all_prices(self) -> list[PriceList]:
        """Every version of the prices that was used, oldest first."""
        rows = self.db.execute("SELECT list FROM prices ORDER BY taken_at")
        return [msgspec.msgpack.decode(row[0], type=PriceList) for row in rows]

    def add_prices(self, prices: PriceList, *, accepted: bool = False) -> None:
        """Keeps a newer version of the prices; the first there are count as accepted."""
        first = self.prices_of() == (None, None)
        with self.transaction() as db:
            store_prices(db, prices, accepted=accepted or first)

    # ---- feeding -------------------------------------------------------------------------

    def waiting(self, limit: int, head: int | None = None) -> list[Waiting]:
        """The next requests to feed: those that came back first, then the queue's order.

        With `head`, none behind so many at the front of the queue.
        """
        came_back = self.db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, bounded, attempts, uncertain, -1"
            " FROM returned JOIN requests USING (ordinal)"
            " WHERE ordinal NOT IN (SELECT ordinal FROM suspects WHERE suspicion >= ?)"
            " ORDER BY ordinal LIMIT ?",
            (SUSPECT, limit),
        ).fetchall()
        fresh = self.db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, bounded, 0, 0, rank FROM queue"
            " WHERE rank > (SELECT cursor FROM job) AND rank < ? ORDER BY rank LIMIT ?",
            (2**62 if head is None else head, limit - len(came_back)),
        ).fetchall()
        return [self._waiting(row) for row in (*came_back, *fresh)]

    def smallest(self, limit: int) -> list[Waiting]:
        """Of the requests of each model that wait, the `limit` with the fewest tokens.

        Reads all that wait: for when those at the front do not fit the budget.
        """
        found: list[Waiting] = []
        for model in self._models:
            rows = self.db.execute(
                "SELECT ordinal, model, prompt_bound, output_bound, bounded,"
                " coalesce(attempts, 0), coalesce(uncertain, 0), iif(attempts IS NULL, rank, -1)"
                " FROM queue LEFT JOIN returned USING (ordinal)"
                " WHERE model = ? AND (attempts IS NOT NULL OR rank > (SELECT cursor FROM job))"
                " AND ordinal NOT IN (SELECT ordinal FROM suspects WHERE suspicion >= ?)"
                " ORDER BY prompt_bound + coalesce(output_bound, 0), ordinal LIMIT ?",
                (model, SUSPECT, limit),
            )
            found += [self._waiting(row) for row in rows]
        return found

    def suspects(self) -> Suspects:
        """Of the requests that wait and may kill a worker, those to try next."""
        (count, worst) = self.db.execute(
            "SELECT count(*), max(suspicion) FROM suspects JOIN returned USING (ordinal)"
            " WHERE suspicion >= ?",
            (SUSPECT,),
        ).fetchone()
        if not count:
            return Suspects([], alone=False)
        alone = worst >= ALONE
        rows = self.db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, bounded, attempts, uncertain, -1"
            " FROM suspects JOIN returned USING (ordinal) JOIN requests USING (ordinal)"
            " WHERE suspicion >= ? ORDER BY ordinal LIMIT ?",
            (ALONE if alone else SUSPECT, 1 if alone else trial_size(count)),
        )
        return Suspects([self._waiting(row) for row in rows], alone=alone)

    def trial_out(self) -> int:
        """What kind of trial is under way, 0 for none."""
        (trial,) = self.db.execute(
            "SELECT coalesce(max(trial), 0) FROM chunks WHERE state <> 'closed' AND state = 'open'"
        ).fetchone()
        return int(trial)

    def head_is_done(self, head: int) -> bool:
        """Whether so many at the front of the queue have their results."""
        (waits,) = self.db.execute(
            "SELECT EXISTS (SELECT 1 FROM queue WHERE rank < ?"
            " AND ordinal NOT IN (SELECT ordinal FROM results))",
            (head,),
        ).fetchone()
        return not waits

    def leave_head(self) -> None:
        """From now on all of the queue may be fed."""
        with self.transaction() as db:
            db.execute("UPDATE job SET sample = 0, warm = 0")

    def copied(self) -> int:
        """Requests that were given the result of one alike."""
        found: int = self.db.execute(
            "SELECT count(*) FROM copies JOIN results USING (ordinal)"
        ).fetchone()[0]
        return found

    def models(self) -> list[str]:
        """Every model that a request names."""
        return list(self._models.values())

    def _waiting(self, row: sqlite3.Row) -> Waiting:
        ordinal, model, prompt, output, bounded, attempts, uncertain, rank = row
        return Waiting(
            ordinal, self._models[model], prompt, output, bool(bounded), attempts, uncertain, rank
        )

    def grant(
        self, requests: list[Waiting], amount: Amount, now: float, *, trial: int = 0
    ) -> OpenChunk:
        """Sets requests and their grant aside as a new chunk: on disk when this returns.

        Requests before them that were never fed go on waiting among those that came back.
        """
        triples = [(each.ordinal, each.attempts, each.uncertain) for each in requests]
        with self.transaction() as db:
            (number,) = db.execute(
                "UPDATE job SET next_chunk = next_chunk + 1 RETURNING next_chunk - 1"
            ).fetchone()
            self._insert_chunk(number, triples, amount, now, trial)
            last = max(each.rank for each in requests)
            db.execute(
                "INSERT INTO returned SELECT ordinal, 0, 0 FROM queue"
                " WHERE rank > (SELECT cursor FROM job) AND rank < ?",
                (last,),
            )
            db.executemany(
                "DELETE FROM returned WHERE ordinal = ?", [(ordinal,) for ordinal, _, _ in triples]
            )
            db.execute(
                "UPDATE job SET cursor = max(cursor, ?), started_at = coalesce(started_at, ?)",
                (last, now),
            )
        return OpenChunk(number, triples, amount, Amount(ZERO, 0), now)

    def _insert_chunk(
        self, number: int, triples: list[Triple], amount: Amount, now: float, trial: int
    ) -> None:
        self.db.execute(
            "INSERT INTO chunks (chunk, state, ordinals, grant_rub, grant_tokens,"
            " fed_at, trial) VALUES (?, 'open', ?, ?, ?, ?, ?)",
            (
                number,
                msgspec.msgpack.encode(triples),
                None if amount.rub is None else str(amount.rub),
                amount.tokens,
                now,
                trial,
            ),
        )

    def lose(self, chunk: OpenChunk, *, taken: bool = False) -> None:
        """The chunk's worker fell silent: its unfinished requests wait again.

        What is left of its grant stays set aside until the worker's outbox tells what was in
        flight; nobody else can know. Until then each request of a chunk that a worker has `taken`
        is a little suspected of having killed it.
        """
        with self.transaction() as db:
            lost = db.execute(
                "UPDATE chunks SET state = 'lost', lost_at = (julianday('now') - 2440587.5) * 86400"
                " WHERE chunk = ? AND state = 'open' RETURNING trial",
                (chunk.chunk,),
            ).fetchone()
            if not lost:
                return
            give_back(db, chunk.requests)
            if taken:
                weight = IN_FLIGHT if lost["trial"] else PERHAPS
                suspect(db, [each[0] for each in unfinished(db, chunk.requests)], weight)
                db.execute("UPDATE chunks SET suspected = ? WHERE chunk = ?", (weight, chunk.chunk))

    def take_back(self, chunk: OpenChunk) -> None:
        """No worker ever took the chunk: its requests wait again, its grant is free."""
        with self.transaction() as db:
            db.execute(
                "UPDATE chunks SET state = 'closed', ordinals = x'90' WHERE chunk = ?",
                (chunk.chunk,),
            )
            give_back(db, chunk.requests)

    def set_poison_aside(self, deaths: int, now: float) -> int:
        """Fails the waiting requests whose calls ended `deaths` times with nobody knowing how, and
        those that by all that is known kill whoever makes their call.
        """
        (worst, found) = self.db.execute(
            "SELECT (SELECT max(uncertain) FROM returned WHERE uncertain > 0),"
            " EXISTS (SELECT 1 FROM suspects JOIN returned USING (ordinal) WHERE suspicion >= ?)",
            (POISON,),
        ).fetchone()
        if not found and (worst is None or worst < deaths):
            return 0
        with self.transaction() as db:
            failed = db.execute(
                "INSERT OR IGNORE INTO results SELECT ordinal, 'failed', 'system.poison_row',"
                " iif(uncertain >= ?2, 'nobody knows how ' || uncertain || ' of its calls ended',"
                " 'its workers died again and again'), NULL, attempts, '',"
                " 0, ?1, '', '', NULL, -1 FROM returned LEFT JOIN suspects USING (ordinal)"
                " WHERE uncertain >= ?2 OR suspicion >= ?3",
                (now, deaths, POISON),
            ).rowcount
            failed += give_copies(
                db, "results", "code = 'system.poison_row' AND finished_at = ?", now
            )
            db.execute(
                "DELETE FROM returned WHERE ordinal IN (SELECT ordinal FROM results"
                " WHERE code = 'system.poison_row' AND finished_at = ?)",
                (now,),
            )
            db.execute("UPDATE job SET failed = failed + ?", (failed,))
        return failed

    def retry_failed(self, codes: tuple[str, ...] = ()) -> int:
        """Failed requests wait again, all or those with one of these codes; returns how many."""
        among = json.dumps(codes) if codes else None
        with self.transaction() as db:
            db.execute(
                f"INSERT OR IGNORE INTO retried SELECT ordinal, call FROM results"  # noqa: S608
                f" WHERE {_FAILED_AMONG} AND {_BOUGHT}",
                (among,),
            )
            db.execute(
                "INSERT OR IGNORE INTO returned SELECT ordinal, attempts, 0 FROM results"  # noqa: S608
                f" WHERE {_FAILED_AMONG} AND {_BOUGHT}",
                (among,),
            )
            db.execute(
                "DELETE FROM suspects WHERE ordinal IN (SELECT ordinal FROM results"  # noqa: S608
                f" WHERE {_FAILED_AMONG})",
                (among,),
            )
            self._leave_chunks(among)
            back = db.execute(
                f"DELETE FROM results WHERE {_FAILED_AMONG}",  # noqa: S608  a constant
                (among,),
            ).rowcount
            db.execute("UPDATE job SET failed = failed - ?", (back,))
            _grow(db)
        return back

    def _leave_chunks(self, among: str | None) -> None:
        """A request that waits again belongs no more to the chunk in which it failed."""
        for chunk in self.open_chunks():
            ordinals = json.dumps([ordinal for ordinal, _, _ in chunk.requests])
            found = self.db.execute(
                f"SELECT ordinal FROM results WHERE {_FAILED_AMONG}"  # noqa: S608  a constant
                " AND ordinal IN (SELECT value FROM json_each(?2))",
                (among, ordinals),
            )
            failed = {row[0] for row in found}
            kept = [triple for triple in chunk.requests if triple[0] not in failed]
            self.db.execute(
                "UPDATE chunks SET ordinals = ? WHERE chunk = ?",
                (msgspec.msgpack.encode(kept), chunk.chunk),
            )

    def to_ask_for(self, ended_by: Sequence[float], limit: int) -> list[sqlite3.Row]:
        """Uncertain calls that can be looked up: ordinal, id, generation_id; the oldest first.

        Of those that were asked for n times already, the ones that ended by `ended_by[n]` (Unix
        seconds), and at most `limit` of them.
        """
        found: list[sqlite3.Row] = []
        for times, moment in enumerate(ended_by):
            found += self.db.execute(
                "SELECT ordinal, id, generation_id FROM calls WHERE billing = 'unknown'"
                " AND generation_id <> '' AND lookups = ?1 AND sent_at <= ?2"
                " AND sent_at + latency_s <= ?2 ORDER BY sent_at LIMIT ?3",
                (times, moment, limit),
            )
        return found

    def next_lookup(self, waits_s: Sequence[float]) -> float | None:
        """When (Unix seconds) the next uncertain call is to be asked for, None if none is.

        One that was asked for n times, `waits_s[n]` after its end.
        """
        moments = []
        for times, wait in enumerate(waits_s):
            (ended,) = self.db.execute(
                "SELECT min(sent_at + latency_s) FROM calls WHERE billing = 'unknown'"
                " AND generation_id <> '' AND lookups = ?",
                (times,),
            ).fetchone()
            if ended is not None:
                moments.append(ended + wait)
        return min(moments, default=None)

    def uncertain(self) -> list[sqlite3.Row]:
        """Calls of unknown cost that can be asked for: ordinal, id, generation_id, lookups."""
        return self.db.execute(
            "SELECT ordinal, id, generation_id, lookups FROM calls"
            " WHERE billing = 'unknown' AND generation_id <> ''"
        ).fetchall()

    def awaits_lookups(self, *, answered: int, unanswered: int) -> bool:
        """Whether an uncertain call was asked for fewer times than this."""
        (awaited,) = self.db.execute(
            "SELECT EXISTS (SELECT 1 FROM calls WHERE billing = 'unknown' AND generation_id <> ''"
            " AND lookups < max(?1, ?2) AND lookups < iif(prompt IS NULL, ?2, ?1))",
            (answered, unanswered),
        ).fetchone()
        return bool(awaited)

    def open_chunks(self) -> list[OpenChunk]:
        """All chunks that are not closed, lost ones included."""
        rows = self.db.execute("SELECT * FROM chunks WHERE state <> 'closed' ORDER BY chunk")
        return [self._open_chunk(row) for row in rows]

    def chunks_out(self) -> list[int]:
        """The numbers of the chunks that are with a worker, or on their way to one."""
        return [
            row[0]
            for row in self.db.execute(
                "SELECT chunk FROM chunks WHERE state <> 'closed' AND state = 'open'"
            )
        ]

    def chunks_untold(self) -> set[int]:
        """The numbers of the chunks whose closing has not come yet, nor the refusals it tells."""
        query = "SELECT chunk FROM chunks WHERE state <> 'closed' AND NOT told"
        return {row[0] for row in self.db.execute(query)}

    def unlimited_out(self, *, rub: bool, tokens: bool) -> bool:
        """Whether a chunk is out that has no grant in roubles, or none in tokens."""
        (out,) = self.db.execute(
            "SELECT EXISTS (SELECT 1 FROM chunks WHERE state <> 'closed' AND state = 'open'"
            " AND (?1 AND grant_rub IS NULL OR ?2 AND grant_tokens IS NULL))",
            (rub, tokens),
        ).fetchone()
        return bool(out)

    def lost(self) -> Lost:
        """What is set aside for chunks whose worker fell silent."""
        rows = self.db.execute(
            "SELECT grant_rub, spent_rub FROM chunks WHERE state <> 'closed' AND state = 'lost'"
        ).fetchall()
        if any(row["grant_rub"] is None for row in rows):
            return Lost(len(rows), None)
        return Lost(len(rows), total(_unspent(row) for row in rows))

    def _open_chunk(self, row: sqlite3.Row) -> OpenChunk:
        rub = None if row["grant_rub"] is None else Decimal(row["grant_rub"])
        return OpenChunk(
            row["chunk"],
            decode_triples(row["ordinals"]),
            Amount(rub, row["grant_tokens"]),
            Amount(Decimal(row["spent_rub"]), row["spent_tokens"]),
            row["fed_at"],
            lost=row["state"] == "lost",
        )

    def unfinished(self, chunk: OpenChunk) -> list[Triple]:
        """Those of the chunk's requests that have no result yet."""
        return unfinished(self.db, chunk.requests)

    def details(self, triples: list[Triple]) -> list[Waiting]:
        """What is stored of these requests."""
        found = []
        for ordinal, attempts, uncertain in triples:
            row = self.db.execute(
                "SELECT ordinal, model, prompt_bound, output_bound, bounded, ?2, ?3, -1"
                " FROM requests WHERE ordinal = ?1",
                (ordinal, attempts, uncertain),
            ).fetchone()
            found.append(self._waiting(row))
        return found

    def line(self, ordinal: int) -> int:
        """The line of the input that a request stands on, from 1."""
        (line,) = self.db.execute(
            "SELECT line FROM requests WHERE ordinal = ?", (ordinal,)
        ).fetchone()
        return int(line)

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
        job = self.db.execute(
            "SELECT settled_rub, booked_rub, settled_tokens + booked_tokens FROM job"
        ).fetchone()
        rub, tokens = [Decimal(job[0]), Decimal(job[1])], job[2]
        for row in self.db.execute(
            "SELECT grant_rub, grant_tokens, spent_rub, spent_tokens FROM chunks"
            " WHERE state <> 'closed'"
        ):
            rub.append(_unspent(row))
            tokens += max((row["grant_tokens"] or 0) - row["spent_tokens"], 0)
        return Amount(total(rub), tokens)

    def spent_between(self, start: float, end: float) -> Decimal:
        """₽ that calls cost, or may have cost, which were sent from `start` up to `end`.

        Unix seconds, on whole quarters of an hour.
        """
        rows = self.db.execute(
            "SELECT rub FROM spending WHERE quarter >= ? AND quarter < ?",
            (int(start) // QUARTER_S, int(end) // QUARTER_S),
        )
        return total(Decimal(row[0]) for row in rows)

    def set_aside(self, start: float) -> Decimal:
        """₽ that chunks may still spend of their grants, or may have spent since `start`."""
        rows = self.db.execute(
            "SELECT grant_rub, spent_rub FROM chunks WHERE state <> 'closed'"
            " AND (state = 'open' OR coalesce(lost_at, ?1) >= ?1)",
            (start,),
        )
        return total(_unspent(row) for row in rows)

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


def _grow(db: sqlite3.Connection) -> None:
    db.execute("UPDATE job SET revision = revision + 1")


def give_back(db: sqlite3.Connection, triples: list[Triple]) -> None:
    """Requests wait again, but for those that have their result."""
    db.executemany(
        "INSERT OR IGNORE INTO returned SELECT ?1, ?2, ?3"
        " WHERE NOT EXISTS (SELECT 1 FROM results WHERE ordinal = ?1)",
        triples,
    )


def give_copies(db: sqlite3.Connection, among: str, which: str, value: float) -> int:
    """Copies of those requests of a table get their results; returns how many."""
    return db.execute(
        "INSERT OR IGNORE INTO results SELECT copies.ordinal, state, code, message, status, 0, '',"  # noqa: S608
        " latency_s, finished_at, request_id, flags, answer, body"
        " FROM copies JOIN results ON results.ordinal = original"
        f" WHERE original IN (SELECT ordinal FROM {among} WHERE {which})",
        (value,),
    ).rowcount


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


def decode_triples(data: bytes) -> list[Triple]:
    """The requests of a chunk, as its row holds them."""
    return _ordinals.decode(data)


@lru_cache(maxsize=256)
def _spec(text: str) -> Spec:
    return Spec.model_validate_json(text)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _unspent(row: sqlite3.Row) -> Decimal:
    """What is left of a chunk's grant in roubles; nothing where there is no cap."""
    if row["grant_rub"] is None:
        return ZERO
    return max(subtract(Decimal(row["grant_rub"]), Decimal(row["spent_rub"])), ZERO)
