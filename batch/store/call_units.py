"""Calls that are not the input's own: several requests in one, or one that is asked once more.

What is sent for requests may be written when they are fed. Then a unit remembers which requests a
call was for, and what their answer is held against. A worker knows nothing of it: to it a unit is
the request that leads it. An answer is judged when it is booked, in the same transaction: each
request of the unit has its end then, or waits again on the next rung of its ladder.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import msgspec

from batch.store.failure_causes import TRUNCATED
from batch.store.request_queue import Queue, decode_triples
from jobs.request import HIDDEN_TOKENS, TOKENS_PER_MESSAGE
from jobs.result import Result, ResultState
from jobs.wire import unpack_bodies

INVALID = "answer.invalid"
REPAIRED = "repaired"

_members = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is to be asked, or was. `body` is the input's, `rung` where it stands;
    `answer` is the raw answer that brought it there, and `problem` what was wrong with that.
    """

    ordinal: int
    body: bytes
    rung: int = 0
    answer: bytes = b""
    problem: str = ""


@dataclass(frozen=True)
class Unit:
    """One call for these `members`, the first of whom leads. `weights` say how its cost is shared.

    `model` None is that of the requests. A `plain` unit is a request as the input has it.
    """

    members: tuple[int, ...]
    body: bytes
    messages: int
    rung: int
    weights: tuple[int, ...] = (1,)
    model: str | None = None
    max_output: int | None = None
    plain: bool = False

    @property
    def prompt_bound(self) -> int:
        """As that of a request."""
        return len(self.body) + TOKENS_PER_MESSAGE * self.messages + HIDDEN_TOKENS


class Ruling(NamedTuple):
    """What an answer says of a request: nothing is wrong, or `problem`. It is asked again on
    `rung`; None: this is its end.
    """

    problem: str = ""
    repaired: bool = False
    rung: int | None = None


class Judge(Protocol):
    """Writes the calls of a job and judges their answers: pure."""

    def units(self, requests: Iterable[Asked], *, alone: bool = False) -> Iterator[Unit]:
        """The calls for some requests, each in one of them; with `alone`, in its own."""

    def rule(
        self,
        rung: int | None,
        requests: Sequence[Asked],
        result: Result,
        answer: bytes,
        members: tuple[int, ...],
    ) -> dict[int, Ruling]:
        """What came of a unit that was asked on `rung` (None: of a request as the input has it),
        by request; empty where the result is the end of all of them as it is. `requests` are those
        of its `members` that have no end yet.
        """

    def trials(self, requests: Sequence[Asked]) -> Iterator[list[Unit]]:
        """The calls by which packs of each size are compared on these requests."""

    def said(self, requests: Sequence[Asked], answer: bytes) -> dict[int, str | None]:
        """What a trial's answer says of each request, JSON; None: nothing valid."""


