"""One job in the home: its row, its prices, and the parts that know the rest."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import msgspec

from batch.store import database, incidents, messages, wait_times
from batch.store.balance_readings import Rests
from batch.store.call_units import Units
from batch.store.chunks import Chunks
from batch.store.events import Event, EventKind, note, note_changes, note_troubles
from batch.store.failed_requests import Failures
from batch.store.failure_causes import Why, why_of
from batch.store.finished_requests import grow
from batch.store.incidents import Trouble
from batch.store.input_blocks import BlockReader
from batch.store.quality_trials import Trials
from batch.store.request_queue import Queue
from batch.store.revision import Revision, revise
from batch.store.staged_job import store_prices
from batch.store.stored_estimate import Guess, packed, unpacked
from batch.store.uncertain import UncertainCalls
from jobs.chunk import Speed
from jobs.errors import StorageUnavailable
from jobs.job_commands import Change, Command, Retry
from jobs.job_options import Spec
from jobs.lifecycle import Objected, Objection, Transition, decide
from jobs.message import NOTHING, Message
from jobs.money import total
from jobs.names import BLOCKS, DATABASE
from jobs.pause_reasons import PauseReason
from jobs.period import QUARTER_S
from jobs.prices import PriceList
from jobs.states import ENDED, JobState, check_arrow

LIFT, RECALL = "lift", "recall"
"""Wishes: that nothing waits any longer; that what is out comes back, and is fed anew."""


@dataclass(frozen=True)
class JobRow:
    """What a job's row says; money in ₽, times in Unix seconds."""

    id: str
    spec: Spec
    state: JobState
    reason: str
    reason_text: Message
    options: str
    wanted: str
    created_at: float
    goes_on_at: float | None
    started_at: float | None
    ended_at: float | None
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
    unknown: int
    unbounded: int
    truncated: int
    reused: int
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
    def own(self) -> int:
        """Requests that do not have the answer of an earlier job."""
        return self.requests - self.reused

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED


