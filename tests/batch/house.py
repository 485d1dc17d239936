"""A home with its coordinator, over a post that is only memory, by a clock that tests set."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from batch.coordinator import (
    chunk_watch,
    coordinator_service,
    isolation,
    job_controller,
    job_status,
    outputs,
    redis_recovery,
    restored_backup,
    result_intake,
    status_publisher,
)
from batch.coordinator.coordinator_service import Coordinator
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from jobs.job_commands import NAMED
from tests.batch.making import (
    BASE_URL,
    JOB,
    FakePost,
    FakeSender,
    call,
    closing,
    delivery,
    prices,
    publish,
    result,
)


class Clock:
    """Monotonic and wall time that pass only when a test says so, or somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_800_000_000.0

    def monotonic(self) -> float:
        # Each look is a little later than the one before.
        self.now += 1e-6
        return self.now

    def time(self) -> float:
        return self.wall

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


def go_by(patch: pytest.MonkeyPatch, clock: Clock) -> None:
    """The coordinator's time is this clock's."""
    for module in (
        job_controller,
        chunk_watch,
        result_intake,
        job_status,
        status_publisher,
        delivery_ledger,
        restored_backup,
        isolation,
        redis_recovery,
        coordinator_service,
    ):
        patch.setattr(module, "time", clock)
    # However busy the machine is: what is written is waited for.
    patch.setattr(outputs, "_PATIENCE_S", 60.0)


class House:
    """A home with its coordinator, and the worker's side of the post."""

    def __init__(self, folder: Path, clock: Clock, only: str | None = None) -> None:
        self.folder = folder
        self.clock = clock
        self.home = Home(folder)
        self.post, self.sender = FakePost(), FakeSender()
        self.worker()
        self.only = only
        self.coordinator = self._coordinator()

    def _coordinator(self) -> Coordinator:
        return Coordinator(
            self.home, cast(CoordinatorRedis, self.post), cast(Sender, self.sender), only=self.only
        )

    def restart(self) -> None:
        self.coordinator.close()
        self.coordinator = self._coordinator()

    def worker(self, **facts: object) -> None:
        self.post.present = [{"base_url": BASE_URL, "in_flight": 0, **facts}]

    def turn(self, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            self.coordinator.step()
            self.clock.sleep(seconds)

    def store(self, job: str = JOB) -> JobStore:
        return self.home.open(job, read_only=True)

    def row(self, job: str = JOB) -> JobRow:
        store = self.store(job)
        try:
            return store.job()
        finally:
            store.close()

    def change(self, job: str = JOB) -> JobStore:
        """As another process would have it."""
        return self.home.open(job)

    def ask(self, name: str, job: str = JOB) -> None:
        """Has the job paused, resumed or cancelled, as another process does it."""
        with contextlib.closing(self.home.open(job)) as store:
            store.heed(NAMED[name], now=datetime.now(UTC))

    def answer(
        self, *chunks: int, job: str = JOB, cost: str = "0.1", sent_at: float = 1002.0
    ) -> None:
        """A worker takes these chunks and answers all of their requests."""
        for number in chunks:
            payload = self.post.take(job, number)
            ordinals = [work.ordinal for work in payload.requests]
            calls = [call(n, number, cost=cost, sent_at=sent_at) for n in ordinals]
            results = [result(n, number) for n in ordinals]
            self.post.send(delivery(calls, results, [closing(number)], job=job, sequence=number))
            self.post.claimed[job, number] = "done"

    def out(self, job: str = JOB) -> list[int]:
        return self.store(job).chunks.out()

    def output(self, job: str = JOB) -> Path:
        return Path(self.row(job).spec.output_dir)


def job(house: House, requests: int = 8, job: str = JOB, **wish: Any) -> None:
    wish = {"chunk_size": 4, "output_dir": str(house.folder / f"out-{job[:8]}"), **wish}
    publish(house.folder, requests, job=job, priced=prices(), **wish).close()
