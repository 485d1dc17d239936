"""The coordinator over a post that is only memory: what it does in each turn, and in trouble."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from batch import reports
from batch.coordinator import job_controller as active_module
from batch.coordinator import outputs
from batch.coordinator.isolation import TROUBLE_S
from batch.coordinator.reconcile import LOST_MESSAGE_S, OVERDUE_S, SILENCE_S
from batch.coordinator.redis.flower_inbox import Wish
from batch.money.caps import Caps, write_caps
from batch.store import delivery_ledger
from batch.store.chunks import UNKNOWN, Lost
from batch.store.jobstore import JobStore
from jobs.budget import NOTHING, Amount
from jobs.chunk import HELD, NOBODY, WORKER_DIED, ReturnReason
from jobs.errors import StorageUnavailable, UsageError
from jobs.job_options import Budget
from jobs.lifecycle import is_at_rest
from jobs.message import Message
from jobs.names import BLOCKS, COST, DATABASE, OUTPUT
from jobs.outcome import Billing
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from jobs.usage import Usage
from jobs.wire import Begin, Found
from tests.batch.house import Clock, House, job
from tests.batch.making import (
    BASE_URL,
    JOB,
    LOST,
    MODEL,
    OTHER,
    again,
    answered,
    call,
    closing,
    delivery,
    feed,
    prices,
    publish,
    result,
    spec,
)

KEY_REJECTED = ReturnReason(
    "endpoint.key_rejected", "the key is not valid", PauseReason.KEY_REJECTED
)
BOUND = Decimal("1.452")


# ── The ordinary way ─────────────────────────────────────────────────────────────────────────────


def test_a_job_is_fed_answered_written_and_ended(house: House) -> None:
    job(house)
    house.turn()
    assert house.sender.chunks == [1, 2]

    house.answer(1, 2)
    house.turn(2)

    row = house.row()
    assert (row.state, row.completed, row.settled_rub) == (JobState.COMPLETED, 8, Decimal("0.8"))
    assert len((house.output() / OUTPUT).read_bytes().splitlines()) == 8
    assert house.post.acknowledged == [("box", 1), ("box", 2)]
    assert house.post.payloads == {}
    assert house.post.held == {}
    assert house.post.told[JOB]["state"] == "completed"


def test_the_last_answer_and_the_last_written_file_wait_for_no_turn(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(house, 4)
    house.turn(seconds=0.0)
    house.answer(1)

    house.turn(seconds=0.0)
    assert house.row().state is JobState.COMPLETED

    monkeypatch.setattr(outputs, "_PATIENCE_S", 0.0)
    job(house, 4, job=OTHER)
    house.clock.sleep(1.0)
    house.turn(seconds=0.0)
    house.answer(1, job=OTHER)
    house.turn(seconds=0.0)
    assert house.row(OTHER).state is JobState.FINALIZING
    assert house.coordinator._writer.ended.wait(60)
    house.turn(seconds=0.0)
    assert house.row(OTHER).state is JobState.COMPLETED


def test_files_that_could_not_be_written_hurry_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: JobStore) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reports, "write_all", fail)
    job(house, 4)
    house.turn()
    house.answer(1)
    house.turn(3)
    house.turn(seconds=0.0)
    before = house.coordinator._last_turn

    house.turn(2, seconds=0.0)

    assert house.coordinator._last_turn == before


def test_a_job_without_requests_ends_at_once_i15(house: House) -> None:
    job(house, 0)

    house.turn()

    assert house.row().state is JobState.COMPLETED
    assert json.loads((house.output() / COST).read_bytes())["cost_rub"] == "0"
    assert house.sender.chunks == []


def test_an_acknowledgement_that_fails_does_not_keep_a_job_from_its_end(house: House) -> None:
    """The chunk is closed on the disk then, and its delivery brings nothing new the next time."""
    job(house, 4)
    house.turn()
    house.answer(1)
    house.post.fails = {"acknowledge"}
    house.turn()

    house.post.fails = set()
    house.turn(3)

    assert house.row().state is JobState.COMPLETED
    assert house.post.payloads == {}


def test_a_reason_to_pause_is_heard_even_if_its_acknowledgement_fails(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    back = [(n, 1, 0) for n in range(4)]
    house.post.send(delivery(closed=[closing(1, back, KEY_REJECTED)]))
    house.post.fails = {"acknowledge"}

    house.turn()

    assert house.row().reason == PauseReason.KEY_REJECTED


def test_a_job_that_is_submitted_meanwhile_is_seen(house: House) -> None:
    house.turn(2)
    job(house, 4)
    house.turn(2)

    assert house.sender.chunks == [1]


def test_redis_may_be_away_at_any_moment(house: House) -> None:
    job(house)
    commands = ["vouch", "begin_fence", "laid_down", "workers", "unhold", "put_payload"]
    commands += ["queued", "publish", "read"]
    for command in commands:
        house.post.fails = {command}
        house.turn()
    house.post.fails = set()
    house.turn(8)

    for chunk in house.out():
        house.answer(chunk)
    house.turn(3)

    assert house.row().state is JobState.COMPLETED
    assert house.row().completed == 8


# ── Silence, and deliveries that were not read yet ───────────────────────────────────────────────


def test_the_rest_of_a_silent_worker_is_fed_again(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    house.post.send(delivery([call(0)], [result(0)]))

    house.turn(int(SILENCE_S) + 4)

    assert house.sender.chunks == [1, 2]
    assert [work.ordinal for work in house.post.payloads[JOB, 2].requests] == [1, 2, 3]
    assert house.store().chunks.lost().chunks == 1


def test_answers_that_wait_in_the_stream_are_not_bought_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that was stopped for minutes finds claims gone, and more than it reads."""
    monkeypatch.setattr("tests.batch.making.READ_AT_ONCE", 1)
    monkeypatch.setattr(active_module, "READ_AT_ONCE", 1)
    job(house, 16)
    house.turn()
    house.answer(1, 2, 3, 4)
    for chunk in (1, 2, 3, 4):
        house.post.claimed[JOB, chunk] = "host:1"
    house.coordinator._turn()
    for chunk in (1, 2, 3, 4):
        del house.post.claimed[JOB, chunk]
    house.clock.sleep(600)

    house.turn(8)

    assert house.sender.chunks == [1, 2, 3, 4]
    assert house.row().state is JobState.COMPLETED


