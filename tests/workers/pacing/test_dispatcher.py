"""The queue of one model: no request waits for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from jobs.chunk import Terms
from tests.workers.fakes import JOB, FakeKeeper, payload, until, work
from workers.pacing import circuit_breaker, dispatcher, retry_budget
from workers.pacing.circuit_breaker import TROUBLE, HealthSignal, probe_wait
from workers.pacing.dispatcher import Dispatcher
from workers.pacing.leases import Lease, LeaseRequest
from workers.pacing.limiter import Limiter
from workers.pacing.redis_contact import QUIET_S, RedisContact
from workers.pending import PendingRequest, RunningChunk

MODEL = "m"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "TICK_S", 0.001)


def requests(count: int, job: str = JOB) -> list[PendingRequest]:
    chunk = RunningChunk(payload(*map(work, range(count)), job=job, models=(MODEL,)))
    return [PendingRequest.of(chunk, each) for each in chunk.payload.requests]


class Called:
    """A dispatcher whose calls only begin; `end` ends one."""

    def __init__(self, keeper: FakeKeeper) -> None:
        self.calls: list[PendingRequest] = []
        self.now = 0.0
        contact = RedisContact(lambda: self.now)
        self.dispatcher = Dispatcher(Limiter("scope", keeper), contact, random.Random(1).uniform)
        self._taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        async for request in self.dispatcher.admitted():
            self.calls.append(request)

    def end(self, request: PendingRequest, signal: HealthSignal = HealthSignal.ALIVE) -> None:
        self.dispatcher.limiter.ended(request.estimate, tokens=0)
        self.dispatcher.release(request, signal)
        while (following := self.dispatcher.take()) is not None:
            self.calls.append(following)

    def end_all(self, signal: HealthSignal = HealthSignal.ALIVE) -> None:
        calls, self.calls[:] = list(self.calls), []
        for request in calls:
            self.end(request, signal)


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 20))


def test_requests_are_called_in_turn() -> None:
    async def scene() -> None:
        one, some = Called(FakeKeeper()), requests(5)
        one.dispatcher.add(some)
        await until(lambda: len(one.calls) == 5)
        assert one.calls == some
        one.end_all()
        await until(lambda: one.dispatcher.is_idle)

    run(scene())


def test_work_that_comes_while_a_dispatcher_says_goodbye_is_not_forgotten() -> None:
    class Slow(FakeKeeper):
        """The last word takes a while, and new work comes meanwhile."""

        late: asyncio.Event

        async def exchange(self, scope: str, ask: LeaseRequest) -> Lease:
            if self.asks and ask.wanted == 0:
                self.late.set()
                await asyncio.sleep(0.02)
            return await super().exchange(scope, ask)

    async def scene() -> None:
        keeper = Slow()
        keeper.late = asyncio.Event()
        one = Called(keeper)
        one.dispatcher.add(requests(1))
        await until(lambda: one.calls)
        one.end_all()
        await keeper.late.wait()

        one.dispatcher.add(requests(3))

        await until(lambda: len(one.calls) == 3)
        one.end_all()
        await until(lambda: one.dispatcher.is_idle)

    run(scene())


def test_a_dispatcher_goes_on_when_redis_is_back_and_after_what_nobody_thought_of() -> None:
    class Strange(FakeKeeper):
        async def exchange(self, scope: str, ask: LeaseRequest) -> Lease:
            if len(self.asks) == 1:
                self.asks.append(ask)
                raise ValueError("no share")
            return await super().exchange(scope, ask)

    async def scene() -> None:
        keeper = Strange()
        keeper.away = True
        one = Called(keeper)
        one.dispatcher.add(requests(2))
        await asyncio.sleep(0.01)
        keeper.away = False
        await until(lambda: len(one.calls) == 2)
        one.end_all()
        await until(lambda: one.dispatcher.is_idle)

    run(scene())


def test_a_request_that_tries_again_comes_before_those_that_were_never_called() -> None:
    async def scene() -> None:
        keeper = FakeKeeper(slots=1)
        one, some = Called(keeper), requests(5)
        one.dispatcher.add(some)
        await until(lambda: one.calls == some[:1])
        one.dispatcher.retry(some[0], 0.0)
        await asyncio.sleep(0.01)
        one.end(some[0])
        assert one.calls == [some[0], some[0]]
        one.dispatcher.take_back(lambda _: True)
        one.end(some[0])

    run(scene())


def test_what_is_taken_back_is_never_called() -> None:
    async def scene() -> None:
        one, some = Called(FakeKeeper(slots=0)), requests(6)
        one.dispatcher.add(some[:5])
        one.dispatcher.retry(some[5], 0.01)

        back = one.dispatcher.take_back(lambda request: request.work.ordinal >= 3)

        assert back == some[3:]
        assert one.dispatcher.waiting == 3
        await until(lambda: one.dispatcher.waits.cause)
        one.dispatcher.take_back(lambda _: True)
        await until(lambda: one.dispatcher.is_idle)
        assert not one.calls
        await until(lambda: not one.dispatcher.waits.cause)

    run(scene())


def test_a_request_that_is_put_back_at_its_turn_takes_no_place() -> None:
    async def scene() -> None:
        one = Called(FakeKeeper(slots=1))
        one.dispatcher.add(requests(4))
        for _ in range(4):
            await until(lambda: one.calls)
            one.dispatcher.put_back(one.calls.pop())
        assert one.dispatcher.limiter.in_flight == 0
        await until(lambda: one.dispatcher.is_idle)

    run(scene())


def test_e44_a_probe_that_is_put_back_leaves_its_turn_to_the_next() -> None:
    async def scene() -> None:
        keeper = FakeKeeper()
        one, some = Called(keeper), requests(TROUBLE + 2)
        one.dispatcher.add(some[:TROUBLE])
        await until(lambda: len(one.calls) == TROUBLE)
        keeper.down_s, keeper.probe = 0.1, True
        one.end_all(HealthSignal.FAULTY)
        one.dispatcher.add(some[TROUBLE:])
        await until(lambda: one.calls)
        keeper.probe = False
        assert one.calls == [some[TROUBLE]]

        one.dispatcher.put_back(one.calls[0])

        await until(lambda: one.calls == some[TROUBLE:])
        one.end(one.calls[-1])

    run(scene())


def test_nothing_starts_while_redis_is_out_of_reach() -> None:
    async def scene() -> None:
        keeper = FakeKeeper()
        keeper.away = True
        one = Called(keeper)
        one.now = QUIET_S
        one.dispatcher.limiter._known, one.dispatcher.limiter.slots = True, 10
        one.dispatcher.add(requests(2))
        await asyncio.sleep(0.02)
        assert not one.calls
        keeper.away = False
        await until(lambda: len(one.calls) == 2)
        one.end_all()

    run(scene())


def test_e44_in_an_outage_only_who_is_told_probes_whatever_is_still_in_flight() -> None:
    async def scene() -> None:
        keeper = FakeKeeper()
        one, some = Called(keeper), requests(TROUBLE + 4)
        one.dispatcher.add(some[: TROUBLE + 1])
        await until(lambda: len(one.calls) == TROUBLE + 1)
        keeper.down_s = 0.1
        for request in some[1 : TROUBLE + 1]:
            one.end(request, HealthSignal.FAULTY)
        assert one.dispatcher.breaker.is_on
        one.calls.clear()

        one.dispatcher.add(some[TROUBLE + 1 :])
        await asyncio.sleep(0.02)
        assert not one.calls

        keeper.probe = True
        await until(lambda: one.calls)
        keeper.probe = False
        assert one.calls == [some[TROUBLE + 1]]
        keeper.down_s = 0.0
        one.end(one.calls[0], HealthSignal.ALIVE)
        assert not one.dispatcher.breaker.is_on
        await until(lambda: len(one.calls) == 3)
        one.dispatcher.take_back(lambda _: True)

    run(scene())


def test_e44_the_first_answer_that_another_worker_gets_ends_the_outage_here_too() -> None:
    async def scene() -> None:
        keeper = FakeKeeper()
        one, some = Called(keeper), requests(TROUBLE + 1)
        one.dispatcher.add(some[:TROUBLE])
        await until(lambda: len(one.calls) == TROUBLE)
        keeper.down_s = 1.0
        one.end_all(HealthSignal.FAULTY)
        one.dispatcher.add(some[TROUBLE:])
        await until(lambda: one.dispatcher.breaker.lasts_s >= 1.0)

        keeper.down_s = 0.0

        await until(lambda: one.calls == some[TROUBLE:])
        one.end_all()

    run(scene())


def test_who_alone_is_cut_off_probes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "probe_wait", lambda *_: 0.05)

    async def scene() -> None:
        one, some = Called(FakeKeeper()), requests(TROUBLE + 3)
        one.dispatcher.add(some[:TROUBLE])
        await until(lambda: len(one.calls) == TROUBLE)
        one.end_all(HealthSignal.FAULTY)
        one.dispatcher.add(some[TROUBLE:])
        assert not one.calls

        await until(lambda: one.calls)

        assert one.calls == [some[TROUBLE]]
        one.end(one.calls[0])
        assert len(one.calls) == 3
        one.end_all()

    run(scene())


def test_jobs_are_called_by_their_shares_and_a_late_one_begins_at_once() -> None:
    async def scene() -> None:
        one = Called(FakeKeeper(slots=1))
        large = requests(200)
        one.dispatcher.add(large)
        await until(lambda: one.calls)
        one.end(one.calls[0])
        urgent = requests(50, job="urgent")
        one.dispatcher.set_terms("urgent", Terms(share=100.0))
        one.dispatcher.add(urgent)

        for _ in range(54):
            one.end(one.calls[-1])

        began = one.calls[2:]
        assert sum(request in urgent for request in began[:11]) >= 10
        assert all(request in began for request in urgent)
        assert sum(request in large for request in began[:50]) >= 4
        one.dispatcher.take_back(lambda _: True)

    run(scene())


def test_equal_jobs_take_turns_however_many_requests_each_has_here() -> None:
    async def scene() -> None:
        one = Called(FakeKeeper(slots=1))
        some = requests(30, job="a")
        others = requests(300, job="b")
        one.dispatcher.add(others)
        one.dispatcher.add(some)
        await until(lambda: one.calls)
        for _ in range(40):
            one.end(one.calls[-1])
        assert 19 <= sum(request in some for request in one.calls) <= 22
        one.dispatcher.take_back(lambda _: True)

    run(scene())


def test_repetitions_for_faults_wait_when_their_budget_is_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry_budget, "RESERVE", 2.0)
    monkeypatch.setattr(retry_budget, "TRICKLE_S", 1000.0)

    async def scene() -> None:
        one, some = Called(FakeKeeper()), requests(10)
        one.dispatcher.add(some)
        await until(lambda: len(one.calls) == 10)
        for request in some:
            request.calls += 1
            one.end(request)
            one.dispatcher.retry(request, 0.0, budgeted=True)

        # Two in reserve, one for ten requests, and one that is given in any case.
        await until(lambda: len(one.calls) == 14)
        await asyncio.sleep(0.05)

        assert len(one.calls) == 14
        assert one.dispatcher.waiting == 6
        one.dispatcher.take_back(lambda _: True)
        for request in one.calls[10:]:
            one.end(request)

    run(scene())


@pytest.mark.parametrize("in_vain", [True, False])
def test_a_repetition_that_does_not_fail_again_gives_back_what_it_took(
    in_vain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_budget, "RESERVE", 1.0)
    monkeypatch.setattr(retry_budget, "TRICKLE_S", 1000.0)

    async def scene() -> None:
        one, some = Called(FakeKeeper()), requests(4)
        one.dispatcher.add(some)
        await until(lambda: len(one.calls) == 4)
        for number, request in enumerate(some, 5):
            request.calls += 1
            one.end(request)
            one.dispatcher.retry(request, 0.0, budgeted=True)
            if in_vain and number > 6:
                break
            await until(lambda: len(one.calls) == number)  # noqa: B023
            one.dispatcher.release(request, HealthSignal.NONE, in_vain=in_vain)

        assert one.dispatcher.waiting == in_vain
        one.dispatcher.take_back(lambda _: True)

    run(scene())


def test_e44_half_an_hours_outage_sees_few_probes_and_its_end_is_noticed_within_a_minute() -> None:
    dice = random.Random(3).uniform
    waits = [probe_wait(failures, dice) for failures in range(70)]

    assert sum(sum(waits[: n + 1]) < 1800 for n in range(70)) <= 65
    assert max(waits) <= 32
    assert probe_wait(10**9, dice) <= 32
