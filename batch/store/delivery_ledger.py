"""Taking in what workers deliver: one transaction for a batch, each fact counted once.

What names a request that is not there, or one that no chunk had yet, is left out and counted: it is
not of our workers' making. A chunk that never was, with a request that is there, shows that this
file is older than the job: a backup of it was put back. What comes of such a chunk is taken in.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from batch.store import database, messages
from batch.store.call_units import Judge, drop_bodies, expand
from batch.store.chunks import UNKNOWN, give_back, pass_over
from batch.store.failure_causes import TRUNCATED
from batch.store.finished_requests import give_copies, grow, restore, unfinished
from batch.store.poison_requests import IN_FLIGHT, clear, suspect
from batch.store.request_queue import Triple, decode_triples
from jobs.chunk import NOBODY, WORKER_DIED, ChunkClosed, ReturnReason
from jobs.money import ZERO, add, subtract
from jobs.outcome import Billing, CostSource
from jobs.period import QUARTER_S
from jobs.result import Call, Result, ResultState
from jobs.usage import Usage
from jobs.wire import Delivery, Found, unpack_bodies

if TYPE_CHECKING:
    from batch.store.jobstore import JobStore

SLACK_S = 600.0
"""So much a worker's clock may be behind the home's before it is thought to be wrong."""

_NO_TOKENS = Usage()
_NOT_TOLD = (None,) * len(Usage.__struct_fields__)


@dataclass(frozen=True)
class Overrun:
    """A call that cost more ₽ than it could by the prices."""

    chunk: int
    cost: Decimal
    bound: Decimal


@dataclass
class Applied:
    """What a batch of deliveries changed.

    `told_calls` and `told_results` are those that were new, `told_costs` what calls cost, or more
    than was known: (when the call ended, ₽). `reasons` are those of closings that
    came, `closed` the chunks of which nothing more is to come.
    `foreign` counts what was left out. `is_older`: the job went on where this file was not.
    """

    completed: int = 0
    failed: int = 0
    truncated: int = 0
    calls: int = 0
    settled: int = 0
    foreign: int = 0
    is_older: bool = False
    told_calls: list[Call] = field(default_factory=list)
    told_results: list[Result] = field(default_factory=list)
    told_costs: list[tuple[float, Decimal]] = field(default_factory=list)
    reasons: list[tuple[int, ReturnReason]] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    overrun: Overrun | None = None

    def count(self, result: Result, copies: int) -> None:
        """Counts a new result, and the copies of its request."""
        self.told_results.append(result)
        if result.state is ResultState.COMPLETED:
            self.completed += 1 + copies
            self.truncated += (1 + copies) * (TRUNCATED in result.flags)
        else:
            self.failed += 1 + copies

    @property
    def anything(self) -> bool:
        """Whether results or costs are not what they were."""
        return bool(self.completed or self.failed or self.calls or self.settled or self.closed)


@dataclass
class _Change:
    """Sums of a batch, written once at its end."""

    settled_rub: Decimal = ZERO
    booked_rub: Decimal = ZERO
    settled_tokens: int = 0
    booked_tokens: int = 0
    calls: int = 0
    unknown: int = 0
    unbounded: int = 0
    settled: int = 0
    told: list[Call] = field(default_factory=list)
    costs: list[tuple[float, Decimal]] = field(default_factory=list)
    chunks: dict[int, tuple[Decimal, int, int]] = field(default_factory=dict)
    quarters: dict[int, Decimal] = field(default_factory=dict)
    overrun: Overrun | None = None

    def count(self, calls: list[Call]) -> None:
        """Counts new calls."""
        self.calls += len(calls)
        self.told += calls
        for call in calls:
            if call.billing is Billing.KNOWN:
                rub = call.cost or ZERO
                tokens = call.usage.total if call.usage else call.bound_tokens
                self.settled_rub = add(self.settled_rub, rub)
                self.settled_tokens += tokens
                self.costs.append((call.sent_at + call.latency_s, rub))
                self.compare(call.chunk, rub, call.bound)
            else:
                # Tokens that were told are used up, whatever they cost.
                rub = call.bound or ZERO
                tokens = call.usage.total if call.usage else call.bound_tokens
                self.booked_rub = add(self.booked_rub, rub)
                self.booked_tokens += tokens
                self.unknown += 1
                self.unbounded += call.bound is None
            self.charge(call.chunk, call.sent_at, rub, tokens, 1)

    def charge(self, chunk: int, sent_at: float, rub: Decimal, tokens: int, calls: int = 0) -> None:
        """Counts against the grant of a chunk, and to the quarter of an hour it was sent in."""
        quarter = int(sent_at) // QUARTER_S
        self.quarters[quarter] = add(self.quarters.get(quarter, ZERO), rub)
        old_rub, old_tokens, old_calls = self.chunks.get(chunk, (ZERO, 0, 0))
        self.chunks[chunk] = (add(old_rub, rub), old_tokens + tokens, old_calls + calls)

    def compare(self, chunk: int, cost: Decimal, bound: Decimal | None) -> None:
        """Notes a call that was dearer than it could be."""
        if bound is not None and cost > bound:
            self.overrun = Overrun(chunk, cost, bound)


def apply(store: JobStore, deliveries: Iterable[Delivery], judge: Judge | None = None) -> Applied:
    """Writes deliveries to the home; on disk when this returns, so they may be acknowledged.

    Everything is keyed: a call by its id, a result by its request, a chunk by its number. So a
    delivery that comes twice, or after its chunk went to another worker, changes nothing twice.
    """
    applied, change = Applied(), _Change()
    with store.transaction() as db:
        fed, clock = _Fed(db), _Clock(db, time.time())
        for delivery in deliveries:
            calls = [clock.call(c) for c in delivery.calls if fed.has(c.ordinal, c.chunk)]
            _write_calls(db, calls, change)
            results = [clock.result(r) for r in delivery.results if fed.has(r.ordinal)]
            _write_results(store, delivery, results, applied, judge)
            for found in delivery.found:
                _write_found(db, found, change)
            for closed in delivery.closed:
                _close(db, closed, applied)
        _write_sums(db, change, applied)
        _close_told(db, applied)
    applied.calls, applied.settled = change.calls, change.settled
    applied.told_calls, applied.told_costs = change.told, change.costs
    applied.foreign += fed.foreign
    applied.is_older = fed.is_older
    applied.overrun = change.overrun
    return applied


class _Clock:
    """Holds what workers say of times against the home's own: no call was sent before its chunk was
    fed, and nothing ended after `now`. By a clock that is wrong a call would count on another day,
    or be asked for tomorrow.
    """

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        self._db = db
        self._now = now
        self._fed: dict[int, float] = {}

    def call(self, call: Call) -> Call:
        """The call, sent at a time that can be."""
        latest = self._now - call.latency_s
        earliest = self._fed_at(call.chunk) - SLACK_S
        sent_at = min(max(call.sent_at, earliest), max(latest, 0.0))
        return call if sent_at == call.sent_at else msgspec.structs.replace(call, sent_at=sent_at)

    def result(self, result: Result) -> Result:
        """The result, of a time that has been."""
        if result.finished_at <= self._now:
            return result
        return msgspec.structs.replace(result, finished_at=self._now)

    def _fed_at(self, chunk: int) -> float:
        if chunk not in self._fed:
            query = "SELECT fed_at FROM chunks WHERE chunk = ?"
            row = self._db.execute(query, (chunk,)).fetchone()
            self._fed[chunk] = 0.0 if row is None else row[0]
        return self._fed[chunk]


class _Fed:
    """Knows what was ever fed; `foreign` counts what it was asked for in vain, and `is_older` is
    whether it was asked for what was fed, but not here.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._chunks: dict[int, bool] = {}
        self.is_older = False
        self._cursor: int
        self._cursor, requests = db.execute("SELECT cursor, requests FROM job").fetchone()
        # Lines that were skipped may have left gaps among the ordinals.
        (last,) = db.execute("SELECT max(ordinal) FROM requests").fetchone()
        self._has_gaps = last is not None and last + 1 != requests
        self._ordered = db.execute("SELECT rank FROM feeding LIMIT 1").fetchone() is not None
        self.foreign = 0

    def has(self, ordinal: int, chunk: int | None = None) -> bool:
        """Whether there is such a request, and a worker has had it: in that chunk, if one is named.

        Of a chunk that was not fed here, the request counts as fed from now on.
        """
        known = self._was_fed(ordinal) if self._is_chunk(chunk) else self._catches_up(ordinal)
        self.foreign += not known
        return known

    def _was_fed(self, ordinal: int) -> bool:
        if self._ordered or ordinal > self._cursor:
            return self._rank(ordinal) <= self._cursor
        return not self._has_gaps or self._rank(ordinal) <= self._cursor

    def _rank(self, ordinal: int) -> float:
        """Its place in the queue; beyond all places for one that is not there."""
        row = self._db.execute("SELECT rank FROM queue WHERE ordinal = ?", (ordinal,)).fetchone()
        return math.inf if row is None else int(row[0])

    def _is_chunk(self, chunk: int | None) -> bool:
        if chunk is None:
            return True
        if chunk not in self._chunks:
            query = "SELECT 1 FROM chunks WHERE chunk = ?"
            self._chunks[chunk] = bool(self._db.execute(query, (chunk,)).fetchone())
        return self._chunks[chunk]

    def _catches_up(self, ordinal: int) -> bool:
        rank = self._rank(ordinal)
        if rank == math.inf:
            return False
        self.is_older = True
        if rank > self._cursor:
            pass_over(self._db, int(rank), time.time())
            give_back(self._db, [(ordinal, 0, 0)])
            self._cursor = int(rank)
        return True