def test_after_redis_was_away_silence_proves_nothing_for_a_while(house: House) -> None:
    job(house, 4)
    house.turn()
    house.answer(1)
    entries = house.post.streams.pop(JOB)
    house.turn(2)
    house.post.away = True
    house.turn(int(4 * SILENCE_S) + 20)
    house.post.away = False

    house.turn(5)
    assert house.sender.chunks == [1]
    house.post.streams[JOB] = entries
    house.turn(3)

    assert house.row().state is JobState.COMPLETED


def test_a_chunk_that_waits_in_the_queue_outlives_its_coordinator(house: House) -> None:
    """Lost, it would tie up its grant for ever: no worker ever had it, so none will tell of it."""
    job(house, 4, budget=Budget(rub=Decimal(10)))
    house.turn()
    house.restart()

    house.turn(int(SILENCE_S) * 3)
    assert house.sender.chunks == [1]
    house.answer(1)
    house.turn(3)

    assert house.row().state is JobState.COMPLETED
    assert house.store().chunks.lost().chunks == 0


@pytest.mark.parametrize(("server", "then"), [("server-1", [1, 1]), ("server-2", [1, 2])])
def test_a_chunk_that_nobody_asks_for_any_more_is_sent_again_or_comes_home(
    server: str, then: list[int], house: House
) -> None:
    job(house, 4)
    house.turn()
    house.post.mark = server
    house.restart()
    house.post.waiting = 0

    house.turn(int(SILENCE_S) + 4)

    assert house.sender.chunks[:2] == then
    assert house.store().chunks.lost().chunks == 0


@pytest.mark.parametrize("forgot", [False, True])
def test_a_chunk_that_its_worker_never_began_comes_home_whatever_redis_remembers(
    forgot: bool, house: House
) -> None:
    """The reply to its claim was lost, or the worker died before its journal knew of it."""
    job(house, 4, budget=Budget(rub=Decimal(10)))
    house.turn()
    house.post.take(JOB, 1, begins=False)
    house.turn(2)
    if forgot:
        house.post.mark = "server-2"
        house.turn()
    del house.post.claimed[JOB, 1]

    house.turn(int(SILENCE_S) + 4)

    assert house.sender.chunks == [1, 2]
    assert house.store().chunks.lost().chunks == 0
    house.post.claimed[JOB, 1] = "host:1:box"
    house.post.asks[JOB] = [Begin(1, "box", "token")]
    house.turn()
    assert house.post.permitted[JOB, 1] == "", "nor does it begin it later"


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_nobody_begins_a_chunk_of_a_job_that_rests(command: str, house: House) -> None:
    """The ask and the command come at a time; what was begun before may go on opening."""
    job(house, 8)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    house.post.take(JOB, 2)
    house.post.asks[JOB].append(Begin(1, "box", "token"))
    house.ask(command)

    house.turn()

    assert house.post.permitted == {(JOB, 1): "box token", (JOB, 2): ""}
    assert house.out() == [1]


SOME = Amount(Decimal("0.01"), 7)


@pytest.mark.parametrize("budget", [Budget(), Budget(rub=Decimal(10), tokens=10**6)])
@pytest.mark.parametrize("opened", [NOTHING, SOME, Amount()])
def test_of_a_lost_chunk_only_what_its_worker_had_opened_stays_set_aside(
    opened: Amount, budget: Budget, house: House
) -> None:
    """Also without a cap. An ask that somebody puts back neither narrows that nor widens it, and
    what is not known counts as the whole.
    """
    job(house, 4, budget=budget)
    house.turn()
    house.post.take(JOB, 1, begins=False)
    whole = house.store().chunks.alive()[0].grant
    for amount in (NOTHING, opened, NOTHING, SOME * 0):
        house.post.asks[JOB] = [Begin(1, "box", "token", amount)]
        house.turn()
    assert house.post.opened[JOB, 1] == opened
    house.post.asks[JOB] = [Begin(1, "other", "token", Amount(Decimal(9), 9))]
    house.turn()
    assert house.post.opened[JOB, 1] == opened
    del house.post.claimed[JOB, 1]

    house.turn(int(SILENCE_S) + 4)

    store, kept = house.store(), opened if opened == SOME else whole
    lost = [each.grant for each in store.chunks.alive() if each.lost]
    assert lost == ([] if opened == NOTHING else [kept])
    assert store.chunks.lost() == (Lost() if opened == NOTHING else Lost(1, kept.rub))
    house.post.asks[JOB] = [Begin(1, "box", "token", Amount(Decimal(9), 9))]
    house.turn()
    assert house.post.permitted[JOB, 1] == "", "nor does it open more when it wakes"


@pytest.mark.parametrize("restarts", [False, True])
def test_one_attempt_alone_may_make_the_calls_of_a_chunk(restarts: bool, house: House) -> None:
    """Whoever can write to Redis may put anything back: who began a chunk is on the home's disk."""
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    assert house.post.permitted == {(JOB, 1): "box token"}
    house.post.permitted.clear()
    if restarts:
        house.restart()
        house.turn()

    for ask in (Begin(1, "other", "token"), Begin(1, "box", "another"), Begin(7, "x", "y")):
        house.post.asks[JOB] = [ask]
        house.turn()

    assert house.post.permitted == {(JOB, 1): "box token", (JOB, 7): ""}
    theirs = msgspec.structs.replace(closing(1, [(n, 0, 0) for n in range(4)]), outbox="other")
    house.post.send(delivery(closed=[theirs], outbox="other"))
    house.turn(2)
    assert house.out() == [1], "nor does another end it"
    house.answer(1)
    house.turn(3)
    assert house.row().state is JobState.COMPLETED
    house.post.asks[JOB] = [Begin(1, "box", "token")]
    house.turn(2)
    assert house.post.permitted[JOB, 1] == "", "nor anybody when it is over"


@pytest.mark.parametrize("state", [JobState.IN_PROGRESS, JobState.PAUSED])
@pytest.mark.parametrize("there", [False, True])
def test_what_nobody_can_have_taken_comes_home_though_redis_forgot_while_nobody_looked(
    there: bool, state: JobState, house: House
) -> None:
    """Nobody began it, whether or not somebody took it."""
    if not there:
        house.post.present = []
    house.turn(2)
    job(house, 8, budget=Budget(rub=Decimal(20)))
    house.turn(2)
    before = house.out()
    if state is JobState.PAUSED:
        house.change().set_state(state, reason=PauseReason.USER, standing=JobState.IN_PROGRESS)
    house.coordinator.close()
    house.post.payloads.clear()
    house.post.fences.clear()
    house.coordinator = house._coordinator()

    house.turn(int(SILENCE_S) + 4)

    assert len(before) == 2
    assert house.store().chunks.lost().chunks == 0
    assert not set(before) & set(house.out())


