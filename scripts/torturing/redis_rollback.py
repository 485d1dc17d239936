"""A server that comes back with an older memory: a snapshot, a cut append-only file, a replica."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis

from scripts.torturing.installation import Installation

_MOST_KEPT = 5
_PATIENCE_S = 30.0
_GROWS_S = 3.0
"""So long a file of commands grows before its end is cut off."""

AOF = ("--appendonly", "yes")


class RedisRollback:
    """Of a house's server; those that are kept may be older than jobs that have ended since."""

    def __init__(self, house: Installation, redis: Redis, dice: random.Random) -> None:
        self._house = house
        self._redis = redis
        self._dice = dice
        self._folder = house.folder / "memories"
        self._count = 0

    def keep(self) -> None:
        """What the server remembers now, chunks that wait included."""
        self._folder.mkdir(exist_ok=True)
        self._redis.save()
        self._count += 1
        shutil.copy(self._house.folder / "dump.rdb", self._folder / f"{self._count}.rdb")
        (self._folder / f"{self._count - _MOST_KEPT}.rdb").unlink(missing_ok=True)

    def _older(self) -> Path:
        return self._dice.choice(sorted(self._folder.iterdir()))

    def put_back(self) -> None:
        """The server is killed, and comes back with a snapshot."""
        self._house.kill("server")
        shutil.copy(self._older(), self._house.folder / "dump.rdb")
        self._house.start("server")

    def cut(self) -> None:
        """The server is killed, and the end of its append-only file is lost."""
        house, files = self._house, self._house.folder / "appendonlydir"
        self._redis.config_set("appendonly", "yes")
        _until(lambda: not self._redis.info("persistence")["aof_rewrite_in_progress"])
        time.sleep(self._dice.uniform(1, _GROWS_S))
        house.kill("server")
        (growing,) = files.glob("*.incr.aof")
        with growing.open("r+b") as file:
            file.truncate(int(growing.stat().st_size * self._dice.random()))
        house.server_options += AOF
        house.start("server")
        del house.server_options[-len(AOF) :]
        _until(lambda: bool(self._redis.ping()))
        self._redis.config_set("appendonly", "no")
        shutil.rmtree(files)

    def fail_over(self) -> None:
        """A replica that was left behind takes over: the same process, and connections stay."""
        folder = self._house.folder / "replica"
        folder.mkdir(exist_ok=True)
        shutil.copy(self._older(), folder / "dump.rdb")
        other = Installation(folder, workers=0)
        other.start("server")
        try:
            self._redis.replicaof("127.0.0.1", other.port)
            _until(lambda: self._redis.info("replication")["master_link_status"] == "up")
            self._redis.replicaof("NO", "ONE")
        finally:
            other.kill("server")


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not come to it")
        time.sleep(0.05)