def _insert_all(db: sqlite3.Connection, insert: str, rows: Iterable[tuple[Any, ...]]) -> bool:
    """Whether all these rows are new; if one is not, none is written.

    Nearly always they are, and many by one statement take half the time of one by one.
    """
    db.execute("SAVEPOINT many")
    try:
        db.executemany(insert, rows)
    except sqlite3.IntegrityError:
        db.execute("ROLLBACK TO many")
        return False
    finally:
        db.execute("RELEASE many")
    return True


def _write_calls(db: sqlite3.Connection, calls: list[Call], change: _Change) -> None:
    billed = [call for call in calls if call.billing is not Billing.NONE]
    first = [call for call in billed if call.attempt == 1]
    if _insert_all(db, f"INSERT {_CALLS}", map(_call_row, first)):
        change.count(first)
        billed = [call for call in billed if call.attempt > 1]
    for call in billed:
        if (
            call.cost
            and call.attempt > 1
            and _is_paid(db, call.ordinal, call.id, call.generation_id)
        ):
            call = msgspec.structs.replace(call, cost=ZERO, usage=_NO_TOKENS)
        if db.execute(f"INSERT OR IGNORE {_CALLS}", _call_row(call)).rowcount == 1:
            change.count([call])
        elif call.cost is not None:
            # Told again by somebody who knows more: it was taken for cut, and was answered.
            _settle_unknown(db, call, call.cost, change)


