"""A worker's side of Redis: chunks taken and kept, deliveries sent, signs of life, the shared pace.

Every command gives up within seconds, and a failure of any kind is a `ConnectionError`: callers
keep what they have and try again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jobs import names
from jobs.chunk import Payload
from jobs.wire import unpack_payload
from workers.pace import LEASE_S, SCRIPT, Ask, Share

TIMEOUT_S = 4.0
CLAIM_S = 15.0
"""A claim that is not renewed for so long is void: its worker is dead or cut off."""

DONE_S = 3600
_DONE = b"done"


class Post:
    """One worker process at one Redis."""

    def __init__(self, redis_url: str, worker: str) -> None:
        self.worker = worker
        self._redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._pace = self._redis.register_script(SCRIPT)

    async def close(self) -> None:
        """Drops the connections."""
        await self._redis.aclose()

    # ---- chunks -----------------------------------------------------------------------------

    async def claim(self, job: str, chunk: int) -> Payload | None:
        """The payload, if this worker is the first to take the chunk.

        None for a message that came twice or too late. Raises `BadMessage` for a foreign payload.
        """
        async with _as_connection_errors():
            key = names.claim_key(job, chunk)
            data = await self._redis.get(names.payload_key(job, chunk))
            if data is None:
                return None
            taken = await self._redis.set(key, self.worker, nx=True, px=int(CLAIM_S * 1000))
        if not taken:
            return None
        payload = unpack_payload(cast(bytes, data))
        same = (payload.job, payload.chunk) == (job, chunk)
        return payload if same else None

    async def beat(
        self,
        chunks: list[tuple[str, int]],
        presence: dict[str, object],
    ) -> tuple[set[str], str]:
        """Renews the claims and the worker's sign of life.

        Returns the jobs of which nothing may be sent, and Redis's epoch ("" when it has none).
        """
        jobs = sorted({job for job, _ in chunks})
        async with _as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            for key in chunks:
                pipe.set(names.claim_key(*key), self.worker, px=int(CLAIM_S * 1000))
            pipe.set(
                names.worker_key(self.worker), msgspec.json.encode(presence), px=int(CLAIM_S * 1000)
            )
            pipe.get(names.EPOCH)
            pipe.mget([names.hold_key(job) for job in jobs] or [names.EPOCH])
            *_, epoch, holds = await pipe.execute()
        held = {job for job, hold in zip(jobs, holds, strict=False) if hold is not None}
        return held, (epoch or b"").decode()

    async def release(self, job: str, chunk: int) -> None:
        """The chunk is done with; a late message for it finds this and is dropped."""
        async with _as_connection_errors():
            await self._redis.set(names.claim_key(job, chunk), _DONE, ex=DONE_S)

    async def leave(self) -> None:
        """This worker is gone."""
        async with _as_connection_errors():
            await self._redis.delete(names.worker_key(self.worker))

    # ---- the outbox's port --------------------------------------------------------------------

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        """Adds (job, delivery) entries to the streams of their jobs."""
        async with _as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job, data in entries:
                pipe.xadd(names.results_key(job), {"d": data})
            await pipe.execute()

    async def acknowledged(self, outbox: str) -> list[int]:
        """Sequence numbers that the home has on disk, each told once."""
        async with _as_connection_errors():
            found = await self._redis.lpop(names.acks_key(outbox), 10_000)
        return [int(number) for number in found or []]

    # ---- the pace's port ----------------------------------------------------------------------

    async def exchange(self, scope: str, ask: Ask) -> Share:
        """Tells what happened, gets this process's share."""
        async with _as_connection_errors():
            slots, requests, tokens, pause_ms, limit = await self._pace(
                keys=[f"ns:pace:{scope}", f"ns:slots:{scope}"],
                args=[
                    self.worker,
                    LEASE_S,
                    ask.wanted,
                    ask.in_flight,
                    ask.successes,
                    ask.throttles,
                    ask.retry_after_s,
                    ask.most,
                    ask.rpm,
                    ask.tpm,
                    ask.requests,
                    ask.tokens,
                ],
            )
        return Share(slots, requests, tokens, pause_ms / 1000, limit)


@asynccontextmanager
async def _as_connection_errors() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise ConnectionError(type(error).__name__) from error