def test_a_restored_home_says_so_and_takes_nothing_for_unspent(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Chunks may have been begun since, of which it knows nothing."""
    house.post.present = []
    house.turn(2)
    job(house, 8)
    house.turn(2)
    house.coordinator.close()
    house.post.fences.clear()
    house.post.remembers = 10_000
    house.coordinator = house._coordinator()

    house.turn(int(SILENCE_S) + 4)

    assert caplog.text.count("this data directory is older") == 1
    assert house.store().chunks.lost().chunks == 2
    assert house.change().queue.suspects().requests == [], "nor for dead with a worker"


def test_whom_a_restored_home_refused_does_not_close_what_another_may_be_at(house: House) -> None:
    job(house, 4)
    house.turn()
    with contextlib.closing(house.change()) as store:
        store.chunks.doubt(0.0)
    house.post.take(JOB, 1, "host:2:other")
    house.turn()
    assert house.post.permitted[JOB, 1] == UNKNOWN
    refused = closing(1, [(n, 0, 0) for n in range(4)], HELD)
    died = msgspec.structs.replace(refused, reason=WORKER_DIED, began=False)

    house.post.send(delivery(closed=[msgspec.structs.replace(refused, outbox=NOBODY)]))
    house.post.send(delivery(closed=[died]))
    house.turn(2)
    assert house.out() == [1]
    house.answer(1)
    house.turn(3)

    assert house.row().state is JobState.COMPLETED


def test_as_many_messages_are_sent_again_as_are_missing_those_of_the_oldest(house: House) -> None:
    job(house, 16)
    house.turn()
    assert house.sender.chunks == [1, 2, 3, 4]
    house.post.waiting = 2

    house.turn(int(LOST_MESSAGE_S) + 2)

    assert house.sender.chunks == [1, 2, 3, 4, 1, 2]


def test_what_is_lost_is_marked_again_where_redis_forgot_while_nobody_looked(house: House) -> None:
    """A worker that wakes would find it free."""
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    house.turn(int(SILENCE_S) + 4)
    house.coordinator.close()
    house.post.claimed.clear()
    house.post.fences.clear()

    house.coordinator = house._coordinator()
    house.turn(2)

    assert house.post.claimed[JOB, 1] == LOST


def test_a_pause_that_an_older_memory_brings_back_holds_nothing(house: House) -> None:
    job(house)
    house.turn()
    house.post.held[JOB] = "user"
    house.post.mark = "server-2"

    house.turn(2)

    assert house.post.held == {}


def test_what_an_older_memory_brings_back_is_put_right(house: House) -> None:
    """A chunk that was lost stays lost; of one that is closed nothing stays; clicks are over."""
    job(house, 8)
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    house.turn(int(SILENCE_S) + 4)
    assert house.post.claimed[JOB, 1] == LOST
    payload, fence = house.post.payloads[JOB, 3], house.sender.fence
    del house.post.claimed[JOB, 1]
    house.post.payloads[JOB, 1] = house.post.payloads[JOB, 77] = payload
    house.post.wished[JOB] = Wish("cancel", "token", house.clock.wall)
    house.post.mark = "server-2"

    house.turn()

    assert house.post.claimed[JOB, 1] == LOST
    assert house.row().state is JobState.IN_PROGRESS
    assert house.sender.fence != fence
    assert house.sender.chunks == [1, 2, 3, 4, 5], "what nobody began is fed anew"
    assert house.post.payloads.keys() == {(JOB, 4), (JOB, 5)}


def test_a_worker_that_comes_back_as_its_chunk_is_given_up_keeps_it(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    claim = house.post.claimed.pop((JOB, 1))
    lose = house.post.lose

    def wakes(job: str, chunk: int, *, surely: bool = False) -> bool:
        house.post.claimed[job, chunk] = claim
        return lose(job, chunk, surely=surely)

    house.post.lose = wakes  # type: ignore[method-assign]
    house.turn(int(SILENCE_S) + 4)

    assert house.sender.chunks == [1]
    assert house.store().chunks.lost().chunks == 0


def test_a_claim_that_somebody_else_keeps_there_delays_a_dead_workers_chunk_and_no_more(
    house: House,
) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    lose = house.post.lose

    def forged(job: str, chunk: int, *, surely: bool = False) -> bool:
        return surely and lose(job, chunk, surely=True)

    house.post.lose = forged  # type: ignore[method-assign]
    house.turn(int(SILENCE_S) + 10)
    assert house.sender.chunks == [1]

    house.turn(20)

    assert house.sender.chunks == [1, 2]


def test_what_redis_forgot_holds_nobody_up_after_a_restart(house: House) -> None:
    job(house, 400)
    house.turn(2)
    assert len(house.out()) == 32
    house.post.mark = "server-2"
    house.restart()

    house.turn()

    assert house.out() == list(range(33, 65))
    assert house.store().chunks.lost().chunks == 0


@pytest.mark.parametrize("restarts", [True, False], ids=["another's", "its own"])
def test_what_was_begun_is_not_withdrawn(house: House, *, restarts: bool) -> None:
    """What its worker spent would be forgotten, too."""
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    house.post.mark = "server-2"
    if restarts:
        house.restart()
    house.turn()
    house.ask("pause")

    house.turn()

    assert (house.row().state, house.out()) == (JobState.PAUSED, [1])


def test_a_lost_message_is_sent_again(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.waiting = 0

    house.turn(8)

    assert house.sender.chunks[:2] == [1, 1]
    assert house.out() == [1]
    assert OVERDUE_S > 8


@pytest.mark.parametrize("restarted", [False, True])
def test_a_chunk_whose_worker_came_and_went_unseen_is_lost_and_not_sent_again_p4(
    restarted: bool,
    house: House,
) -> None:
    """Its answers may be on their way: run a second time, it would be paid for twice."""
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    del house.post.claimed[JOB, 1]
    house.turn()
    if restarted:
        house.restart()

    house.turn(int(SILENCE_S) + 4)

    assert house.sender.chunks == [1, 2]


# ── Money ────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_waits_for_what_is_out_before_its_budget_is_exhausted(house: House) -> None:
    job(house, 12, budget=Budget(rub=BOUND * 6))
    house.turn()
    house.answer(1)
    house.turn(3)
    states = [house.row().state]

    house.answer(2, cost=str(BOUND))
    house.turn(2)
    house.answer(3, cost=str(BOUND))
    house.turn(3)
    states.append(house.row().state)

    assert states == [JobState.IN_PROGRESS, JobState.PAUSED]
    row = house.row()
    assert row.reason == PauseReason.BUDGET_EXHAUSTED
    assert row.reason_text == "no further request fits the budget"
    assert house.post.held[JOB] == "budget_exhausted"
    assert row.settled_rub <= BOUND * 6


def cap_the_day(house: House, rub: Decimal | None) -> None:
    write_caps(house.home.folder, Caps(rub_per_day=rub))


def test_a_job_that_reaches_the_cap_of_the_day_goes_on_by_itself_on_the_next(
    house: House, clock: Clock
) -> None:
    midnight = datetime.fromisoformat("2027-01-16T00:00:00+03:00").timestamp()
    clock.wall = midnight - 3600
    job(house, 12, chunk_size=2)
    cap_the_day(house, BOUND * 3)
    house.turn()
    assert house.out() == [1, 2]
    house.answer(1, cost=str(BOUND), sent_at=clock.wall)
    house.answer(2, cost=str(BOUND), sent_at=clock.wall)
    house.turn(3)

    row = house.row()
    assert (row.state, row.reason) == (JobState.PAUSED, PauseReason.CAP_REACHED)
    assert "for all jobs is reached; resumes at 2027-01-16 00:00 MSK" in row.reason_text
    assert not is_at_rest(row)
    house.turn(3)
    assert house.out() == []

    clock.wall = midnight + 1
    house.turn(2)
    assert house.row().state is JobState.IN_PROGRESS
    assert house.out() == [3, 4]


def test_what_another_job_spent_today_counts(house: House, clock: Clock) -> None:
    job(house, 4, chunk_size=4)
    house.turn()
    house.answer(1, cost=str(BOUND), sent_at=clock.wall)
    house.turn(2)
    cap_the_day(house, BOUND * 5)

    job(house, 4, job=OTHER, chunk_size=4)
    house.turn(2)

    chunks = house.store(OTHER).chunks.alive()
    assert [len(chunk.requests) for chunk in chunks] == [1]


def test_a_higher_cap_of_the_home_lets_a_waiting_job_go_on_at_once(
    house: House, clock: Clock
) -> None:
    cap_the_day(house, BOUND)
    job(house, 4, chunk_size=4)
    house.turn()
    house.answer(1, cost=str(BOUND), sent_at=clock.wall)
    house.turn(3)
    assert house.row().state is JobState.PAUSED

    cap_the_day(house, None)
    house.turn(2)

    assert house.row().state is JobState.IN_PROGRESS
    assert house.out() == [2]


def test_a_cap_of_the_day_that_no_request_fits_needs_the_user(house: House) -> None:
    cap_the_day(house, BOUND / 2)
    job(house, 4)

    house.turn(2)

    row = house.row()
    assert row.reason == PauseReason.CAP_TOO_SMALL
    assert row.reason_text.startswith("no request fits the daily cap of")
    assert is_at_rest(row)


def test_a_higher_cap_brings_it_to_its_end(house: House) -> None:
    job(house, 8, budget=Budget(rub=BOUND))
    house.turn()
    house.answer(1, cost="1")
    house.turn(2)
    assert house.row().state is JobState.PAUSED

    wish = {"chunk_size": 4, "output_dir": house.row().spec.output_dir}
    house.change().change_spec(spec(house.folder, budget=Budget(rub=Decimal(100)), **wish))
    house.change().set_state(JobState.IN_PROGRESS)
    house.turn(2)
    for chunk in house.out():
        house.answer(chunk)
    house.turn(3)

    assert house.row().state is JobState.COMPLETED
    assert JOB not in house.post.held


def test_after_redis_forgot_a_grant_is_free_only_when_its_calls_are_booked(
    house: House,
) -> None:
    """The end of a chunk may come before a call of it that is to be booked."""
    job(house, 4, budget=Budget(rub=BOUND * 4), chunk_size=1)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    house.post.mark = "server-2"
    house.turn()
    cut = call(0, cost=None, id="earlier", bound=str(BOUND), code="endpoint.cut")
    house.post.send(delivery(closed=[closing(1, [(0, 1, 1)], calls=1)], sequence=2))

    house.turn(10)
    fed = [
        work.ordinal
        for (_, chunk), fed in house.post.payloads.items()
        for work in fed.requests
        if chunk > 1
    ]
    house.post.send(delivery([cut], sequence=1))
    house.turn(30)

    assert sorted(fed) == [1, 2, 3]
    assert (house.store().chunks.exposure().rub or 0) <= BOUND * 4


def test_what_a_lost_chunk_holds_may_still_come_back_for_a_minute(house: House) -> None:
    job(house, 4, budget=Budget(rub=BOUND * 4))
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    house.turn(int(SILENCE_S) + 10)
    assert house.row().state is JobState.IN_PROGRESS
    assert house.store().chunks.lost().chunks == 1

    house.turn(80)

    assert house.row().reason == PauseReason.BUDGET_EXHAUSTED
    assert "stay set aside for workers that fell silent" in house.row().reason_text


def test_a_lookup_may_still_free_some_of_the_budget(house: House) -> None:
    job(house, 4, budget=Budget(rub=BOUND * 2))
    house.turn()
    house.post.take(JOB, 1)
    unknown = call(0, cost=None, bound="2", sent_at=house.clock.wall, generation_id="gen")
    house.post.send(delivery([unknown], [result(1)], [closing(1, [(0, 1, 1)])]))
    house.turn(8)
    assert house.row().state is JobState.IN_PROGRESS
    assert house.sender.lookups == [(0, "box-1-0", "gen")]

    house.post.send(delivery(found=[Found(0, "box-1-0", Decimal("0.1"))]))
    house.turn(2)

    assert house.sender.chunks == [1, 2]


def test_nothing_is_asked_while_no_worker_is_there_to_ask(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.post.present = []
    unknown = call(0, cost=None, sent_at=house.clock.wall, generation_id="gen")
    house.post.send(delivery([unknown], [result(0)]))

    house.turn(60)
    assert house.sender.lookups == []
    house.worker()
    house.turn(2)

    assert len(house.sender.lookups) == 1


def test_a_call_dearer_than_its_bound_stops_a_capped_job_e27_e28(house: House) -> None:
    job(house, 8, budget=Budget(rub=Decimal(100)))
    house.turn()
    house.post.take(JOB, 1)
    house.post.send(delivery([call(0, cost="3", bound="2")], [result(0)]))

    house.turn(2)

    row = house.row()
    assert row.reason == PauseReason.PRICE_RISE
    assert "3.00 ₽" in row.reason_text
    assert row.settled_rub == 3


def test_e28_a_rise_of_the_catalogue_pauses_a_job_before_anything_more_is_fed(
    tmp_path: Path, clock: Clock
) -> None:
    publish(tmp_path, 8, priced=prices("0.001"), chunk_size=4)
    house = House(tmp_path, clock)
    house.change().add_prices(prices("0.003", taken_at=2.0))

    house.turn()

    row = house.row()
    assert (row.state, row.reason) == (JobState.PAUSED, PauseReason.PRICE_RISE)
    assert f"{MODEL} asks 3000 ₽ per million tokens (prompt) and asked 1000 ₽" in row.reason_text
    assert f"nightshift resume {JOB}" in row.reason_text
    assert house.out() == []


def test_without_a_cap_a_dear_call_is_told_of_and_no_more(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    job(house, 8)
    house.turn()
    house.post.take(JOB, 1)
    house.post.send(delivery([call(0, cost="3", bound="2")], [result(0)]))

    house.turn(2)

    assert house.row().state is JobState.IN_PROGRESS
    assert "prices may have risen" in caplog.text


# ── What a worker met, and what the user wants ───────────────────────────────────────────────────


def test_a_key_that_is_rejected_pauses_the_job_e30(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.post.send(delivery(closed=[closing(1, [(n, 1, 0) for n in range(4)], KEY_REJECTED)]))

    house.turn(2)

    row = house.row()
    assert (row.state, row.reason) == (JobState.PAUSED, PauseReason.KEY_REJECTED)
    assert row.reason_text == "the key is not valid"
    assert (row.failed, row.left) == (0, 4)


def test_a_reason_of_one_model_sets_that_aside_and_pauses_nothing(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    rejected = msgspec.structs.replace(KEY_REJECTED, model="example/other")
    house.post.send(delivery(closed=[closing(1, [(n, 1, 0) for n in range(4)], rejected)]))

    house.turn(2)

    assert house.row().state is JobState.IN_PROGRESS


def test_a_reason_from_before_the_user_acted_pauses_nothing(house: House) -> None:
    """A chunk that was fed before the resume tells of a key that was changed since."""
    job(house, 8)
    house.turn()
    for chunk in (1, 2):
        house.post.take(JOB, chunk)
    house.turn()
    house.post.send(delivery(closed=[closing(1, [(n, 1, 0) for n in range(4)], KEY_REJECTED)]))
    house.turn(2)
    house.change().set_state(JobState.IN_PROGRESS)
    house.turn()

    house.post.send(delivery(closed=[closing(2, [(n, 1, 0) for n in range(4, 8)], KEY_REJECTED)]))
    house.turn()
    states = [house.row().state]
    for chunk in house.out():
        house.post.take(JOB, chunk)
        triples = [(n, 2, 0) for n, _, _ in house.store().chunks.alive()[0].requests]
        house.post.send(delivery(closed=[closing(chunk, triples, KEY_REJECTED)]))
        break
    house.turn()
    states.append(house.row().state)

    assert states == [JobState.IN_PROGRESS, JobState.PAUSED]


def test_a_paused_job_takes_in_what_its_workers_deliver(house: House) -> None:
    job(house, 8)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    house.ask("pause")
    house.turn()
    assert house.row().state is JobState.PAUSED
    assert house.out() == [1]

    house.post.send(
        delivery([call(0)], [result(0)], [closing(1, [(1, 0, 0), (2, 0, 0), (3, 0, 0)], HELD)])
    )
    house.turn()

    assert (house.row().completed, house.row().state) == (1, JobState.PAUSED)
    assert len(house.store().queue.waiting(99)) == 7


def test_a_job_whose_last_answers_come_while_it_is_paused_ends_when_it_goes_on(
    house: House,
) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    house.ask("pause")
    house.turn()
    house.post.waiting += 1
    house.answer(1)
    house.turn(2)
    paused = house.row().state

    house.change().set_state(JobState.IN_PROGRESS)
    house.turn(2)

    assert (paused, house.row().state) == (JobState.PAUSED, JobState.COMPLETED)


def test_a_cancelled_job_waits_for_its_calls_and_keeps_their_answers(house: House) -> None:
    job(house, 8)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    house.ask("cancel")
    house.turn()
    assert house.row().state is JobState.CANCELLING

    house.post.send(answered(house.store().chunks.alive()[0], 0, 1))
    house.turn(2)

    row = house.row()
    assert (row.state, row.completed, row.left) == (JobState.CANCELLED, 2, 6)
    errors = (house.output() / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["nightshift"]["code"] for line in errors] == ["not_run.cancelled"] * 6


def test_a_cancelled_job_with_a_lost_chunk_ends_and_stays_held(house: House) -> None:
    """A worker that was only suspended must not go on spending for it."""
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    house.ask("cancel")

    house.turn(int(SILENCE_S) + 4)

    assert house.row().state is JobState.CANCELLED
    assert house.post.held[JOB] == "cancelled"


@pytest.mark.parametrize("ended", [JobState.CANCELLED, JobState.COMPLETED])
def test_an_ended_job_goes_on_when_its_failures_are_tried_again(
    house: House, ended: JobState
) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    if ended is JobState.CANCELLED:
        house.ask("cancel")
        house.turn()
    failures = [result(n, code="endpoint.5xx") for n in range(4)]
    house.post.send(delivery([call(n) for n in range(4)], failures, [closing(1)]))
    house.turn(2)
    assert (house.row().state, house.row().failed) == (ended, 4)

    store = house.change()
    store.failures.retry()
    store.set_state(JobState.IN_PROGRESS)
    store.close()
    house.turn(2)
    house.answer(2)
    house.turn(3)

    row = house.row()
    assert (row.state, row.completed, row.failed) == (JobState.COMPLETED, 4, 0)
    assert row.settled_rub == Decimal("2.4")
    assert len((house.output() / OUTPUT).read_bytes().splitlines()) == 4


def test_a_job_that_is_resumed_while_its_outputs_are_written_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(house, 1)
    house.turn()
    write = reports.write_all

    def write_while_somebody_resumes(store: JobStore) -> Path:
        house.change().set_state(JobState.IN_PROGRESS)
        monkeypatch.setattr(reports, "write_all", write)
        return write(store)

    monkeypatch.setattr(reports, "write_all", write_while_somebody_resumes)
    house.answer(1)
    house.turn(1)
    between = house.row().state
    house.turn(3)

    assert (between, house.row().state) == (JobState.IN_PROGRESS, JobState.COMPLETED)


def test_what_comes_while_the_outputs_are_written_has_them_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write = publish(tmp_path, 2), reports.write_all
    chunk = feed(store, 2)

    def write_while_answers_come(job: JobStore) -> Path:
        delivery_ledger.apply(again(store), [answered(chunk)])
        return write(job)

    monkeypatch.setattr(reports, "write_all", write_while_answers_come)
    outputs.write(store)
    assert not store.is_written()

    monkeypatch.setattr(reports, "write_all", write)
    outputs.write(store)
    assert store.is_written()


# ── Its hours ────────────────────────────────────────────────────────────────────────────────────


class Wall:
    """A clock on the wall that shows what it is told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall, UTC)

    @now.setter
    def now(self, moment: datetime) -> None:
        self._clock.wall = moment.timestamp()