def _settle_unknown(db: sqlite3.Connection, call: Call, cost: Decimal, change: _Change) -> None:
    row = db.execute(
        "SELECT * FROM calls WHERE ordinal = ? AND id = ? AND billing = 'unknown'",
        (call.ordinal, call.id),
    ).fetchone()
    if row is not None:
        settle(db, row, cost, CostSource.ENDPOINT, call.usage, change)


def _is_paid(db: sqlite3.Connection, ordinal: int, call: str, generation_id: str) -> bool:
    """Whether another call of the request has that id, and its cost: it is one generation."""
    if not generation_id:
        return False
    found = db.execute(
        "SELECT 1 FROM calls WHERE ordinal = ? AND generation_id = ? AND id <> ?"
        " AND billing = 'known'",
        (ordinal, generation_id, call),
    )
    return found.fetchone() is not None


_CALLS = (
    "INTO calls (ordinal, id, chunk, attempt, sent_at, latency_s, status, code, billing, cost,"
    " source, bound, bound_tokens, prompt, completion, cached, written, reasoning, generation_id,"
    " provider) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


# `Enum.value` is a property, and takes a tenth of a row's time.
_KNOWN, _UNKNOWN = Billing.KNOWN.value, Billing.UNKNOWN.value
_ENDPOINT, _NOBODY = CostSource.ENDPOINT.value, CostSource.UNKNOWN.value
_COMPLETED, _FAILED = ResultState.COMPLETED.value, ResultState.FAILED.value


def _call_row(call: Call) -> tuple[Any, ...]:
    known = call.billing is Billing.KNOWN
    return (
        call.ordinal,
        call.id,
        call.chunk,
        call.attempt,
        call.sent_at,
        call.latency_s,
        call.status,
        call.code,
        _KNOWN if known else _UNKNOWN,
        str(call.cost) if known else None,
        _ENDPOINT if known else _NOBODY,
        None if call.bound is None else str(call.bound),
        call.bound_tokens,
        *(msgspec.structs.astuple(call.usage) if call.usage else _NOT_TOLD),
        call.generation_id,
        call.provider,
    )


def _write_results(
    store: JobStore,
    delivery: Delivery,
    results: list[Result],
    applied: Applied,
    judge: Judge | None,
) -> None:
    db = store.db
    answer: int | None = None
    if any(result.body >= 0 for result in results):
        answer = db.execute("INSERT INTO answers (bodies) VALUES (?)", (delivery.bodies,)).lastrowid
    if judge is not None and results:
        results = store.units.judged(results, unpack_bodies(delivery.bodies), answer, judge)
    any_copies, any_retried, any_returned, any_former = db.execute(_ANY).fetchone()
    if any_former:
        results = _not_worse(db, results, applied)
    rows = [_result_row(result, answer) for result in results]
    messages.keep_all(db, ((result.message, result.data) for result in results if result.data))
    if not any_retried and _insert_all(db, _RESULT, rows):
        new = results
    else:
        new = [
            result
            for result, row in zip(results, rows, strict=True)
            if db.execute(_NEW_RESULT, row).rowcount == 1
        ]
    if any_returned:
        # They may wait here again if their worker fell silent before these answers arrived.
        ordinals = [(result.ordinal,) for result in new]
        db.executemany("DELETE FROM returned WHERE ordinal = ?", ordinals)
    for result in new:
        copies = give_copies(db, "requests", "ordinal = ?", result.ordinal) if any_copies else 0
        applied.count(result, copies)
    used = any(result.body >= 0 for result in new) or _is_quoted(db, answer)
    if answer is not None and not used:
        # A delivery that came again brought nothing new: its answers stand already.
        db.execute("DELETE FROM answers WHERE id = ?", (answer,))


def _is_quoted(db: sqlite3.Connection, answer: int | None) -> bool:
    """Whether requests that wait again are to be told what is wrong with one of these answers."""
    return db.execute("SELECT 1 FROM climbs WHERE answer = ?", (answer,)).fetchone() is not None


def _not_worse(db: sqlite3.Connection, results: list[Result], applied: Applied) -> list[Result]:
    """Without failures of requests that have an answer from before: they keep that.

    A better answer takes the place of the former one, also of the copies.
    """
    new = []
    for result in results:
        if result.state is ResultState.COMPLETED:
            db.execute(
                "DELETE FROM former WHERE ordinal = ?1"
                " OR ordinal IN (SELECT ordinal FROM copies WHERE original = ?1)",
                (result.ordinal,),
            )
        elif back := restore(db, "?1", (result.ordinal,)):
            applied.completed += back
            applied.truncated += back
            continue
        new.append(result)
    return new


_ANY = (
    "SELECT EXISTS (SELECT 1 FROM copies LIMIT 1), EXISTS (SELECT 1 FROM retried LIMIT 1),"
    " EXISTS (SELECT 1 FROM returned LIMIT 1), EXISTS (SELECT 1 FROM former LIMIT 1)"
)
_RESULT = "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NEW_RESULT = (
    "INSERT OR IGNORE INTO results"
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13"
    " WHERE NOT EXISTS (SELECT 1 FROM retried WHERE ordinal = ?1 AND call = ?7)"
)


