"""A worker's durable queue of results that are not yet in the home.

Way of an answer: raw into the journal (page cache) the moment it is whole; synced within
`SYNC_S`, many at once; then packed into a delivery of its job, sent to the job's stream, and
forgotten only when the home acknowledged it. What is not acknowledged is sent again.

A disk that fails ends this worker, but not at once: no call leaves any more, and what is paid for
goes home by way of memory. On one that is only full there is room set aside for it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from jobs.chunk import ChunkClosed
from jobs.errors import StorageUnavailable
from jobs.gateways import ROUBLES, Tariff
from jobs.outcome import Billing
from jobs.result import Call, Result
from jobs.wire import Delivery, Found, pack_bodies, pack_delivery
from workers.calling.endpoint import Answer
from workers.delivery.journal import Claimed, Closed, Ended, Heard, Journal, Record, Sent

SYNC_S = 0.04
"""At most this long between an answer's arrival and its being on the disk."""

DELIVER_S = 0.25
"""Results of a job wait at most this long for company before they are delivered."""

DELIVER_ROWS = 128
"""Results of a job that are delivered without waiting for more."""

MOST_ROWS, MOST_BYTES = 1024, 8 * 2**20
"""A delivery takes no more once it has so many: the home must be able to swallow it."""

RESEND_S, LONGEST_RESEND_S = 20.0, 1800.0
"""A delivery that was not acknowledged for so long is sent again: Redis may have lost it. Each time
the wait doubles, since a home that is away must not find its stream full of copies.
"""

_STUMBLED_S = 1.0

log = logging.getLogger("nightshift.outbox")


class Post(Protocol):
    """What the outbox asks of Redis; each may raise `ConnectionError` and is then tried again."""

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        """Adds (job, delivery) entries to the streams of their jobs."""

    async def acknowledged(self, outbox: str) -> list[int]:
        """Sequence numbers that the home has on disk, each told once."""


@dataclass
class _Batch:
    """What waits to be delivered for one job. `size` is that of the bodies, in bytes."""

    job: str
    since: float
    calls: list[Call] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    closed: list[ChunkClosed] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    segments: Counter[int] = field(default_factory=Counter)
    size: int = 0

    @property
    def rows(self) -> int:
        return len(self.calls) + len(self.results) + len(self.closed) + len(self.found)

    def has_room_for(self, rows: int, size: int) -> bool:
        return self.rows + rows <= MOST_ROWS and self.size + size <= MOST_BYTES

    def extend(self, more: _Batch) -> None:
        shift = len(self.bodies)
        self.calls += more.calls
        self.results += [
            msgspec.structs.replace(result, body=result.body + shift)
            if result.body >= 0
            else result
            for result in more.results
        ]
        self.closed += more.closed
        self.found += more.found
        self.bodies += more.bodies
        self.segments.update(more.segments)
        self.size += more.size


@dataclass
class _OnItsWay:
    """A delivery that the home has not acknowledged; sent (again) at `due`, monotonic seconds."""

    job: str
    data: bytes
    segments: Counter[int]
    closed: list[tuple[str, int]]
    since: float
    due: float = float("-inf")
    patience: float = RESEND_S

    def was_sent(self, now: float) -> None:
        self.due = now + self.patience
        self.patience = min(2 * self.patience, LONGEST_RESEND_S)

    def hasten(self) -> None:
        self.due, self.patience = float("-inf"), RESEND_S


def new_name() -> str:
    """No other outbox has had it."""
    return secrets.token_hex(5)


