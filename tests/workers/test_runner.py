"""The life of a request at the worker: real classifier, outbox and queues; the rest is fake.

The ids name the lines of the catalogue of faults (E1 to E44, F1, F12, P8, P12, P13, R19).
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batch.coordinator.reconcile import SILENCE_S
from jobs.budget import Amount
from jobs.chunk import DONE, DRAINED, HELD, NOBODY, UNAFFORDABLE, Payload, Speed
from jobs.errors import BadMessage
from jobs.names import scope_name
from jobs.outcome import Billing
from jobs.pause_reasons import PauseReason
from jobs.result import ResultState
from jobs.wire import Begin
from jobs.worker_heartbeat import JobStatus
from tests.workers.fakes import (
    BASE_URL,
    COST,
    JOB,
    OTHER_JOB,
    FakeEndpoint,
    FakeHome,
    FakeKeeper,
    FakePost,
    Script,
    completion,
    cut,
    payload,
    refusal,
    until,
    work,
)
from workers import call, worker_service
from workers.calling.endpoint import Answer, Broken, BrokenKind, Reply
from workers.delivery import delivery_batches, outbox
from workers.delivery.outbox import Outbox
from workers.pacing import circuit_breaker, dispatcher, redis_contact, retry, retry_budget
from workers.pacing.backoff import Backoff
from workers.pacing.dispatcher import Dispatcher
from workers.pending import PendingRequest, RunningChunk, Summary
from workers.redis.claims import CLAIM_S
from workers.redis.connection import TIMEOUT_S
from workers.runner import Runner
from workers.status_report import job_statuses
from workers.stops import LOST
from workers.worker_service import BEAT_S
from workers.worker_settings import WorkerSettings

OTHER_MODEL = "other/model"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are as in life, but a hundred times shorter."""
    monkeypatch.setattr(dispatcher, "TICK_S", 0.001)
    monkeypatch.setattr(outbox, "SYNC_S", 0.002)
    monkeypatch.setattr(delivery_batches, "DELIVER_S", 0.0)
    monkeypatch.setattr(retry, "BACKOFF", Backoff(base=0.002, cap=0.02))
    monkeypatch.setattr(circuit_breaker, "probe_wait", lambda *_: 0.01)


AT_ONCE: dict[str, Any] = {"stop_after_s": 0.0, "stop_after_rows": 1}
"""The first word that would stop a job is believed."""


class House:
    """A runner with everything around it."""

    def __init__(self, folder: Path, script: Script, keeper: FakeKeeper) -> None:
        self.post = FakePost()
        self.home = FakeHome(self.post)
        self.outbox = Outbox(folder, self.post)
        self.endpoint = FakeEndpoint(script)
        self.keeper = keeper
        self.now = 1000.0
        self.stopped: list[str] = []
        self.begins: bool | None = True
        self.opened: dict[tuple[str, int], Amount] = {}
        self.answers = asyncio.Event()
        self.answers.set()
        self.runner = Runner(
            self.endpoint,
            self.outbox,
            keeper,
            self._may_spend,
            "fingerprint",
            random.Random(1),
            lambda: self.now,
            self.stopped.append,
        )
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        """A clock that stands in for the monotonic one, and beats that come in time."""
        loop = asyncio.get_running_loop()
        start, base = loop.time(), self.now
        while True:
            self.now = max(self.now, base + loop.time() - start)
            self.runner.contact.renewed(self.now)
            await asyncio.sleep(0.001)

    async def _may_spend(self, chunk: RunningChunk, amount: Amount) -> bool | None:
        assert self.outbox.has_open(*chunk.key)
        await asyncio.sleep(0)
        await until(lambda: self.answers.is_set() or self.runner.stops.is_stopped(chunk))
        if not self.answers.is_set():
            return None
        if self.begins:
            self.opened[chunk.key] = amount
        return self.begins

    def stop_beats(self) -> None:
        self._ticking.cancel()

    def start(self, chunk: Payload) -> asyncio.Task[Summary]:
        return asyncio.create_task(self.runner.run(chunk))

    async def settle(self) -> None:
        """Everything is in the home."""

        def empty() -> bool:
            self.home.take_in()
            return self.outbox._is_empty and not self.outbox._open_calls

        await until(empty)

    def state(self, ordinal: int, job: str = JOB) -> str:
        """How a request ended: `completed` or the code of its failure."""
        result = self.home.results[job, ordinal]
        return result.state.value if result.state is ResultState.COMPLETED else result.code

    def back(self, chunk: int = 1, job: str = JOB) -> list[tuple[int, int, int]]:
        return sorted(self.home.closed[job, chunk].returned)

    def check(self) -> None:
        """Nothing is left over when all chunks are done."""
        one = self.runner
        assert not one.chunks
        assert not one.calls._in_flight
        assert not len(one.calls)
        assert all(not each.waiting for each in one.dispatchers)
        assert all(each.limiter.in_flight == 0 for each in one.dispatchers)
        assert not self.outbox._open_calls
        assert not self.outbox._claims


Scene = Callable[[House], Coroutine[Any, Any, None]]


@asynccontextmanager
async def house(
    folder: Path, script: Script, keeper: FakeKeeper | None = None
) -> AsyncIterator[House]:
    one = House(folder, script, keeper or FakeKeeper())
    one.outbox.start()
    try:
        yield one
        await one.settle()
        one.check()
    finally:
        one.stop_beats()
        await one.outbox.close(0)


def always(answer: Answer) -> Script:
    return lambda *_: answer


def first(*answers: Answer, then: Answer | None = None) -> Script:
    """Each body meets these in turn, then an answer that is good."""
    return lambda _, nth: answers[nth - 1] if nth <= len(answers) else then or completion()


async def ran(one: House, chunk: Payload) -> Summary:
    summary = await asyncio.wait_for(one.runner.run(chunk), 20)
    await one.settle()
    return summary