@pytest.fixture
def wall(clock: Clock) -> Wall:
    return Wall(clock)


def test_a_job_keeps_its_hours(house: House, wall: Wall) -> None:
    job(house, 8, window="23:00-07:00@Europe/Moscow")
    house.turn(2)
    assert house.row().reason == PauseReason.WINDOW_CLOSED
    assert house.row().reason_text == "resumes at 2026-03-03 23:00 MSK"
    assert house.sender.chunks == []

    wall.now += timedelta(hours=9)
    house.turn(2)
    assert house.row().state is JobState.IN_PROGRESS
    house.post.take(JOB, 1)
    wall.now += timedelta(hours=8)
    house.turn(2)

    assert house.row().reason == PauseReason.WINDOW_CLOSED
    assert house.post.held[JOB] == "window_closed"
    assert house.out() == [1]


def test_a_job_that_waits_for_its_hours_can_be_paused_for_good(house: House, wall: Wall) -> None:
    job(house, 8, window="23:00-07:00@Europe/Moscow")
    house.turn(2)
    house.ask("pause")
    house.turn()
    assert house.row().reason == PauseReason.USER

    wall.now += timedelta(hours=12)
    house.turn(2)

    assert house.row().state is JobState.PAUSED


def test_a_job_whose_hours_were_lifted_goes_on(house: House, wall: Wall) -> None:
    job(house, 8, window="23:00-07:00@Europe/Moscow")
    house.turn(2)

    out = house.row().spec.output_dir
    house.change().change_spec(spec(house.folder, chunk_size=4, output_dir=out))
    house.turn(2)

    assert wall.now.hour == 12
    assert house.sender.chunks == [1, 2]


