"""The job's row: states, prices, wishes, and how they are asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batch.store import delivery_ledger
from batch.store.jobstore import LIFT, RECALL
from jobs.errors import UsageError
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.making import (
    again,
    answered,
    feed,
    prices,
    publish,
    spec,
)


def test_a_job_is_moved_along_lawful_arrows_only(tmp_path: Path) -> None:
    store = publish(tmp_path)

    with pytest.raises(UsageError, match="in_progress cannot become completed"):
        store.set_state(JobState.COMPLETED)
    assert store.job().state is JobState.IN_PROGRESS


def test_a_job_that_somebody_else_has_moved_stays_where_it_is(tmp_path: Path) -> None:
    store = publish(tmp_path)
    again(store).set_state(JobState.PAUSED, reason=PauseReason.USER, text=Message("by hand"))

    moved = store.set_state(JobState.FINALIZING, standing=JobState.IN_PROGRESS)

    assert not moved
    assert (store.job().state, store.job().reason_text) == (JobState.PAUSED, "by hand")


def test_a_pause_is_told_with_its_reason_and_forgotten_when_the_job_goes_on(tmp_path: Path) -> None:
    store = publish(tmp_path)

    store.set_state(JobState.PAUSED, reason=PauseReason.KEY_REJECTED, text=Message("401"))
    paused = store.job()
    store.set_state(JobState.IN_PROGRESS)

    assert (paused.reason, paused.reason_text) == ("key_rejected", "401")
    assert (store.job().reason, store.job().reason_text) == ("", "")


def test_an_ended_job_has_an_end_and_one_that_goes_on_has_none(tmp_path: Path) -> None:
    store = publish(tmp_path)

    store.set_state(JobState.CANCELLING)
    store.set_state(JobState.CANCELLED, now=1010.0)
    ended = store.job()
    store.set_state(JobState.IN_PROGRESS)

    assert (ended.ended, ended.ended_at) == (True, 1010.0)
    assert (store.job().ended, store.job().ended_at) == (False, None)


def test_the_spec_is_read_once_and_changes_are_seen(tmp_path: Path) -> None:
    store = publish(tmp_path)
    first, second = store.job().spec, store.job().spec

    store.change_spec(spec(tmp_path, name="other"))

    assert first is second
    assert store.job().spec.name == "other"


def test_the_newest_prices_count_and_all_are_kept(tmp_path: Path) -> None:
    store = publish(tmp_path, priced=prices("0.001"))

    store.add_prices(prices("0.003", taken_at=2.0))

    assert store.prices() == prices("0.003", taken_at=2.0)
    assert store.prices_of() == (2.0, 1.0)
    assert store.accepted_prices() == prices("0.001")
    assert [each.taken_at for each in store.all_prices()] == [1.0, 2.0]


def test_a_wish_is_left_for_the_coordinator(tmp_path: Path) -> None:
    store = publish(tmp_path)

    again(store).want(LIFT)
    again(store).want(RECALL)

    assert store.take_wishes() == {LIFT, RECALL}
    assert store.take_wishes() == set()


def test_no_question_of_a_turn_reads_a_table_to_its_end(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    chunk = feed(store, 2)
    asked: list[str] = []
    store.db.set_trace_callback(asked.append)

    store.job()
    store.queue.waiting(2)
    store.chunks.alive()
    store.chunks.out()
    store.chunks.untold()
    store.chunks.unlimited_out(rub=True, tokens=True)
    store.chunks.lost()
    store.chunks.exposure()
    store.chunks.under_way()
    store.chunks.unfinished(chunk)
    store.uncertain.due([1.0, 2.0], 50, 3.0)
    store.uncertain.awaits(answered=2, unanswered=1)
    store.failures.set_poison_aside(3, 1.0)
    store.queue.suspects()
    store.chunks.trial_out()
    store.queue.body(0)
    delivery_ledger.apply(store, [answered(chunk)])

    store.db.set_trace_callback(None)
    indexed = re.compile(r"SEARCH|SCAN (job|SUBQUERY|CONSTANT|json_each|\d)|.* USING .*INDEX")
    for query in {each for each in asked if each.startswith(("SELECT", "INSERT", "UPDATE"))}:
        plan = [row["detail"] for row in store.db.execute(f"EXPLAIN QUERY PLAN {query}")]
        # What is read in the order that is asked for ends at its limit.
        ends = "LIMIT" in query and not any("TEMP B-TREE" in step for step in plan)
        whole = [step for step in plan if step.startswith("SCAN") and not indexed.match(step)]
        assert ends or not whole, (query, plan)