def test_each_request_is_called_once_and_its_answer_and_cost_come_home(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            summary = await ran(one, payload(*map(work, range(50))))

            assert (summary.completed, summary.failed, summary.returned) == (50, 0, 0)
            assert summary.cost == 50 * COST
            assert len(one.endpoint.calls) == 50
            assert {call.cost for call in one.home.calls.values()} == {COST}
            assert one.home.bodies[JOB, 7] == completion().body
            assert one.home.closed[JOB, 1].reason == DONE

    asyncio.run(scene())


def test_a_chunk_of_nothing_is_done(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            await ran(one, payload())
            assert one.back() == []

    asyncio.run(scene())


# ---- attempts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "calls", "code"),
    [
        pytest.param(refusal(400), 1, "endpoint.bad_request", id="refused"),
        pytest.param(refusal(500), 3, "endpoint.5xx", id="E6 passing: max_attempts"),
        pytest.param(cut(), 2, "endpoint.cut", id="E15 E16 unknown: once more"),
        pytest.param(
            Reply(200, {}, b'{"choices": [', 0.1), 2, "endpoint.bad_body", id="E18 torn JSON"
        ),
        pytest.param(completion(choices=[]), 2, "endpoint.empty", id="E21 empty"),
    ],
)
def test_a_request_fails_after_as_many_calls_as_its_fault_deserves(
    tmp_path: Path, answer: Answer, calls: int, code: str
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(answer)) as one:
            summary = await ran(one, payload(work(0), max_attempts=3))

            assert (summary.completed, summary.failed) == (0, 1)
            assert len(one.endpoint.calls) == calls
            assert one.state(0) == code
            assert one.home.results[JOB, 0].attempts == calls

    asyncio.run(scene())


def test_e21_an_empty_answer_is_paid_for_each_time_and_the_second_may_be_good(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with house(tmp_path, first(completion(choices=[]))) as one:
            await ran(one, payload(work(0)))

            assert one.state(0) == "completed"
            assert [call.cost for call in one.home.calls.values()] == [COST, COST]

    asyncio.run(scene())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refusal(429), id="E1 throttled"),
        pytest.param(refusal(503), id="E8 overloaded"),
        pytest.param(Broken(BrokenKind.UNREACHABLE, "refused", 0.0), id="E14 unreachable"),
    ],
)
def test_throttles_and_outages_use_up_no_attempt(tmp_path: Path, answer: Answer) -> None:
    async def scene() -> None:
        async with house(tmp_path, first(*[answer] * 20)) as one:
            await ran(one, payload(work(0), max_attempts=2))

            assert one.state(0) == "completed"
            assert len(one.endpoint.calls) == 21
            # They cost nothing and ended nothing: they are counted, not booked.
            assert len(one.home.calls) == 1
            assert sum(one.home.closed[JOB, 1].refusals.values()) == 20

    asyncio.run(scene())


def test_attempts_of_earlier_chunks_count_as_calls_and_unknown_outcomes_are_remembered(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(cut())) as one:
            await ran(one, payload(work(0, attempts=4, uncertain=1)))

            assert len(one.endpoint.calls) == 1
            assert one.home.results[JOB, 0].attempts == 5

    asyncio.run(scene())


@pytest.mark.parametrize("answer", [cut(), refusal(500), completion(choices=[])])
def test_where_paying_twice_is_forbidden_what_may_be_billed_is_not_sent_again(
    tmp_path: Path, answer: Answer
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(answer)) as one:
            await ran(one, payload(work(0), work(1, uncertain=1), never_pay_twice=True))

            assert one.endpoint.calls == [b"0"]
            assert one.home.results[JOB, 0].state is ResultState.FAILED
            assert one.state(1) == "system.uncertain"

    asyncio.run(scene())


def test_where_paying_twice_is_forbidden_free_refusals_are_tried_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, first(refusal(429), refusal(429))) as one:
            await ran(one, payload(work(0), never_pay_twice=True))
            assert one.state(0) == "completed"

    asyncio.run(scene())


def test_a_call_of_unknown_outcome_can_be_looked_up_by_an_id_in_the_header_or_the_body(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion(cost=None))) as one:
            await ran(one, payload(work(0)))
            (call,) = one.home.calls.values()
            assert (call.billing, call.generation_id) == (Billing.UNKNOWN, "gen-body")

    asyncio.run(scene())


# ---- money -----------------------------------------------------------------------------------


def test_what_the_grant_cannot_bear_goes_back(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion(Decimal("0.5")))) as one:
            chunk = payload(*map(work, range(5)), grant=Amount(Decimal("1.6")))
            summary = await ran(one, chunk)

            assert (summary.completed, summary.returned) == (3, 2)
            assert one.home.closed[JOB, 1].reason == UNAFFORDABLE
            assert all(calls == 0 for _, calls, _ in one.back())

    asyncio.run(scene())


def test_a_cheap_answer_leaves_room_and_a_free_refusal_takes_none(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, first(refusal(429)), FakeKeeper(slots=1)) as one:
            summary = await ran(
                one, payload(*map(work, range(6)), grant=Amount(Decimal("0.6"), 1100))
            )
            assert summary.completed + summary.returned == 6
            assert summary.completed == 1

    asyncio.run(scene())


def test_what_may_have_been_billed_uses_the_grant_up(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(cut())) as one:
            await ran(one, payload(work(0), grant=Amount(Decimal("0.9"))))

            assert len(one.endpoint.calls) == 1
            assert one.back() == [(0, 1, 1)]
            assert one.home.closed[JOB, 1].reason == UNAFFORDABLE

    asyncio.run(scene())


def test_e27_a_call_dearer_than_its_bound_is_booked_and_stops_the_job(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion(Decimal(7))), FakeKeeper(slots=1)) as one:
            summary = await ran(one, payload(*map(work, range(5))))

            assert (summary.completed, summary.returned) == (1, 4)
            assert one.home.closed[JOB, 1].reason.pause is PauseReason.PRICE_RISE
            (call,) = one.home.calls.values()
            assert call.cost == Decimal(7)

    asyncio.run(scene())


def test_e31_no_balance_stops_the_job_and_the_balance_is_asked_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(refusal(402, "no money"))) as one:
            one.endpoint.credits_ = "0"
            summary = await ran(one, payload(*map(work, range(20)), **AT_ONCE))

            assert summary.returned == 20
            assert one.home.closed[JOB, 1].reason.pause is PauseReason.INSUFFICIENT_BALANCE
            assert one.endpoint.asked_credits == 1
            assert not one.home.calls

    asyncio.run(scene())


