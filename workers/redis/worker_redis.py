"""All that one worker process asks of one Redis."""

from __future__ import annotations

from jobs.signing import Seal
from workers.redis.claims import Claims
from workers.redis.connection import Connection
from workers.redis.data_loss_check import Vouching
from workers.redis.delivery_streams import DeliveryStreams
from workers.redis.heartbeats import Heartbeats
from workers.redis.shared_limiter import SharedLimiters


class WorkerRedis:
    """By subject; `UsageError` for an address that is none."""

    def __init__(self, redis_url: str, worker: str, seal: Seal) -> None:
        self.connection = Connection(redis_url, worker, seal)
        vouching = Vouching(self.connection)
        self.claims = Claims(self.connection, vouching)
        self.heartbeats = Heartbeats(self.connection, vouching, self.claims)
        self.deliveries = DeliveryStreams(self.connection)
        self.limiters = SharedLimiters(self.connection)

    async def leave(self) -> None:
        """This worker is gone, and others may have its calls in flight."""
        await self.heartbeats.leave()
        await self.limiters.leave()
