"""Chunks on their way to workers, permits and holds."""

from __future__ import annotations

import logging
import time

from batch.coordinator.redis.redis_client import while_running
from batch.coordinator.redis.signed import SignedRedis
from jobs import names
from jobs.chunk import Payload
from jobs.message import N_
from jobs.signing import Target
from jobs.wire import (
    Permit,
    pack_payload,
    pack_permit,
)

_LOST_S = 7 * 24 * 3600
"""A worker that wakes after so long still learns that its chunk was given up."""

_HOLD_S = 24 * 3600

_WORKER_HOLDS_S = 20.0
"""A worker's hold has run out by then."""

_LOSE = """
local claim, payload, taken = unpack(KEYS)
local by = redis.pcall('GET', claim)
if ARGV[3] ~= '1' and type(by) == 'string' and by ~= ARGV[1] then
  return 0
end
redis.call('SET', claim, ARGV[1], 'EX', ARGV[2])
redis.call('DEL', payload, taken)
return 1
"""
"""In one step, so that a worker that wakes either keeps its chunk or learns that it is lost."""

log = logging.getLogger("nightshift.coordinator")


class Chunks:
    """Of all jobs at one server."""

    def __init__(self, at: SignedRedis) -> None:
        self._at = at
        self._lose = at.redis.register_script(_LOSE)
        self._held_since: dict[str, tuple[bytes, float]] = {}

    def put_payload(self, payload: Payload) -> None:
        """Lays a chunk down for the worker that will take it. Nobody has: what says otherwise is
        forged, or of a chunk that had this number before a home was restored.
        """
        keys = (names.permit_key, names.claim_key, names.taken_key)
        key = names.payload_key(payload.job, payload.chunk)
        signed = self._at.seal.sign(key, pack_payload(payload))
        with while_running(), self._at.redis.pipeline(transaction=False) as pipe:
            pipe.delete(*(key(payload.job, payload.chunk) for key in keys))
            pipe.set(key, signed, ex=names.LONGEST_LIFE_S)
            pipe.execute()

    def permit(self, job: str, permits: dict[int, Permit]) -> None:
        """Tells those that asked whose attempt at each chunk may make its calls."""
        with while_running(), self._at.redis.pipeline(transaction=False) as pipe:
            for chunk, permit in permits.items():
                key = names.permit_key(job, chunk)
                pipe.set(key, self._at.seal.sign(key, pack_permit(permit)), ex=_HOLD_S)
            pipe.execute()

    def forget_chunks(self, job: str, chunks: list[int]) -> None:
        """Chunks that are closed or given up need no payload any more, so nobody can take them."""
        if chunks:
            keys = (names.payload_key, names.taken_key, names.claim_key, names.permit_key)
            self._forget(*(key(job, chunk) for key in keys for chunk in chunks))

    def _forget(self, *keys: str) -> None:
        with while_running():
            self._at.redis.delete(*keys)

    def forget_payloads(self, job: str, chunks: set[int]) -> None:
        """Nobody is to take these chunks any more."""
        if chunks:
            self._forget(*(names.payload_key(job, chunk) for chunk in chunks))

    def lose(self, job: str, chunk: int, *, surely: bool = False) -> bool:
        """Gives a chunk up, for good: whether it did. Not if a worker claims it after all, unless
        it is `surely` lost: anybody may have written that claim.
        """
        keys = [key(job, chunk) for key in (names.claim_key, names.payload_key, names.taken_key)]
        mark = self._at.seal.sign(keys[0], names.LOST)
        with while_running():
            return bool(self._lose(keys, (mark, _LOST_S, int(surely))))

    def queued(self, target: Target) -> int:
        """Messages that wait in a target's Celery queue, over all its priorities."""
        queue = f"{names.CELERY_PREFIX}{self._at.seal.queue(target)}"
        queues = [queue + suffix for suffix in ("", "\x06\x163", "\x06\x166", "\x06\x169")]

        def count() -> int:
            with self._at.redis.pipeline(transaction=False) as pipe:
                for each in queues:
                    pipe.llen(each)
                return sum(pipe.execute())

        return self._at.typed(dict.fromkeys(queues, b"list"), count)

    def hold(self, job: str, reason: str) -> None:
        """Tells workers to start nothing of a job."""
        self._at.put(names.hold_key(job), reason.encode(), life_s=_HOLD_S)

    def unhold(self, job: str) -> None:
        """Lets workers go on with a job."""
        self._held_since.pop(job, None)
        with while_running():
            self._at.redis.delete(names.hold_key(job))

    def check_hold(self, job: str) -> None:
        """Ends a hold of a job that is in progress, unless a worker just asked for it: it is
        forged, or one of earlier that somebody put back.
        """
        found = self._at.value(names.hold_key(job))
        if found is None:
            self._held_since.pop(job, None)
            return
        since = self._held_since.get(job)
        if since is None or since[0] != found:
            self._held_since[job] = (found, time.monotonic())
        genuine = self._at.ours(names.hold_key(job), found) is not None
        if not genuine or time.monotonic() - self._held_since[job][1] > _WORKER_HOLDS_S:
            log.warning(N_("{job} was paused in Redis by an unknown party; it continues", job=job))
            self.unhold(job)

    def forget_job(self, job: str) -> None:
        """Nothing of an ended job needs to stay but its last progress."""
        with while_running():
            self._at.redis.delete(names.results_key(job), names.hold_key(job))