def test_e31_a_402_though_there_is_money_is_tried_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, first(*[refusal(402, "no money")] * 3)) as one:
            await ran(one, payload(work(0), max_attempts=1))
            assert one.state(0) == "completed"
            assert one.endpoint.asked_credits == 1

    asyncio.run(scene())


@pytest.mark.parametrize("balance", ["0.4", "-3", '"NaN"', '"sNaN"', None])
def test_money_that_is_not_enough_for_the_call_or_unknown_is_no_reason_to_go_on(
    tmp_path: Path, balance: str | None
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(refusal(402, "no money"))) as one:
            one.endpoint.credits_ = balance
            await ran(one, payload(work(0), **AT_ONCE))
            reason = one.home.closed[JOB, 1].reason.pause
            assert reason is PauseReason.INSUFFICIENT_BALANCE
            assert one.back() == [(0, 1, 0)]

    asyncio.run(scene())


def test_an_endpoint_that_says_402_for_ever_is_believed_in_the_end(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(refusal(402, "no money"))) as one:
            await ran(one, payload(work(0), stop_after_s=0.05, stop_after_rows=9))
            assert len(one.endpoint.calls) == 9
            assert one.home.closed[JOB, 1].reason.pause is PauseReason.INSUFFICIENT_BALANCE

    asyncio.run(scene())


# ---- stops -----------------------------------------------------------------------------------


def test_e30_a_stop_gives_back_all_of_that_job_and_others_go_on(tmp_path: Path) -> None:
    def script(body: bytes, _: int) -> Answer:
        return refusal(401, "bad key") if int(body) < 100 else completion()

    async def scene() -> None:
        async with house(tmp_path, script, FakeKeeper(slots=2)) as one:
            mine = [
                one.start(payload(*map(work, range(n, n + 30)), chunk=n, **AT_ONCE))
                for n in (1, 40)
            ]
            others = one.start(payload(*map(work, range(100, 130)), job=OTHER_JOB))
            await asyncio.gather(*mine, others)
            await one.settle()

            assert len(one.back(1)) == len(one.back(40)) == 30
            assert one.home.closed[JOB, 1].reason.pause is PauseReason.KEY_REJECTED
            assert sum(int(body) < 100 for body in one.endpoint.calls) <= 3
            assert sum(key[0] == OTHER_JOB for key in one.home.results) == 30

    asyncio.run(scene())


def test_a_runner_tells_what_each_job_has_in_flight_and_was_refused(tmp_path: Path) -> None:
    def script(body: bytes, times: int) -> Answer:
        return refusal(429) if int(body) < 3 and times == 1 else completion()

    async def scene() -> None:
        async with house(tmp_path, script) as one:
            mine = one.start(payload(*map(work, range(5))))
            others = one.start(payload(*map(work, range(100, 103)), job=OTHER_JOB))
            seen: list[dict[str, JobStatus]] = []
            while not mine.done():
                seen.append(job_statuses(one.runner))
                await asyncio.sleep(0)
            await asyncio.gather(mine, others)
            await one.settle()

            told = [standing[JOB] for standing in seen if JOB in standing]
            assert max(each.in_flight for each in told) == 5
            assert told[-1].refused == {1: {"endpoint.rate_limited": 3}}
            assert any(
                standing[OTHER_JOB].in_flight == 3 for standing in seen if OTHER_JOB in standing
            )
            assert job_statuses(one.runner) == {}
            assert not +one.runner.calls.by_job

    asyncio.run(scene())


def test_e30_chunks_that_come_after_a_stop_wait_for_word_from_home(tmp_path: Path) -> None:
    """The queue may hold many more of the job, and the home needs a moment to pause it."""

    async def scene() -> None:
        async with house(tmp_path, always(refusal(401, "bad key")), FakeKeeper(slots=1)) as one:
            await one.runner.run(payload(*map(work, range(30)), **AT_ONCE))
            await one.runner.run(payload(*map(work, range(30, 60)), chunk=2, **AT_ONCE))
            made = len(one.endpoint.calls)
            one.runner.stops.hold(set())
            await one.runner.run(payload(*map(work, range(60, 90)), chunk=3, **AT_ONCE))
            await one.settle()

            assert made == 1
            assert one.home.closed[JOB, 2].reason == HELD
            assert len(one.back(2)) == 30
            assert one.home.closed[JOB, 3].reason.pause is PauseReason.KEY_REJECTED

    asyncio.run(scene())


def test_what_was_in_flight_when_its_job_stopped_is_not_tried_again(tmp_path: Path) -> None:
    stopped = asyncio.Event()

    async def late() -> Answer:
        await stopped.wait()
        return refusal(429)

    def script(body: bytes, _: int) -> Answer | Coroutine[Any, Any, Answer]:
        return late() if body == b"0" else refusal(401)

    async def scene() -> None:
        async with house(tmp_path, script) as one:
            waits = one.start(payload(work(0)))
            await until(lambda: one.endpoint.in_flight)
            await one.runner.run(payload(work(1), chunk=2, **AT_ONCE))
            stopped.set()
            await asyncio.wait_for(waits, 5)
            await one.settle()

            assert one.endpoint.times[b"0"] == 1
            assert one.back() == [(0, 1, 0)]

    asyncio.run(scene())


