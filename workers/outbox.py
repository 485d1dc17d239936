"""A worker's durable queue of results that are not yet in the home.

Way of an answer: raw into the journal (page cache) the moment it is whole; synced within
`SYNC_S`, many at once; then packed into a delivery of its job, sent to the job's stream, and
forgotten only when the home acknowledged it. What is not acknowledged is sent again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from jobs.chunk import ChunkClosed
from jobs.errors import StorageUnavailable
from jobs.result import Call, Result
from jobs.wire import Delivery, Found, pack_bodies, pack_delivery
from workers.endpoint import Answer
from workers.journal import Claimed, Closed, Ended, Heard, Journal, Record, Sent

SYNC_S = 0.04
"""At most this long between an answer's arrival and its being on the disk."""

DELIVER_S = 0.25
"""Results of a job wait at most this long for company before they are delivered."""

DELIVER_ROWS = 128
"""Results of a job that are delivered without waiting for more."""

RESEND_S = 20.0
"""A delivery that was not acknowledged for so long is sent again: Redis may have lost it."""

log = logging.getLogger("nightshift.outbox")


class Post(Protocol):
    """What the outbox asks of Redis; each may raise `ConnectionError` and is then tried again."""

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        """Adds (job, delivery) entries to the streams of their jobs."""

    async def acknowledged(self, outbox: str) -> list[int]:
        """Sequence numbers that the home has on disk, each told once."""


@dataclass
class _Batch:
    """What waits to be delivered for one job."""

    since: float
    calls: list[Call] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    closed: list[ChunkClosed] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    segments: Counter[int] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return len(self.calls) + len(self.results) + len(self.closed) + len(self.found)


@dataclass
class _OnItsWay:
    """A delivery that the home has not acknowledged."""

    job: str
    data: bytes
    segments: Counter[int]
    closed: list[tuple[str, int]]
    sent: float


