"""A job while its input is checked and stored: invisible until it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from batch.store import database, messages
from batch.store.feed_order import Marks, arrange, index_alike, mark_copies, twin_of
from batch.store.input_blocks import BlockWriter
from batch.store.revision import give_model
from batch.store.stored_estimate import Guess, packed
from jobs.job_options import Spec
from jobs.message import N_
from jobs.names import BLOCKS, DATABASE, TABLE
from jobs.prices import PriceList
from jobs.request import Fault, Request
from jobs.request_kinds import CHAT
from jobs.states import JobState
from jobs.wire import pack_bodies

_ROWS_AT_ONCE = 2000
_ANSWERS_AT_ONCE = 256
_BOUGHT = (
    "ordinal NOT IN (SELECT ordinal FROM copies) AND ordinal NOT IN (SELECT ordinal FROM results)"
)


class Given(NamedTuple):
    """A request's answer out of an earlier `job`, where it cost `rub` ₽ (None: nobody knows)."""

    ordinal: int
    body: bytes
    job: str
    rub: Decimal | None
    at: float
    status: int | None = 200
    request_id: str = ""
    flags: str = ""


class Draft:
    """Takes requests and faults one by one; `publish` makes the job exist.

    The folder is written under a temporary name and renamed last, so that whoever looks sees
    either no job or a whole one. What a killed process left behind is removed by the next draft.
    """

    def __init__(
        self, jobs_folder: Path, job_id: str, *, dedupe: str = "", reuse: str = ""
    ) -> None:
        """`dedupe`, `reuse`: "" for not at all, "same" for requests that are alike and do not ask
        for chance (a temperature above 0), "all" for all that are alike.
        """
        self.job_id = job_id
        self._dedupe, self._reuse = dedupe, reuse
        self._final = jobs_folder / job_id
        self._folder = jobs_folder / f".{job_id}.draft"
        jobs_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One at a time, so that no draft is taken for a leftover before it has its lock.
        with alone(jobs_folder):
            _sweep(jobs_folder)
            self._folder.mkdir(mode=0o700)
            self._lock = _lock(self._folder)
        self._db = database.create(self._folder / DATABASE)
        self._db.execute("BEGIN")
        self._blocks = BlockWriter(self._folder / BLOCKS)
        self._rows: list[tuple[object, ...]] = []
        self._models: dict[tuple[str, str, str], int] = {}
        self._marks = Marks(self._db, alike=bool(dedupe or reuse))
        self._given: list[Given] = []
        self._digest = blake2b(digest_size=16)
        self.requests = 0
        self.invalid = 0

    def keep_table(self, source: Path | BinaryIO) -> Path:
        """Copies the table that the requests are made of; on disk when this returns."""
        copy = self.table
        made = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        opened = source.open("rb") if isinstance(source, Path) else nullcontext(source)
        with os.fdopen(made, "wb") as to, opened as file:
            shutil.copyfileobj(file, to, 2**20)
            to.flush()
            os.fsync(to.fileno())
        return copy

    @property
    def table(self) -> Path:
        """Where the copy of the table stands."""
        return self._folder / TABLE

    def keep_gold(self, expected: Mapping[int, str]) -> None:
        """Stores what is expected of some rows, by line: they go first."""
        self._flush_rows()
        self._db.execute("CREATE TEMP TABLE known (line INTEGER PRIMARY KEY, expected)")
        self._db.executemany("INSERT INTO known VALUES (?, ?)", expected.items())
        self._db.execute(
            "INSERT INTO gold SELECT ordinal, expected FROM requests JOIN known USING (line)"
        )
        self._db.execute("DROP TABLE known")

    def add(self, request: Request) -> None:
        """Stores a valid request."""
        key = (request.model, request.pin, request.kind)
        model = self._models.setdefault(key, len(self._models))
        self._rows.append(
            (
                self.requests,
                request.line,
                request.custom_id,
                model,
                request.prompt_bound,
                request.max_output,
                not request.unbounded,
            )
        )
        self._marks.see(self.requests, request)
        self._digest.update(request.body)
        if request.kind != CHAT.url:
            self._digest.update(request.kind.encode())
        self.requests += 1
        self._place(self._blocks.append(request.body))
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush_rows()

    def refuse(self, fault: Fault) -> None:
        """Stores why a line is no request."""
        self.invalid += 1
        self._db.execute(
            "INSERT OR IGNORE INTO faults VALUES (?, ?, ?, ?)",
            (fault.line, fault.code, messages.keep(self._db, fault.message), fault.custom_id),
        )

    def drop_duplicates(self) -> Iterator[Fault]:
        """Takes every request out again whose `custom_id` an earlier line has, with its fault.

        Their ordinals stay unused. Constant memory: SQLite sorts on disk.
        """
        self._flush_rows()
        # Both with keys of their own: SQLite would look through the one for each row of the other.
        self._db.execute("CREATE TEMP TABLE firsts (id TEXT PRIMARY KEY, line) WITHOUT ROWID")
        self._db.execute(
            "INSERT INTO firsts SELECT custom_id, min(line) FROM requests"
            " GROUP BY custom_id HAVING count(*) > 1"
        )
        self._db.execute(
            "CREATE TEMP TABLE twice (ordinal INTEGER PRIMARY KEY, custom_id, line, first)"
        )
        self._db.execute(
            "INSERT INTO twice SELECT ordinal, custom_id, requests.line, firsts.line"
            " FROM requests CROSS JOIN firsts ON id = custom_id AND requests.line > firsts.line"
        )
        for custom_id, line, first in self._db.execute(
            "SELECT custom_id, line, first FROM twice ORDER BY ordinal"
        ):
            yield Fault(
                line,
                "input.duplicate_id",
                N_(
                    "custom_id {custom_id!r} is already used in line {first}",
                    custom_id=custom_id,
                    first=first,
                ),
                custom_id=custom_id,
            )
        self._db.execute("DELETE FROM requests WHERE ordinal IN (SELECT ordinal FROM twice)")
        self._db.execute("DROP TABLE twice")
        self._db.execute("DROP TABLE firsts")

    def may_ask(self, model: str) -> None:
        """A model that no request names, but that may be asked in their place."""
        self._models.setdefault((model, "", CHAT.url), len(self._models))

    def drop_copies(self) -> int:
        """Requests that are alike but for the first are given its result; returns how many."""
        self._flush_rows()
        return mark_copies(self._db, chance=self._dedupe == "all") if self._dedupe else 0

    # ---- answers of earlier jobs -----------------------------------------------------------

    def look_for_answers(self) -> None:
        """From now on `asking` finds the requests that may be given an earlier job's answer."""
        self._flush_rows()
        index_alike(self._db, chance=self._reuse == "all")

    @property
    def unanswered(self) -> bool:
        """Whether any of these has none yet."""
        return self._db.execute("SELECT 1 FROM alike LIMIT 1").fetchone() is not None

    def asking(self, body: bytes, model: str, kind: str) -> list[int]:
        """Those of them that ask a model the same as this body."""
        numbers = [number for (name, *_), number in self._models.items() if name == model]
        if not numbers:
            return []
        rows = self._db.execute(
            "SELECT ordinal FROM alike"
            " WHERE twin = ? AND model IN (SELECT value FROM json_each(?))",
            (twin_of(body, kind)[0], msgspec.json.encode(numbers).decode()),
        )
        return [row[0] for row in rows]

    def give(self, given: Given) -> None:
        """One of them has its answer."""
        self._db.execute("DELETE FROM alike WHERE ordinal = ?", (given.ordinal,))
        self._given.append(given)
        if len(self._given) >= _ANSWERS_AT_ONCE:
            self._flush_given()

    def _flush_given(self) -> None:
        if not self._given:
            return
        answer = self._db.execute(
            "INSERT INTO answers (bodies) VALUES (?)", (pack_bodies([g.body for g in self._given]),)
        ).lastrowid
        self._db.executemany(
            "INSERT INTO results VALUES (?, 'completed', '', '', ?, 0, '', 0, ?, ?, ?, ?, ?)",
            [
                (each.ordinal, each.status, each.at, each.request_id, each.flags, answer, place)
                for place, each in enumerate(self._given)
            ],
        )
        self._db.executemany(
            "INSERT INTO reused VALUES (?, ?, ?)",
            [(g.ordinal, g.job, None if g.rub is None else str(g.rub)) for g in self._given],
        )
        self._given.clear()

    @property
    def reused(self) -> int:
        """How many have the answer of an earlier job."""
        self._flush_given()
        (count,) = self._db.execute("SELECT count(*) FROM reused").fetchone()
        return int(count)

    @property
    def digest(self) -> str:
        """Tells requests that are the same, in the same order, from all others."""
        return self._digest.hexdigest()

    def models(self) -> list[str]:
        """Every model that a request names."""
        return list(dict.fromkeys(name for name, _, _ in self._models))

    def rename(self, names: Mapping[str, str]) -> None:
        """Requests for some models are for others; their bodies are not changed."""
        self._flush_rows()
        for key in [key for key in self._models if key[0] in names]:
            old, number = key[0], self._models.pop(key)
            new = self._models.setdefault((names[old], *key[1:]), number)
            give_model(self._db, number, new, len(names[old]) - len(old))

    def sizes(self) -> Iterator[tuple[int, str, int, int | None, bool, str]]:
        """(how many, model, prompt bound, output bound, whether these bound the cost, pin) of
        requests that are alike in all that, the longest first.
        """
        self._flush_rows()
        names = {number: name for name, number in self._models.items()}
        for count, model, prompt, output, bounded in self._db.execute(
            "SELECT count(*), model, prompt_bound, output_bound, bounded FROM requests"  # noqa: S608
            f" WHERE {_BOUGHT}"
            " GROUP BY model, prompt_bound, output_bound, bounded ORDER BY prompt_bound DESC"
        ):
            name, pin, _kind = names[model]
            yield count, name, prompt, output, bool(bounded), pin

    def keep_samples(self, shapes: Iterable[tuple[int, bytes]]) -> None:
        """Stores the shapes of some requests, by ordinal; of those that were taken out, none."""
        self._flush_rows()
        self._db.executemany(
            "INSERT INTO samples SELECT ?1, ?2 WHERE EXISTS"
            " (SELECT 1 FROM requests WHERE ordinal = ?1)",
            shapes,
        )

    def publish(
        self,
        spec: Spec,
        prices: PriceList | None,
        created_at: float,
        guess: Guess | None = None,
        *,
        sample: int = 0,
    ) -> int:
        """The job exists, whole and on disk, when this returns.

        `sample` requests, spread over the file, go first and alone, and those whose answer is
        known. Returns how many go first.
        """
        guess = guess or Guess()
        self._flush_rows()
        first = self._first(sample)
        warm = arrange(self._db, first, self._cached(prices))
        self._place(self._blocks.flush())
        self._blocks.finish()
        self._db.executemany(
            "INSERT INTO models VALUES (?, ?, ?, ?)",
            [(number, *key) for key, number in self._models.items()],
        )
        (stored,) = self._db.execute("SELECT count(*) FROM requests").fetchone()
        self._db.execute(
            "INSERT INTO job (id, spec, state, created_at, guess,"
            " sample, warm, requests, invalid, completed, reused)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?10, ?10)",
            (
                self.job_id,
                spec.model_dump_json(),
                JobState.IN_PROGRESS,
                created_at,
                packed(guess),
                len(first),
                warm,
                stored,
                self.invalid,
                self.reused,
            ),
        )
        if prices is not None:
            store_prices(self._db, prices, accepted=True)
        self._db.execute("COMMIT")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        sync_folder(self._folder)
        self._folder.rename(self._final)
        sync_folder(self._final.parent)
        self._let_go()
        return len(first)

    def _first(self, count: int) -> list[int]:
        """Those whose answer is known, and so many of the samples, spread evenly."""
        known = self._db.execute(
            "SELECT DISTINCT coalesce(original, ordinal) FROM gold LEFT JOIN copies USING (ordinal)"
        ).fetchall()
        answered = {row[0] for row in self._db.execute("SELECT ordinal FROM reused")}
        first = [row[0] for row in known if row[0] not in answered]
        if known and not first:
            count = max(count, 1)  # what is known of them is told when the first ones are answered
        return list(dict.fromkeys([*first, *self._spread(count)]))

    def _spread(self, count: int) -> list[int]:
        found = [
            row[0]
            for row in self._db.execute(
                f"SELECT ordinal FROM samples WHERE {_BOUGHT} ORDER BY ordinal"  # noqa: S608  same
            )
        ]
        count = min(count, len(found))
        return [found[place * len(found) // count] for place in range(count)]

    def _cached(self, prices: PriceList | None) -> set[int]:
        """The models, by number, whose provider asks less for a prompt that it knows already."""
        models = prices.models if prices else {}
        return {
            number
            for (name, _, _), number in self._models.items()
            if name in models and models[name].caches
        }

    def abandon(self) -> None:
        """Nothing of it stays, unless it was published."""
        self._blocks.abandon()
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._let_go()

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _place(self, block: tuple[int, int, int] | None) -> None:
        if block:
            self._db.execute("INSERT INTO blocks VALUES (?, ?, ?)", block)

    def _flush_rows(self) -> None:
        self._db.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)", self._rows)
        self._rows.clear()
        self._marks.flush()


def store_prices(db: sqlite3.Connection, prices: PriceList, *, accepted: bool) -> None:
    """Keeps a version of the catalogue. `accepted`: from now on a rise is counted from it."""
    kept = msgspec.structs.replace(prices, listed=())
    db.execute(
        "INSERT OR REPLACE INTO prices VALUES (?, ?, ?)",
        (prices.taken_at, msgspec.msgpack.encode(kept), accepted),
    )


def sync_folder(folder: Path) -> None:
    """The names within the folder are on disk when this returns."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One at a time: waits until no other process holds this folder."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _lock(folder: Path) -> int:
    """Holds a draft as long as its process lives."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _sweep(jobs_folder: Path) -> None:
    """Removes drafts whose process is gone."""
    for leftover in jobs_folder.glob(".job_*.draft"):
        with suppress(OSError):
            fd = _lock(leftover)
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(fd)