def test_a_reason_to_pause_counts_more_than_what_came_back_before_it(tmp_path: Path) -> None:
    """Else the home would feed the same again, and learn of it each time no sooner."""
    returned = asyncio.Event()

    async def late() -> Answer:
        await returned.wait()
        return refusal(401)

    async def scene() -> None:
        async with house(tmp_path, lambda *_: late()) as one:
            some, grant = (work(0), work(1, rub=Decimal(9))), Amount(Decimal("0.6"))
            chunk = one.start(payload(*some, grant=grant, **AT_ONCE))
            await until(lambda: any(each.returned for each in one.runner.chunks.values()))
            assert one.runner.chunks[JOB, 1].reason == UNAFFORDABLE
            returned.set()
            await asyncio.wait_for(chunk, 5)
            await one.settle()

            assert one.home.closed[JOB, 1].reason.pause is PauseReason.KEY_REJECTED

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("third", "resumed", "told"),
    [
        (completion(), True, PauseReason.INSUFFICIENT_BALANCE),
        (refusal(500), True, PauseReason.KEY_REJECTED),
        (refusal(500), False, PauseReason.INSUFFICIENT_BALANCE),
    ],
    ids=["an answer", "what goes back since it was stopped", "what goes back since it is held"],
)
def test_of_two_reasons_to_pause_the_last_that_was_met_is_told(
    tmp_path: Path, third: Answer, told: PauseReason, *, resumed: bool
) -> None:
    answers: dict[bytes, asyncio.Future[Answer]] = {}

    async def late(body: bytes) -> Answer:
        answers[body] = asyncio.get_running_loop().create_future()
        return await answers[body]

    async def end(one: House, ordinal: int, answer: Answer) -> None:
        answers[b"%d" % ordinal].set_result(answer)
        await until(lambda: len(one.runner.calls) == 2 - ordinal)
        if resumed:
            one.runner.stops.hold(set())

    async def scene() -> None:
        async with house(tmp_path, lambda body, _: late(body)) as one:
            one.endpoint.credits_ = "0"
            chunk = one.start(payload(*map(work, range(3)), **AT_ONCE))
            await until(lambda: len(answers) == 3)
            for ordinal, answer in enumerate([refusal(401), refusal(402), third]):
                await end(one, ordinal, answer)
            await asyncio.wait_for(chunk, 5)
            await one.settle()

            assert one.home.closed[JOB, 1].reason.pause is told

    asyncio.run(scene())


def test_e33_a_model_that_is_missing_thrice_in_a_row_stops_the_job(tmp_path: Path) -> None:
    async def scene() -> None:
        answer = refusal(404, "model not found")
        async with house(tmp_path, always(answer), FakeKeeper(slots=1)) as one:
            summary = await ran(one, payload(*map(work, range(100)), stop_after_s=0.0))

            assert (summary.failed, summary.returned) == (0, 100)
            assert len(one.endpoint.calls) == 3
            reason = one.home.closed[JOB, 1].reason
            assert (reason.pause, reason.model) == (PauseReason.MISCONFIGURED, "minimax/minimax-m1")
            assert "HTTP 404: model not found" in reason.message

    asyncio.run(scene())


def test_a_model_that_is_missing_now_and_then_stops_nothing(tmp_path: Path) -> None:
    def script(body: bytes, _: int) -> Answer:
        return refusal(404, "model not found") if body in {b"2", b"5"} else completion()

    async def scene() -> None:
        async with house(tmp_path, script, FakeKeeper(slots=1)) as one:
            summary = await ran(one, payload(*map(work, range(2000))))
            assert (summary.completed, summary.failed) == (1998, 2)
            assert one.endpoint.times[b"2"] <= 3

    asyncio.run(scene())


