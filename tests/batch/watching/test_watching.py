"""What is made of silence, when a cost is asked for, and how a job is seen to stand."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.coordinator.lookups import WAITS_S, Lookups
from batch.coordinator.reconcile import (
    LOST_MESSAGE_S,
    OVERDUE_S,
    SILENCE_S,
    Step,
    Watch,
    decide,
)
from batch.store import delivery_ledger
from batch.store.jobstore import JobStore
from batch.watching.progress import Meter, progress_of
from jobs.job_options import Budget
from jobs.wire import Found
from tests.batch.making import call, delivery, feed, publish, result

# ── Silence (FAULTS R1 to R16) ───────────────────────────────────────────────────────────────────


def judged(watch: Watch, *, at: float, **seen: float | bool) -> Step:
    """What is done about a chunk at that time, all deliveries having been read just before."""
    facts = {"redis_since": 0.0, "heard_at": at + 0.5, "message_missing": False, "named": False}
    return decide(watch, now=at, **{**facts, **seen})  # type: ignore[arg-type]


def fed(**change: float | bool | None) -> Watch:
    """A chunk that this coordinator fed at 100."""
    return Watch(**{"sent_at": 100.0, **change})  # type: ignore[arg-type]


LATE = 1e6


@pytest.mark.parametrize(
    ("watch", "at", "seen", "step"),
    [
        # A worker shows that it runs it.
        (fed(), LATE, {"named": True}, Step.KEEP),
        (fed(seen_at=101.0), LATE, {"named": True}, Step.KEEP),
        # Nobody took it yet: its message waits, or is gone.
        (fed(), 100 + OVERDUE_S, {}, Step.KEEP),
        (fed(), 100 + OVERDUE_S + 1, {}, Step.SEND_AGAIN),
        (fed(), 100 + LOST_MESSAGE_S, {"message_missing": True}, Step.KEEP),
        (fed(), 101 + LOST_MESSAGE_S, {"message_missing": True}, Step.SEND_AGAIN),
        (fed(), 101 + LOST_MESSAGE_S, {"message_missing": True, "redis_since": 105.0}, Step.KEEP),
        # Its worker fell silent.
        (fed(seen_at=200.0), 200 + SILENCE_S, {}, Step.KEEP),
        (fed(seen_at=200.0), 201 + SILENCE_S, {}, Step.LOSE),
        (fed(seen_at=200.0), 799.0, {"patience_s": 600.0}, Step.KEEP),
        (fed(seen_at=200.0), 801.0, {"patience_s": 600.0}, Step.LOSE),
        (fed(seen_at=200.0), 201 + SILENCE_S, {"redis_since": 210.0}, Step.KEEP),
        (fed(seen_at=200.0), 211 + SILENCE_S, {"redis_since": 210.0}, Step.LOSE),
    ],
)
def test_a_chunk_that_is_out_is_judged_by_what_is_seen_of_it(
    watch: Watch, at: float, seen: dict[str, float | bool], step: Step
) -> None:
    assert judged(watch, at=at, **seen) is step


def test_a_chunk_is_not_lost_before_all_deliveries_were_read() -> None:
    """What it did may be told of in one of them: else its answers would be bought again."""
    watch = fed(seen_at=200.0)
    late = 201 + SILENCE_S

    assert judged(watch, at=late, heard_at=150.0) is Step.KEEP
    assert judged(watch, at=late + 5, heard_at=late - 1) is Step.KEEP
    assert judged(watch, at=late + 6, heard_at=late + 5.5) is Step.LOSE


def test_a_worker_that_shows_itself_again_takes_the_doubt_away() -> None:
    watch = fed(seen_at=200.0)
    late = 201 + SILENCE_S

    assert judged(watch, at=late, heard_at=0.0) is Step.KEEP
    assert judged(watch, at=late + 1, named=True) is Step.KEEP
    assert judged(watch, at=late + 2, heard_at=late + 1.5) is Step.KEEP


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=40))
def test_a_worker_that_renews_its_claim_in_time_is_never_given_up(
    beats: list[tuple[float, bool]],
) -> None:
    watch, now = fed(), 100.0
    for wait, renewed in beats:
        now += min(wait, SILENCE_S / 2 if not renewed else 30.0)
        step = judged(watch, at=now, named=renewed)
        if watch.seen_at is not None and now - watch.seen_at <= SILENCE_S:
            assert step is Step.KEEP


# ── Lookups ──────────────────────────────────────────────────────────────────────────────────────


def in_doubt(folder: Path, calls: int) -> JobStore:
    """A job with so many unconfirmed calls that ended at 1000."""
    store = publish(folder, calls)
    feed(store, calls)
    unknown = [
        call(n, cost=None, sent_at=998.0, latency_s=2.0, generation_id=f"gen-{n}")
        for n in range(calls)
    ]
    delivery_ledger.apply(store, [delivery(unknown)])
    return store


def test_a_cost_is_asked_for_when_the_endpoint_may_know_it(tmp_path: Path) -> None:
    lookups = Lookups(in_doubt(tmp_path, 1))

    assert lookups.due(1000.0 + WAITS_S[0] - 0.1) == []
    assert lookups.due(1000.0 + WAITS_S[0]) == [(0, "box-1-0", "gen-0")]


def test_nothing_is_asked_twice_at_a_time_and_again_when_no_answer_came(tmp_path: Path) -> None:
    lookups = Lookups(in_doubt(tmp_path, 1))

    asked = [bool(lookups.due(at)) for at in (1006.0, 1007.0, 1020.9, 1021.1, 1022.0)]

    assert asked == [True, False, False, True, False]


def test_of_many_calls_some_are_asked_for_at_a_time_and_all_in_the_end(tmp_path: Path) -> None:
    lookups = Lookups(in_doubt(tmp_path, 120))

    turns = [len(lookups.due(1006.0 + turn)) for turn in range(4)]

    assert turns == [50, 50, 20, 0]


def test_a_clock_that_was_put_back_does_not_silence_questions_p14(tmp_path: Path) -> None:
    lookups = Lookups(in_doubt(tmp_path, 1))
    lookups.due(5000.0)

    assert lookups.due(1400.0) == [(0, "box-1-0", "gen-0")]
    assert lookups.due(1000.0 - 24 * 3600) == [(0, "box-1-0", "gen-0")], "nor for a day"


def test_each_question_waits_longer_than_the_one_before(tmp_path: Path) -> None:
    store = in_doubt(tmp_path, 1)
    lookups = Lookups(store)
    asked = []
    for at in range(1000, 6000, 5):
        if lookups.due(float(at)):
            asked.append(at - 1000)
            delivery_ledger.apply(store, [delivery(found=[Found(0, "box-1-0", None)])])

    assert asked == [5, 30, 300, 3600]
    assert not lookups.pending


def test_a_cost_that_was_told_is_asked_for_no_more(tmp_path: Path) -> None:
    store = in_doubt(tmp_path, 1)
    lookups = Lookups(store)
    assert lookups.pending

    delivery_ledger.apply(store, [delivery(found=[Found(0, "box-1-0", Decimal(1))])])

    assert not lookups.pending
    assert lookups.due(1e9) == []


# ── Progress ─────────────────────────────────────────────────────────────────────────────────────


def test_the_rate_is_that_of_the_last_minute() -> None:
    meter = Meter()
    for second in range(0, 200, 2):
        meter.note(float(second), 10 * min(second, 100))

    assert meter.rate == pytest.approx(0.0)


def test_a_rate_needs_two_moments() -> None:
    meter = Meter()
    assert meter.rate == 0.0
    meter.note(1.0, 5)
    assert meter.rate == 0.0
    meter.note(1.0, 7)
    assert meter.rate == 0.0
    meter.note(3.0, 9)
    assert meter.rate == pytest.approx(2.0)


def test_failures_that_are_tried_again_make_no_rate_below_nothing() -> None:
    meter = Meter()
    meter.note(0.0, 100)
    meter.note(10.0, 40)

    assert meter.rate == 0.0


def test_progress_is_told_with_exact_amounts(tmp_path: Path) -> None:
    store = publish(tmp_path, 4, budget=Budget(rub=Decimal("5.50")))
    feed(store, 4)
    calls = [call(0, cost="0.0000522948192"), call(1, cost=None, bound="2")]
    delivery_ledger.apply(store, [delivery(calls, [result(0), result(1, code="endpoint.cut")])])

    told = progress_of(store.job(), 0.5, in_flight=2, workers=1).as_json()

    assert (told["completed"], told["failed"], told["left_s"]) == (1, 1, 4.0)
    assert told["spent_rub"] == "0.0000522948192"
    assert (told["uncertain_rub"], told["budget_rub"]) == ("2", "5.5")


def test_nobody_knows_how_long_it_takes_while_nothing_moves(tmp_path: Path) -> None:
    assert progress_of(publish(tmp_path / "a", 1).job(), 0.0).left_s is None
    assert progress_of(publish(tmp_path / "b", 0).job(), 0.0).left_s == 0.0
