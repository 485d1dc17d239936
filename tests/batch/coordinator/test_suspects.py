"""A request that kills its workers is found out, and those beside it are not taken for it (P12)."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from batch.coordinator.feeder import POISON, Feeder
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.store import delivery_ledger
from batch.store.chunks import OpenChunk
from batch.store.jobstore import JobStore
from batch.store.poison_requests import ALONE, SUSPECT, trial_size
from jobs.chunk import DRAINED, WORKER_DIED, ReturnReason
from jobs.wire import Delivery
from tests.batch.making import FakePost, FakeSender, call, closing, delivery, publish, result

IN_FLIGHT = 10


class Workshop:
    """A job and its one worker, which has up to `IN_FLIGHT` calls of its chunks in flight and dies
    whenever one of the poisonous is among them.
    """

    def __init__(self, store: JobStore, poison: set[int], *, journal: bool = True) -> None:
        self.store = store
        self.poison = poison
        self.journal = journal
        self.feeder = Feeder(store, cast(CoordinatorRedis, FakePost()), cast(Sender, FakeSender()))
        self.out: dict[int, OpenChunk] = {}
        self.calls: Counter[int] = Counter()
        self.deaths = 0
        self.dice = random.Random(7)
        self._last = 0

    def work(self) -> None:
        """Until nothing is left to do."""
        while self.store.job().left:
            self.store.failures.set_poison_aside(POISON, 1000.0 + self.deaths)
            fed = self.feeder.feed(self.store.job(), 6 - len(self.out))
            self.out |= {chunk.chunk: chunk for chunk in fed.chunks}
            if self.out:
                self._some_calls()

    def _some_calls(self) -> None:
        waiting = [
            (number, triple)
            for number, chunk in self.out.items()
            for triple in self.store.chunks.unfinished(chunk)
        ]
        flying = self.dice.sample(waiting, min(IN_FLIGHT, len(waiting)))
        self.calls.update(triple[0] for _, triple in flying)
        if self.poison & {triple[0] for _, triple in flying}:
            self._die(flying)
            return
        for number, triple in flying:
            ordinal = triple[0]
            told = delivery([self._call(ordinal, number)], [result(ordinal, number)])
            self._apply(told)
        for number, chunk in list(self.out.items()):
            if not self.store.chunks.unfinished(chunk):
                self._apply(delivery(closed=[closing(number)]))
                del self.out[number]

    def _die(self, flying: list[tuple[int, tuple[int, int, int]]]) -> None:
        self.deaths += 1
        for number, chunk in self.out.items():
            cut = {triple[0] for at, triple in flying if at == number}
            back = [
                (n, attempts + (n in cut), uncertain + (n in cut))
                for n, attempts, uncertain in self.store.chunks.unfinished(chunk)
            ]
            if not self.journal:
                self.store.chunks.lose(chunk, taken=True)
                continue
            calls = [self._call(n, number, cost=None) for n in cut]
            self._apply(delivery(calls, closed=[closing(number, back, WORKER_DIED)]))
        self.out.clear()

    def _call(self, ordinal: int, chunk: int, cost: str | None = "0.5"):  # type: ignore[no-untyped-def]
        self._last += 1
        return call(ordinal, chunk, id=f"box-{self._last}", cost=cost)

    def _apply(self, told: Delivery) -> None:
        delivery_ledger.apply(self.store, [told])

    def failed(self) -> set[int]:
        rows = self.store.db.execute("SELECT ordinal FROM results WHERE state = 'failed'")
        return {row[0] for row in rows}


def answer(store: JobStore, chunk: OpenChunk) -> None:
    """All of a chunk is answered."""
    done = [result(triple[0], chunk.chunk) for triple in chunk.requests]
    delivery_ledger.apply(store, [delivery([], done, [closing(chunk.chunk)])])


@pytest.mark.parametrize("poison", [{17}, {0, 1, 2}, {3, 90, 150, 199}])
def test_p12_only_the_poisonous_die_three_times_and_all_others_are_answered(
    tmp_path: Path, poison: set[int]
) -> None:
    shop = Workshop(publish(tmp_path, 200, chunk_size=20), poison)

    shop.work()

    assert shop.failed() == poison
    assert all(shop.calls[ordinal] <= 3 for ordinal in range(200))
    job = shop.store.job()
    assert (job.completed, job.failed) == (200 - len(poison), len(poison))


def test_p12_without_its_workers_journals_it_is_found_out_too(tmp_path: Path) -> None:
    shop = Workshop(publish(tmp_path, 60, chunk_size=10), {31}, journal=False)

    shop.work()

    assert shop.failed() == {31}
    assert shop.calls[31] <= 4


def test_suspects_are_not_mixed_with_others_and_a_second_suspicion_is_tried_alone(
    tmp_path: Path,
) -> None:
    store = publish(tmp_path, 40, chunk_size=20)
    shop = Workshop(store, set())
    (chunk,) = shop.feeder.feed(store.job(), 1).chunks
    back = [(n, 1, int(n < 6)) for n in range(20)]
    delivery_ledger.apply(store, [delivery(closed=[closing(chunk.chunk, back, WORKER_DIED)])])

    trial, *fresh = shop.feeder.feed(store.job(), 9).chunks
    assert [triple[0] for triple in trial.requests] == [0, 1, 2, 3]
    assert sorted(triple[0] for each in fresh for triple in each.requests) == [*range(6, 40)]
    assert shop.feeder.feed(store.job(), 9).chunks == []

    back = [(0, 2, 2), (1, 2, 1), (2, 2, 1), (3, 2, 1)]
    delivery_ledger.apply(store, [delivery(closed=[closing(trial.chunk, back, WORKER_DIED)])])
    (rest,) = shop.feeder.feed(store.job(), 9).chunks
    assert [triple[0] for triple in rest.requests] == [1, 2, 3, 4], "one alone holds nobody up"
    answer(store, rest)
    (rest,) = shop.feeder.feed(store.job(), 9).chunks
    assert [triple[0] for triple in rest.requests] == [5]
    answer(store, rest)
    assert shop.feeder.feed(store.job(), 9).chunks == [], "others are still out"
    for each in fresh:
        answer(store, each)
    store.db.execute("UPDATE results SET state = 'failed' WHERE ordinal = 39")
    (alone,) = shop.feeder.feed(store.job(), 9).chunks
    assert [triple[0] for triple in alone.requests] == [0]
    assert shop.feeder.feed(store.job(), 9).chunks == []
    store.failures.retry()
    assert len(store.queue.waiting(9)) == 1
    assert shop.feeder.feed(store.job(), 9).chunks == [], "what is tried again would die with it"
    answer(store, alone)
    answer(store, *shop.feeder.feed(store.job(), 9).chunks)
    assert store.job().left == 0


@pytest.mark.parametrize(("reason", "suspected"), [(DRAINED, set()), (WORKER_DIED, {1})])
def test_what_a_lost_chunks_worker_tells_later_clears_those_that_were_not_in_flight(
    tmp_path: Path, reason: ReturnReason, suspected: set[int]
) -> None:
    store = publish(tmp_path, 4, chunk_size=4)
    shop = Workshop(store, set())
    for _ in range(2):
        (chunk,) = shop.feeder.feed(store.job(), 1).chunks
        store.chunks.lose(chunk, taken=True)
    assert len(store.queue.suspects().requests) == 4

    for chunk_number in (1, 2):
        back = [(0, 1, 0), (1, 1, 1), (2, 0, 0), (3, 0, 0)]
        delivery_ledger.apply(store, [delivery(closed=[closing(chunk_number, back, reason)])])

    assert {each.ordinal for each in store.queue.suspects().requests} == suspected


def test_a_chunk_that_no_worker_was_seen_to_take_makes_nobody_suspect(tmp_path: Path) -> None:
    store = publish(tmp_path, 4, chunk_size=4)
    shop = Workshop(store, set())
    for _ in range(3):
        (chunk,) = shop.feeder.feed(store.job(), 1).chunks
        store.chunks.lose(chunk)

    assert store.queue.suspects().requests == []


def test_trials_are_as_large_as_there_are_many() -> None:
    assert [trial_size(count) for count in (1, 4, 16, 17, 100, 101, 10_000)] == [
        *(4, 4, 4, 5, 10, 11, 100)
    ]
    assert SUSPECT < ALONE