class JobStore:
    """A job's folder. One process writes feeding and results; commands write state and wishes."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.home = folder.parent.parent
        """The data directory that it stands in."""
        self.db = database.connect(folder / DATABASE, read_only=read_only)
        self._blocks = BlockReader(folder / BLOCKS)
        try:
            with database.readable(folder / DATABASE):
                self.queue = Queue(self.db, self._blocks)
        except StorageUnavailable:
            self.close()
            raise
        self.chunks = Chunks(self.db)
        self.units = Units(self.db, self.queue)
        self.trials = Trials(self.db)
        self.failures = Failures(self.db)
        self.uncertain = UncertainCalls(self.db)
        self.rests = Rests(self.db)

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

    def job(self) -> JobRow:
        """The job as it stands on disk."""
        row = dict(self.db.execute("SELECT * FROM job").fetchone())
        for name in ("next_chunk", "revision", "written"):
            row.pop(name)
        row["reason_text"] = messages.read(self.db, row["reason_text"])
        row["spec"] = _spec(row["spec"])
        row["state"] = JobState(row["state"])
        row["guess"] = unpacked(row["guess"])
        row["troubles"] = incidents.unpacked(row["troubles"])
        for name in ("settled_rub", "booked_rub"):
            row[name] = Decimal(row[name])
        return JobRow(**row)

    def set_state(
        self,
        state: JobState,
        *,
        reason: PauseReason | None = None,
        text: Message = NOTHING,
        now: float | None = None,
        standing: JobState | None = None,
        goes_on_at: float | None = None,
        options: str = "",
        by_user: bool = False,
    ) -> bool:
        """Moves the job along a lawful arrow; raises `UsageError` for any other.

        A paused job may go on by itself at `goes_on_at`, Unix seconds; else with these `options` of
        what its `reason` names as the remedy, "": with the usual ones.

        With `standing`, only a job that still stands there is moved, and False is returned for one
        that somebody else has moved meanwhile.
        """
        with self.transaction() as db:
            old, before = db.execute("SELECT state, reason FROM job").fetchone()
            if standing is not None and old != standing:
                return False
            if old != state:
                check_arrow(JobState(old), state)
            if old in ENDED:
                grow(db)
            db.execute(
                "UPDATE job SET state = ?, reason = ?, reason_text = ?, ended_at = ?,"
                " goes_on_at = ?, options = ?",
                (
                    state,
                    reason or "",
                    messages.keep(db, text),
                    now if state in ENDED else None,
                    goes_on_at,
                    options,
                ),
            )
            if (old, before) != (state, reason or ""):
                facts = (by_user, state.value, reason or "", str(text), goes_on_at)
                note(db, Event(now or time.time(), EventKind.STATE, *facts))
        return True

    def move(
        self, found: Transition, *, standing: JobState | None = None, by_user: bool = False
    ) -> bool:
        """Moves the job where it goes; the rest as for `set_state`."""
        return self.set_state(
            found.state,
            reason=found.reason,
            text=found.text,
            goes_on_at=found.goes_on_at,
            standing=standing,
            by_user=by_user,
        )

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

    def tell(self, text: Message) -> None:
        """Leaves a sentence for whoever looks at the job; its state stays."""
        with self.transaction() as db:
            db.execute("UPDATE job SET reason_text = ?", (messages.keep(db, text),))

    def keep_waits(self, at: float, seconds: Mapping[str, float]) -> None:
        """Keeps for how long requests that were ready waited, by what they waited for."""
        with self.transaction() as db:
            wait_times.add(db, at, seconds)

    def keep_troubles(self, troubles: Sequence[Trouble]) -> None:
        """Stores what troubled the job, the last first."""
        with self.transaction() as db:
            (before,) = db.execute("SELECT troubles FROM job").fetchone()
            note_troubles(db, incidents.unpacked(before), troubles)
            db.execute("UPDATE job SET troubles = ?", (incidents.packed(troubles),))

    def heed(
        self, *commands: Command, now: datetime, waits: bool | None = None
    ) -> tuple[Objection, ...]:
        """Carries out what is asked of the job, in one transaction; returns the moot objections.

        Raises `Objected` for the others; then nothing is changed. `waits` as for `decide`.
        """
        moot = []
        with self.transaction():
            for command in commands:
                job = self.job()
                found = decide(job, command, now, waits=waits)
                if isinstance(found, Transition):
                    self._carry_out(command, job, found)
                elif found.is_moot:
                    moot.append(found)
                else:
                    raise Objected(found)
        return tuple(moot)

    def _carry_out(self, command: Command, job: JobRow, found: Transition) -> None:
        if isinstance(command, Change):
            self.change_spec(command.applied(job.spec))
        elif isinstance(command, Retry):
            count = self.failures.retry(command.codes, max_tokens=command.max_tokens)
            note(self.db, Event(time.time(), EventKind.RETRIED, by_user=True, requests=count))
        if found.lifts:
            self.want(LIFT)
        if found.state is not job.state or found.reason is not None:
            self.move(found, by_user=True)

    def want(self, wish: str) -> None:
        """Leaves a wish for the coordinator: `LIFT` or `RECALL`."""
        with self.transaction() as db:
            db.execute("UPDATE job SET wanted = trim(wanted || ' ' || ?)", (wish,))

    def take_wishes(self) -> set[str]:
        """What is wished of the coordinator, and is not any more."""
        with self.transaction() as db:
            (wanted,) = db.execute("SELECT wanted FROM job").fetchone()
            db.execute("UPDATE job SET wanted = ''")
        return set(wanted.split())

    def change_spec(self, spec: Spec) -> None:
        """Stores new limits, budget or window. What a chunk takes along has what is out recalled;
        of the rest workers are told, or the coordinator sees to it.
        """
        with self.transaction() as db:
            (old,) = db.execute("SELECT spec FROM job").fetchone()
            recalls = _taken_along(_spec(old)) != _taken_along(spec)
            note_changes(db, _spec(old), spec, time.time())
            (state,) = db.execute(
                "UPDATE job SET spec = ? RETURNING state",
                (spec.model_dump_json(),),
            ).fetchone()
            # One that is paused may go on before all of it is back.
            if recalls and state in {JobState.IN_PROGRESS, JobState.PAUSED}:
                self.want(RECALL)

    def set_key(self, key: str) -> None:
        """Stores which API key the job is for (a fingerprint), whatever else of its spec changes
        meanwhile.
        """
        with self.transaction() as db:
            db.execute("UPDATE job SET spec = json_set(spec, '$.key', ?)", (key,))

    def revise(self, revision: Revision) -> None:
        """Changes models and bounds of the requests that have no result yet."""
        revise(self.db, revision)

    def set_guess(self, guess: Guess) -> None:
        """Stores what the job is expected to cost, by what is known now."""
        with self.transaction() as db:
            db.execute("UPDATE job SET guess = ?", (packed(guess),))

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
        newest, _ = self.prices_of()
        kept = prices
        if newest is not None and prices.taken_at < newest:
            # By a clock that was set back: the newest are still those that were read last.
            kept = msgspec.structs.replace(prices, taken_at=math.nextafter(newest, math.inf))
        with self.transaction() as db:
            store_prices(db, kept, accepted=accepted or newest is None)
            if newest is not None:
                note(db, Event(prices.taken_at, EventKind.PRICES, by_user=accepted))

    def spent_between(self, start: float, end: float) -> Decimal:
        """₽ that calls cost, or may have cost, which were sent from `start` up to `end`.

        Unix seconds, on whole quarters of an hour.
        """
        rows = self.db.execute(
            "SELECT rub FROM spending WHERE quarter >= ? AND quarter < ?",
            (int(start) // QUARTER_S, int(end) // QUARTER_S),
        )
        return total(Decimal(row[0]) for row in rows)

    def spending(self) -> dict[int, Decimal]:
        """₽ that calls cost, or may have cost, by the quarter of an hour when they were sent."""
        return {row[0]: Decimal(row[1]) for row in self.db.execute("SELECT * FROM spending")}

    def faults(self) -> Iterator[sqlite3.Row]:
        """Skipped lines: line, code, message, custom_id, in order."""
        yield from self.db.execute("SELECT * FROM faults ORDER BY line")

    def why(self) -> Why:
        """Failures by cause, skipped lines, answers with flags."""
        with self.snapshot():
            return why_of(self.db)

    def refusals(self) -> dict[str, int]:
        """How often each refusal that cost nothing was met."""
        return dict(self.db.execute("SELECT code, count FROM refusals ORDER BY code").fetchall())


def _taken_along(spec: Spec) -> tuple[object, ...]:
    """What counts for a chunk as it was when the chunk was fed."""
    bounds = (spec.max_price_rise, spec.request_bound_rub, spec.usd_rate)
    revised = (spec.model_map, spec.override_model, spec.max_tokens)
    terms = msgspec.structs.asdict(spec.terms())
    # Of these workers are told the pace, and no more.
    fixed = [value for name, value in terms.items() if name not in Speed.__struct_fields__]
    return (*bounds, *revised, spec.priority, spec.base_url, *fixed)


@lru_cache(maxsize=256)
def _spec(text: str) -> Spec:
    return Spec.model_validate_json(text)
