"""Taking in what workers deliver: one transaction for a batch, each fact counted once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from batch.store.jobstore import JobStore, decimal_sum
from jobs.chunk import ChunkClosed, ReturnReason
from jobs.money import ZERO, add, subtract
from jobs.outcome import Billing, CostSource
from jobs.prices import PriceList
from jobs.result import Call, Result, ResultState
from jobs.usage import Usage
from jobs.wire import Delivery, Found


@dataclass
class Applied:
    """What a batch of deliveries changed."""

    completed: int = 0
    failed: int = 0
    closed: list[tuple[int, ReturnReason]] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)


@dataclass
class _Change:
    """Sums of a batch, written once at its end."""

    settled_rub: Decimal = ZERO
    booked_rub: Decimal = ZERO
    settled_tokens: int = 0
    booked_tokens: int = 0
    calls: int = 0
    chunks: dict[int, tuple[Decimal, int]] = field(default_factory=dict)

    def charge(self, call: Call, rub: Decimal, tokens: int) -> None:
        """Counts against the grant of the call's chunk."""
        old_rub, old_tokens = self.chunks.get(call.chunk, (ZERO, 0))
        self.chunks[call.chunk] = (add(old_rub, rub), old_tokens + tokens)


def apply(store: JobStore, deliveries: Iterable[Delivery]) -> Applied:
    """Writes deliveries to the home; on disk when this returns, so they may be acknowledged.

    Everything is keyed: a call by its id, a result by its request, a chunk by its number. So a
    delivery that comes twice, or after its chunk went to another worker, changes nothing twice.
    """
    applied, change = Applied(), _Change()
    with store.transaction() as db:
        for delivery in deliveries:
            _write_calls(db, delivery.calls, change)
            _write_results(db, delivery, applied)
            for found in delivery.found:
                _write_found(db, found, change)
            for closed in delivery.closed:
                _close(db, closed, applied)
        _write_sums(db, change, applied)
    return applied


def _write_calls(db: sqlite3.Connection, calls: list[Call], change: _Change) -> None:
    for call in calls:
        if call.billing is not Billing.NONE and _insert_call(db, call):
            change.calls += 1
            _count(call, change)


def _insert_call(db: sqlite3.Connection, call: Call) -> bool:
    known = call.billing is Billing.KNOWN
    counts = msgspec.structs.astuple(call.usage) if call.usage else (None,) * 5
    cursor = db.execute(
        "INSERT OR IGNORE INTO calls (ordinal, id, chunk, attempt, sent_at, latency_s,"
        " status, code, billing, cost, source, bound, bound_tokens, prompt, completion, cached,"
        " written, reasoning, generation_id, provider)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.ordinal,
            call.id,
            call.chunk,
            call.attempt,
            call.sent_at,
            call.latency_s,
            call.status,
            call.code,
            call.billing.value,
            str(call.cost) if known else None,
            (CostSource.ENDPOINT if known else CostSource.UNKNOWN).value,
            None if call.bound is None else str(call.bound),
            call.bound_tokens,
            *counts,
            call.generation_id,
            call.provider,
        ),
    )
    return cursor.rowcount == 1


def _count(call: Call, change: _Change) -> None:
    if call.billing is Billing.KNOWN:
        rub = call.cost or ZERO
        tokens = call.usage.total if call.usage else call.bound_tokens
        change.settled_rub = add(change.settled_rub, rub)
        change.settled_tokens += tokens
    else:
        rub, tokens = call.bound or ZERO, call.bound_tokens
        change.booked_rub = add(change.booked_rub, rub)
        change.booked_tokens += tokens
    change.charge(call, rub, tokens)


def _write_results(db: sqlite3.Connection, delivery: Delivery, applied: Applied) -> None:
    answer: int | None = None
    for result in delivery.results:
        if result.body >= 0 and answer is None:
            answer = db.execute(
                "INSERT INTO answers (bodies) VALUES (?)", (delivery.bodies,)
            ).lastrowid
        if _insert_result(db, result, answer):
            _tally(result, applied)
    if answer is not None:
        # A delivery that came again brought nothing new: its answers stand already.
        db.execute(
            "DELETE FROM answers WHERE id = ?1 AND NOT EXISTS"
            " (SELECT 1 FROM results WHERE ordinal BETWEEN ?2 AND ?3 AND answer = ?1)",
            (
                answer,
                min(r.ordinal for r in delivery.results),
                max(r.ordinal for r in delivery.results),
            ),
        )


def _insert_result(db: sqlite3.Connection, result: Result, answer: int | None) -> bool:
    cursor = db.execute(
        "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            result.ordinal,
            result.state.value,
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
        ),
    )
    if cursor.rowcount != 1:
        return False
    # It may wait here again if its worker fell silent before this answer arrived.
    db.execute("DELETE FROM returned WHERE ordinal = ?", (result.ordinal,))
    return True


def _tally(result: Result, applied: Applied) -> None:
    if result.state is ResultState.COMPLETED:
        applied.completed += 1
    else:
        applied.failed += 1


