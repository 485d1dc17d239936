"""Values in Redis that carry our signature; what does not is somebody else's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import msgspec
from redis import Redis
from redis.connection import AbstractConnection
from redis.exceptions import ResponseError

from batch.coordinator.redis.redis_client import connect, while_running, words_of
from jobs.errors import BadMessage
from jobs.message import N_
from jobs.signing import Seal

LARGEST_STATUS = 2**20
"""Bytes that a worker may tell of itself."""

T = TypeVar("T")

log = logging.getLogger("nightshift.coordinator")


class SignedRedis:
    """One server, and the `seal` of what is ours there. `foreign` counts what was dropped as not of
    our making; `connections`, how often one was made: each may lead to another server.
    """

    def __init__(self, redis_url: str, seal: Seal, timeout_s: float) -> None:
        self.connections = 0
        self.redis: Redis = connect(redis_url, self._connected, timeout_s)
        self.seal = seal
        self.foreign = 0

    def _connected(self, connection: AbstractConnection) -> None:
        connection.on_connect()  # type: ignore[no-untyped-call]  # redis-py's own
        self.connections += 1

    def close(self) -> None:
        """Drops the connections."""
        self.redis.close()

    def put(self, key: str, data: bytes, *, life_s: int) -> None:
        """Signs a value for that key."""
        with while_running():
            self.redis.set(key, self.seal.sign(key, data), ex=life_s)

    def take(self, key: str) -> bytes | None:
        """What we signed for that key; None where it is not there, or is somebody else's."""
        return self.ours(key, self.value(key))

    def value(self, key: str) -> bytes | None:
        """What stands there, whoever wrote it."""
        found = self.typed({key: b"string"}, lambda: self.redis.get(key))
        return cast("bytes | None", found)

    def ours(self, place: str, signed: bytes | None) -> bytes | None:
        """What was signed for that place; None where it is not there, or is somebody else's."""
        data = self.seal.opened(place, signed)
        self.foreign += data is None and signed is not None
        return data

    def typed(self, types: Mapping[str, bytes], command: Callable[[], T]) -> T:
        """Runs a command; keys that hold another type are not of our making, and are dropped."""
        with while_running():
            try:
                return command()
            except ResponseError as error:
                # Of a script an older server tells first where it stood.
                if "WRONGTYPE" not in words_of(error):
                    raise
            for key, expected in types.items():
                if self.redis.type(key) not in {expected, b"none"}:
                    log.warning(N_("{key}: dropped an invalid message", key=key))
                    self.foreign += 1
                    self.redis.delete(key)
            return command()

    def time(self) -> int:
        """The server's clock, Unix seconds."""
        with while_running():
            return self.redis.time()[0]


def read_json(data: bytes, kind: type[T]) -> T:
    """A value of that kind; `BadMessage` for anything else, however it is made."""
    if len(data) > LARGEST_STATUS:
        raise BadMessage(N_("larger than any valid message"))
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BadMessage(N_("unexpected format")) from error
