"""All requests of a job with what came of them, in input order and constant memory."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from batch.store.billed import Billed
from batch.store.call_units import REPAIRED
from batch.store.cost_shares import CostShare, shares_of, together
from batch.store.jobstore import JobStore
from batch.store.ordered_scan import (
    calls_in_order,
    ends_in_order,
    has_any,
    packed_answers,
    requests_in_order,
    unit_of,
)
from batch.tables.answer_judge import own_answers
from batch.tables.response_format import judged
from jobs.errors import BadMessage, StorageUnavailable
from jobs.message import N_
from jobs.money import ZERO, add
from jobs.result import ResultState
from jobs.wire import unpack_bodies

_SOURCES = ("endpoint", "lookup", "balance", "unknown")
_CERTAINTY = {source: place for place, source in enumerate(_SOURCES)}
_BLOCKS_KEPT = 64


class Counter(Protocol):
    """Who wants to see every call of the ledger."""

    def count(self, call: Billed, model: str) -> None:
        """A call that asked `model`."""

    def bear(self, part: Billed | CostShare, state: str | None, final: str | None) -> None:
        """What a request bears that ended in `state` by the call `final`: a call, or its part."""


class Row(msgspec.Struct, frozen=True):
    """A request and its end; `state` None while it has none.

    `cost` is ₽ over all its calls, known ones only; `source` the least certain among them, "none"
    if nothing was billed; `uncertain` the ₽ bound of the `unknown` calls whose cost nobody
    knows, unless one of them is not `bounded`.
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
    unknown: int
    bounded: bool
    body: bytes
    copy_of: str | None = None
    """The `custom_id` of the request whose result this one was given."""
    together: int = 1
    """How many requests had the call together that ended it."""
    reused_from: str | None = None
    """The earlier job whose answer it was given, and ₽ that this had cost there, if known."""
    saved: Decimal | None = None
    ordinal: int = -1
    answer: Any = None
    """What a repaired answer of a request says that told its form."""


def row_of(store: JobStore, ordinal: int) -> Row:
    """One request with all that is known of it."""
    with store.snapshot():
        return next(rows_of(store, [ordinal]))


def rows_of(store: JobStore, ordinals: Iterable[int]) -> Iterator[Row]:
    """These requests, in this order. To be used within a snapshot of the store."""
    answers = _Answers(store.db)
    for ordinal in ordinals:
        yield from rows(store, only=ordinal, answers=answers)


def rows(
    store: JobStore,
    *,
    bodies: bool = True,
    finished: bool = False,
    count: Counter | None = None,
    only: int | None = None,
    answers: _Answers | None = None,
) -> Iterator[Row]:
    """Every request, or only the finished ones, with the raw answers if `bodies` are wanted.
    `only`: the request of this ordinal alone. `answers`: those of earlier rows are still there.

    `count` gets every call of theirs, so that one walk of the ledger serves both. To be used within
    a snapshot of the store.
    """
    # Two walks side by side, both in the order of their keys.
    costs = _Costs(store.db, count, only)
    own = own_answers(store)
    mends = store.job().spec.check
    answers = answers or _Answers(store.db)
    for (
        ordinal,
        line,
        custom_id,
        model,
        state,
        code,
        message,
        status,
        attempts,
        final,
        latency_s,
        finished_at,
        request_id,
        flags,
        pack,
        place,
        copy_of,
        source,
        source_call,
        reused,
        saved,
    ) in requests_in_order(store.db, finished=finished, only=only):
        cost = costs.of(ordinal, model, state, final)
        unbilled = "copy" if copy_of is not None and state else "reused" if reused else "none"
        body = answers.body(pack, place) if bodies and pack else b""
        if own is not None and body:
            of, by = (ordinal, final) if source is None else (source, source_call)
            body = own(of, together(store.db, of, by), body)
        answer = None
        if mends and flags and REPAIRED in flags and body:
            answer = judged(store.queue.body(ordinal), body).value
        yield Row(
            answer=answer,
            line=line,
            custom_id=custom_id,
            model=model,
            state=_STATES[state],
            code=code or "",
            message=message or "",
            status=status,
            attempts=attempts or 0,
            latency_s=latency_s or 0.0,
            finished_at=finished_at or 0.0,
            request_id=request_id or "",
            flags=tuple(flags.split(",")) if flags else (),
            cost=cost.known,
            source=_SOURCES[cost.source] if cost.calls else unbilled,
            uncertain=cost.bound,
            calls=cost.calls,
            unknown=cost.unknown,
            bounded=cost.bounded,
            body=body,
            copy_of=copy_of,
            reused_from=reused,
            saved=None if saved is None else Decimal(saved),
            ordinal=ordinal,
            together=len(together(store.db, ordinal, final)) if own and final else 1,
        )