class Outbox:
    """One per worker process. All methods are for the event loop's thread.

    `failure` is set once the disk refused to take something; `on_failure` is called then.
    """

    def __init__(self, folder: Path, post: Post, name: str = "") -> None:
        self.name = name or new_name()
        self.failure: StorageUnavailable | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._journal = Journal(folder / self.name)
        self._segment = self._journal.segment
        self._synced_no_more = False
        self.is_kept = True
        """Whether all that was put here stands on the disk until it is in the home."""
        self._post = post
        self._last_call = 0
        self._last_sequence = 0
        self._batches: dict[str, _Batch] = {}
        self._full: list[_Batch] = []
        self._syncing: list[_Batch] = []
        self._synced: dict[str, _Batch] = {}
        self._on_the_way: dict[int, _OnItsWay] = {}
        self._open_calls: dict[str, list[int]] = {}
        self._users: Counter[int] = Counter()
        self._claims: dict[tuple[str, int], list[int]] = {}
        self._held: set[tuple[str, int]] = set()
        self._watchers: list[tuple[int, Callable[[], None]]] = []
        self._booked: Counter[tuple[str, int]] = Counter()
        self._last: list[tuple[str, ChunkClosed]] = []
        self._closers: list[tuple[set[tuple[str, int]], Callable[[], None]]] = []
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def folder(self) -> Path:
        """Where this outbox's journal stands."""
        return self._journal.folder

    @property
    def lag_s(self) -> float:
        """For how many seconds the oldest thing that is not in the home yet has been here."""
        waiting = (*self._batches.values(), *self._full, *self._syncing, *self._synced.values())
        since = [batch.since for batch in waiting]
        since += [entry.since for entry in self._on_the_way.values()]
        return time.monotonic() - min(since) if since else 0.0

    def new_call_id(self) -> str:
        """An id no other call has: the outbox and a number, so that ids of one worker ascend."""
        self._last_call += 1
        return f"{self.name}-{self._last_call:08x}"

    # ---- facts, each on its way to the disk when the method returns ------------------------

    def claimed(
        self,
        job: str,
        chunk: int,
        requests: list[tuple[int, int, int]],
        tariff: Tariff = ROUBLES,
    ) -> None:
        """A chunk is taken."""
        self._held.add((job, chunk))
        self._claims[job, chunk] = self._write(Claimed(job, chunk, requests, tariff))

    def sent(self, record: Sent) -> None:
        """A call is about to leave. `StorageUnavailable` if that cannot be kept: it must not."""
        self._look()
        segments = self._write(record) if self.failure is None else []
        if self.failure is not None:
            raise self.failure
        self._open_calls[record.call] = segments

    def heard(self, call: str, generation_id: str) -> None:
        """The headers of a call arrived."""
        self._open_calls[call] += self._write(Heard(call, generation_id))

    def ended(self, call: str, answer: Answer) -> None:
        """A call ended; its raw answer is kept before anyone reads it."""
        record = Ended(call, msgspec.Raw(msgspec.msgpack.encode(answer)))
        self._open_calls[call] += self._write(record)

    # ---- what is to be delivered -----------------------------------------------------------

    def put(self, job: str, call: Call, result: Result | None, body: bytes = b"") -> None:
        """A call's row for the ledger and, if it ended the request, the result and raw answer."""
        batch = self._batch(job)
        batch.calls.append(call)
        self._booked[job, call.chunk] += call.billing is not Billing.NONE
        segments = self._open_calls.pop(call.id, [])
        batch.segments.update(segments)
        if result is not None:
            self.put_result(job, result, body)
        elif (job, call.chunk) in self._claims:
            # How often a request was tried must be known as long as it may be given back.
            self._users.update(segments)
            self._claims[job, call.chunk] += segments

    def put_result(self, job: str, result: Result, body: bytes = b"") -> None:
        """The end of a request."""
        batch = self._batch(job, len(body))
        if body:
            result = msgspec.structs.replace(result, body=len(batch.bodies))
            batch.bodies.append(body)
            batch.size += len(body)
        batch.results.append(result)

    def dismiss(self, call: str) -> None:
        """A call that cost nothing and ended nothing: no row of the ledger."""
        self._release(self._open_calls.pop(call, ()))

    def put_closed(self, job: str, closed: ChunkClosed) -> None:
        """A chunk is done with; how many of its calls were put here is told with it."""
        booked = self._booked.pop((job, closed.chunk), 0)
        outbox = closed.outbox or self.name
        closed = msgspec.structs.replace(closed, calls=closed.calls or booked, outbox=outbox)
        batch = self._batch(job)
        batch.closed.append(closed)
        record = Closed(job, *msgspec.structs.astuple(closed))
        batch.segments.update(self._write(record))
        batch.segments.update(self._claims.pop((job, closed.chunk), ()))
        self._held.add((job, closed.chunk))

    def put_closed_last(self, job: str, closed: ChunkClosed) -> None:
        """A chunk is done with, but that is told only when all that was put here before `start` is
        in the home: who read a dead worker's journal knows not how many calls it told of before.
        """
        self._held.add((job, closed.chunk))
        self._last.append((job, closed))

    def put_found(self, job: str, found: Found) -> None:
        """What a lookup told."""
        self._batch(job).found.append(found)

    def open_chunks(self) -> dict[str, list[int]]:
        """Those of each job that this outbox holds."""
        found: dict[str, list[int]] = {}
        for job, chunk in sorted(self._held):
            found.setdefault(job, []).append(chunk)
        return found

    def has_open(self, job: str, chunk: int) -> bool:
        """Whether this outbox holds that chunk: taken, or closed but not yet in the home."""
        return (job, chunk) in self._held

    # ---- the loop ---------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to sync, deliver and listen for acknowledgements."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def close(self, patience_s: float) -> bool:
        """Delivers what is left; True when all of it was acknowledged within `patience_s`.

        What was not stays on the disk for the next worker on this host.
        """
        self._closing = True
        if self._task:
            await self._task
        deadline = time.monotonic() + patience_s
        while True:
            await self._turn(hurry=True)
            if self._is_empty or time.monotonic() > deadline:
                break
            await asyncio.sleep(SYNC_S)
        try:
            self._journal.close(empty=self._is_empty and not self._users)
        except StorageUnavailable as error:
            self._fail(error)
        return self._is_empty

    def abandon(self) -> None:
        """Lets go before anything was begun: nothing is left on the disk."""
        self._journal.close(empty=True)

    @property
    def _is_empty(self) -> bool:
        waiting = (self._batches, self._full, self._syncing, self._synced, self._on_the_way)
        return not any(waiting)

    def when_acknowledged(self, then: Callable[[], None]) -> None:
        """Calls `then` once the home has everything that was put here before `start`, the last
        closings too.
        """
        for batch in [*self._synced.values(), *self._full, *self._batches.values()]:
            self._pack(batch)
        self._synced, self._full, self._batches = {}, [], {}
        last, self._last = self._last, []

        def close() -> None:
            for job, closed in last:
                self.put_closed(job, closed)
            self._closers.append(({(job, closed.chunk) for job, closed in last}, then))

        self._watchers.append((self._last_sequence, close))

    def resend_all(self) -> None:
        """Redis forgot: every delivery that is not acknowledged goes out again at once."""
        for entry in self._on_the_way.values():
            entry.hasten()

    async def _run(self) -> None:
        while not self._closing:
            await self._turn(hurry=False)
            await asyncio.sleep(SYNC_S)

    async def _turn(self, *, hurry: bool) -> None:
        """One round. Whatever befalls it, there is another: answers must not wait for ever."""
        self._look()
        try:
            await self._sync()
            await self._deliver(hurry=hurry)
            if self._on_the_way:
                self._acknowledge(await self._post.acknowledged(self.name))
            self._tell_watchers()
        except ConnectionError as error:
            log.debug("Redis is away, results wait on the disk: %s", error)
            await asyncio.sleep(SYNC_S)
        except StorageUnavailable as error:
            self._fail(error)
        except Exception as error:
            # Texts of exceptions may quote answers, so only the class is told.
            log.error("outbox failure: %s", type(error).__name__)  # noqa: TRY400
            log.debug("", exc_info=error)
            await asyncio.sleep(_STUMBLED_S)

    async def _sync(self) -> None:
        """After this, what waited in `_batches` is on the disk and may be delivered."""
        self._syncing = [*self._full, *self._batches.values()]
        self._full, self._batches = [], {}
        try:
            if self._journal.is_dirty and not self._synced_no_more:
                await asyncio.to_thread(self._journal.begin_sync())
        except StorageUnavailable:
            # A disk that failed once must not be believed when it is asked again.
            self._synced_no_more = True
            self.is_kept = False
            raise
        finally:
            syncing, self._syncing = self._syncing, []
            for batch in syncing:
                self._merge(batch)

    def _merge(self, batch: _Batch) -> None:
        waiting = self._synced.setdefault(batch.job, batch)
        if waiting is batch:
            return
        if waiting.has_room_for(batch.rows, batch.size):
            waiting.extend(batch)
        else:
            self._pack(waiting)
            self._synced[batch.job] = batch

    async def _deliver(self, *, hurry: bool) -> None:
        now = time.monotonic()
        due = [
            batch
            for batch in self._synced.values()
            if hurry
            or batch.rows >= DELIVER_ROWS
            or now - batch.since >= DELIVER_S
            # The end of all that is in flight: no company will come.
            or (batch.closed and not self._open_calls)
        ]
        for batch in due:
            self._pack(batch)
            del self._synced[batch.job]
        late = [entry for entry in self._on_the_way.values() if now >= entry.due]
        for some in _in_portions(late):
            await self._post.send([(entry.job, entry.data) for entry in some])
            for entry in some:
                entry.was_sent(now)

    def _pack(self, batch: _Batch) -> None:
        self._last_sequence += 1
        delivery = Delivery(
            self.name,
            self._last_sequence,
            batch.job,
            batch.calls,
            batch.results,
            batch.closed,
            batch.found,
            pack_bodies(batch.bodies),
        )
        self._on_the_way[self._last_sequence] = _OnItsWay(
            batch.job,
            pack_delivery(delivery),
            batch.segments,
            [(batch.job, closed.chunk) for closed in batch.closed],
            batch.since,
        )

    def _tell_watchers(self) -> None:
        oldest = min(self._on_the_way, default=self._last_sequence + 1)
        ready = [then for sequence, then in self._watchers if sequence < oldest]
        self._watchers = [watcher for watcher in self._watchers if watcher[0] >= oldest]
        for then in ready:
            then()
        for closer in [each for each in self._closers if not each[0] & self._held]:
            self._closers.remove(closer)
            closer[1]()

    def _acknowledge(self, sequences: list[int]) -> None:
        for sequence in sequences:
            entry = self._on_the_way.pop(sequence, None)
            if entry is not None:
                self._held.difference_update(entry.closed)
                self._release(entry.segments.elements())

    # ---- which segments are still needed ------------------------------------------------------

    def _look(self) -> None:
        """What is in a journal that was deleted is in memory alone."""
        if self.failure is None:
            try:
                self._journal.look()
            except StorageUnavailable as error:
                self.is_kept = False
                self._synced_no_more = True
                self._fail(error)

    def _write(self, record: Record) -> list[int]:
        """The segment that holds the record now and is kept for it; none if the disk refused."""
        try:
            segment = self._journal.write(record)
        except StorageUnavailable as error:
            self.is_kept = self.is_kept and isinstance(record, Sent)
            self._fail(error)
            return []
        if self._journal.is_full:
            self._fail(
                StorageUnavailable(
                    f"no space left for the outbox {self.folder}",
                    hint="free up space, then restart the worker",
                )
            )
        self._users[segment] += 1
        old, self._segment = self._segment, segment
        if old != segment and old not in self._users:
            self._forget(old)
        return [segment]

    def _release(self, segments: Iterable[int]) -> None:
        for segment in segments:
            self._users[segment] -= 1
            if self._users[segment] <= 0:
                del self._users[segment]
                self._forget(segment)

    def _forget(self, segment: int) -> None:
        try:
            self._journal.forget(segment)
        except StorageUnavailable as error:
            self._fail(error)

    def _fail(self, error: StorageUnavailable) -> None:
        if self.failure is None:
            self.failure = error
            log.error("%s; no new calls are sent", error.message)
            self.on_failure()

    def _batch(self, job: str, size: int = 0) -> _Batch:
        batch = self._batches.get(job)
        if batch is not None and batch.rows and not batch.has_room_for(1, size):
            self._full.append(self._batches.pop(job))
            batch = None
        if batch is None:
            batch = self._batches[job] = _Batch(job, time.monotonic())
        return batch


def _in_portions(entries: list[_OnItsWay]) -> Iterator[list[_OnItsWay]]:
    """So that each goes to Redis in less than a command's time."""
    portion: list[_OnItsWay] = []
    size = 0
    for entry in entries:
        if portion and size + len(entry.data) > MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += len(entry.data)
    if portion:
        yield portion
