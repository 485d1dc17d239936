"""All that one coordinator asks of one Redis."""

from __future__ import annotations

from batch.coordinator.redis.chunk_permits import Chunks
from batch.coordinator.redis.data_loss_watch import MemoryWatch
from batch.coordinator.redis.flower_inbox import Clicks
from batch.coordinator.redis.published_status import Status
from batch.coordinator.redis.redis_client import TIMEOUT_S
from batch.coordinator.redis.result_streams import Results
from batch.coordinator.redis.signed import SignedRedis
from jobs.signing import Seal


class CoordinatorRedis:
    """By subject."""

    def __init__(self, redis_url: str, seal: Seal, timeout_s: float = TIMEOUT_S) -> None:
        self._at = SignedRedis(redis_url, seal, timeout_s)
        self.memory = MemoryWatch(self._at)
        self.chunks = Chunks(self._at)
        self.results = Results(self._at)
        self.status = Status(self._at)
        self.clicks = Clicks(self._at)

    @property
    def foreign(self) -> int:
        """What was dropped as not of our making."""
        return self._at.foreign

    def close(self) -> None:
        """Drops the connections."""
        self._at.close()
