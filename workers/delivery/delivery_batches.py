"""What waits to be delivered, by job: first for the disk, then for company."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from jobs.chunk import ChunkClosed
from jobs.result import Call, Result
from jobs.wire import Found

DELIVER_S = 0.25
"""Results of a job wait at most this long for company before they are delivered."""

DELIVER_ROWS = 128
"""Results of a job that are delivered without waiting for more."""

MOST_ROWS, MOST_BYTES = 1024, 8 * 2**20
"""A delivery takes no more once it has so many: the home must be able to swallow it."""


@dataclass
class Batch:
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

    def add(self, result: Result, body: bytes) -> None:
        """The end of a request, and its raw answer if there is one."""
        if body:
            result = msgspec.structs.replace(result, body=len(self.bodies))
            self.bodies.append(body)
            self.size += len(body)
        self.results.append(result)

    @property
    def rows(self) -> int:
        """Facts in it."""
        return len(self.calls) + len(self.results) + len(self.closed) + len(self.found)

    def has_room_for(self, rows: int, size: int) -> bool:
        """Whether it may take so many more."""
        return self.rows + rows <= MOST_ROWS and self.size + size <= MOST_BYTES

    def extend(self, more: Batch) -> None:
        """Takes all of another one in."""
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


class Batches:
    """Of each job the batch that is being filled, and the one that is on the disk."""

    def __init__(self) -> None:
        self._open: dict[str, Batch] = {}
        self._full: list[Batch] = []
        self._syncing: list[Batch] = []
        self._synced: dict[str, Batch] = {}

    def __iter__(self) -> Iterator[Batch]:
        yield from (*self._open.values(), *self._full, *self._syncing, *self._synced.values())

    def __bool__(self) -> bool:
        return bool(self._open or self._full or self._syncing or self._synced)

    def of(self, job: str, size: int = 0, rows: int = 1) -> Batch:
        """The one to put so many facts of the job into, with a body of `size` bytes."""
        batch = self._open.get(job)
        if batch is not None and not batch.has_room_for(rows, size) and batch.rows:
            self._full.append(self._open.pop(job))
            batch = None
        if batch is None:
            batch = self._open[job] = Batch(job, time.monotonic())
        return batch

    def begin_sync(self) -> None:
        """What was put here so far is on its way to the disk."""
        self._syncing = [*self._full, *self._open.values()]
        self._full, self._open = [], {}

    def end_sync(self) -> list[Batch]:
        """It is there; returns what is full and leaves at once."""
        syncing, self._syncing = self._syncing, []
        return [full for batch in syncing if (full := self._merge(batch)) is not None]

    def _merge(self, batch: Batch) -> Batch | None:
        waiting = self._synced.setdefault(batch.job, batch)
        if waiting is batch:
            return None
        if waiting.has_room_for(batch.rows, batch.size):
            waiting.extend(batch)
            return None
        self._synced[batch.job] = batch
        return waiting

    def due(self, now: float, *, hurry: bool, alone: bool) -> list[Batch]:
        """What is on the disk and has waited for company long enough; `alone`: none will come."""
        due = [
            batch
            for batch in self._synced.values()
            if hurry
            or batch.rows >= DELIVER_ROWS
            or now - batch.since >= DELIVER_S
            or (batch.closed and alone)
        ]
        for batch in due:
            del self._synced[batch.job]
        return due

    def take_all(self) -> list[Batch]:
        """Everything, whether or not it is on the disk."""
        everything = [*self._synced.values(), *self._full, *self._open.values()]
        self._synced, self._full, self._open = {}, [], {}
        return everything