class Outbox:
    """One per worker process. All methods are for the event loop's thread."""

    def __init__(self, folder: Path, post: Post) -> None:
        self.name = secrets.token_hex(5)
        self._journal = Journal(folder / self.name)
        self._post = post
        self._last_call = 0
        self._last_sequence = 0
        self._batches: dict[str, _Batch] = {}
        self._synced: dict[str, _Batch] = {}
        self._on_the_way: dict[int, _OnItsWay] = {}
        self._open_calls: dict[str, list[int]] = {}
        self._users: Counter[int] = Counter()
        self._claims: dict[tuple[str, int], int] = {}
        self._held: set[tuple[str, int]] = set()
        self.failure: StorageUnavailable | None = None
        self._watchers: list[tuple[int, Callable[[], None]]] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def folder(self) -> Path:
        """Where this outbox's journal stands."""
        return self._journal.folder

    def new_call_id(self) -> str:
        """An id no other call has: the outbox and a number, so that ids of one worker ascend."""
        self._last_call += 1
        return f"{self.name}-{self._last_call:08x}"

    # ---- facts, each on its way to the disk when the method returns ------------------------

    def claimed(self, job: str, chunk: int, requests: list[tuple[int, int, int]]) -> None:
        """A chunk is taken."""
        segment = self._write(Claimed(job, chunk, requests))
        self._claims[job, chunk] = segment
        self._held.add((job, chunk))

    def sent(self, record: Sent) -> None:
        """A call is about to leave."""
        self._open_calls[record.call] = [self._write(record)]

    def heard(self, call: str, generation_id: str) -> None:
        """The headers of a call arrived."""
        self._journal.write(Heard(call, generation_id))

    def ended(self, call: str, answer: Answer) -> None:
        """A call ended; its raw answer is kept before anyone reads it."""
        record = Ended(call, msgspec.Raw(msgspec.msgpack.encode(answer)))
        try:
            self._open_calls[call].append(self._write(record))
        except StorageUnavailable as error:
            # The answer is paid for: with no disk it still goes home by way of memory.
            self.failure = error

    # ---- what is to be delivered -----------------------------------------------------------

    def put(self, job: str, call: Call, result: Result | None, body: bytes = b"") -> None:
        """A call's row for the ledger and, if it ended the request, the result and raw answer."""
        batch = self._batch(job)
        batch.calls.append(call)
        batch.segments.update(self._open_calls.pop(call.id, ()))
        if result is not None:
            self.put_result(job, result, body)

    def put_result(self, job: str, result: Result, body: bytes = b"") -> None:
        """The end of a request."""
        batch = self._batch(job)
        if body:
            result = msgspec.structs.replace(result, body=len(batch.bodies))
            batch.bodies.append(body)
        batch.results.append(result)

    def dismiss(self, call: str) -> None:
        """A call that cost nothing and ended nothing: no row of the ledger."""
        for segment in self._open_calls.pop(call, ()):
            self._release(segment)

    def put_closed(self, job: str, closed: ChunkClosed) -> None:
        """A chunk is done with."""
        batch = self._batch(job)
        batch.closed.append(closed)
        try:
            batch.segments[
                self._write(
                    Closed(job, closed.chunk, closed.reason, closed.returned, closed.refusals)
                )
            ] += 1
        except StorageUnavailable as error:
            self.failure = error
        claim = self._claims.pop((job, closed.chunk), None)
        if claim is not None:
            batch.segments[claim] += 1

    def put_found(self, job: str, found: Found) -> None:
        """What a lookup told."""
        self._batch(job).found.append(found)

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
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        deadline = time.monotonic() + patience_s
        while True:
            await self._turn(hurry=True)
            empty = not (self._on_the_way or self._batches or self._synced)
            if empty or time.monotonic() > deadline:
                break
            await asyncio.sleep(SYNC_S)
        self._journal.close(empty=empty and not self._users)
        return empty

    def when_acknowledged(self, then: Callable[[], None]) -> None:
        """Calls `then` once the home has everything that was put here until now."""
        for job in list(self._batches):
            self._pack(job, self._batches.pop(job))
        self._watchers.append((self._last_sequence, then))

    def resend_all(self) -> None:
        """Redis forgot: every delivery that is not acknowledged goes out again at once."""
        for entry in self._on_the_way.values():
            entry.sent = 0.0

    async def _run(self) -> None:
        while True:
            await self._turn(hurry=False)
            await asyncio.sleep(SYNC_S)

    async def _turn(self, *, hurry: bool) -> None:
        await self._sync()
        try:
            await self._deliver(hurry=hurry)
            if self._on_the_way:
                self._acknowledge(await self._post.acknowledged(self.name))
            if self._watchers:
                self._tell_watchers()
        except ConnectionError as error:
            log.debug("Redis is away, results wait on the disk: %s", error)
            await asyncio.sleep(SYNC_S)

    async def _sync(self) -> None:
        """After this, what waited in `_batches` is on the disk and may be delivered."""
        if self._journal.is_dirty:
            waiting, self._batches = self._batches, {}
            try:
                await asyncio.to_thread(self._journal.sync)
            finally:
                self._merge(waiting)
        elif self._batches:
            waiting, self._batches = self._batches, {}
            self._merge(waiting)

    def _merge(self, waiting: dict[str, _Batch]) -> None:
        for job, batch in waiting.items():
            if job in self._synced:
                _extend(self._synced[job], batch)
            else:
                self._synced[job] = batch

    async def _deliver(self, *, hurry: bool) -> None:
        now = time.monotonic()
        due = [
            job
            for job, batch in self._synced.items()
            if hurry or batch.rows >= DELIVER_ROWS or now - batch.since >= DELIVER_S
        ]
        for job in due:
            self._pack(job, self._synced.pop(job))
        late = [entry for entry in self._on_the_way.values() if now - entry.sent > RESEND_S]
        if late:
            await self._post.send([(entry.job, entry.data) for entry in late])
            for entry in late:
                entry.sent = now

    def _pack(self, job: str, batch: _Batch) -> None:
        self._last_sequence += 1
        delivery = Delivery(
            self.name,
            self._last_sequence,
            job,
            batch.calls,
            batch.results,
            batch.closed,
            batch.found,
            pack_bodies(batch.bodies),
        )
        # Never sent yet: `late` from the start, so that a Redis that is away loses nothing.
        self._on_the_way[self._last_sequence] = _OnItsWay(
            job,
            pack_delivery(delivery),
            batch.segments,
            [(job, closed.chunk) for closed in batch.closed],
            float("-inf"),
        )

    def _tell_watchers(self) -> None:
        oldest = min(self._on_the_way, default=self._last_sequence + 1)
        ready = [then for sequence, then in self._watchers if sequence < oldest]
        self._watchers = [watcher for watcher in self._watchers if watcher[0] >= oldest]
        for then in ready:
            then()

    def _acknowledge(self, sequences: list[int]) -> None:
        for sequence in sequences:
            entry = self._on_the_way.pop(sequence, None)
            if entry is not None:
                self._held.difference_update(entry.closed)
                for segment, count in entry.segments.items():
                    self._release(segment, count)

    # ---- which segments are still needed ------------------------------------------------------

    def _write(self, record: Record) -> int:
        segment = self._journal.write(record)
        self._users[segment] += 1
        return segment

    def _release(self, segment: int, count: int = 1) -> None:
        self._users[segment] -= count
        if self._users[segment] <= 0:
            del self._users[segment]
            self._journal.forget(segment)

    def _batch(self, job: str) -> _Batch:
        batch = self._batches.get(job)
        if batch is None:
            batch = self._batches[job] = _Batch(time.monotonic())
        return batch


def _extend(batch: _Batch, more: _Batch) -> None:
    shift = len(batch.bodies)
    batch.calls += more.calls
    batch.results += [
        msgspec.structs.replace(result, body=result.body + shift) if result.body >= 0 else result
        for result in more.results
    ]
    batch.closed += more.closed
    batch.found += more.found
    batch.bodies += more.bodies
    batch.segments.update(more.segments)
