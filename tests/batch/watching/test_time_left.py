"""When a job will be done and what it will have cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch.money.cost_forecast import cost_of_all
from batch.store.jobstore import JobRow
from batch.store.stored_estimate import Guess
from batch.watching.progress import progress_of
from batch.watching.time_left import done_at, is_late
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.making import publish

NOW = datetime(2026, 5, 3, 21, 0, tzinfo=UTC)


@pytest.fixture
def job(tmp_path: Path) -> JobRow:
    """100 requests, 25 of them answered for 5 ₽ in all."""
    row = publish(tmp_path, 100).job()
    guess = Guess(likely=Decimal(30), hours=2.0)
    return replace(row, completed=25, calls=25, settled_rub=Decimal(5), guess=guess)


def planned(job: JobRow, **plan: Any) -> JobRow:
    """The job under another spec."""
    return replace(job, spec=job.spec.model_copy(update=plan))


def test_the_rate_carries_on_and_so_does_the_price(job: JobRow) -> None:
    assert done_at(job, 0.5, NOW) == NOW + timedelta(seconds=150)
    assert cost_of_all(job) == 20


def test_calls_of_unknown_cost_count_as_the_others_did_and_not_their_bound(job: JobRow) -> None:
    half = replace(job, completed=50, calls=50, unknown=25, booked_rub=Decimal(30))

    assert cost_of_all(half) == 20
    assert cost_of_all(replace(half, booked_rub=Decimal(1))) == 12


def test_while_hardly_a_cost_is_known_the_estimate_speaks(job: JobRow) -> None:
    assert cost_of_all(replace(job, unknown=20, booked_rub=Decimal(30))) == 30


def test_before_there_are_answers_the_estimate_speaks(job: JobRow) -> None:
    assert cost_of_all(replace(job, completed=3)) == 30


def test_nobody_knows_without_a_rate_and_nothing_is_left_of_what_is_done(job: JobRow) -> None:
    assert done_at(job, 0.0, NOW) is None
    assert done_at(replace(job, completed=100), 1.0, NOW) is None
    assert cost_of_all(replace(job, completed=100)) is None


def test_the_hours_of_the_night_count_and_a_job_that_waits_for_them_is_foretold(
    job: JobRow,
) -> None:
    nightly = planned(job, window="22:00-23:00@UTC")
    assert done_at(nightly, 75 / 5400, NOW) == datetime(2026, 5, 4, 22, 30, tzinfo=UTC)

    waits = replace(nightly, state=JobState.PAUSED, reason=PauseReason.WINDOW_CLOSED)
    assert done_at(waits, 0.0, NOW) == datetime(2026, 5, 4, 22, 30, tzinfo=UTC)
    rests = replace(nightly, state=JobState.PAUSED, reason=PauseReason.USER)
    assert done_at(rests, 0.0, NOW) is None


def test_an_end_behind_the_deadline_is_late(job: JobRow) -> None:
    soon = planned(job, deadline=NOW + timedelta(minutes=1))

    assert is_late(soon, done_at(soon, 0.5, NOW))
    assert not is_late(soon, done_at(soon, 5.0, NOW))
    assert not is_late(job, done_at(job, 0.5, NOW))


def test_all_who_watch_are_told_the_same(job: JobRow) -> None:
    told = progress_of(job, 0.5).as_json()

    assert told["forecast_rub"] == "20"
    assert told["late"] is False
    assert isinstance(told["done_at"], int)
