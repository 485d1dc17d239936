"""The one door for commands, with the real store: all of it or nothing, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch import job_control
from batch.coordinator import flower_commands
from batch.coordinator.redis.flower_inbox import Wish
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.jobstore import LIFT, RECALL, JobRow, JobStore
from jobs.errors import UsageError
from jobs.job_commands import Cancel, Change, Pause, Resume, Retry
from jobs.lifecycle import Objected
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.making import JOB, answered, call, delivery, feed, publish, result

SEEN_TO = Resume(mended=True)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    publish(tmp_path, 4).close()
    return Home(tmp_path)


@pytest.fixture
def store(home: Home) -> Iterator[JobStore]:
    store = home.open(JOB)
    yield store
    store.close()


def click(store: JobStore, name: str, *, waits: bool = False, **more: Any) -> str:
    return flower_commands.heed(store, Wish(name, "token", 0.0, **more), waits=waits)


def rest(store: JobStore, reason: PauseReason) -> None:
    store.set_state(JobState.PAUSED, reason=reason, text=Message("it rests"))


def end(store: JobStore, *, left: bool, failed: bool = False) -> None:
    """All is answered, or the job was cancelled before."""
    if left:
        store.set_state(JobState.CANCELLING)
        store.set_state(JobState.CANCELLED, now=2000.0)
        return
    chunk = feed(store)
    failures = [result(n, code="endpoint.5xx") for n in range(4)]
    failing = delivery([call(n) for n in range(4)], failures)
    delivery_ledger.apply(store, [failing if failed else answered(chunk)])
    store.set_state(JobState.FINALIZING)
    store.set_state(JobState.COMPLETED, now=2000.0)


def how(job: JobRow) -> tuple[JobState, str]:
    return job.state, job.reason


def test_a_job_is_paused_and_resumed_whether_a_coordinator_works_on_it_or_not(home: Home) -> None:
    for lock in (None, home.lock(JOB)):
        paused = job_control.command(home, JOB, Pause())
        assert (how(paused.job), paused.moot) == ((JobState.PAUSED, PauseReason.USER), ())
        assert job_control.command(home, JOB, Resume()).job.state is JobState.IN_PROGRESS
        if lock:
            lock.release()


def test_a_cancelled_job_of_which_nothing_is_out_ends_at_once(home: Home, store: JobStore) -> None:
    assert job_control.command(home, JOB, Cancel()).job.state is JobState.CANCELLED
    assert (Path(store.job().spec.output_dir) / "cost.json").exists()


def test_a_cancelled_job_with_calls_in_flight_or_a_coordinator_waits(
    home: Home, store: JobStore
) -> None:
    with_coordinator = home.lock()
    assert job_control.command(home, JOB, Cancel()).job.state is JobState.CANCELLING
    with_coordinator.release()

    assert job_control.command(home, JOB, Resume()).job.state is JobState.IN_PROGRESS
    feed(store)
    assert job_control.command(home, JOB, Cancel()).job.state is JobState.CANCELLING


def test_all_commands_of_a_call_come_to_pass_or_none(home: Home, store: JobStore) -> None:
    end(store, left=False, failed=True)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    before = store.job()

    with pytest.raises(Objected, match="deadline"):
        job_control.command(
            home, JOB, Change(fields={"deadline": past}), Retry(("endpoint.5xx",)), Resume()
        )

    assert store.job() == before

    more = Change(budget={"rub": Decimal(50)})
    heard = job_control.command(home, JOB, more, Retry(("endpoint.5xx",)), Resume())
    assert (heard.job.state, heard.job.left) == (JobState.IN_PROGRESS, 4)
    assert heard.job.spec.budget.rub == 50


def test_what_goes_along_with_commands_is_undone_with_them(home: Home, store: JobStore) -> None:
    def fails(within: JobStore) -> None:
        within.tell(Message("half"))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        job_control.command(home, JOB, Pause(), also=fails)

    assert (store.job().state, store.job().reason_text) == (JobState.IN_PROGRESS, "")


def test_a_change_that_no_job_can_have_is_refused_whole(home: Home, store: JobStore) -> None:
    with pytest.raises(UsageError, match=r"limits\.rpm"):
        job_control.command(home, JOB, Change(limits={"rpm": -1}))
    assert store.job().spec.limits.rpm is None


def test_wishes_for_the_coordinator_do_not_push_each_other_out(home: Home, store: JobStore) -> None:
    job_control.command(home, JOB, Change(fields={"priority": 2.0}), SEEN_TO)
    assert store.take_wishes() == {LIFT, RECALL}


@pytest.mark.parametrize(
    "reason",
    [PauseReason.USER, PauseReason.KEY_REJECTED, PauseReason.INSUFFICIENT_BALANCE],
)
def test_a_job_that_rests_goes_on(store: JobStore, reason: PauseReason) -> None:
    rest(store, reason)

    assert click(store, "resume") == flower_commands.DONE

    assert store.job().state is JobState.IN_PROGRESS
    assert store.take_wishes() == {LIFT}


def test_resume_lifts_the_wait_of_a_job_that_is_under_way(store: JobStore) -> None:
    assert click(store, "resume") == "running"
    assert not store.take_wishes()

    assert click(store, "resume", waits=True) == flower_commands.DONE
    assert store.take_wishes() == {LIFT}


@pytest.mark.parametrize(
    ("reason", "why"),
    [(PauseReason.BUDGET_EXHAUSTED, "needs_budget"), (PauseReason.PRICE_RISE, "needs_prices")],
)
def test_a_job_that_would_rest_again_at_once_is_resumed_only_by_who_saw_to_that(
    home: Home, store: JobStore, reason: PauseReason, why: str
) -> None:
    rest(store, reason)

    assert click(store, "resume") == why
    assert store.job().state is JobState.PAUSED

    assert job_control.command(home, JOB, SEEN_TO).job.state is JobState.IN_PROGRESS


def test_a_job_that_waits_for_its_hours_goes_on_then_or_with_others(
    home: Home, store: JobStore
) -> None:
    job_control.command(home, JOB, Change(fields={"window": "00:00-00:01@Pacific/Kiritimati"}))
    rest(store, PauseReason.WINDOW_CLOSED)

    for resume in (Resume(), SEEN_TO):
        heard = job_control.command(home, JOB, resume)
        assert how(heard.job) == (JobState.PAUSED, PauseReason.WINDOW_CLOSED)
        assert [each.code for each in heard.moot] == ["needs_hours"]

    heard = job_control.command(home, JOB, Change(fields={"window": None}), Resume())
    assert heard.job.state is JobState.IN_PROGRESS


def test_a_job_that_waits_for_its_hours_can_be_paused_by_the_user(store: JobStore) -> None:
    rest(store, PauseReason.WINDOW_CLOSED)

    assert click(store, "pause") == flower_commands.DONE
    assert store.job().reason == PauseReason.USER


def test_a_job_whose_deadline_has_passed_needs_another(tmp_path: Path) -> None:
    store = publish(tmp_path, 4, deadline=datetime(2020, 1, 1, tzinfo=UTC))
    rest(store, PauseReason.USER)

    assert click(store, "resume") == "needs_deadline"
    store.close()


def test_a_cancelled_job_goes_on_if_something_is_left(store: JobStore) -> None:
    end(store, left=True)

    assert click(store, "pause") == "ended"
    assert click(store, "cancel") == "ended"
    assert click(store, "resume") == flower_commands.DONE
    assert store.job().state is JobState.IN_PROGRESS


def test_of_a_job_that_is_done_nothing_is_left_to_resume(store: JobStore) -> None:
    end(store, left=False)

    assert click(store, "resume") == "nothing_left"
    assert store.job().state is JobState.COMPLETED


def test_a_job_that_runs_or_rests_already_says_so(store: JobStore) -> None:
    assert click(store, "resume") == "running"

    rest(store, PauseReason.BUDGET_EXHAUSTED)

    assert click(store, "pause") == "paused_already"


def test_a_job_that_is_being_cancelled_may_go_on_all_the_same(store: JobStore) -> None:
    store.set_state(JobState.CANCELLING)

    assert click(store, "pause") == "ending"
    assert click(store, "cancel") == "ending"
    assert click(store, "resume") == flower_commands.DONE


def test_a_job_that_is_finishing_is_let_be(store: JobStore) -> None:
    store.set_state(JobState.FINALIZING)
    assert {click(store, each) for each in ("pause", "cancel", "resume")} == {"ending"}


@pytest.mark.parametrize("wish", ["", "delete", "pause "])
def test_nothing_else_can_be_wished(store: JobStore, wish: str) -> None:
    assert click(store, wish) == "unknown"


# ---- retries and settings by clicks --------------------------------------------------------------


def failed(store: JobStore, *codes: str) -> None:
    """The first requests of the job fail with these codes."""
    chunk = feed(store)
    found = [
        result(ordinal, chunk.chunk, code=code)
        for (ordinal, *_), code in zip(chunk.requests, codes, strict=False)
    ]
    delivery_ledger.apply(store, [delivery([], found)])


def test_failures_are_retried_by_a_click_all_or_those_of_a_cause(store: JobStore) -> None:
    assert click(store, "retry") == "nothing_failed"
    failed(store, "endpoint.5xx", "endpoint.timeout", "endpoint.timeout")

    assert click(store, "retry", codes=("endpoint.timeout",)) == flower_commands.DONE
    assert store.job().failed == 1
    assert click(store, "retry") == flower_commands.DONE
    assert store.job().failed == 0


def test_a_retry_by_a_click_sends_nothing_that_was_never_sent(store: JobStore) -> None:
    failed(store, "endpoint.5xx", "", "")
    store.set_state(JobState.CANCELLING)
    store.set_state(JobState.CANCELLED)
    assert store.job().left > 0

    assert flower_commands.objections(store.job())["retry"] == flower_commands.REST_FIRST
    assert click(store, "retry") == flower_commands.REST_FIRST
    assert store.job().state is JobState.CANCELLED

    assert click(store, "resume") == flower_commands.DONE
    assert click(store, "retry") == flower_commands.DONE
    assert store.job().failed == 0


def test_settings_are_changed_by_a_click(store: JobStore) -> None:
    wanted = {"budget_rub": "80.5", "priority": "high", "max_in_flight": "7", "window": ""}

    assert click(store, "change", figures=wanted) == flower_commands.DONE

    spec = store.job().spec
    assert (spec.budget.rub, spec.priority) == (Decimal("80.5"), 100.0)
    assert (spec.limits.max_in_flight, spec.window) == (7, None)
    assert click(store, "change", figures={"max_in_flight": ""}) == flower_commands.DONE
    assert store.job().spec.limits.max_in_flight is None


@pytest.mark.parametrize(
    "figures",
    [
        {"budget_rub": "NaN"},
        {"budget_rub": "-1"},
        {"priority": "0"},
        {"max_in_flight": "0"},
        {"max_in_flight": "x"},
        {"window": "25:00-26:00"},
    ],
)
def test_a_setting_that_no_job_can_have_changes_nothing(
    store: JobStore, figures: dict[str, str]
) -> None:
    before = store.job().spec

    assert click(store, "change", figures={"priority": "2", **figures}) == "bad_value"
    assert store.job().spec == before


def test_a_job_without_money_goes_on_when_its_budget_is_raised(store: JobStore) -> None:
    rest(store, PauseReason.BUDGET_EXHAUSTED)
    assert click(store, "change", figures={"priority": "2"}) == flower_commands.DONE
    assert store.job().state is JobState.PAUSED

    assert click(store, "change", figures={"budget_rub": "99"}) == flower_commands.DONE

    assert store.job().state is JobState.IN_PROGRESS


def test_a_click_cannot_put_the_budget_below_what_is_spent(store: JobStore) -> None:
    chunk = feed(store)
    delivery_ledger.apply(store, [answered(chunk, cost="0.25")])

    assert click(store, "change", figures={"budget_rub": "0.5"}) == "bad_value"
