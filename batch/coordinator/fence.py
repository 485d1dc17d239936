"""Whether Redis still remembers what it was told: the fence under which chunks are taken.

A server that comes back from a snapshot, a cut append-only file or a stale replica does not know
that it is old: chunks of jobs that ended long ago wait in it, and whatever mark stands in it is as
old as they are. So nothing that stands there is believed. A coordinator counts in Redis, at every
look, and keeps the count and the server's run id at home. As long as both agree, it vouches for its
fence to each worker, under a nonce that the worker made up when its connection was made: no older
memory can hold that. A chunk's message names its fence, and a worker takes it only while that is
vouched for.

Where they do not agree the fence is broken, and there is a new one. What went out under the old one
is not taken by anybody; what must be done is sent again under the new one.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.store.home import Home
from jobs.names import FENCE


class _Kept(msgspec.Struct):
    """`since`: Unix seconds. `server`: a run id, "" where the server does not tell it. `place`:
    `Home.place` when it was written, "" where that is not known.
    """

    fence: str
    count: int
    server: str
    since: float
    place: str = ""


def _read(path: Path) -> _Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return _Kept("", 0, "", 0.0)


class Fence:
    """A home's fence. `whole_since`: since when Redis's memory has been whole, Unix seconds."""

    def __init__(self, home: Home, redis: CoordinatorRedis, sender: Sender) -> None:
        self._home = home
        self._path = home.folder / FENCE
        self._redis = redis
        self._sender = sender
        self._kept = _read(self._path)
        self.is_copied = home.is_copied()
        """Whether its files are a copy, of which nothing has shown that it is the newest."""
        self._connections = -1
        # A copy is told as one until it is seen to.
        self._is_placed = self.is_copied
        self.is_behind = False
        """Whether Redis remembers more than this home: the home is an older copy of itself."""
        sender.fence = self._kept.fence

    @property
    def whole_since(self) -> float:
        """Since when Redis's memory has been whole; what was fed before may be unknown to it."""
        return self._kept.since

    def holds(self) -> bool:
        """Whether Redis's memory is what it was; then workers are vouched to."""
        self._count_on()
        kept = self._kept
        found = self._redis.memory.vouch(kept.fence, kept.count, kept.server)
        # Of a server that does not tell who it is, a new connection may lead to another.
        same = bool(found.server) or self._redis.memory.connections == self._connections
        self._connections = self._redis.memory.connections
        if not (found.whole and same):
            self._kept.server, self.is_behind = found.server, found.count > kept.count
            return False
        self._kept.count += 1
        if self.is_copied:
            self.is_copied = self._is_placed = False
        return True

    def renew(self) -> None:
        """Puts another in its place."""
        old, fence = self._kept.fence, secrets.token_hex(8)
        self._kept = _Kept(fence, 1, self._kept.server, time.time(), self._kept.place)
        self._is_placed = False
        self._write()
        self._redis.memory.begin_fence(fence, old)
        self._sender.fence = fence

    def _count_on(self) -> None:
        # Before Redis is told: what stands there is never ahead of what is known here.
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        """In place: that needs no room on a full disk, and a torn record counts as none."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if not self._is_placed:
                self._kept.place, self._is_placed = self._home.place(), True
            os.pwrite(fd, msgspec.json.encode(self._kept).ljust(256), 0)
        finally:
            os.close(fd)
