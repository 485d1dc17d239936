"""Deliveries on their way home: sent, and sent again until each is acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from jobs.wire import VERSION, Delivery, pack_bodies, pack_delivery
from workers.delivery.delivery_batches import MOST_BYTES, Batch

RESEND_S, LONGEST_RESEND_S = 20.0, 1800.0
"""A delivery that was not acknowledged for so long is sent again: Redis may have lost it. Each time
the wait doubles, since a home that is away must not find its stream full of copies.
"""


class Streams(Protocol):
    """What the outbox asks of Redis; each may raise `ConnectionError` and is then tried again."""

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        """Adds (job, delivery) entries to the streams of their jobs."""

    async def acknowledged(self, outbox: str) -> list[int]:
        """Sequence numbers that the home has on disk, each told once."""


@dataclass
class OnItsWay:
    """A delivery that the home has not acknowledged; sent (again) at `due`, monotonic seconds. It
    has calls of `chunks`, and the closings of those that are `closed`.
    """

    job: str
    data: bytes
    segments: Counter[int]
    chunks: set[tuple[str, int]]
    closed: list[tuple[str, int]]
    since: float
    due: float = float("-inf")
    patience: float = RESEND_S

    def was_sent(self, now: float) -> None:
        """It left; the next time it waits twice as long."""
        self.due = now + self.patience
        self.patience = min(2 * self.patience, LONGEST_RESEND_S)

    def hasten(self) -> None:
        """It goes out again at once."""
        self.due, self.patience = float("-inf"), RESEND_S


class Deliveries:
    """Those of one outbox, numbered in order."""

    def __init__(self, outbox: str, streams: Streams) -> None:
        self.last_sequence = 0
        self._outbox = outbox
        self._streams = streams
        self._on_the_way: dict[int, OnItsWay] = {}

    def __iter__(self) -> Iterator[OnItsWay]:
        return iter(self._on_the_way.values())

    def __bool__(self) -> bool:
        return bool(self._on_the_way)

    @property
    def oldest(self) -> int:
        """The lowest number that is not acknowledged, or that comes next."""
        return min(self._on_the_way, default=self.last_sequence + 1)

    def pack(self, batch: Batch) -> None:
        """Makes a delivery of a batch; it leaves with the next `send`."""
        self.last_sequence += 1
        delivery = Delivery(
            self._outbox,
            self.last_sequence,
            batch.job,
            batch.calls,
            batch.results,
            batch.closed,
            batch.found,
            pack_bodies(batch.bodies),
            VERSION,
        )
        self._on_the_way[self.last_sequence] = OnItsWay(
            batch.job,
            pack_delivery(delivery),
            batch.segments,
            {(batch.job, call.chunk) for call in batch.calls},
            [(batch.job, closed.chunk) for closed in batch.closed],
            batch.since,
        )

    async def send(self, now: float) -> None:
        """Sends what is due; may raise `ConnectionError`, and is to be called again then."""
        for some in _in_portions([entry for entry in self if now >= entry.due]):
            await self._streams.send([(entry.job, entry.data) for entry in some])
            for entry in some:
                entry.was_sent(now)

    async def acknowledged(self) -> list[OnItsWay]:
        """Those that the home has on disk by now, each once. May raise `ConnectionError`."""
        if not self._on_the_way:
            return []
        numbers = await self._streams.acknowledged(self._outbox)
        found = (self._on_the_way.pop(number, None) for number in numbers)
        return [entry for entry in found if entry is not None]

    def resend_all(self) -> None:
        """Redis forgot: every delivery that is not acknowledged goes out again at once."""
        for entry in self:
            entry.hasten()


def _in_portions(entries: list[OnItsWay]) -> Iterator[list[OnItsWay]]:
    """So that each goes to Redis in less than a command's time."""
    portion: list[OnItsWay] = []
    size = 0
    for entry in entries:
        if portion and size + len(entry.data) > MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += len(entry.data)
    if portion:
        yield portion
