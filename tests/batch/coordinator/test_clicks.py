"""What can be clicked when, and what comes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from batch.coordinator import clicks
from batch.store import ledger
from batch.store.jobstore import JobStore
from jobs.states import JobState, PauseReason
from tests.batch.making import answered, feed, publish


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return publish(tmp_path, 4)


def rest(store: JobStore, reason: PauseReason) -> None:
    store.set_state(JobState.PAUSED, reason=reason, text="it rests")


def end(store: JobStore, *, left: bool) -> None:
    """All is answered, or the job was cancelled before."""
    if left:
        store.set_state(JobState.CANCELLING)
        store.set_state(JobState.CANCELLED, now=2000.0)
        return
    ledger.apply(store, [answered(feed(store))])
    store.set_state(JobState.FINALIZING)
    store.set_state(JobState.COMPLETED, now=2000.0)


def test_pausing_and_cancelling_are_left_for_the_next_turn(store: JobStore) -> None:
    assert clicks.heed(store, "pause") == clicks.DONE
    assert store.job().wanted == "pause"

    assert clicks.heed(store, "cancel") == clicks.DONE
    assert store.job().wanted == "cancel"


@pytest.mark.parametrize(
    "reason",
    [PauseReason.USER, PauseReason.KEY_REJECTED, PauseReason.INSUFFICIENT_BALANCE],
)
def test_a_job_that_rests_goes_on(store: JobStore, reason: PauseReason) -> None:
    rest(store, reason)
    store.want("cancel")

    assert clicks.heed(store, "resume") == clicks.DONE

    assert store.job().state is JobState.IN_PROGRESS
    assert store.job().wanted == "lift"


def test_resume_lifts_the_wait_of_a_job_that_is_under_way(store: JobStore) -> None:
    assert clicks.heed(store, "resume") == "running"
    assert not store.job().wanted

    assert clicks.heed(store, "resume", waits=True) == clicks.DONE
    assert store.job().wanted == "lift"


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (PauseReason.BUDGET_EXHAUSTED, "needs_budget"),
        (PauseReason.PRICE_RISE, "needs_prices"),
        (PauseReason.WINDOW_CLOSED, "needs_hours"),
    ],
)
def test_a_job_that_would_rest_again_at_once_is_not_resumed(
    store: JobStore, reason: PauseReason, why: str
) -> None:
    rest(store, reason)

    assert clicks.heed(store, "resume") == why
    assert store.job().state is JobState.PAUSED


def test_a_job_whose_deadline_has_passed_needs_another(tmp_path: Path) -> None:
    store = publish(tmp_path, 4, deadline=datetime(2020, 1, 1, tzinfo=UTC))
    rest(store, PauseReason.USER)

    assert clicks.heed(store, "resume") == "needs_deadline"
    store.close()


def test_a_cancelled_job_goes_on_if_something_is_left(store: JobStore) -> None:
    end(store, left=True)

    assert clicks.heed(store, "pause") == "ended"
    assert clicks.heed(store, "cancel") == "ended"
    assert clicks.heed(store, "resume") == clicks.DONE
    assert store.job().state is JobState.IN_PROGRESS


def test_of_a_job_that_is_done_nothing_is_left_to_resume(store: JobStore) -> None:
    end(store, left=False)

    assert clicks.heed(store, "resume") == "nothing_left"
    assert store.job().state is JobState.COMPLETED


def test_a_job_that_runs_or_rests_already_says_so(store: JobStore) -> None:
    assert clicks.heed(store, "resume") == "running"

    rest(store, PauseReason.BUDGET_EXHAUSTED)

    assert clicks.heed(store, "pause") == "paused_already"


def test_a_job_that_waits_for_its_hours_can_be_paused_by_the_user(store: JobStore) -> None:
    rest(store, PauseReason.WINDOW_CLOSED)

    assert clicks.heed(store, "pause") == clicks.DONE


@pytest.mark.parametrize("wish", ["pause", "resume", "cancel"])
def test_a_job_that_is_being_cancelled_is_let_be(store: JobStore, wish: str) -> None:
    store.set_state(JobState.CANCELLING)

    assert clicks.heed(store, wish) == "ending"
    assert store.job().wanted == ""


@pytest.mark.parametrize("wish", ["", "delete", "pause "])
def test_nothing_else_can_be_wished(store: JobStore, wish: str) -> None:
    assert clicks.heed(store, wish) == "unknown"