def test_a_held_job_gives_back_what_waits_and_goes_on_afterwards(tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def slow() -> Answer:
        await let_go.wait()
        return completion()

    async def scene() -> None:
        async with house(tmp_path, lambda *_: slow(), FakeKeeper(slots=3)) as one:
            chunk = one.start(payload(*map(work, range(10))))
            await until(lambda: one.endpoint.in_flight == 3)

            one.runner.stops.hold({JOB})
            late = await one.runner.run(payload(work(20), chunk=2))
            let_go.set()
            summary = await chunk

            assert (summary.completed, summary.returned) == (3, 7)
            assert late.returned == 1
            one.runner.stops.hold(set())
            assert (await ran(one, payload(work(21), chunk=3))).completed == 1
            assert one.home.closed[JOB, 1].reason == HELD

    asyncio.run(scene())


def test_p8_draining_lets_calls_end_and_gives_the_rest_back(tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def slow() -> Answer:
        await let_go.wait()
        return completion()

    async def scene() -> None:
        async with house(tmp_path, lambda *_: slow(), FakeKeeper(slots=3)) as one:
            chunk = one.start(payload(*map(work, range(10))))
            await until(lambda: one.endpoint.in_flight == 3)

            one.runner.stops.drain()
            let_go.set()
            summary = await chunk
            await one.settle()

            assert (summary.completed, summary.returned) == (3, 7)
            assert one.home.closed[JOB, 1].reason == DRAINED
            assert len(one.endpoint.calls) == 3

    asyncio.run(scene())


def test_a_chunk_that_comes_while_draining_goes_back_at_once_though_the_pace_is_closed(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion()), FakeKeeper(slots=0)) as one:
            one.runner.stops.drain()
            summary = await ran(one, payload(*map(work, range(4))))
            assert summary.returned == 4
            assert not one.endpoint.calls

    asyncio.run(scene())


def test_a_chunk_that_was_taken_back_before_it_began_is_not_called(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            one.begins = False
            summary = await ran(one, payload(*map(work, range(4))))
            assert summary.returned == 4
            assert not one.endpoint.calls
            assert [ordinal for ordinal, _, _ in one.back()] == [0, 1, 2, 3]

    asyncio.run(scene())


def test_draining_does_not_wait_for_what_was_to_be_tried_later(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(refusal(429, retry_after="600"))) as one:
            chunk = one.start(payload(work(0)))
            await until(lambda: one.endpoint.calls and not one.endpoint.in_flight)
            one.runner.stops.drain()
            assert (await asyncio.wait_for(chunk, 2)).returned == 1

    asyncio.run(scene())


def test_cutting_books_calls_in_flight_as_uncertain_with_the_id_to_look_them_up(
    tmp_path: Path,
) -> None:
    async def never() -> Answer:
        await asyncio.Event().wait()
        return completion()

    async def scene() -> None:
        async with house(tmp_path, lambda *_: never(), FakeKeeper(slots=2)) as one:
            chunk = one.start(payload(*map(work, range(5))))
            await until(lambda: one.endpoint.in_flight == 2)

            one.runner.abort()
            summary = await asyncio.wait_for(chunk, 2)
            await one.settle()

            assert summary.returned == 5
            booked = one.home.calls.values()
            assert {call.billing for call in booked} == {Billing.UNKNOWN}
            assert {call.generation_id for call in booked} == {"gen-1", "gen-2"}
            assert Counter(uncertain for *_, uncertain in one.back()) == {0: 3, 1: 2}

    asyncio.run(scene())


def test_a_call_that_is_cut_before_its_first_step_is_no_lost_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Dispatcher.take

    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:

            def take_and_cut(self: Dispatcher) -> PendingRequest | None:
                request = take(self)
                if request:
                    one.runner.abort()
                return request

            monkeypatch.setattr(Dispatcher, "take", take_and_cut)
            summary = await asyncio.wait_for(one.runner.run(payload(*map(work, range(5)))), 5)

            assert not one.endpoint.calls
            assert summary.returned == 5

    asyncio.run(scene())


def test_a_call_that_is_cut_while_the_balance_is_asked_is_known_to_be_free(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(refusal(402, "no money"))) as one:
            asked = asyncio.Event()

            async def credits_() -> Answer:
                asked.set()
                await asyncio.Event().wait()
                return completion()

            one.endpoint.credits = credits_  # type: ignore[method-assign]
            chunk = one.start(payload(work(0)))
            await asked.wait()

            one.runner.abort()

            await asyncio.wait_for(chunk, 2)
            await one.settle()
            assert not one.home.calls
            assert one.home.closed[JOB, 1].reason == DRAINED
            assert one.back() == [(0, 1, 0)]

    asyncio.run(scene())


def test_p12_a_surprise_in_a_call_gives_its_request_back_and_books_the_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> Answer:
        raise RuntimeError("canary-prompt")

    async def scene() -> None:
        async with house(tmp_path, lambda *_: broken()) as one:
            summary = await ran(one, payload(work(0)))
            assert summary.returned == 1
            (call,) = one.home.calls.values()
            assert (call.billing, call.code) == (Billing.UNKNOWN, "system.error")

    asyncio.run(scene())
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_of_an_answer_that_cannot_be_read_the_id_is_kept_by_which_its_cost_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            ask = one.endpoint.call

            async def whole(body: bytes, **how: Any) -> Answer:
                return await ask(body, **{**how, "on_headers": None})

            one.endpoint.call = whole  # type: ignore[method-assign]
            await ran(one, payload(work(0)))
            (row,) = one.home.calls.values()
            assert (row.billing, row.generation_id) == (Billing.UNKNOWN, "gen-body")

    monkeypatch.setattr(call, "classify", fails)

    asyncio.run(scene())


# ---- what is opened of the grant ---------------------------------------------------------------


def test_no_call_leaves_before_what_it_may_cost_is_told(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion(cost=Decimal("0.5")))) as one:

            async def call(*given: Any, **more: Any) -> Answer:
                opened = one.opened[JOB, 1].rub
                assert opened is not None
                assert (len(one.endpoint.calls) + 1) * Decimal("0.5") <= opened
                return await made(*given, **more)

            made, one.endpoint.call = one.endpoint.call, call  # type: ignore[method-assign]
            grant = Amount(Decimal(30), None)
            summary = await ran(one, payload(*map(work, range(50)), grant=grant))
            assert summary.completed == 50
            opened = one.opened[JOB, 1].rub
            assert opened is not None
            assert 25 <= opened <= 30

    asyncio.run(scene())


def test_of_chunks_that_wait_only_the_next_is_opened_and_before_it_is_needed(
    tmp_path: Path,
) -> None:
    """So nothing is booked of those that a host takes with it, and no call waits for the first."""

    async def soon() -> Answer:
        await asyncio.sleep(0.005)
        return completion()

    async def scene() -> None:
        async with house(tmp_path, lambda *_: soon(), FakeKeeper(slots=4)) as one:
            chunks = [
                one.start(payload(*map(work, range(9 * n, 9 * n + 9)), chunk=n)) for n in range(6)
            ]
            await until(lambda: one.endpoint.calls)
            assert [key for key, opened in one.opened.items() if opened.tokens] == [(JOB, 0)]
            while not all(chunk.done() for chunk in chunks):
                now = list(one.runner.chunks.values())
                opened = [chunk for chunk in now if chunk.grant.opened.tokens]
                assert sum(not chunk.grant.out for chunk in opened) < 3
                assert all(chunk in opened for chunk in now if chunk.kept_waiting)
                await asyncio.sleep(0.001)

    asyncio.run(scene())


def test_quick_calls_have_as_many_chunks_opened_as_they_use_up_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they wait for the leave of each chunk after the next."""
    monkeypatch.setattr(call, "AHEAD_S", 0.05)

    async def soon() -> Answer:
        await asyncio.sleep(0.005)
        return completion()

    async def scene() -> None:
        async with house(tmp_path, lambda *_: soon(), FakeKeeper(slots=8)) as one:
            for number in range(40):
                one.start(payload(*map(work, range(4 * number, 4 * number + 4)), chunk=number))
            await until(
                lambda: (
                    sum(
                        bool(chunk.grant.opened.tokens) and not chunk.grant.out
                        for chunk in one.runner.chunks.values()
                    )
                    >= 5
                )
            )

    asyncio.run(scene())


@pytest.mark.parametrize("said", [True, False, None])
def test_r13_a_call_for_which_more_is_to_be_opened_waits_for_the_home_or_goes_back(
    said: bool | None, tmp_path: Path
) -> None:
    """True: the home comes back; False: it gave the chunk up; None: the worker is to end."""

    async def scene() -> None:
        coordinator = list[asyncio.Event]()

        def called_one(*_: object) -> Answer:
            coordinator[0].clear()
            return completion(cost=None)

        async with house(tmp_path, called_one, FakeKeeper(slots=3)) as one:
            coordinator.append(one.answers)
            chunk = one.start(payload(*map(work, range(20))))
            await until(lambda: one.endpoint.calls)
            (here,) = one.runner.chunks.values()
            await until(lambda: here.kept_waiting == 3)
            called = len(one.endpoint.calls)
            one.stop_beats()
            one.begins = said
            if said is None:
                one.runner.stops.drain()
            elif said:
                coordinator[0] = asyncio.Event()
                one.now += 3600  # no word of Redis for long
            one.answers.set()
            if said:
                await asyncio.sleep(0.02)
                assert len(one.endpoint.calls) == called
                one.runner.contact.renewed(one.now)

            summary = await asyncio.wait_for(chunk, 5)

            assert summary.returned == (0 if said else 20 - called)
            assert summary.completed == 20 - summary.returned
            await one.settle()
            if not said:
                assert one.home.closed[JOB, 1].reason == (LOST if said is False else DRAINED)

    asyncio.run(scene())


def test_a_chunk_whose_beginning_fails_goes_back_and_does_not_stay_open(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:

            async def fails(*_: object) -> bool | None:
                raise RuntimeError("the handler is closed")

            one.runner.calls._may_spend = fails
            summary = await ran(one, payload(work(1), work(2)))
            await one.settle()

            assert (summary.returned, one.endpoint.calls) == (2, [])
            assert one.home.closed[JOB, 1].reason == LOST
            assert not one.outbox.has_open(JOB, 1)

    asyncio.run(scene())


@pytest.mark.parametrize("away", ["coordinator", "redis"])
def test_what_waits_for_a_coordinator_that_is_away_frees_its_places_for_others(
    away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another data directory. While Redis is away it goes on waiting: so do the others."""
    monkeypatch.setattr(worker_service, "PERMIT_S", 0.05)
    key = b"x" * 32
    worker = worker_service.Service(WorkerSettings(BASE_URL, tmp_path, 1, "redis://-", "key", key))
    asked: list[str] = []

    async def ask(job: str, _: Begin, given_up: Callable[[], bool], _look_s: float) -> bool | None:
        if job == OTHER_JOB or job not in asked:
            asked.append(job)
            return True
        while not given_up():  # noqa: ASYNC110  as the real one
            await asyncio.sleep(0.001)
        return None

    async def scene() -> None:
        async with house(tmp_path / "box", always(completion(cost=None)), FakeKeeper(3)) as one:
            worker._runner, worker._redis = one.runner, redis
            one.runner.calls._may_spend = worker._may_spend
            chunk = one.start(payload(*map(work, range(20))))
            await until(lambda: one.runner.chunks)
            (here,) = one.runner.chunks.values()
            await until(lambda: here.kept_waiting == 3)
            called = len(one.endpoint.calls)
            if away == "redis":
                one.stop_beats()
                one.now += 3600
                await asyncio.sleep(0.15)
                assert not here.stopped
                one._ticking = asyncio.create_task(one._tick())

            other = one.start(payload(*map(work, range(5)), job=OTHER_JOB))

            assert (await asyncio.wait_for(other, 5)).completed == 5
            assert (await asyncio.wait_for(chunk, 5)).returned == 20 - called
            await one.settle()
            assert one.home.closed[JOB, 1].reason == LOST

    redis: Any = SimpleNamespace(claims=SimpleNamespace(ask=ask))
    asyncio.run(scene())


@pytest.mark.parametrize("said", [False, None])
def test_a_chunk_that_may_not_begin_goes_back_and_one_that_was_refused_tells_so(
    said: bool | None, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            one.begins = said
            summary = await ran(one, payload(work(0), work(1)))
            await one.settle()

            assert (summary.returned, one.endpoint.calls) == (2, [])
            closed = one.home.closed[JOB, 1]
            assert closed.outbox == (NOBODY if said is False else one.outbox.name)
            assert not closed.began

    asyncio.run(scene())


# ---- the claim -------------------------------------------------------------------------------


def test_p13_nothing_starts_while_the_claims_may_be_void(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion()), FakeKeeper(slots=0)) as one:
            chunk = one.start(payload(*map(work, range(3))))
            await until(lambda: one.keeper.asks)
            one.stop_beats()
            one.now += redis_contact.RENEWED_S + 1
            one.keeper.slots = 10
            count = len(one.keeper.asks)
            await until(lambda: len(one.keeper.asks) > count + 3)
            assert not one.endpoint.calls

            one.runner.renewed(set(), one.now)

            assert (await asyncio.wait_for(chunk, 5)).completed == 3

    asyncio.run(scene())


def test_r13_a_worker_that_hears_nothing_from_redis_starts_nothing_long_before_its_claims_are_void(
    tmp_path: Path,
) -> None:
    let_go = asyncio.Event()

    async def slow() -> Answer:
        await let_go.wait()
        return completion()

    async def scene() -> None:
        async with house(tmp_path, lambda *_: slow(), FakeKeeper(slots=1)) as one:
            chunk = one.start(payload(*map(work, range(3))))
            await until(lambda: one.endpoint.in_flight == 1)
            one.keeper.away = True
            one.stop_beats()
            one.now += redis_contact.QUIET_S + 0.1
            assert redis_contact.QUIET_S < redis_contact.RENEWED_S
            let_go.set()
            await until(lambda: one.endpoint.in_flight == 0)
            await asyncio.sleep(0.02)
            assert len(one.endpoint.calls) == 1

            one.keeper.away = False

            assert (await asyncio.wait_for(chunk, 5)).completed == 3

    asyncio.run(scene())


def test_p13_a_claim_counts_from_before_its_renewal_left_not_from_the_answer(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion()), FakeKeeper(slots=0)) as one:
            chunk = one.start(payload(*map(work, range(3))))
            await until(lambda: one.keeper.asks)
            one.stop_beats()
            asked_at = one.now
            one.now += redis_contact.RENEWED_S + 0.1

            one.runner.renewed(set(), asked_at)
            one.keeper.slots = 10
            count = len(one.keeper.asks)
            await until(lambda: len(one.keeper.asks) > count + 3)

            assert not one.endpoint.calls
            one.runner.renewed(set(), one.now)
            assert (await asyncio.wait_for(chunk, 5)).completed == 3

    asyncio.run(scene())


