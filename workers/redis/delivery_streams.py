"""Deliveries on their way to the home, and what it acknowledged of them."""

from __future__ import annotations

from typing import cast

from redis.exceptions import ResponseError

from jobs import names
from workers.redis.connection import Connection, as_connection_errors, is_spoilt


class DeliveryStreams:
    """The streams of jobs, as an outbox uses them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._ours = connection.ours
        self._seal = connection.seal

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        """Adds (job, delivery) entries to the streams of their jobs."""
        async with as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job, data in entries:
                key = names.results_key(job)
                pipe.xadd(key, {"d": self._seal.sign(key, data)})
                pipe.expire(key, names.LONGEST_LIFE_S)
            await pipe.execute()

    async def acknowledged(self, outbox: str) -> list[int]:
        """Sequence numbers that the home has on disk, each told once."""
        key = names.acks_key(outbox)
        async with as_connection_errors():
            numbers = [self._ours(key, signed) for signed in await self._popped(key)]
        return [int(number) for number in numbers if number is not None]

    async def _popped(self, key: str) -> list[bytes]:
        try:
            return cast("list[bytes] | None", await self._redis.lpop(key, 10_000)) or []
        except ResponseError as error:
            if not is_spoilt(error):
                raise
        # It is not of our making: what is not acknowledged is sent again, and acknowledged then.
        self._connection.foreign += 1
        await self._redis.delete(key)
        return []