def _result_row(result: Result, answer: int | None) -> tuple[Any, ...]:
    return (
        result.ordinal,
        _COMPLETED if result.state is ResultState.COMPLETED else _FAILED,
        result.code,
        result.message,
        result.status,
        result.attempts,
        result.call,
        result.latency_s,
        result.finished_at,
        result.request_id,
        ",".join(result.flags),
        answer if result.body >= 0 else None,
        result.body,
    )


def _close(db: sqlite3.Connection, closed: ChunkClosed, applied: Applied) -> None:
    row = db.execute(
        "SELECT state, ordinals, suspected, begun_by FROM chunks"
        " WHERE chunk = ? AND state <> 'closed' AND NOT told",
        (closed.chunk,),
    ).fetchone()
    if row is None or not _ran(row["begun_by"], closed):
        return
    mine = {triple[0]: triple for triple in decode_triples(row["ordinals"])}
    returned = expand(db, closed.chunk, closed.returned)
    back = {triple[0]: triple for triple in returned if triple[0] in mine}
    applied.foreign += len(returned) - len(back)
    if row["state"] == "open":
        give_back(db, list(back.values()))
    else:
        # Its requests wait again already; now it is known how often they were called.
        db.executemany(
            "UPDATE returned SET attempts = max(attempts, ?2),"
            " uncertain = max(uncertain, ?3) WHERE ordinal = ?1",
            back.values(),
        )
    _suspect(db, row["suspected"], mine, closed, returned)
    # Of the others it has results. They may come later than this: until then the chunk stays.
    coming = [triple for triple in mine.values() if triple[0] not in back]
    db.execute(
        "UPDATE chunks SET told = 1, ordinals = ?, calls_told = ? WHERE chunk = ?",
        (msgspec.msgpack.encode(coming), closed.calls, closed.chunk),
    )
    for code, count in closed.refusals.items():
        db.execute(
            "INSERT INTO refusals VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + ?2",
            (code, count),
        )
        applied.refusals[code] = applied.refusals.get(code, 0) + count
    applied.reasons.append((closed.chunk, closed.reason))