def test_p13_no_other_worker_is_given_a_chunk_of_which_one_still_starts_calls() -> None:
    """A worker starts nothing `LEASE_S` after it asked Redis to renew its claims. Redis renewed
    them no earlier than that, for `CLAIM_S`; and a chunk is lost only by a look that finds no
    claim, `SILENCE_S` after the last sign of one, or after Redis came up without its memory.
    """
    assert redis_contact.RENEWED_S < CLAIM_S < SILENCE_S
    # A claim is first taken by one command, and renewed by the first beat that begins after it.
    assert redis_contact.RENEWED_S + TIMEOUT_S < CLAIM_S
    # A worker whose every command takes as long as one may, still works some of the time.
    assert redis_contact.RENEWED_S > BEAT_S


def test_p13_a_chunk_that_was_given_up_makes_no_more_calls(tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def slow() -> Answer:
        await let_go.wait()
        return refusal(429)

    async def scene() -> None:
        async with house(tmp_path, lambda *_: slow(), FakeKeeper(slots=2)) as one:
            chunk = one.start(payload(*map(work, range(5))))
            await until(lambda: one.endpoint.in_flight == 2)

            one.runner.renewed({(JOB, 1), (JOB, 77)}, one.now)
            let_go.set()

            assert (await asyncio.wait_for(chunk, 5)).returned == 5
            assert len(one.endpoint.calls) == 2
            await one.settle()
            assert one.home.closed[JOB, 1].reason == LOST

    asyncio.run(scene())


# ---- the disk --------------------------------------------------------------------------------


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_f1_a_full_disk_ends_in_a_drain_and_loses_no_row_and_no_paid_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = asyncio.Event()

    async def slow() -> Answer:
        await let_go.wait()
        return completion()

    async def scene() -> None:
        async with house(tmp_path, lambda *_: slow(), FakeKeeper(slots=3)) as one:
            one.outbox.disk.on_failure = one.runner.stops.drain
            chunk = one.start(payload(*map(work, range(10))))
            await until(lambda: one.endpoint.in_flight == 3)

            monkeypatch.setattr(os, "write", full_disk)
            let_go.set()
            summary = await asyncio.wait_for(chunk, 5)
            await one.settle()

            assert (summary.completed, summary.returned) == (3, 7)
            assert len(one.home.bodies) == 3
            assert len(one.back()) == 7
            monkeypatch.undo()

    asyncio.run(scene())


@pytest.mark.parametrize("drains", [True, False])
def test_f12_without_a_journal_no_call_is_made(tmp_path: Path, *, drains: bool) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            if drains:
                one.outbox.disk.on_failure = one.runner.stops.drain
            with pytest.MonkeyPatch.context() as full:
                full.setattr(os, "write", full_disk)
                chunk = one.start(payload(*map(work, range(5))))
                summary = await asyncio.wait_for(chunk, 5)

            assert summary.returned == 5
            assert not one.endpoint.calls

    asyncio.run(scene())


# ---- outages ---------------------------------------------------------------------------------


def test_e44_in_an_outage_one_probe_at_a_time_and_full_speed_after_it(tmp_path: Path) -> None:
    down = True

    def script(*_: object) -> Answer:
        return refusal(500) if down else completion()

    async def scene() -> None:
        nonlocal down
        async with house(tmp_path, script) as one:
            chunk = one.start(payload(*map(work, range(60)), max_attempts=2))
            await until(lambda: len(one.endpoint.calls) > 62)
            one.endpoint.most_in_flight = 0
            count = len(one.endpoint.calls)
            await until(lambda: len(one.endpoint.calls) > count + 5)
            assert one.endpoint.most_in_flight == 1

            down = False

            summary = await asyncio.wait_for(chunk, 5)
            # The sixty that were in flight when it began count once; probes count nothing.
            assert summary.completed == 60
            assert one.endpoint.most_in_flight > 20

    asyncio.run(scene())


def test_e44_what_is_tried_again_in_an_outage_needs_no_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes are few already; who had to wait for them, too, would go on one a second."""
    monkeypatch.setattr(retry_budget, "RESERVE", 8.0)
    monkeypatch.setattr(retry_budget, "TRICKLE_S", 1000.0)
    calls = itertools.count()

    def script(*_: object) -> Answer:
        return refusal(500) if next(calls) < 90 else completion()

    async def scene() -> None:
        async with house(tmp_path, script) as one:
            assert (await ran(one, payload(*map(work, range(60))))).completed == 60

    asyncio.run(scene())


def test_e44_probes_are_shared_out_so_that_no_request_uses_itself_up(tmp_path: Path) -> None:
    down = True

    def script(*_: object) -> Answer:
        return cut() if down else completion()

    async def scene() -> None:
        nonlocal down
        async with house(tmp_path, script, FakeKeeper(slots=8)) as one:
            chunk = one.start(payload(*map(work, range(40))))
            await until(lambda: len(one.endpoint.calls) > 25)
            down = False
            assert (await asyncio.wait_for(chunk, 5)).completed == 40

    asyncio.run(scene())


@pytest.mark.parametrize("wave", [30, 90])
def test_e44_an_outage_by_resets_that_comes_and_goes_fails_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wave: int
) -> None:
    """So many calls are cut, then a few answered, again and again: each request is cut often."""
    monkeypatch.setattr(circuit_breaker, "probe_wait", lambda *_: 0.01)
    count = 0

    def script(*_: object) -> Answer:
        nonlocal count
        count += 1
        return cut() if count % (wave + 10) < wave else completion()

    async def scene() -> None:
        async with house(tmp_path, script, FakeKeeper(slots=40)) as one:
            summary = await asyncio.wait_for(ran(one, payload(*map(work, range(60)))), 30)
            assert (summary.completed, summary.failed) == (60, 0), count

    asyncio.run(scene())


def test_requests_that_always_fail_end_though_it_looks_like_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "OUTAGE_IS_OVER_S", 0.3)

    async def scene() -> None:
        async with house(tmp_path, always(refusal(500))) as one:
            summary = await ran(one, payload(*map(work, range(12)), max_attempts=3))
            assert summary.failed == 12

    asyncio.run(scene())


def test_an_endpoint_that_throttles_even_a_single_call_is_probed_not_hammered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "probe_wait", lambda *_: 0.2)

    async def scene() -> None:
        async with house(tmp_path, always(refusal(503)), FakeKeeper(slots=1)) as one:
            chunk = one.start(payload(*map(work, range(500))))
            await until(lambda: any(each.breaker.is_on for each in one.runner.dispatchers))
            count = len(one.endpoint.calls)
            await asyncio.sleep(0.5)
            assert len(one.endpoint.calls) <= count + 3
            one.runner.stops.drain()
            await chunk

    asyncio.run(scene())


def test_one_models_outage_does_not_hold_up_another(tmp_path: Path) -> None:
    def script(body: bytes, _: int) -> Answer:
        return Broken(BrokenKind.UNREACHABLE, "down", 0.0) if int(body) < 20 else completion()

    async def scene() -> None:
        async with house(tmp_path, script) as one:
            works = [work(n, model=int(n >= 20)) for n in range(40)]
            chunk = one.start(payload(*works, models=("a/a", OTHER_MODEL)))

            def twenty() -> bool:
                one.home.take_in()
                return len(one.home.results) == 20

            await until(twenty)
            one.runner.stops.drain()
            assert (await chunk).returned == 20

    asyncio.run(scene())


# ---- what comes from outside, and what is left behind ----------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(payload(work(1), work(1)), id="twice"),
        pytest.param(payload(work(1), rpm=0), id="no rpm"),
        pytest.param(payload(work(1), max_in_flight=-1), id="less than none in flight"),
        pytest.param(payload(work(1), max_attempts=0), id="no attempt"),
        pytest.param(payload(work(1), idle_timeout_s=float("nan")), id="no time"),
    ],
)
def test_r19_a_payload_that_makes_no_sense_is_refused_and_leaves_nothing(
    tmp_path: Path, bad: Payload
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            with pytest.raises(BadMessage):
                await one.runner.run(bad)
            assert not one.outbox.has_open(JOB, 1)
            assert not one.endpoint.calls

    asyncio.run(scene())


def test_dispatchers_of_models_that_nobody_asks_for_any_more_go(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            for number in range(10):
                await one.runner.run(payload(work(number), chunk=number, models=(f"m/{number}",)))
                await until(lambda: all(each.is_idle for each in one.runner.dispatchers))
            assert len(list(one.runner.dispatchers)) == 1

    asyncio.run(scene())


def test_many_chunks_with_all_sorts_of_faults_lose_no_row(tmp_path: Path) -> None:
    dice = random.Random(7)
    faults: list[Answer] = [
        *[completion()] * 6,
        *(refusal(429), refusal(500), cut(), completion(choices=[]), refusal(400)),
        *(Broken(BrokenKind.UNREACHABLE, "down", 0.0), completion(cost=None)),
    ]

    async def some() -> Answer:
        await asyncio.sleep(dice.random() * 0.01)
        return dice.choice(faults)

    async def scene() -> None:
        async with house(tmp_path, lambda *_: some(), FakeKeeper(slots=16)) as one:
            chunks = [
                one.start(payload(*map(work, range(40 * n, 40 * n + 40)), chunk=n))
                for n in range(10)
            ]
            summaries = await asyncio.gather(*chunks)
            await one.settle()

            assert sum(s.completed + s.failed for s in summaries) == 400
            assert len(one.home.results) == 400
            assert one.endpoint.most_in_flight <= 16
            known = [call.cost for call in one.home.calls.values() if call.cost is not None]
            assert sum(known) == sum(s.cost for s in summaries)

    asyncio.run(scene())


def test_the_address_of_the_endpoint_is_part_of_the_pace(tmp_path: Path) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion())) as one:
            await one.runner.run(payload(work(0)))
            (each,) = one.runner.dispatchers
            assert each.limiter.scope == scope_name(BASE_URL, "fingerprint", "minimax/minimax-m1")

    asyncio.run(scene())


# ---- verdicts --------------------------------------------------------------------------------


def test_a_model_that_stops_rests_and_the_others_go_on_until_a_resume(tmp_path: Path) -> None:
    def script(body: bytes, _: int) -> Answer:
        return refusal(429, "limit: 0") if int(body) >= 10 and not lifted else completion()

    lifted = False

    async def scene() -> None:
        nonlocal lifted
        async with house(tmp_path, script) as one:
            works = [work(n, model=int(n >= 10)) for n in range(20)]
            models = ("minimax/minimax-m1", OTHER_MODEL)
            terms: dict[str, Any] = {"stop_after_s": 0.05, "stop_after_rows": 2}
            summary = await ran(one, payload(*works, models=models, **terms))

            assert (summary.completed, summary.returned) == (10, 10)
            reason = one.home.closed[JOB, 1].reason
            assert (reason.code, reason.model) == ("endpoint.no_quota", OTHER_MODEL)
            assert reason.message == "HTTP 429: limit: 0"
            assert one.stopped == []

            lifted = True
            one.runner.lift(JOB, 2000.0)
            again = payload(*works[10:], chunk=2, models=models, **terms)
            assert (await ran(one, again)).completed == 10

    asyncio.run(scene())


def test_a_chunk_that_is_older_than_what_the_user_allows_by_now_keeps_to_that(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with house(tmp_path, always(completion()), FakeKeeper(slots=0)) as one:
            told = Speed(rpm=60, tpm=None, max_in_flight=2, rub_per_hour=None, share=10.0)
            chunks = [one.start(payload(work(0), rpm=6000))]
            await until(lambda: one.keeper.asks)
            one.runner.renew_speed(JOB, told)

            chunks.append(one.start(payload(work(1), chunk=2, rpm=6000)))
            before = len(one.keeper.asks)
            await until(lambda: len(one.keeper.asks) > before + 2)

            assert {(ask.rpm, ask.most) for ask in one.keeper.asks[before + 1 :]} == {(60, 2)}
            one.runner.stops.drain()
            await asyncio.gather(*chunks)

    asyncio.run(scene())


@pytest.mark.parametrize("set_back_s", [-10.0, 3600.0])
def test_a_wait_is_told_until_somebody_lifts_it(tmp_path: Path, set_back_s: float) -> None:
    async def scene() -> None:
        answer = refusal(429, "come back tomorrow", retry_after="86400")
        async with house(tmp_path, first(answer)) as one:
            one.runner.lift(JOB, 2000.0 + set_back_s)
            chunk = one.start(payload(work(0)))
            await until(lambda: any(s.wait for s in job_statuses(one.runner).values()))
            wait = job_statuses(one.runner)[JOB].wait
            assert wait is not None
            assert (wait.code, wait.said) == (
                "endpoint.rate_limited",
                "HTTP 429: come back tomorrow",
            )
            assert wait.until is not None
            assert wait.next_at is not None
            assert wait.until - wait.next_at > 80_000

            one.runner.lift(JOB, 2000.0)

            assert (await asyncio.wait_for(chunk, 5)).completed == 1

    asyncio.run(scene())


def test_a_refusal_for_what_is_not_so_is_repeated_once(tmp_path: Path) -> None:
    def script(body: bytes, nth: int) -> Answer:
        is_lost = nth == 1 or body == b"1"
        return refusal(400, "No models provided") if is_lost else completion()

    async def scene() -> None:
        async with house(tmp_path, script) as one:
            await ran(one, payload(work(0), work(1)))
            assert (one.state(0), one.state(1)) == ("completed", "endpoint.lost_body")
            assert one.endpoint.times == {b"0": 2, b"1": 2}

    asyncio.run(scene())