def _close(db: sqlite3.Connection, closed: ChunkClosed, applied: Applied) -> None:
    row = db.execute(
        "SELECT state FROM chunks WHERE chunk = ? AND state <> 'closed'", (closed.chunk,)
    ).fetchone()
    if row is None:
        return
    db.execute(
        "UPDATE chunks SET state = 'closed', ordinals = x'90' WHERE chunk = ?", (closed.chunk,)
    )
    if row[0] == "open":
        db.executemany(
            "INSERT OR IGNORE INTO returned SELECT ?1, ?2, ?3"
            " WHERE NOT EXISTS (SELECT 1 FROM results WHERE ordinal = ?1)",
            closed.returned,
        )
    else:
        # Its requests wait again already; now it is known how often they were called.
        db.executemany(
            "UPDATE returned SET attempts = max(attempts, ?2),"
            " uncertain = max(uncertain, ?3) WHERE ordinal = ?1",
            closed.returned,
        )
    for code, count in closed.refusals.items():
        db.execute(
            "INSERT INTO refusals VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + ?2",
            (code, count),
        )
        applied.refusals[code] = applied.refusals.get(code, 0) + count
    applied.closed.append((closed.chunk, closed.reason))


def _write_found(db: sqlite3.Connection, found: Found, change: _Change) -> None:
    row = db.execute(
        "SELECT * FROM calls WHERE ordinal = ? AND id = ? AND billing = 'unknown'",
        (found.ordinal, found.call),
    ).fetchone()
    if row is None:
        return
    if found.cost is None:
        db.execute(
            "UPDATE calls SET lookups = lookups + 1 WHERE ordinal = ? AND id = ?",
            (found.ordinal, found.call),
        )
        return
    settle(db, row, found.cost, CostSource.LOOKUP, found.usage, change)


def settle(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    cost: Decimal,
    source: CostSource,
    usage: Usage | None,
    change: _Change,
) -> None:
    """An uncertain call's cost is known now: it moves from booked to settled."""
    bound = ZERO if row["bound"] is None else Decimal(row["bound"])
    tokens = usage.total if usage else (row["prompt"] or 0) + (row["completion"] or 0)
    db.execute(
        "UPDATE calls SET billing = 'known', cost = ?, source = ?, lookups = lookups + 1"
        " WHERE ordinal = ? AND id = ?",
        (str(cost), source.value, row["ordinal"], row["id"]),
    )
    if usage:
        db.execute(
            "UPDATE calls SET prompt = ?, completion = ?, cached = ?, written = ?, reasoning = ?"
            " WHERE ordinal = ? AND id = ?",
            (
                usage.prompt,
                usage.completion,
                usage.cached,
                usage.written,
                usage.reasoning,
                row["ordinal"],
                row["id"],
            ),
        )
    change.settled_rub = add(change.settled_rub, cost)
    change.booked_rub = subtract(change.booked_rub, bound)
    change.settled_tokens += tokens
    change.booked_tokens -= row["bound_tokens"]
    rub, count = change.chunks.get(row["chunk"], (ZERO, 0))
    change.chunks[row["chunk"]] = (
        add(rub, subtract(cost, bound)),
        count + tokens - row["bound_tokens"],
    )


def estimate_the_rest(store: JobStore, prices: PriceList | None) -> int:
    """Gives calls that no lookup settled, but whose tokens are known, their cost by the prices.

    Returns how many calls stay uncertain, at their bound.
    """
    change = _Change()
    with store.transaction() as db:
        rows = db.execute(
            "SELECT calls.*, name FROM calls JOIN requests USING (ordinal)"
            " JOIN models ON models.id = requests.model WHERE billing = 'unknown'"
        ).fetchall()
        left = 0
        for row in rows:
            price = prices.models.get(row["name"]) if prices else None
            if price is None or row["prompt"] is None:
                left += 1
                continue
            usage = Usage(
                row["prompt"], row["completion"], row["cached"], row["written"], row["reasoning"]
            )
            settle(
                db, row, price.estimate(usage, row["provider"]), CostSource.ESTIMATE, None, change
            )
        _write_sums(db, change, Applied())
    return left


def _write_sums(db: sqlite3.Connection, change: _Change, applied: Applied) -> None:
    settled, booked = db.execute("SELECT settled_rub, booked_rub FROM job").fetchone()
    db.execute(
        "UPDATE job SET settled_rub = ?, booked_rub = ?, settled_tokens = settled_tokens + ?,"
        " booked_tokens = booked_tokens + ?, calls = calls + ?, completed = completed + ?,"
        " failed = failed + ?",
        (
            decimal_sum(settled, change.settled_rub),
            decimal_sum(booked, change.booked_rub),
            change.settled_tokens,
            change.booked_tokens,
            change.calls,
            applied.completed,
            applied.failed,
        ),
    )
    for chunk, (rub, tokens) in change.chunks.items():
        row = db.execute("SELECT spent_rub FROM chunks WHERE chunk = ?", (chunk,)).fetchone()
        if row is not None:
            db.execute(
                "UPDATE chunks SET spent_rub = ?, spent_tokens = spent_tokens + ? WHERE chunk = ?",
                (decimal_sum(row[0], rub), tokens, chunk),
            )
