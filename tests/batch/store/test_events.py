"""What happened to a job: written with what happened, never twice, never without it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from batch.store import events
from batch.store.events import Event, EventKind, history
from batch.store.incidents import Trouble
from batch.store.jobstore import JobStore
from jobs.job_commands import Change, Pause, Resume, Retry
from jobs.lifecycle import Objected
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.making import feed, prices, publish

NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return publish(tmp_path)


def told(store: JobStore) -> list[Event]:
    return history(store.db)[1:]


def test_the_submission_comes_first(store: JobStore) -> None:
    assert history(store.db) == [Event(1000.0, EventKind.SUBMITTED, by_user=True)]


def test_what_a_user_asks_and_what_the_coordinator_finds_are_told_apart(store: JobStore) -> None:
    store.set_state(
        JobState.PAUSED,
        reason=PauseReason.BUDGET_EXHAUSTED,
        text=Message("9 of 9 ₽"),
        goes_on_at=5.0,
    )
    store.heed(Change(budget={"rub": Decimal("9.5")}), Resume(mended=True), now=NOW)
    store.heed(Pause(), now=NOW)

    paused, changed, resumed, stopped = told(store)
    assert (paused.state, paused.reason, paused.text, paused.until, paused.by_user) == (
        *("paused", "budget_exhausted", "9 of 9 ₽"),
        *(5.0, False),
    )
    assert changed.changes == {"budget.rub": ("null", "9.5")}
    assert [each.state for each in (resumed, stopped)] == ["in_progress", "paused"]
    assert all(each.by_user for each in (changed, resumed, stopped))


def test_what_changes_nothing_is_no_event(store: JobStore) -> None:
    store.set_state(JobState.IN_PROGRESS)
    store.change_spec(store.job().spec)
    store.heed(Pause(), now=NOW)
    store.heed(Pause(), now=NOW)

    assert [each.state for each in told(store)] == ["paused"]


def test_a_command_that_is_refused_leaves_no_trace(store: JobStore) -> None:
    store.set_state(JobState.PAUSED, reason=PauseReason.BUDGET_EXHAUSTED)

    with pytest.raises(Objected):
        store.heed(Retry(), Resume(), now=NOW)

    assert [each.kind for each in told(store)] == [EventKind.STATE]


def test_lost_workers_and_new_prices_are_told(store: JobStore) -> None:
    store.chunks.lose(feed(store, 3), taken=True)
    later = time.time() + 60
    store.add_prices(prices("0.001", taken_at=later))
    store.add_prices(prices("0.002", taken_at=later + 1))

    lost, dearer = told(store)
    assert (lost.kind, lost.requests) == (EventKind.WORKER_LOST, 3)
    assert (dearer.kind, dearer.at, dearer.by_user) == (EventKind.PRICES, later + 1, False)


def test_trouble_is_told_when_it_comes_and_not_while_it_lasts(store: JobStore) -> None:
    for at in (1000.0, 1005.0, 1500.0, 2100.0):
        store.keep_troubles([Trouble("endpoint.5xx", at)])
    store.keep_troubles([Trouble("endpoint.down", 2101.0), Trouble("endpoint.5xx", 2100.0)])

    assert [(each.code, each.at) for each in told(store)] == [
        ("endpoint.5xx", 1000.0),
        ("endpoint.5xx", 2100.0),
        ("endpoint.down", 2101.0),
    ]


def test_the_list_is_bounded_and_keeps_how_it_began(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST", 30)
    with store.transaction() as db:
        for at in range(100):
            events.note(db, Event(float(at), EventKind.PRICES))

    kept = [each.at for each in told(store)]
    assert len(kept) == 30
    assert kept[:10] == list(range(10))
    assert kept[-1] == 99


def test_what_is_noted_late_is_told_where_it_happened(store: JobStore) -> None:
    for at in (1000.0, 990.0, 990.0):
        events.note(store.db, Event(at, EventKind.TROUBLE, code=f"at {at}"))

    assert [each.at for each in events.latest(store.db, -1)][-4:-1] == [1000.0, 990.0, 990.0]