# ── Trouble of one job ───────────────────────────────────────────────────────────────────────────


def test_outputs_that_cannot_be_written_stop_no_other_job_and_the_job_says_so(
    house: House,
) -> None:
    job(house, 4)
    job(house, 4, job=OTHER)
    house.turn()
    house.output().write_text("in the way")
    house.answer(1)
    house.turn(2)
    house.answer(1, job=OTHER)
    house.turn(3)

    assert house.row(OTHER).state is JobState.COMPLETED
    assert house.row().state is JobState.FINALIZING
    assert "cannot be written" in house.row().reason_text

    house.output().unlink()
    house.turn(int(TROUBLE_S) + 3)

    assert (house.row().state, house.row().reason_text) == (JobState.COMPLETED, "")
    assert (house.output() / OUTPUT).exists()


@pytest.mark.parametrize("damage", [DATABASE, BLOCKS])
def test_a_damaged_job_stops_no_other(
    house: House, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    job(house, 4)
    job(house, 4, job=OTHER)
    path = house.home.jobs_folder / JOB / damage
    path.write_bytes(b"garbage" * 100)

    house.turn(5)
    house.answer(1, job=OTHER)
    house.turn(3)

    assert house.row(OTHER).state is JobState.COMPLETED
    assert caplog.text.count("the other jobs go on") == 1
    (sign,) = house.post.coordinators.values()
    assert sign.ailing[JOB].text  # told also where nothing can be written down
    if damage == BLOCKS:
        assert "input.blocks" in house.row().reason_text


def unreadable(house: House) -> None:
    """The disk fails at one look; a chunk of the job is out."""

    def fails() -> int:
        raise sqlite3.OperationalError("disk I/O error")

    house.coordinator._jobs[JOB].store.chunks.next_number = fails  # type: ignore[method-assign]


def newer(house: House) -> None:
    """A command of a newer release has migrated the file."""
    with contextlib.closing(sqlite3.connect(house.home.jobs_folder / JOB / DATABASE)) as db:
        db.executescript("ALTER TABLE job ADD COLUMN later INTEGER; PRAGMA user_version = 999")


def newer_after_its_end(house: House) -> None:
    """The cost of a call of it is still to be asked for."""
    cut = call(0, cost=None, id="cut", sent_at=house.clock.wall, generation_id="gen", usage=None)
    results = [result(ordinal) for ordinal in range(4)]
    found = [Found(0, "cut", None)]
    house.post.send(delivery([cut], results, [closing(1)]))
    house.turn(9)
    house.post.send(delivery(found=found, sequence=2))
    house.turn(3)
    assert house.row().state is JobState.COMPLETED
    newer(house)
    house.turn(40)


@pytest.mark.parametrize("damage", [unreadable, newer, newer_after_its_end])
def test_whatever_befalls_a_job_at_any_step_the_others_go_on(
    house: House, damage: Callable[[House], None]
) -> None:
    job(house, 4)
    job(house, 4, job=OTHER)
    house.turn(2)
    house.post.take(JOB, 1)

    damage(house)
    house.turn(3)

    (sign,) = house.post.coordinators.values()
    assert sign.ailing[JOB].text
    house.answer(1, job=OTHER)
    house.turn(3)
    assert house.row(OTHER).state is JobState.COMPLETED
    house.coordinator.close()


def test_a_job_that_is_damaged_while_it_runs_stops_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(house, 8)
    job(house, 8, job=OTHER)
    house.turn()
    broken = house.coordinator._jobs[JOB]

    def malformed(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(broken.store.chunks, "alive", malformed)
    monkeypatch.setattr(broken.store, "job", malformed)
    house.answer(1, 2, job=OTHER)
    house.turn(3)

    assert house.row(OTHER).state is JobState.COMPLETED


def test_a_fault_of_our_own_in_one_job_stops_no_other_and_tells_no_secret(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(house, 4)
    job(house, 4, job=OTHER)
    house.turn()

    def fault(*_: object) -> None:
        raise KeyError("the text of a prompt")

    monkeypatch.setattr(house.coordinator._jobs[JOB], "turn", fault)
    house.answer(1, job=OTHER)
    house.turn(3)

    assert house.row(OTHER).state is JobState.COMPLETED
    assert house.row().reason_text == "internal error (KeyError)"


def test_deliveries_of_a_job_in_trouble_wait_and_are_not_read_in_a_loop(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(house, 4)
    house.turn()
    house.answer(1)
    reads = []

    def full(*_: object) -> None:
        reads.append(house.clock.now)
        raise StorageUnavailable(Message("the job's file cannot be written: disk full"))

    with monkeypatch.context() as patch:
        patch.setattr("batch.store.delivery_ledger.apply", full)
        house.turn(10)
    house.turn(int(TROUBLE_S) + 3)

    assert len(reads) == 1
    assert house.row().state is JobState.COMPLETED


def test_the_trouble_of_its_one_job_ends_a_foreground_run(tmp_path: Path, clock: Clock) -> None:
    house = House(tmp_path, clock, only=JOB)
    job(house, 4)
    house.turn()
    house.output().write_text("in the way")
    house.answer(1)

    with pytest.raises(StorageUnavailable, match="cannot be written") as trouble:
        house.turn(3)

    assert trouble.value.exit_code == 4
    assert "cannot be written" in house.row().reason_text
    assert house.row().completed == 4


def test_a_password_that_redis_refuses_is_no_trouble_of_a_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(house, 4)
    house.turn()

    def refuse(*_: object) -> None:
        raise UsageError(Message("Redis rejected the password"))

    monkeypatch.setattr(house.post, "queued", refuse)

    with pytest.raises(UsageError):
        house.turn(2)


# ── What comes too late, or is forged ────────────────────────────────────────────────────────────


def test_a_cost_that_is_told_after_the_end_is_in_the_outputs_p13(house: House) -> None:
    job(house, 4)
    house.turn()
    house.post.take(JOB, 1)
    unknown = call(0, cost=None, sent_at=house.clock.wall - 7200, bound="2", usage=Usage(10, 5))
    known = [call(n) for n in (1, 2, 3)]
    house.post.send(delivery([unknown, *known], [result(n) for n in range(4)], [closing(1)]))
    house.turn(3)
    before = json.loads((house.output() / COST).read_bytes())
    assert before["by_source"] == {"endpoint": "1.5"}
    assert before["uncertain"]["estimated_rub"] == "0.015"

    house.post.send(delivery(found=[Found(0, "box-1-0", Decimal("0.0161"))], sequence=9))
    house.turn(3)

    after = json.loads((house.output() / COST).read_bytes())
    assert after["by_source"] == {"endpoint": "1.5", "lookup": "0.0161"}
    assert after["exact"] is True
    assert house.post.acknowledged[-1] == ("box", 9)
    assert house.row().state is JobState.COMPLETED


def test_a_second_answer_after_the_end_is_paid_but_not_shown_p13(house: House) -> None:
    job(house, 1)
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    house.turn(int(SILENCE_S) + 4)
    house.answer(2)
    house.turn(3)
    assert json.loads((house.output() / COST).read_bytes())["lost"]["chunks"] == 1

    house.post.send(delivery([call(0)], [result(0)], [closing(1)], sequence=5))
    house.turn(3)

    told = json.loads((house.output() / COST).read_bytes())
    assert (told["cost_rub"], told["of_repeated_calls_rub"]) == ("0.6", "0.5")
    assert told["lost"]["chunks"] == 0
    assert len((house.output() / OUTPUT).read_bytes().splitlines()) == 1
    assert house.post.streams[JOB] == []


def test_a_job_says_so_when_its_outputs_cannot_be_written_anew(house: House) -> None:
    job(house, 1)
    house.turn()
    house.answer(1)
    house.turn(3)
    folder = house.output()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("in the way")

    house.post.send(delivery([call(0, id="late")], sequence=7))
    house.turn(3)

    row = house.row()
    assert row.settled_rub == Decimal("0.6")
    assert "cannot be written" in row.reason_text
    assert house.post.acknowledged[-1] == ("box", 7)

    folder.unlink()
    house.turn(int(TROUBLE_S) + 5)
    assert house.row().reason_text == ""
    assert json.loads((folder / COST).read_bytes())["cost_rub"] == "0.6"


def test_while_a_jobs_files_are_written_the_others_go_on_and_a_killed_writer_is_found_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_PATIENCE_S", 0.0)
    may_write = threading.Event()
    write = reports.write_all

    def slowly(store: JobStore) -> Path:
        assert may_write.wait(60)
        return write(store)

    monkeypatch.setattr(reports, "write_all", slowly)
    job(house, 1)
    house.turn()
    house.answer(1)
    house.turn(3)
    job(house, 2, job=OTHER)
    house.turn(3)
    assert house.row().state is JobState.FINALIZING
    assert house.post.told[OTHER]["state"] == "in_progress"
    assert house.post.payloads.keys() == {(OTHER, 1)}
    assert not house.output().exists() or not [*house.output().glob("*.json*")]

    may_write.set()
    house.coordinator._writer.close()
    house.restart()
    for _ in range(100):
        house.turn()
        if house.row().ended:
            break
        time.sleep(0.05)
    assert house.row().state is JobState.COMPLETED
    assert json.loads((house.output() / COST).read_bytes())["completed"] == 1

    # Settled after the end; the coordinator dies before the files are written anew.
    house.post.send(delivery([call(0, id="late")], sequence=7))
    monkeypatch.setattr(house.coordinator._ended, "freshen", lambda: None)
    house.turn(3)
    assert json.loads((house.output() / COST).read_bytes())["cost_rub"] == "0.1"
    monkeypatch.setattr(outputs, "_PATIENCE_S", 60.0)
    house.restart()
    house.turn(4)
    assert json.loads((house.output() / COST).read_bytes())["cost_rub"] == "0.6"


def test_calls_of_unknown_cost_are_asked_for_after_the_end_and_the_files_written_anew(
    house: House,
) -> None:
    job(house, 1)
    house.turn()
    house.post.take(JOB, 1)
    cut = call(0, cost=None, id="cut", sent_at=house.clock.wall, generation_id="gen", usage=None)
    house.post.send(delivery([cut, call(0)], [result(0)], [closing(1)]))
    house.turn(9)
    assert house.sender.lookups == [(0, "cut", "gen")]
    house.post.send(delivery(found=[Found(0, "cut", None)], sequence=2))
    house.turn(3)
    assert house.row().state is JobState.COMPLETED

    house.turn(30)
    assert len(house.sender.lookups) > 1, "30 s after the call, and again while nobody answers"
    asked = len(house.sender.lookups)
    house.post.send(delivery(found=[Found(0, "cut", None)], sequence=3))
    house.turn(200)
    assert len(house.sender.lookups) == asked
    house.clock.wall -= 24 * 3600
    house.turn(30)
    assert len(house.sender.lookups) > asked, "a clock that was set back is waited for by nobody"
    house.clock.wall += 24 * 3600
    asked = len(house.sender.lookups)
    house.post.present = []
    house.turn(100)
    assert len(house.sender.lookups) == asked, "nobody is there to ask"

    house.restart()
    house.worker()
    house.turn(10)
    assert len(house.sender.lookups) > asked
    assert json.loads((house.output() / COST).read_bytes())["uncertain"]["calls"] == 1
    house.post.send(delivery(found=[Found(0, "cut", Decimal("0.25"))], sequence=4))
    house.turn(4)
    told = json.loads((house.output() / COST).read_bytes())
    assert (told["cost_rub"], told["uncertain"]["calls"]) == ("0.75", 0)
    asked = len(house.sender.lookups)
    house.turn(4000)
    assert len(house.sender.lookups) == asked


def test_a_foreground_run_takes_in_what_comes_for_other_jobs(tmp_path: Path, clock: Clock) -> None:
    house = House(tmp_path, clock, only=OTHER)
    job(house, 4)
    store = house.change()
    chunk = store.chunks.grant(store.queue.waiting(4), store.chunks.exposure(), 1.0)
    store.close()
    job(house, 4, job=OTHER)

    house.post.send(answered(chunk, sequence=3))
    house.turn(3)

    assert house.row().completed == 4
    assert house.post.acknowledged == [("box", 3)]
    assert house.row().state is JobState.IN_PROGRESS
    assert house.sender.chunks == [1]


def test_forged_deliveries_are_dropped_and_told_of_r17_r19(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    job(house, 4)
    house.turn()
    house.post.streams[JOB] = [b"garbage", b"\x80\x04pickle", b""]
    house.post.send(
        delivery([call(0, cost="-5")]),
        delivery([call(99)], [result(99)], [closing(77, [(0, 0, 0)])]),
        delivery([call(0, billing=Billing.KNOWN, cost=None)]),
    )
    house.post.streams[JOB] += house.post.streams.pop(OTHER, [])

    house.turn(2)
    house.answer(1)
    house.turn(3)

    row = house.row()
    assert (row.state, row.completed, row.settled_rub) == (JobState.COMPLETED, 4, Decimal("0.4"))
    assert "dropped 7 invalid messages" in caplog.text


def test_a_delivery_for_another_job_in_this_ones_stream_touches_neither(house: House) -> None:
    job(house, 4)
    job(house, 4, job=OTHER)
    house.turn()
    house.post.send(delivery([call(0)], [result(0)], job=OTHER))
    house.post.streams[JOB] = house.post.streams.pop(OTHER)

    house.turn(2)

    assert (house.row().completed, house.row(OTHER).completed) == (0, 0)
    assert house.post.streams[JOB] == []


def test_a_request_that_always_kills_its_worker_is_set_aside_p12(house: House) -> None:
    job(house, 2, chunk_size=1)
    house.turn()
    house.answer(2)
    fed = 1
    for death in (1, 2, 3):
        house.post.take(JOB, fed)
        cut = call(0, fed, cost=None, id=f"cut-{death}", sent_at=0.0, status=None)
        house.post.send(delivery([cut], closed=[closing(fed, [(0, death, death)], WORKER_DIED)]))
        house.turn(2)
        fed = max(house.sender.chunks)

    house.turn(2)

    row = house.row()
    assert (row.state, row.completed, row.failed, row.calls) == (JobState.COMPLETED, 1, 1, 4)


# ── No turn grows with the job (FAULTS I24) ──────────────────────────────────────────────────────


def test_a_turn_reads_no_more_rows_of_a_large_job_than_of_a_small_one(house: House) -> None:
    """Counted in steps of SQLite's machine, with many uncertain calls and many that came back."""

    def steps(requests: int, name: str) -> int:
        job(house, requests, job=name, chunk_size=2)
        store = house.home.open(name)
        store.db.execute("UPDATE job SET cursor = ?", (requests,))
        store.db.execute("INSERT INTO returned SELECT ordinal, 1, 0 FROM requests")
        store.db.execute(
            "INSERT INTO calls SELECT ordinal, 'x', 1, 1, 0, 0, NULL, '', 'unknown', NULL,"
            " 'unknown', '1', 5, NULL, NULL, NULL, NULL, NULL, iif(ordinal % 2, 'gen', ''), '', 0"
            " FROM requests"
        )
        store.close()
        house.turn(3)
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        one = house.coordinator._jobs[name]
        one.store.db.set_progress_handler(tick, 1)
        one._lookups._asked.clear()
        one.turn(0.0)
        one.store.db.set_progress_handler(None, 1)
        return count

    house.post.present = [{"base_url": BASE_URL, "in_flight": 0}]
    small, large = steps(400, JOB), steps(8000, OTHER)

    assert large < 1.3 * small