class Units:
    """The units of one job."""

    def __init__(self, db: sqlite3.Connection, queue: Queue) -> None:
        self._db, self._queue = db, queue

    def asked(self, ordinals: Iterable[int]) -> list[Asked]:
        """These requests and where they stand."""
        return [self._asked(ordinal) for ordinal in ordinals]

    def _asked(self, ordinal: int) -> Asked:
        body = self._queue.body(ordinal)
        row = self._db.execute(
            "SELECT rung, problem, answer, place FROM climbs WHERE ordinal = ?", (ordinal,)
        ).fetchone()
        if row is None:
            return Asked(ordinal, body)
        answer = b"" if row["answer"] is None else self._answer(row["answer"], row["place"])
        return Asked(ordinal, body, row["rung"], answer, row["problem"])

    def _answer(self, number: int, place: int) -> bytes:
        (packed,) = self._db.execute(
            "SELECT bodies FROM answers WHERE id = ?", (number,)
        ).fetchone()
        return unpack_bodies(packed)[place]

    def asked_again(self) -> list[int]:
        """Input lines of the requests whose first answer was not a valid one."""
        rows = self._db.execute("SELECT line FROM climbs JOIN requests USING (ordinal)")
        return [line for (line,) in rows]

    def escalated(self) -> list[int]:
        """Input lines of the requests that another model answered."""
        rows = self._db.execute(
            "SELECT line FROM results JOIN requests USING (ordinal) JOIN calls"
            " ON calls.ordinal = results.ordinal AND calls.id = call JOIN units"
            " ON units.chunk = calls.chunk AND units.ordinal = calls.ordinal"
            " WHERE units.model IS NOT NULL AND results.state = 'completed'"
        )
        return [line for (line,) in rows]

    def of_chunk(self, chunk: int) -> list[Unit]:
        """What was fed in a chunk, as long as it is open; nothing for one of plain requests."""
        rows = self._db.execute("SELECT * FROM units WHERE chunk = ? ORDER BY ordinal", (chunk,))
        return [_unit(row) for row in rows]

    # ---- judging, within the transaction that books -----------------------------------------

    def judged(
        self, results: Sequence[Result], bodies: Sequence[bytes], answer: int | None, judge: Judge
    ) -> list[Result]:
        """The ends that results bring, for each request of their units; whoever is to be asked
        again waits when this returns. `answer` is where the bodies stand.
        """
        ends: list[Result] = []
        for result in results:
            chunk = self._chunk_of(result)
            unit = self._unit_of(result.ordinal, chunk)
            body = bodies[result.body] if result.body >= 0 else b""
            if unit is not None and unit.rung < 0:
                self._keep_trial(unit, chunk, body, judge)
                continue
            members = (result.ordinal,) if unit is None else unit.members
            fresh = [member for member in members if self._is_fresh(member, result.call)]
            if not fresh:
                continue
            rung = None if unit is None else unit.rung
            rulings = judge.rule(rung, self.asked(fresh), result, body, members)
            for member in fresh:
                ruling = rulings.get(member, Ruling())
                if ruling.rung is None:
                    ends.append(_end(result, member, ruling, shared=len(members) > 1))
                else:
                    self._climb(member, result, ruling, answer)
            again = {each for each in fresh if rulings.get(each, Ruling()).rung is not None}
            if again:
                self._wait_again(again, result, chunk)
        return ends

    def _keep_trial(self, unit: Unit, chunk: int | None, body: bytes, judge: Judge) -> None:
        """What was asked only to compare ends nothing: all of its requests have their results."""
        if chunk is not None:
            said = judge.said(self.asked(unit.members), body)
            self._db.executemany(
                "INSERT OR REPLACE INTO trials VALUES (?, ?, ?)",
                [(chunk, member, told) for member, told in said.items()],
            )

    def _chunk_of(self, result: Result) -> int | None:
        """The chunk of a result's call; None for one that cost nothing: nobody wrote it down."""
        row = self._db.execute(
            "SELECT chunk FROM calls WHERE ordinal = ? AND id = ?", (result.ordinal, result.call)
        ).fetchone()
        return None if row is None else int(row[0])

    def _unit_of(self, ordinal: int, chunk: int | None) -> Unit | None:
        """What a call asked; where its chunk is not known, what was asked last."""
        row = self._db.execute(
            "SELECT * FROM units WHERE ordinal = ?1 AND chunk = coalesce(?2,"
            " (SELECT max(chunk) FROM units WHERE ordinal = ?1))",
            (ordinal, chunk),
        ).fetchone()
        return None if row is None else _unit(row)

    def _is_fresh(self, ordinal: int, call: str) -> bool:
        (known,) = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM results WHERE ordinal = ?1)"
            " OR EXISTS (SELECT 1 FROM retried WHERE ordinal = ?1 AND call = ?2)",
            (ordinal, call),
        ).fetchone()
        return not known

    def _climb(self, ordinal: int, result: Result, ruling: Ruling, answer: int | None) -> None:
        place = (None, -1) if result.body < 0 else (answer, result.body)
        self._db.execute(
            "INSERT OR REPLACE INTO climbs VALUES (?, ?, ?, ?, ?)",
            (ordinal, ruling.rung, ruling.problem, *place),
        )
        self._db.execute("INSERT OR IGNORE INTO retried VALUES (?, ?)", (ordinal, result.call))

    def _wait_again(self, members: set[int], result: Result, chunk: int | None) -> None:
        """They leave their chunk and wait, but for those that are out in another one by now."""
        elsewhere = set[int]()
        for number, state, packed in self._db.execute(
            "SELECT chunk, state, ordinals FROM chunks WHERE state <> 'closed'"
        ).fetchall():
            triples = decode_triples(packed)
            here = {triple[0] for triple in triples} & members
            if not here:
                continue
            if chunk is not None and number != chunk and state == "open":
                elsewhere |= here
                continue
            self._db.execute(
                "UPDATE chunks SET ordinals = ? WHERE chunk = ?",
                (msgspec.msgpack.encode([t for t in triples if t[0] not in here]), number),
            )
        self._db.executemany(
            "INSERT OR REPLACE INTO returned VALUES (?, ?, 0)",
            [(member, result.attempts) for member in sorted(members - elsewhere)],
        )


