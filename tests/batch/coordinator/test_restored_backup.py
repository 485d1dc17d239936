"""A data directory that was put back from a backup while its jobs went on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing as closed
from decimal import Decimal
from pathlib import Path

import pytest

from batch.coordinator.reconcile import SILENCE_S
from batch.store.home import Home
from batch.store.jobstore import JobRow
from jobs.lifecycle import needs_action
from jobs.names import FENCE
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.house import House, job
from tests.batch.making import JOB, call, delivery, result

RESTORED = (JobState.PAUSED, PauseReason.RESTORED)


@pytest.fixture
def older(house: House, tmp_path: Path) -> Callable[[], None]:
    """Of a job of 12 one chunk is answered; a backup is made; two more are. Puts the backup back,
    beside a Redis that began a fence of its own since.
    """
    job(house, 12)
    house.turn()
    house.answer(1)
    house.turn(2)
    house.coordinator.close()
    backup = shutil.copytree(house.home.jobs_folder, tmp_path / "backup")
    house.coordinator = house._coordinator()
    house.post.mark = "server-2"
    house.turn(2)
    house.answer(*house.out())
    house.turn(2)
    house.answer(*house.out())
    house.turn(2)
    assert house.row().completed == 12

    def put_back() -> None:
        house.coordinator.close()
        shutil.rmtree(house.home.jobs_folder)
        shutil.copytree(backup, house.home.jobs_folder)
        house.post.claimed.clear()
        house.coordinator = house._coordinator()

    return put_back


def standing(house: House) -> tuple[JobRow, tuple[JobState, str]]:
    row = house.row()
    return row, (row.state, row.reason)


def test_a_job_of_which_redis_knows_more_is_paused_until_the_user_has_seen_it(
    house: House, older: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    used = set(house.sender.chunks)
    older()
    house.turn(2)

    row, state = standing(house)
    assert state == RESTORED
    assert needs_action(row.state, row.reason)
    assert "it has 4 calls (0.40 ₽), Redis knows of 12 (1.20 ₽)" in row.reason_text
    assert row.reason_text in caplog.text

    house.ask("resume")
    house.turn(int(SILENCE_S) + 4)
    again = set(house.out())
    assert house.row().state is JobState.IN_PROGRESS
    assert again
    assert not again & used

    house.restart()
    house.answer(*again)
    house.turn(4)
    assert (house.row().state, house.row().completed) == (JobState.COMPLETED, 12)
    with closed(house.change()) as store:
        store.chunks.give_up()
        assert store.chunks.exposure().rub == store.job().settled_rub


@pytest.mark.parametrize("told", ["a delivery", "a sign of life"])
def test_a_worker_that_knows_more_than_the_job_shows_its_age(
    house: House, older: Callable[[], None], told: str
) -> None:
    """Though Redis forgot everything. What the worker delivers is not lost."""
    older()
    house.post.told.clear()
    house.turn(2)
    assert house.row().state is JobState.IN_PROGRESS

    if told == "a delivery":
        house.post.send(delivery([call(9, 77)], [result(9, 77)]))
    else:
        house.post.claimed[JOB, 77] = "box"
    house.turn(2)

    row, state = standing(house)
    assert state == RESTORED
    assert row.completed == (5 if told == "a delivery" else 4)
    assert row.settled_rub == Decimal("0.9" if told == "a delivery" else "0.4")


def test_a_job_that_waited_for_its_hours_does_not_go_on_by_itself(
    house: House, older: Callable[[], None]
) -> None:
    older()
    with closed(house.change()) as store:
        store.set_state(JobState.PAUSED, reason=PauseReason.WINDOW_CLOSED, goes_on_at=0.0)

    house.turn(3)

    assert standing(house)[1] == RESTORED


def test_what_is_not_older_is_left_alone(house: House, older: Callable[[], None]) -> None:
    del older
    house.restart()

    house.turn(4)

    assert house.row().state is JobState.COMPLETED


def test_a_copy_is_known_by_its_place_on_the_disk(
    house: House, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    house.turn()
    house.restart()
    house.turn()
    assert not house.home.is_copied()
    assert (house.home.folder / FENCE).exists()

    copy = shutil.copytree(house.home.folder, elsewhere / "copy")
    moved = house.home.folder.rename(elsewhere / "moved")

    assert Home(copy).is_copied()
    assert not Home(moved).is_copied()
    assert "was copied" not in caplog.text
