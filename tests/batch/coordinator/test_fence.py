"""The fence of a home, at a memory that is only a dictionary."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

from batch.coordinator.fence import Fence
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.data_loss_watch import Memory
from batch.coordinator.task_publisher import Sender
from batch.store.home import Home
from jobs.names import FENCE


class Remembering:
    """Redis, as far as a fence asks it: fences and their counts."""

    def __init__(self) -> None:
        self.server, self.connections, self.fence = "a" * 40, 1, ""
        self.counts: dict[str, int] = {}
        self.memory = self

    def vouch(self, fence: str, count: int, server: str) -> Memory:
        known = self.counts.get(fence, -1)
        whole = server == self.server and known in (count, count - 1)
        if whole:
            self.counts[fence] = count
        return Memory(whole, self.server, known)

    def begin_fence(self, fence: str, _old: str) -> None:
        self.counts = {fence: 0}


def fence(home: Path, memory: Remembering) -> Fence:
    return Fence(Home(home), cast(CoordinatorRedis, memory), cast(Sender, memory))


def test_a_fence_is_known_after_a_restart_though_its_server_has_a_shorter_name(
    tmp_path: Path,
) -> None:
    memory = Remembering()
    one = fence(tmp_path, memory)
    for memory.server in ("a" * 40, "b"):
        assert not one.holds()
        one.renew()
        assert one.holds()

    again = fence(tmp_path, memory)
    assert again.holds()
    assert (again.whole_since, memory.fence) == (one.whole_since, next(iter(memory.counts)))


def test_a_memory_in_which_a_count_is_missing_is_not_whole(tmp_path: Path) -> None:
    memory = Remembering()
    one = fence(tmp_path, memory)
    one.holds()
    one.renew()
    assert one.holds()
    before = dict(memory.counts)
    assert one.holds()
    assert one.holds()

    memory.counts = before
    assert not one.holds()
    assert not fence(tmp_path, memory).holds()


def test_a_copy_is_one_until_it_was_seen_to_or_redis_knows_it_for_the_newest(
    tmp_path: Path,
) -> None:
    memory, old = Remembering(), tmp_path / "old"
    old.mkdir()
    one = fence(old, memory)
    assert not one.holds()
    one.renew()
    assert one.holds()

    for place, is_known in (("a", True), ("b", False)):
        copy = shutil.copytree(old, tmp_path / place)
        if not is_known:
            memory.server = "another"
        for _ in range(2):
            again = fence(copy, memory)
            assert again.is_copied
            if not is_known:
                # It dies before its jobs were seen to.
                assert not again.holds()
        if not is_known:
            again.renew()
        assert again.holds()
        assert again.holds()
        assert not fence(copy, memory).is_copied


def test_what_a_link_leads_to_is_not_written(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / FENCE).symlink_to(other)

    assert not fence(tmp_path, Remembering()).holds()

    assert other.read_text() == "mine"
