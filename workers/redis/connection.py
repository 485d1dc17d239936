"""The connections of a worker to Redis, and what of it is of our making."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from jobs.errors import UsageError
from jobs.message import N_
from jobs.redis_url import parse_redis_url
from jobs.signing import Seal

TIMEOUT_S = 4.0

_SPOILT = ("WRONGTYPE", "hash value is not an integer", "would overflow")


class Connection:
    """Redis as `worker` uses it. Chunks are taken over one connection, the `line`: whenever it is
    made, it may lead elsewhere, and `on_line` is called. `foreign` counts what was dropped as not
    of our making.
    """

    def __init__(self, redis_url: str, worker: str, seal: Seal) -> None:
        self.worker = worker
        self.seal = seal
        self.on_line: Callable[[], None] = lambda: None
        self.foreign = 0
        try:
            self.redis = _client(redis_url)
            self.line = _client(
                redis_url, single_connection_client=True, redis_connect_func=self._connected
            )
        except ValueError as error:
            # Its text may quote the address, and with it the password.
            raise UsageError(
                N_("the Redis address is invalid"),
                hint=N_("set NIGHTSHIFT_REDIS_URL, for example redis://localhost:6379/0"),
            ) from error

    async def check(self) -> None:
        """`UsageError` if Redis does not let us in; that it is not there yet is no error."""
        try:
            await self.redis.ping()
        except (AuthenticationError, AuthorizationError) as error:
            raise UsageError(
                N_("Redis rejected the password"), hint=N_("check NIGHTSHIFT_REDIS_URL")
            ) from error
        except (RedisError, OSError, TimeoutError):
            return

    async def close(self) -> None:
        """Drops the connections."""
        await self.line.aclose()
        await self.redis.aclose()

    def ours(self, place: str, signed: bytes | None) -> bytes | None:
        """What was signed for that place; None where it is not there, or is somebody else's."""
        data = self.seal.opened(place, signed)
        self.foreign += data is None and signed is not None
        return data

    async def _connected(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        self.on_line()


def _client(redis_url: str, **how: Any) -> Redis:
    return Redis.from_url(
        parse_redis_url(redis_url).redis_py(),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        **how,
    )


def is_spoilt(error: ResponseError) -> bool:
    """Whether a key held what is not of our making; a server that refuses is no sign of it."""
    return any(words in str(error) for words in _SPOILT)


@asynccontextmanager
async def as_connection_errors() -> AsyncIterator[None]:
    """What redis-py raises is a `ConnectionError` of ours."""
    try:
        yield
    except (RedisError, OSError, TimeoutError, RuntimeError) as error:
        # RuntimeError is uvloop's word for a connection that broke while it lay in the pool.
        raise ConnectionError(type(error).__name__) from error