def _ran(begun_by: str | None, closed: ChunkClosed) -> bool:
    """Whether it is for that worker to say that a chunk is done with: another only heard of it."""
    if closed.outbox == NOBODY:
        return False
    if begun_by is None:
        return True
    return closed.began if begun_by == UNKNOWN else begun_by.split()[0] == closed.outbox


def _suspect(
    db: sqlite3.Connection,
    counted: int,
    mine: dict[int, Triple],
    closed: ChunkClosed,
    returned: list[Triple],
) -> None:
    """Now it is known what was in flight if the worker died, and that it did not if it did not."""
    clear(db, mine, counted)
    if closed.reason.code == WORKER_DIED.code:
        back = [(n, uncertain) for n, _, uncertain in returned if n in mine]
        suspect(db, [n for n, uncertain in back if uncertain > mine[n][2]], IN_FLIGHT)


def _close_told(db: sqlite3.Connection, applied: Applied) -> None:
    """Chunks whose closing has come are closed when their last result and call have, too: what is
    left of a grant is free no earlier.
    """
    rows = db.execute(
        "SELECT chunk, ordinals FROM chunks"
        " WHERE state <> 'closed' AND told = 1 AND calls >= calls_told"
    ).fetchall()
    for chunk, ordinals in rows:
        if not unfinished(db, decode_triples(ordinals)):
            db.execute(
                "UPDATE chunks SET state = 'closed', ordinals = x'90' WHERE chunk = ?", (chunk,)
            )
            drop_bodies(db, chunk)
            applied.closed.append(chunk)
    if applied.closed:
        # A lost chunk that is heard of is told in the outputs.
        grow(db)


def _write_found(db: sqlite3.Connection, found: Found, change: _Change) -> None:
    row = db.execute(
        "SELECT * FROM calls WHERE ordinal = ? AND id = ? AND billing = 'unknown'",
        (found.ordinal, found.call),
    ).fetchone()
    if row is None:
        return
    if found.cost is not None:
        cost, usage = found.cost, found.usage
        if _is_paid(db, found.ordinal, found.call, row["generation_id"]):
            cost, usage = ZERO, _NO_TOKENS
        settle(db, row, cost, CostSource.LOOKUP, usage, change)
        return
    db.execute(
        "UPDATE calls SET lookups = lookups + 1 WHERE ordinal = ? AND id = ?",
        (found.ordinal, found.call),
    )


