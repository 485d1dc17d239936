"""Calls that are for several requests, or ask one once more: judged as they are booked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from batch.store import delivery_ledger
from batch.store.call_units import INVALID, REPAIRED, Asked, Ruling, Unit
from batch.store.chunks import OpenChunk
from batch.store.delivery_ledger import Applied
from batch.store.jobstore import JobStore
from jobs.budget import UNCAPPED
from jobs.result import Result
from jobs.wire import Delivery
from tests.batch.making import ANSWER, call, closing, delivery, publish, result, waiting

AGAIN = Ruling("it is no sentiment", rung=1)


@dataclass
class Scripted:
    """Rules as it is told, of whatever it is asked; remembers what that was."""

    rulings: dict[int, Ruling] = field(default_factory=dict)
    asked: list[tuple[int | None, list[int], bytes]] = field(default_factory=list)

    def trials(self, requests: Sequence[Asked]) -> Iterator[list[Unit]]:
        raise NotImplementedError

    def said(self, requests: Sequence[Asked], answer: bytes) -> dict[int, str | None]:
        raise NotImplementedError

    def units(self, requests: Iterable[Asked], *, alone: bool = False) -> Iterator[Unit]:
        raise NotImplementedError

    def rule(
        self,
        rung: int | None,
        requests: Sequence[Asked],
        _result: Result,
        answer: bytes,
        _members: tuple[int, ...],
    ) -> dict[int, Ruling]:
        self.asked.append((rung, [each.ordinal for each in requests], answer))
        return self.rulings


@dataclass
class Packed:
    """A job of three requests, of which the first ask is one call for all."""

    store: JobStore
    judge: Scripted = field(default_factory=Scripted)

    def feed(self, *members: int, rung: int = 0, weights: tuple[int, ...] = ()) -> OpenChunk:
        """One chunk of one call for these."""
        unit = Unit(members, b"packed", 1, rung, weights or (1,) * len(members))
        requests = [each for each in self.store.queue.waiting(9) if each.ordinal in members]
        return self.store.chunks.grant(requests, UNCAPPED, 1001.0, units=[unit])

    def apply(self, *deliveries: Delivery) -> Applied:
        return delivery_ledger.apply(self.store, list(deliveries), self.judge)

    def ends(self) -> dict[int, tuple[str, str, str]]:
        rows = self.store.db.execute("SELECT ordinal, code, message, flags FROM results")
        return {row[0]: tuple(row)[1:] for row in rows}

    def returned(self) -> list[tuple[int, int, int]]:
        rows = self.store.db.execute("SELECT * FROM returned ORDER BY ordinal")
        return [tuple(row) for row in rows]

    def out(self) -> dict[int, list[int]]:
        """What each chunk that is not closed still has to bring."""
        return {each.chunk: [n for n, _, _ in each.requests] for each in self.store.chunks.alive()}


@pytest.fixture
def job(tmp_path: Path) -> Packed:
    return Packed(publish(tmp_path, 3))


def told(lead: int = 0, chunk: int = 1, attempts: int = 1) -> Delivery:
    """The answer to the call that `lead` leads."""
    return delivery([call(lead, chunk)], [result(lead, chunk, attempts=attempts)])


def test_an_answer_ends_all_that_were_asked_with_it_and_is_paid_once(job: Packed) -> None:
    job.feed(0, 1, 2, rung=2)

    applied = job.apply(told(), delivery(closed=[closing(1)]))

    assert job.judge.asked == [(2, [0, 1, 2], ANSWER)]
    assert job.ends() == dict.fromkeys(range(3), ("", "", ""))
    assert (applied.completed, applied.calls, applied.closed) == (3, 1, [1])


def test_each_has_its_own_end(job: Packed) -> None:
    job.feed(0, 1, 2)
    job.judge.rulings = {1: Ruling("two answers"), 2: Ruling(repaired=True)}

    applied = job.apply(told())

    assert job.ends() == {0: ("", "", ""), 1: (INVALID, "two answers", ""), 2: ("", "", REPAIRED)}
    assert (applied.completed, applied.failed) == (2, 1)


def test_who_is_to_be_asked_again_waits_knows_why_and_leaves_its_chunk(job: Packed) -> None:
    job.feed(0, 1, 2)
    job.judge.rulings = {1: AGAIN}

    job.apply(told(attempts=2))

    assert sorted(job.ends()) == [0, 2]
    assert job.returned() == [(1, 2, 0)]
    assert job.out() == {1: [0, 2]}
    (asked,) = job.store.units.asked([1])
    assert (asked.rung, asked.problem, asked.answer) == (1, "it is no sentiment", ANSWER)

    # The end of the chunk waits for nobody, though nobody of it may come back any more.
    applied = job.apply(delivery(closed=[closing(1)]))
    assert (applied.closed, job.returned()) == ([1], [(1, 2, 0)])


def test_who_climbs_on_is_told_what_was_wrong_the_last_time(job: Packed) -> None:
    job.feed(0, 1)
    job.judge.rulings = {0: AGAIN, 1: AGAIN}
    job.apply(told())
    alone = [Unit((n,), b"alone", 1, 1) for n in (0, 1)]
    job.store.chunks.grant(job.store.queue.waiting(2), UNCAPPED, 1001.0, units=alone)
    job.judge.rulings = dict.fromkeys((0, 1), Ruling("it is empty", rung=2))

    both = [msgspec.structs.replace(result(n, 2), body=n) for n in (0, 1)]
    job.apply(delivery([call(n, 2) for n in (0, 1)], both, bodies=[b"first", b"second"]))

    asked = [(each.rung, each.problem, each.answer) for each in job.store.units.asked([0, 1])]
    assert asked == [(2, "it is empty", b"first"), (2, "it is empty", b"second")]


def test_an_answer_that_comes_twice_asks_nobody_twice(job: Packed) -> None:
    job.feed(0, 1, 2)
    job.judge.rulings = {1: AGAIN, 2: AGAIN}
    job.apply(told())
    job.feed(1, 2, rung=1)
    job.judge.asked.clear()

    applied = job.apply(told())

    assert not applied.anything
    assert job.judge.asked == []
    assert (job.returned(), job.out()) == ([], {1: [0], 2: [1, 2]})


@pytest.mark.parametrize("state", ["open", "lost"])
def test_who_is_out_in_another_chunk_by_now_stays_there_while_its_worker_lives(
    job: Packed, state: str
) -> None:
    """Of a chunk that was lost the answer comes after all, and is of no use."""
    first = job.feed(0, 1, 2)
    job.store.chunks.lose(first)
    second = job.feed(0, 1)
    if state == "lost":
        job.store.chunks.lose(second)
    job.judge.rulings = {1: AGAIN, 2: AGAIN}

    job.apply(told())

    # It is out with others already, or nobody is to bring it.
    assert job.returned() == ([(2, 1, 0)] if state == "open" else [(1, 1, 0), (2, 1, 0)])
    assert job.out() == {1: [0], 2: [0, 1] if state == "open" else [0]}
    assert sorted(job.ends()) == [0]


def test_what_nobody_wrote_down_was_for_whom_its_lead_was_asked_with_last(job: Packed) -> None:
    """A refusal costs nothing and is no row of the ledger, so it names no chunk."""
    job.feed(0, 1, 2)
    job.judge.rulings = {0: AGAIN, 1: AGAIN}
    job.apply(told())
    job.feed(0, 1, rung=1)
    job.judge.rulings, job.judge.asked = {}, []

    job.apply(delivery(results=[result(0, 2, code="endpoint.refused", body=-1)], bodies=[]))

    assert job.judge.asked == [(1, [0, 1], b"")]
    assert {n: code for n, (code, _, _) in job.ends().items()} == {
        **dict.fromkeys((0, 1), "endpoint.refused"),
        2: "",
    }


def test_what_comes_back_counts_for_all_that_were_asked_with_it(job: Packed) -> None:
    job.feed(0, 1, 2)

    applied = job.apply(delivery(closed=[closing(1, [(0, 2, 1)])]))

    assert job.returned() == [(0, 2, 1), (1, 2, 1), (2, 2, 1)]
    assert (applied.closed, applied.foreign) == ([1], 0)


@pytest.mark.parametrize("end", ["closed", "taken back", "given up"])
def test_a_call_is_kept_as_long_as_it_may_be_sent_again(job: Packed, end: str) -> None:
    chunk = job.feed(0, 1, 2)
    assert [unit.body for unit in job.store.units.of_chunk(1)] == [b"packed"]

    if end == "closed":
        job.apply(told(), delivery(closed=[closing(1)]))
    elif end == "taken back":
        job.store.chunks.take_back(chunk)
    else:
        job.store.chunks.lose(chunk)
        job.store.chunks.give_up()

    (unit,) = job.store.units.of_chunk(1)
    assert (unit.body, unit.members) == (b"", (0, 1, 2))


def test_its_cost_is_borne_by_weight_and_wholly(job: Packed) -> None:
    job.feed(0, 1, weights=(1, 4))
    job.feed(2)

    rows = job.store.db.execute("SELECT * FROM shares ORDER BY ordinal")

    assert [tuple(row) for row in rows] == [(0, 1, 0, 0, 1, 5), (1, 1, 0, 1, 5, 5)]


def test_a_request_as_the_input_has_it_is_judged_too(job: Packed) -> None:
    requests = job.store.queue.waiting(9)
    plain = [Unit((each.ordinal,), b"", 1, 0, plain=True) for each in requests]
    job.store.chunks.grant(requests, UNCAPPED, 1001.0, units=plain)
    job.judge.rulings = {1: AGAIN}

    job.apply(delivery([call(n) for n in range(3)], [result(n) for n in range(3)]))

    assert job.judge.asked == [(None, [n], ANSWER) for n in range(3)]
    assert (sorted(job.ends()), waiting(job.store)) == ([0, 2], [1])
    assert job.store.units.of_chunk(1) == []