def count_calls(store: JobStore, count: Counter) -> None:
    """Shows every call of the ledger, without a look at the answers."""
    costs = _Costs(store.db, count)
    for request in ends_in_order(store.db):
        costs.of(*request)


_STATES: dict[str | None, ResultState | None] = {state.value: state for state in ResultState}
_STATES[None] = None


@dataclass(slots=True)
class _Cost:
    known: Decimal = ZERO
    bound: Decimal = ZERO
    source: int = -1
    calls: int = 0
    unknown: int = 0
    bounded: bool = True

    def add(self, call: Billed | CostShare) -> None:
        """Adds a call, or a share of one."""
        self.calls += 1
        self.source = max(self.source, _CERTAINTY[call.source])
        if call.cost is not None:
            cost = Decimal(call.cost)
            self.known = add(self.known, cost) if self.known else cost
            return
        self.unknown += 1
        if call.bound is None:
            self.bounded = False
        else:
            self.bound = add(self.bound, Decimal(call.bound))


class _Costs:
    """Walks the ledger in step with the requests."""

    def __init__(
        self, db: sqlite3.Connection, count: Counter | None, only: int | None = None
    ) -> None:
        self._calls = calls_in_order(db, only)
        self._next: Billed | None = next(self._calls, None)
        self._count = count
        self._db = db
        self._has_units = has_any(db, "units")

    def of(self, ordinal: int, model: str, state: str | None, final: str | None) -> _Cost:
        """What the calls of a request cost; ask in ascending order.

        `state` and `final`: how it ended and by which call, if it has.
        """
        cost = _Cost()
        while (call := self._next) is not None and call.ordinal <= ordinal:
            if call.ordinal == ordinal:
                asked, shared = self._unit(call, model)
                if self._count is not None:
                    self._count.count(call, asked)
                if not shared:
                    self._bear(cost, call, state, final)
            self._next = next(self._calls, None)
        if self._has_units:
            for share in shares_of(self._db, ordinal):
                self._bear(cost, share, state, final)
        return cost

    def _bear(
        self, cost: _Cost, part: Billed | CostShare, state: str | None, final: str | None
    ) -> None:
        cost.add(part)
        if self._count is not None:
            self._count.bear(part, state, final)

    def _unit(self, call: Billed, model: str) -> tuple[str, bool]:
        """The model that was asked, and whether for others, too."""
        if not self._has_units:
            return model, False
        asked, shared = unit_of(self._db, call.chunk, call.ordinal)
        return asked or model, shared


class _Answers:
    """Raw answers, a few packs of them kept unpacked: neighbours mostly arrived together."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._packs: OrderedDict[int, list[bytes]] = OrderedDict()

    def body(self, pack: int, place: int) -> bytes:
        """The raw answer at a place of a pack."""
        bodies = self._packs.get(pack)
        if bodies is None:
            bodies = self._packs[pack] = _unpacked(packed_answers(self._db, pack))
            if len(self._packs) > _BLOCKS_KEPT:
                self._packs.popitem(last=False)
        else:
            self._packs.move_to_end(pack)
        return bodies[place]


def _unpacked(data: bytes) -> list[bytes]:
    try:
        return unpack_bodies(data)
    except BadMessage as error:
        raise StorageUnavailable(N_("the stored answers are damaged")) from error
