"""The limiter that all workers of an endpoint, key and model share: one script decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from redis.exceptions import ResponseError

from jobs import names
from jobs.errors import BadMessage
from workers.pacing.leases import LEASE_S, SCRIPT, Lease, LeaseRequest, lease_of
from workers.redis.connection import Connection, as_connection_errors

_PACE_S = 24 * 3600


class SharedLimiters:
    """Those that one worker takes part in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._worker = connection.worker
        self._exchange = connection.redis.register_script(SCRIPT)
        self._slots: set[str] = set()
        self._dead: set[bytes] = set()

    async def exchange(self, scope: str, ask: LeaseRequest) -> Lease:
        """Tells what happened, gets this process's share."""
        keys = [names.pace_key(scope), names.slots_key(scope), names.minute_key(scope)]
        async with as_connection_errors():
            try:
                if keys[1] not in self._slots:
                    await self._release_slots(keys[1])
                    self._slots.add(keys[1])
                asked = [self._worker, LEASE_S, *vars(ask).values()]
                return lease_of(await self._exchange(keys=keys, args=asked))
            except (ResponseError, BadMessage) as error:
                if not _is_spoilt(error):
                    raise
        # Somebody else wrote there: the pace is found anew.
        self._connection.foreign += 1
        async with as_connection_errors():
            await self._redis.delete(*keys)
        raise ConnectionError("invalid state of the shared limiter")

    async def lift(self, scope: str) -> None:
        """No worker waits any longer for what the endpoint asked for; one looks at once."""
        async with as_connection_errors():
            key = names.pace_key(scope)
            await self._redis.hset(key, mapping={"pause": 0, "probe": 0})
            await self._redis.expire(key, _PACE_S)

    def mark_dead(self, outboxes: Iterable[str]) -> None:
        """Workers whose names end with these are dead: what they had in flight is not any more.

        Else their places would be free when their leases have run out.
        """
        self._dead |= {name.encode() for name in outboxes}

    async def _release_slots(self, key: str) -> None:
        if not self._dead:
            return
        workers = cast("list[bytes]", await self._redis.hkeys(key))
        if dead := [name for name in workers if name.rpartition(b":")[2] in self._dead]:
            await self._redis.hdel(key, *dead)

    async def leave(self) -> None:
        """Others may have this worker's calls in flight."""
        async with as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            for key in self._slots:
                pipe.hdel(key, self._worker)
            await pipe.execute()


def _is_spoilt(error: Exception) -> bool:
    """Whether the script met what it had not written itself; a server's refusal is none."""
    of_script = ("WRONGTYPE", "user_script:", "ERR user_script:", "Error running script")
    return isinstance(error, BadMessage) or str(error).startswith(of_script)
