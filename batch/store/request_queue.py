"""The requests of a job that wait: fresh ones in the queue's order, and those that came back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import msgspec

from batch.store import database
from batch.store.input_blocks import BlockReader
from batch.store.poison_requests import ALONE, SUSPECT, trial_size
from jobs.request_kinds import CHAT, KINDS, answers_in

Triple = tuple[int, int, int]
"""(ordinal, attempts, uncertain): a request and the calls already made for it."""


_triples = msgspec.msgpack.Decoder(list[Triple])


def decode_triples(data: bytes) -> list[Triple]:
    """The requests of a chunk, as its row holds them."""
    return _triples.decode(data)


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
    pin: str = ""
    """Providers that alone may serve it."""
    kind: str = CHAT.url
    """What is asked (`jobs.request_kinds`)."""


@dataclass(frozen=True)
class Suspects:
    """Requests that may kill a worker and are to be tried next, `alone` with nothing beside."""

    requests: list[Waiting]
    alone: bool


class Queue:
    """What is to be fed next of one job."""

    def __init__(self, db: sqlite3.Connection, blocks: BlockReader) -> None:
        self._db = db
        self._blocks = blocks
        self._models = _names(db)

    def waiting(
        self, limit: int, head: int | None = None, aside: Collection[str] = ()
    ) -> list[Waiting]:
        """The next requests to feed: those that came back first, then the queue's order.

        With `head`, none behind so many at the front of the queue; none of the models `aside`.
        """
        without = self._numbers(aside)
        came_back = self._db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, bounded, attempts, uncertain, -1"
            " FROM returned JOIN requests USING (ordinal)"
            " WHERE ordinal NOT IN (SELECT ordinal FROM suspects WHERE suspicion >= ?)"
            " AND model NOT IN (SELECT value FROM json_each(?)) ORDER BY ordinal LIMIT ?",
            (SUSPECT, without, limit),
        ).fetchall()
        fresh = self._db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, bounded, 0, 0, rank FROM queue"
            " WHERE rank > (SELECT cursor FROM job) AND rank < ?"
            " AND model NOT IN (SELECT value FROM json_each(?)) ORDER BY rank LIMIT ?",
            (2**62 if head is None else head, without, limit - len(came_back)),
        ).fetchall()
        return [self._waiting(row) for row in (*came_back, *fresh)]

    def _numbers(self, models: Collection[str]) -> str:
        """How the tables know these models, as a list in JSON."""
        return json.dumps(
            [number for number, (name, *_) in self._known().items() if name in models]
        )

    def smallest(self, limit: int, aside: Collection[str] = ()) -> list[Waiting]:
        """Of the requests of each model that wait, but those `aside`, the `limit` with the fewest
        tokens.

        Reads all that wait: for when those at the front do not fit the budget.
        """
        found: list[Waiting] = []
        for model in [number for number, (name, *_) in self._known().items() if name not in aside]:
            rows = self._db.execute(
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
        """Of the requests that wait and may kill a worker, those to try next.

        First some of those that were there at one death, together; those of two when no other is
        left.
        """
        together, count = self._db.execute(
            "SELECT count(*) FILTER (WHERE suspicion < ?2), count(*)"
            " FROM suspects JOIN returned USING (ordinal) WHERE suspicion >= ?1",
            (SUSPECT, ALONE),
        ).fetchone()
        alone = count > 0 and not together
        rows = self._db.execute(
            "SELECT ordinal, model, prompt_bound, output_bound, bounded, attempts, uncertain, -1"
            " FROM suspects JOIN returned USING (ordinal) JOIN requests USING (ordinal)"
            " WHERE suspicion >= ?1 AND (suspicion < ?2) = ?3 ORDER BY ordinal LIMIT ?4",
            (SUSPECT, ALONE, not alone, 1 if alone else trial_size(together)),
        )
        return Suspects([self._waiting(row) for row in rows], alone=alone)

    def head_is_done(self, head: int) -> bool:
        """Whether so many at the front of the queue have their results."""
        (waits,) = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM queue WHERE rank < ?"
            " AND ordinal NOT IN (SELECT ordinal FROM results))",
            (head,),
        ).fetchone()
        return not waits

    def leave_head(self) -> None:
        """From now on all of the queue may be fed."""
        with database.transaction(self._db) as db:
            db.execute("UPDATE job SET sample = 0, warm = 0")

    def copied(self) -> int:
        """Requests that were given the result of one alike."""
        found: int = self._db.execute(
            "SELECT count(*) FROM copies JOIN results USING (ordinal)"
        ).fetchone()[0]
        return found

    def models(self) -> list[str]:
        """Every model that a request is or was for."""
        return list(dict.fromkeys(name for name, *_ in self._known().values()))

    def models_left(self) -> list[str]:
        """Every model that a request without a result is for. Reads all requests."""
        rows = self._db.execute(
            "SELECT DISTINCT name FROM models WHERE id IN (SELECT model FROM requests"
            " WHERE ordinal NOT IN (SELECT ordinal FROM results)) ORDER BY id"
        )
        return [row[0] for row in rows]

    def details(self, triples: list[Triple]) -> list[Waiting]:
        """What is stored of these requests."""
        found = []
        for ordinal, attempts, uncertain in triples:
            row = self._db.execute(
                "SELECT ordinal, model, prompt_bound, output_bound, bounded, ?2, ?3, -1"
                " FROM requests WHERE ordinal = ?1",
                (ordinal, attempts, uncertain),
            ).fetchone()
            found.append(self._waiting(row))
        return found

    def line(self, ordinal: int) -> int:
        """The line of the input that a request stands on, from 1."""
        (line,) = self._db.execute(
            "SELECT line FROM requests WHERE ordinal = ?", (ordinal,)
        ).fetchone()
        return int(line)

    def body(self, ordinal: int) -> bytes:
        """The request's JSON as it will be sent."""
        body, limit = self.original(ordinal)
        if limit is None:
            return body
        query = "SELECT json_extract(spec, '$.max_tokens_field') FROM job"
        (field,) = self._db.execute(query).fetchone()
        return _limited(body, limit, field, self.kind(ordinal))

    def kind(self, ordinal: int) -> str:
        """What a request asks (`jobs.request_kinds`)."""
        (model,) = self._db.execute(
            "SELECT model FROM requests WHERE ordinal = ?", (ordinal,)
        ).fetchone()
        return self._known(model)[model][2]

    def answered(self) -> Iterator[tuple[int, str]]:
        """(ordinal, model) of each answered request, in order."""
        names = {number: name for number, (name, *_) in self._known().items()}
        for ordinal, model in self._db.execute(
            "SELECT ordinal, model FROM results JOIN requests USING (ordinal)"
            " WHERE state = 'completed' ORDER BY ordinal"
        ):
            yield ordinal, names[model]

    def output_bound(self, ordinal: int) -> int | None:
        """The most tokens that a request's answer may have; None: it does not say."""
        query = "SELECT output_bound FROM requests WHERE ordinal = ?"
        bound: int | None = self._db.execute(query, (ordinal,)).fetchone()[0]
        return bound

    def original(self, ordinal: int) -> tuple[bytes, int | None]:
        """The request's JSON as it was submitted, and the `max_tokens` it was given since."""
        first, offset, length, limit = self._db.execute(
            "SELECT first, offset, length, (SELECT max_tokens FROM raised WHERE ordinal = ?1)"
            " FROM blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
            (ordinal,),
        ).fetchone()
        return self._blocks.block(first, offset, length)[ordinal - first], limit

    def _known(self, number: int | None = None) -> dict[int, tuple[str, str, str]]:
        """Models by number, this one among them: a resume may have brought more of them."""
        if number is None:
            (number,) = self._db.execute("SELECT max(id) FROM models").fetchone()
        if number is not None and number not in self._models:
            self._models = _names(self._db)
        return self._models

    def _waiting(self, row: sqlite3.Row) -> Waiting:
        ordinal, model, prompt, output, bounded, attempts, uncertain, rank = row
        name, pin, kind = self._known(model)[model]
        facts = (prompt, output, bool(bounded), attempts, uncertain, rank, pin, kind)
        return Waiting(ordinal, name, *facts)


def _names(db: sqlite3.Connection) -> dict[int, tuple[str, str, str]]:
    """Models by number: name, the providers that alone may serve, and what is asked."""
    rows = db.execute("SELECT id, name, pin, kind FROM models")
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _limited(body: bytes, limit: int, default: str | None, kind: str) -> bytes:
    """The same request with another limit for all of its answers, in the field that it uses, or
    else the `default` one of chat requests; all else byte for byte.
    """
    members, bounds = _members(body), KINDS[kind].bounds
    usual = default if default in bounds else bounds[0]
    field = next((name for name in reversed(bounds) if members.get(name, _NULL) != _NULL), usual)
    if KINDS[kind].many:
        limit = max(limit // answers_in(msgspec.json.decode(body)), 1)
    members[field] = msgspec.Raw(b"%d" % limit)
    return msgspec.json.encode(members)


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL = msgspec.Raw(b"null")
