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
from collections.abc import Callable
from pathlib import Path

import msgspec

from jobs.chunk import ChunkClosed
from jobs.errors import StorageUnavailable
from jobs.gateways import ROUBLES, Tariff
from jobs.message import N_
from jobs.outcome import Billing
from jobs.result import Call, Result
from jobs.wire import Found
from workers.calling.endpoint import Answer
from workers.delivery.delivery_batches import Batches
from workers.delivery.delivery_queue import Deliveries, Streams
from workers.delivery.journal import Claimed, Closed, Ended, Heard, Sent
from workers.delivery.segments import Segments

SYNC_S = 0.04
"""At most this long between an answer's arrival and its being on the disk."""

_STUMBLED_S = 1.0

log = logging.getLogger("nightshift.outbox")


def new_name() -> str:
    """No other outbox has had it."""
    return secrets.token_hex(5)


class Outbox:
    """One per worker process. All methods are for the event loop's thread."""

    def __init__(self, folder: Path, streams: Streams, name: str = "") -> None:
        self.name = name or new_name()
        self.disk = Segments(folder / self.name)
        self._batches = Batches()
        self._deliveries = Deliveries(self.name, streams)
        self._last_call = 0
        self._open_calls: dict[str, list[int]] = {}
        self._claims: dict[tuple[str, int], list[int]] = {}
        self._held: set[tuple[str, int]] = set()
        self._booked: Counter[tuple[str, int]] = Counter()
        self._watchers: list[tuple[int, Callable[[], None]]] = []
        self._last: list[tuple[str, ChunkClosed]] = []
        self._closers: list[tuple[set[tuple[str, int]], Callable[[], None]]] = []
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def lag_s(self) -> float:
        """For how many seconds the oldest thing that is not in the home yet has been here."""
        since = [each.since for waiting in (self._batches, self._deliveries) for each in waiting]
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
        *,
        began: bool = False,
    ) -> None:
        """A chunk is taken; told again once it `began`."""
        self._held.add((job, chunk))
        record = Claimed(job, chunk, requests, tariff, began)
        self._claims.setdefault((job, chunk), []).extend(self.disk.write(record))

    def sent(self, record: Sent) -> None:
        """A call is about to leave. `StorageUnavailable` if that cannot be kept: it must not."""
        self.disk.look()
        segments = self.disk.write(record) if self.disk.failure is None else []
        if self.disk.failure is not None:
            raise self.disk.failure
        self._open_calls[record.call] = segments

    def heard(self, call: str, generation_id: str) -> None:
        """The headers of a call arrived."""
        self._open_calls[call] += self.disk.write(Heard(call, generation_id))

    def ended(self, call: str, answer: Answer) -> None:
        """A call ended; its raw answer is kept before anyone reads it."""
        record = Ended(call, msgspec.Raw(msgspec.msgpack.encode(answer)))
        self._open_calls[call] += self.disk.write(record)

    # ---- what is to be delivered -----------------------------------------------------------

    def put(self, job: str, call: Call, result: Result | None, body: bytes = b"") -> None:
        """A call's row for the ledger and, if it ended the request, the result and raw answer."""
        batch = self._batches.of(job, len(body), rows=2)
        batch.calls.append(call)
        self._booked[job, call.chunk] += call.billing is not Billing.NONE
        segments = self._open_calls.pop(call.id, [])
        for segment in segments:  # by hand: `Counter.update` takes its time over the type first
            batch.segments[segment] += 1
        if result is not None:
            batch.add(result, body)
        elif (job, call.chunk) in self._claims:
            # How often a request was tried must be known as long as it may be given back.
            self.disk.keep(segments)
            self._claims[job, call.chunk] += segments

    def put_result(self, job: str, result: Result, body: bytes = b"") -> None:
        """The end of a request."""
        self._batches.of(job, len(body)).add(result, body)

    def dismiss(self, call: str) -> None:
        """A call that cost nothing and ended nothing: no row of the ledger."""
        self.disk.release(self._open_calls.pop(call, ()))

    def put_closed(self, job: str, closed: ChunkClosed) -> None:
        """A chunk is done with; how many of its calls were put here is told with it."""
        booked = self._booked.pop((job, closed.chunk), 0)
        outbox = closed.outbox or self.name
        closed = msgspec.structs.replace(closed, calls=closed.calls or booked, outbox=outbox)
        batch = self._batches.of(job)
        batch.closed.append(closed)
        record = Closed(job, *msgspec.structs.astuple(closed))
        batch.segments.update(self.disk.write(record))
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
        self._batches.of(job).found.append(found)

    def open_chunks(self) -> dict[str, list[int]]:
        """Those of each job of which the home does not have everything yet that is here."""
        found: dict[str, list[int]] = {}
        for job, chunk in sorted(self._held.union(*(each.chunks for each in self._deliveries))):
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
        self.disk.close(empty=self._is_empty and not self.disk.in_use)
        return self._is_empty

    def abandon(self) -> None:
        """Lets go before anything was begun: nothing is left on the disk."""
        self.disk.close(empty=True)

    @property
    def _is_empty(self) -> bool:
        return not (self._batches or self._deliveries)

    def when_acknowledged(self, then: Callable[[], None]) -> None:
        """Calls `then` once the home has everything that was put here before `start`, the last
        closings too.
        """
        for batch in self._batches.take_all():
            self._deliveries.pack(batch)
        last, self._last = self._last, []

        def close() -> None:
            for job, closed in last:
                self.put_closed(job, closed)
            self._closers.append(({(job, closed.chunk) for job, closed in last}, then))

        self._watchers.append((self._deliveries.last_sequence, close))

    def resend_all(self) -> None:
        """Redis forgot: every delivery that is not acknowledged goes out again at once."""
        self._deliveries.resend_all()

    async def _run(self) -> None:
        while not self._closing:
            await self._turn(hurry=False)
            await asyncio.sleep(SYNC_S)

    async def _turn(self, *, hurry: bool) -> None:
        """One round. Whatever befalls it, there is another: answers must not wait for ever."""
        self.disk.look()
        try:
            await self._sync()
            await self._deliver(hurry=hurry)
            for entry in await self._deliveries.acknowledged():
                self._held.difference_update(entry.closed)
                self.disk.release(entry.segments.elements())
            self._tell_watchers()
        except ConnectionError as error:
            log.debug("Redis is away, results wait on the disk: %s", error)
            await asyncio.sleep(SYNC_S)
        except StorageUnavailable as error:
            self.disk.fail(error)
        except Exception as error:
            # Texts of exceptions may quote answers, so only the class is told.
            log.error(N_("outbox failure: {kind}", kind=type(error).__name__))  # noqa: TRY400
            log.debug("", exc_info=error)
            await asyncio.sleep(_STUMBLED_S)

    async def _sync(self) -> None:
        """After this, what waited here is on the disk and may be delivered."""
        self._batches.begin_sync()
        try:
            await self.disk.sync()
        finally:
            for batch in self._batches.end_sync():
                self._deliveries.pack(batch)

    async def _deliver(self, *, hurry: bool) -> None:
        now = time.monotonic()
        for batch in self._batches.due(now, hurry=hurry, alone=not self._open_calls):
            self._deliveries.pack(batch)
        await self._deliveries.send(now)

    def _tell_watchers(self) -> None:
        oldest = self._deliveries.oldest
        ready = [then for sequence, then in self._watchers if sequence < oldest]
        self._watchers = [watcher for watcher in self._watchers if watcher[0] >= oldest]
        for then in ready:
            then()
        for closer in [each for each in self._closers if not each[0] & self._held]:
            self._closers.remove(closer)
            closer[1]()
