"""Who is there, and how jobs stand: what workers and coordinators tell each other and Flower."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar, cast

import msgspec
from msgspec import structs

from batch.coordinator.redis.redis_client import while_running
from batch.coordinator.redis.signed import SignedRedis, read_json
from jobs import names
from jobs.errors import BadMessage
from jobs.worker_heartbeat import WorkerStatus

_PROGRESS_S = 7 * 24 * 3600

MOST_LISTED = 1000
"""Jobs that Flower lists: those that are not over, and the newest of the others."""

_PRESENT_S = 17
"""A worker's sign of life is not older than this, by Redis's clock: it lives for 15 s."""

_SERVES_S = 10

MOST_WORKERS = 10_000
"""More of them than this are not of our making."""

T = TypeVar("T")


class Status:
    """At one server. `strangers` are the signs of life, at the last look, of workers that have
    another secret.
    """

    def __init__(self, at: SignedRedis) -> None:
        self._at = at
        self.strangers = 0

    def workers(self) -> list[WorkerStatus]:
        """What each worker that is there tells of itself; of one that was there, somebody may have
        put it back.
        """
        with while_running():
            scanned = self._at.redis.scan_iter(names.worker_key("*"), count=1000)
            keys = cast(list[bytes], list(islice(scanned, MOST_WORKERS)))
            found = cast(list[bytes | None], self._at.redis.mget(keys)) if keys else []
        now = self._at.time()
        told = [(key, data) for key, data in zip(keys, found, strict=True) if data]
        read = [self._status(key.decode(errors="replace"), data) for key, data in told]
        self.strangers = read.count(None)
        return [
            structs.replace(each, silent_s=max(now - each.at, 0.0))
            for each in read
            if each is not None and abs(now - each.at) <= _PRESENT_S
        ]

    def _status(self, key: str, data: bytes) -> WorkerStatus | None:
        """None for what another secret signed; it is there at each look, so it is not counted."""
        try:
            return read_json(self._at.seal.verify(key, data), WorkerStatus)
        except BadMessage:
            return None

    def publish(self, job: str, progress: dict[str, object], rank: float) -> None:
        """Tells whoever watches how a job stands; Flower lists those of the highest rank."""
        key = names.progress_key(job)
        told = self._at.seal.sign(key, msgspec.json.encode(progress))

        def publish() -> None:
            with self._at.redis.pipeline(transaction=False) as pipe:
                pipe.set(key, told, ex=_PROGRESS_S)
                pipe.zadd(names.JOBS, {job: rank})
                pipe.expire(names.JOBS, _PROGRESS_S)
                pipe.zremrangebyrank(names.JOBS, 0, -MOST_LISTED - 1)
                pipe.execute()

        self._at.typed({names.JOBS: b"zset"}, publish)

    def publish_series(self, job: str, series: bytes) -> None:
        """Tells how a job went over time."""
        self._at.put(names.series_key(job), series, life_s=_PROGRESS_S)

    def publish_events(self, job: str, events: object) -> None:
        """Tells what happened to a job."""
        self._at.put(names.events_key(job), msgspec.json.encode(events), life_s=_PROGRESS_S)

    def told_series(self, job: str) -> bytes:
        """What was last told of how a job went over time; empty where nothing was."""
        return self._at.take(names.series_key(job)) or b""

    def serve(self, home_id: str, coordinator: str) -> bool:
        """Whether no other coordinator works on the home of that id, or on a copy of it."""
        key, mine = names.serves_key(home_id), coordinator.encode()
        if self._at.take(key) not in (None, mine):
            return False
        self._at.put(key, mine, life_s=_SERVES_S)
        return True

    def be_present(self, home: str, facts: object) -> None:
        """A coordinator's sign of life."""
        self._at.put(names.coordinator_key(home), msgspec.json.encode(facts), life_s=_SERVES_S)

    def present(self, home: str, kind: type[T]) -> T | None:
        """A coordinator's last sign of life; None where there is none."""
        data = self._at.take(names.coordinator_key(home))
        return None if data is None else read_json(data, kind)

    def published(self, job: str, kind: type[T]) -> T | None:
        """What was last told of a job, as far as `kind` has it; None where nothing was."""
        data = self._at.take(names.progress_key(job))
        return None if data is None else read_json(data, kind)
