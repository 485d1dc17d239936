"""All requests of a job with what came of them, in input order and constant memory."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import msgspec

from batch.store.jobstore import JobStore
from jobs.errors import BadMessage, StorageUnavailable
from jobs.money import ZERO, add
from jobs.result import ResultState
from jobs.wire import unpack_bodies

_SOURCES = ("endpoint", "lookup", "estimate", "unknown")
_CERTAINTY = {source: place for place, source in enumerate(_SOURCES)}
_BLOCKS_KEPT = 64


class Counter(Protocol):
    """Who wants to see every call of the ledger."""

    def count(self, call: sqlite3.Row, model: str, state: str | None, final: str | None) -> None:
        """A call of a request for `model` that ended in `state` by the call `final`."""


class Row(msgspec.Struct, frozen=True):
    """A request and its end; `state` None while it has none.

    `cost` is ₽ over all its calls, known ones only; `source` the least certain among them, "none"
    if nothing was billed; `uncertain` the ₽ bound of calls whose cost nobody knows.
    """

    line: int
    custom_id: str
    model: str
    state: ResultState | None
    code: str
    message: str
    status: int | None
    attempts: int
    latency_s: float
    finished_at: float
    request_id: str
    flags: tuple[str, ...]
    cost: Decimal
    source: str
    uncertain: Decimal
    calls: int
    body: bytes
    copy_of: str | None = None
    """The `custom_id` of the request whose result this one was given."""


def rows(
    store: JobStore, *, bodies: bool = True, finished: bool = False, count: Counter | None = None
) -> Iterator[Row]:
    """Every request, or only the finished ones, with the raw answers if `bodies` are wanted.

    `count` gets every call of theirs, so that one walk of the ledger serves both. To be used within
    a snapshot of the store.
    """
    join = "JOIN" if finished else "LEFT JOIN"
    # Two walks side by side, both in the order of their keys: nothing is sorted or kept.
    costs = _Costs(store.db, count)
    answers = _Answers(store.db)
    (copied,) = store.db.execute("SELECT EXISTS (SELECT 1 FROM copies)").fetchone()
    original, origin = (_ORIGINAL, _ORIGIN) if copied else ("NULL", "")
    found = store.db.execute(
        f"SELECT requests.ordinal, requests.line, requests.custom_id, name,"  # noqa: S608  keywords
        f" {original} AS copy_of, results.* FROM requests"
        f" JOIN models ON models.id = requests.model"
        f" {join} results ON results.ordinal = requests.ordinal {origin}"
        # Named in full: `ordinal` alone is that of the result, which a request may not have.
        " ORDER BY requests.ordinal"
    )
    for row in found:
        cost = costs.of(row)
        body = answers.body(row["answer"], row["body"]) if bodies and row["answer"] else b""
        yield _row(row, cost, body)


_ORIGINAL = "originals.custom_id"
_ORIGIN = (
    "LEFT JOIN copies ON copies.ordinal = requests.ordinal"
    " LEFT JOIN requests AS originals ON originals.ordinal = copies.original"
)


@dataclass
class _Cost:
    known: Decimal = ZERO
    bound: Decimal = ZERO
    source: int = -1
    calls: int = 0

    def add(self, call: sqlite3.Row) -> None:
        """Adds a call."""
        self.calls += 1
        self.source = max(self.source, _CERTAINTY[call["source"]])
        if call["cost"] is not None:
            self.known = add(self.known, Decimal(call["cost"]))
        elif call["bound"] is not None:
            self.bound = add(self.bound, Decimal(call["bound"]))


def _row(row: sqlite3.Row, cost: _Cost, body: bytes) -> Row:
    return Row(
        line=row["line"],
        custom_id=row["custom_id"],
        model=row["name"],
        state=ResultState(row["state"]) if row["state"] else None,
        code=row["code"] or "",
        message=row["message"] or "",
        status=row["status"],
        attempts=row["attempts"] or 0,
        latency_s=row["latency_s"] or 0.0,
        finished_at=row["finished_at"] or 0.0,
        request_id=row["request_id"] or "",
        flags=tuple(row["flags"].split(",")) if row["flags"] else (),
        cost=cost.known,
        source=_SOURCES[cost.source] if cost.calls else _no_source(row),
        uncertain=cost.bound,
        calls=cost.calls,
        body=body,
        copy_of=row["copy_of"],
    )


def _no_source(row: sqlite3.Row) -> str:
    """Where a cost of nothing comes from."""
    return "copy" if row["copy_of"] is not None and row["state"] else "none"


class _Costs:
    """Walks the ledger in step with the requests."""

    def __init__(self, db: sqlite3.Connection, count: Counter | None) -> None:
        self._rows = iter(db.execute("SELECT * FROM calls ORDER BY ordinal, id"))
        self._next: sqlite3.Row | None = next(self._rows, None)
        self._count = count

    def of(self, request: sqlite3.Row) -> _Cost:
        """What the calls of this request cost; ask in ascending order."""
        cost, ordinal = _Cost(), request["ordinal"]
        while self._next is not None and self._next["ordinal"] <= ordinal:
            call = self._next
            if call["ordinal"] == ordinal:
                cost.add(call)
                if self._count is not None:
                    self._count.count(call, request["name"], request["state"], request["call"])
            self._next = next(self._rows, None)
        return cost


class _Answers:
    """Raw answers, a few packs of them kept unpacked: neighbours mostly arrived together."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._packs: OrderedDict[int, list[bytes]] = OrderedDict()

    def body(self, pack: int, place: int) -> bytes:
        """The raw answer at a place of a pack."""
        bodies = self._packs.get(pack)
        if bodies is None:
            (data,) = self._db.execute(
                "SELECT bodies FROM answers WHERE id = ?", (pack,)
            ).fetchone()
            bodies = self._packs[pack] = _unpacked(data)
            if len(self._packs) > _BLOCKS_KEPT:
                self._packs.popitem(last=False)
        else:
            self._packs.move_to_end(pack)
        return bodies[place]


def _unpacked(data: bytes) -> list[bytes]:
    try:
        return unpack_bodies(data)
    except BadMessage as error:
        raise StorageUnavailable("the stored answers are damaged") from error