def keep(db: sqlite3.Connection, chunk: int, units: Sequence[Unit]) -> None:
    """Remembers what a chunk is fed with. Within a transaction."""
    db.executemany(
        "INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                chunk,
                unit.members[0],
                msgspec.msgpack.encode(list(zip(unit.members, unit.weights, strict=True))),
                unit.rung,
                unit.model,
                unit.messages,
                unit.max_output,
                unit.body,
            )
            for unit in units
            if not unit.plain
        ],
    )
    for unit in units:
        if len(unit.members) > 1:
            _share_out(db, chunk, unit)


def _share_out(db: sqlite3.Connection, chunk: int, unit: Unit) -> None:
    """Who bears how much of a call: from where to where of its whole weight."""
    stops = list(accumulate(unit.weights))
    db.executemany(
        "INSERT INTO shares VALUES (?, ?, ?, ?, ?, ?)",
        [
            (member, chunk, unit.members[0], start, stop, stops[-1])
            for member, start, stop in zip(unit.members, [0, *stops], stops, strict=False)
        ],
    )


def drop_bodies(db: sqlite3.Connection, chunk: int) -> None:
    """Nobody sends a chunk again that is closed."""
    db.execute("UPDATE units SET body = x'' WHERE chunk = ?", (chunk,))


def expand(
    db: sqlite3.Connection, chunk: int, triples: Iterable[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """What a worker says of those that lead a unit of its chunk counts for all its members."""
    found = list[tuple[int, int, int]]()
    for ordinal, attempts, uncertain in triples:
        row = db.execute(
            "SELECT members FROM units WHERE chunk = ? AND ordinal = ?", (chunk, ordinal)
        ).fetchone()
        members = [(ordinal, 1)] if row is None else _members(row[0])
        found += [(member, attempts, uncertain) for member, _ in members]
    return found


def _unit(row: sqlite3.Row) -> Unit:
    pairs = _members(row["members"])
    return Unit(
        tuple(member for member, _ in pairs),
        row["body"],
        row["messages"],
        row["rung"],
        tuple(weight for _, weight in pairs),
        row["model"],
        row["max_output"],
    )


def _end(result: Result, member: int, ruling: Ruling, *, shared: bool) -> Result:
    """The end of a request by a result of its unit. Of an answer that is `shared` and was cut off
    this request's part is whole, or it would have been asked again.
    """
    if ruling.problem:
        return msgspec.structs.replace(
            result, ordinal=member, state=ResultState.FAILED, code=INVALID, message=ruling.problem
        )
    own = (flag for flag in result.flags if not (shared and flag == TRUNCATED))
    flags = (*own, REPAIRED) if ruling.repaired else tuple(own)
    return msgspec.structs.replace(result, ordinal=member, flags=flags)
