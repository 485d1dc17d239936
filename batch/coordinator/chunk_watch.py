"""The chunks of a job that are out: what is known of each, and what must be done about it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable

from batch.coordinator.reconcile import SILENCE_S, Step, Watch, decide
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.store.chunks import UNKNOWN, OpenChunk
from batch.store.jobstore import JobStore
from batch.watching.latest_incidents import WORKER_SILENT, Troubles
from jobs.message import N_
from jobs.signing import Target

CLAIMED_S = 20.0
"""A worker that came back tells so by then; else somebody else keeps its claim there."""

log = logging.getLogger("nightshift.coordinator")


class ChunkWatch:
    """What is out of one job. Monotonic seconds: a chunk was last given up at `lost_at`; chunks fed
    since `begun_at` tell how the job does now.
    """

    def __init__(
        self,
        store: JobStore,
        redis: CoordinatorRedis,
        troubles: Troubles,
        whole_since: float = math.inf,
        patience_s: float = SILENCE_S,
    ) -> None:
        """`whole_since`: Redis knows all that was fed since then, Unix seconds; what was fed before
        and nobody began waits again. `patience_s`: how long a worker may be silent before its
        chunks are given up.
        """
        self._store, self._redis, self._troubles = store, redis, troubles
        self._job = store.job().id
        self._patience_s = patience_s
        self.begun_at = self.lost_at = now = time.monotonic()
        self._heard_at = float("-inf")
        self.ran_out = False
        """Whether the last chunk was closed since somebody last asked."""
        self._to_forget = come_home(store, whole_since)
        self._mark_lost(whole_since)
        self._out = {
            chunk.chunk: Watch(-math.inf, now if chunk.begun_by else None, mine=False)
            for chunk in store.chunks.alive()
            if not chunk.lost
        }

    def __len__(self) -> int:
        """How many are out."""
        return len(self._out)

    def __contains__(self, chunk: int) -> bool:
        """Whether a chunk is out."""
        return chunk in self._out

    def heard(self, at: float) -> None:
        """All that was there `at` has been taken in."""
        self._heard_at = at

    def redis_forgot(self) -> None:
        """What was told to Redis may not stand there any more, or what was taken back may again."""
        for number in come_home(self._store):
            self._out.pop(number, None)
        self._mark_lost()

    def _mark_lost(self, before: float = math.inf) -> None:
        """A worker that wakes must learn that the chunks which were fed before then are lost."""
        for chunk in self._store.chunks.alive():
            if chunk.lost and chunk.fed_at < before:
                self._redis.chunks.lose(self._job, chunk.chunk, surely=True)

    def doubt(self) -> None:
        """Any chunk may be with a worker."""
        for watch in self._out.values():
            watch.seen_at = watch.seen_at or time.monotonic()

    def began(self, chunks: Iterable[int]) -> None:
        """Workers began these chunks."""
        for chunk in chunks:
            watch = self._out.get(chunk)
            # The first time alone: an ask that somebody puts back tells of no living worker.
            if watch is not None and watch.seen_at is None:
                watch.seen_at = time.monotonic()

    def closed(self, chunks: list[int]) -> None:
        """These chunks are done with."""
        for chunk in chunks:
            self._out.pop(chunk, None)
        self._to_forget += chunks
        self.ran_out |= bool(chunks) and not self._out

    def fed(self) -> None:
        """Chunks were fed; those that Redis did not take are on disk, and are sent again."""
        for chunk in self._store.chunks.out():
            if chunk not in self._out:
                self._out[chunk] = Watch(time.monotonic())

    def is_ours(self, chunk: int) -> bool:
        """Whether a chunk was fed since the job last began.

        What was fed before may tell of a fault that is mended by now: the next chunk will show.
        """
        watch = self._out.get(chunk)
        return watch is not None and watch.mine and watch.sent_at >= self.begun_at

    def withdraw(self) -> None:
        """Takes back what was fed and no worker began: nobody is permitted to any more."""
        for number in come_home(self._store):
            self._out.pop(number, None)
            self._to_forget.append(number)
        self.forget()

    def forget(self) -> None:
        """Nobody can take any more what is closed or was taken back."""
        self._redis.chunks.forget_chunks(self._job, self._to_forget)
        self._to_forget.clear()

    def reconcile(
        self,
        target: Target,
        named: Collection[int],
        redis_since: float,
        send_again: Callable[[OpenChunk], None],
    ) -> None:
        """Does what must be done about chunks that are out; workers told that they have the
        `named` ones, and Redis has had its memory whole `redis_since`.
        """
        if not self._out:
            return
        now, missing = time.monotonic(), self._messages_missing(target)
        steps = {
            number: decide(
                watch,
                named=number in named,
                now=now,
                redis_since=redis_since,
                heard_at=self._heard_at,
                message_missing=number in missing,
                patience_s=self._patience_s,
            )
            for number, watch in self._out.items()
        }
        if any(step is not Step.KEEP for step in steps.values()):
            self._act(steps, now, send_again)

    def _messages_missing(self, target: Target) -> set[int]:
        """Chunks that nobody took and that no message may ask for: the oldest of them, as many as
        there are too few messages.
        """
        unseen = [number for number, watch in self._out.items() if watch.seen_at is None]
        unseen.sort(key=lambda number: self._out[number].sent_at)
        missing = len(unseen) - self._redis.chunks.queued(target) if unseen else 0
        return set(unseen[: max(missing, 0)])

    def _act(
        self, steps: dict[int, Step], now: float, send_again: Callable[[OpenChunk], None]
    ) -> None:
        for chunk in self._store.chunks.alive():
            step = steps.get(chunk.chunk, Step.KEEP)
            if step is Step.LOSE:
                self._lose(chunk)
            elif step is Step.SEND_AGAIN:
                log.info("%s: chunk %d is sent again", self._job, chunk.chunk)
                send_again(chunk)
                self._out[chunk.chunk].sent_at = now

    def _lose(self, chunk: OpenChunk) -> None:
        place = (self._job, chunk.chunk)
        watch = self._out[chunk.chunk]
        waited = time.monotonic() - (watch.doubted_at or math.inf)
        if not self._redis.chunks.lose(self._job, chunk.chunk, surely=waited > CLAIMED_S):
            return  # its worker came back just now
        del self._out[chunk.chunk]
        if chunk.is_unspent:
            log.info("%s: the worker of chunk %d made no call of it; it is fed again", *place)
            self._store.chunks.take_back(chunk)
            return
        log.warning(
            N_(
                "{job}: lost contact with the worker of chunk {chunk}; its remaining requests are"
                " sent again",
                job=place[0],
                chunk=place[1],
            )
        )
        self._troubles.meet(WORKER_SILENT, time.time())
        taken = watch.seen_at is not None and chunk.begun_by != UNKNOWN
        self._store.chunks.lose(chunk, taken=taken, now=time.time())
        self.lost_at = time.monotonic()


def come_home(store: JobStore, before: float = math.inf) -> list[int]:
    """Takes back the chunks that were fed before then and that nobody began."""
    chunks = [
        each
        for each in store.chunks.alive()
        if not (each.lost or each.begun_by) and each.fed_at < before
    ]
    for chunk in chunks:
        store.chunks.take_back(chunk)
    return [chunk.chunk for chunk in chunks]