def settle(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    cost: Decimal,
    source: CostSource,
    usage: Usage | None,
    change: _Change,
) -> None:
    """A call's cost is known now: from booked to settled."""
    before = _usage(row)
    old_tokens = before.total if before else row["bound_tokens"]
    tokens = usage.total if usage else old_tokens
    db.execute(
        "UPDATE calls SET billing = 'known', cost = ?, source = ?, lookups = lookups + 1"
        " WHERE ordinal = ? AND id = ?",
        (str(cost), source.value, row["ordinal"], row["id"]),
    )
    if usage:
        db.execute(
            "UPDATE calls SET prompt = ?, completion = ?, cached = ?, written = ?, reasoning = ?"
            " WHERE ordinal = ? AND id = ?",
            (*msgspec.structs.astuple(usage), row["ordinal"], row["id"]),
        )
    change.settled += 1
    bound = None if row["bound"] is None else Decimal(row["bound"])
    change.booked_rub = subtract(change.booked_rub, bound or ZERO)
    change.booked_tokens -= old_tokens
    change.unknown -= 1
    change.unbounded -= bound is None
    change.settled_rub = add(change.settled_rub, cost)
    change.settled_tokens += tokens
    change.costs.append((row["sent_at"] + row["latency_s"], cost))
    more = subtract(cost, bound or ZERO)
    change.charge(row["chunk"], row["sent_at"], more, tokens - old_tokens)
    change.compare(row["chunk"], cost, bound)


def _usage(row: sqlite3.Row) -> Usage | None:
    """The tokens that a call is known to have used."""
    if row["prompt"] is None:
        return None
    return Usage(row["prompt"], row["completion"], row["cached"], row["written"], row["reasoning"])


def settle_all(
    db: sqlite3.Connection, which: str, values: tuple[Any, ...], source: CostSource
) -> int:
    """Calls of unknown cost cost nothing, as `source` tells; `which` is a condition of SQL.

    Returns how many they are.
    """
    change = _Change()
    with database.transaction(db):
        rows = db.execute(f"SELECT * FROM calls WHERE {which}", values).fetchall()  # noqa: S608
        for row in rows:
            settle(db, row, ZERO, source, None, change)
        _write_sums(db, change, Applied())
    return len(rows)


def _write_sums(db: sqlite3.Connection, change: _Change, applied: Applied) -> None:
    settled, booked = db.execute("SELECT settled_rub, booked_rub FROM job").fetchone()
    db.execute(
        "UPDATE job SET settled_rub = ?, booked_rub = ?, settled_tokens = settled_tokens + ?,"
        " booked_tokens = booked_tokens + ?, calls = calls + ?, unknown = unknown + ?,"
        " unbounded = unbounded + ?, completed = completed + ?,"
        " failed = failed + ?, truncated = truncated + ?, revision = revision + ?",
        (
            str(add(Decimal(settled), change.settled_rub)),
            str(add(Decimal(booked), change.booked_rub)),
            change.settled_tokens,
            change.booked_tokens,
            change.calls,
            change.unknown,
            change.unbounded,
            applied.completed,
            applied.failed,
            applied.truncated,
            bool(applied.completed or applied.failed or change.calls or change.settled),
        ),
    )
    for quarter, rub in change.quarters.items():
        row = db.execute("SELECT rub FROM spending WHERE quarter = ?", (quarter,)).fetchone()
        before = ZERO if row is None else Decimal(row[0])
        db.execute(
            "INSERT OR REPLACE INTO spending VALUES (?, ?)", (quarter, str(add(before, rub)))
        )
    for chunk, (rub, tokens, calls) in change.chunks.items():
        row = db.execute("SELECT spent_rub FROM chunks WHERE chunk = ?", (chunk,)).fetchone()
        if row is not None:
            db.execute(
                "UPDATE chunks SET spent_rub = ?, spent_tokens = spent_tokens + ?,"
                " calls = calls + ? WHERE chunk = ?",
                (str(add(Decimal(row[0]), rub)), tokens, calls, chunk),
            )
