"""Jobs that stand still, as their coordinator sees it: told to Flower, Prometheus and the user."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from batch.coordinator.job_controller import JobController
from batch.coordinator.metrics import Metrics
from batch.notifications import notifier
from batch.notifications.notification import LASTS_S
from batch.store import wait_times
from batch.watching.progress import Progress
from batch.watching.time_series import series_of, unpacked
from jobs.errors import ServiceUnavailable
from jobs.message import Message
from jobs.names import DATABASE
from jobs.stall import Stall
from tests.batch.house import House, job
from tests.batch.making import BASE_URL, JOB


class Seen:
    """What Flower, Prometheus, the display and the notifications of a house were told."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house = house
        self.metrics = Metrics()
        self.shown: list[Progress] = []
        self.events: list[str] = []
        house.coordinator._metrics = self.metrics
        house.coordinator._listen = self.shown.append
        monkeypatch.setattr(notifier, "time", house.clock)
        teller = house.coordinator._teller
        monkeypatch.setattr(teller, "tell", lambda *told: self.events.append(told[2]))

    def in_metrics(self) -> list[str]:
        registry = CollectorRegistry()
        registry.register(self.metrics)
        text = generate_latest(registry).decode()
        return re.findall(r'nightshift_job_stalled\{.*reason="(\w+)"\} 1', text)

    def told(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.house.post.told[JOB])


@pytest.fixture
def seen(house: House, monkeypatch: pytest.MonkeyPatch) -> Seen:
    job(house, notify={"url": "https://example.org/"}, total_timeout_s=60.0)
    house.worker(jobs={JOB: {"in_flight": 1, "chunks": 1}})
    found = Seen(house, monkeypatch)
    house.turn(2)
    assert (found.told()["stall"], found.in_metrics()) == (None, [])
    return found


def away(*_: object) -> None:
    raise ServiceUnavailable(Message("Redis does not answer (ConnectionError)"))


def check(seen: Seen, way: Stall) -> None:
    """Ten seconds later it is told; once it lasted for longer than a restart, also by a notice."""
    last = seen.shown[-1]
    assert last.stall is not None
    assert last.stall.reason is way
    assert (last.rate, last.left_s, last.done_at, last.needs_action) == (0.0, None, None, True)
    assert seen.in_metrics() == [way]
    if way is not Stall.NO_PROGRESS:  # which is known late enough
        assert [event for event in seen.events if event] == []
    seen.house.turn(round(LASTS_S))
    assert [event for event in seen.events if event] == [f"stalled.{way}"]


def test_no_worker(house: House, seen: Seen) -> None:
    house.post.present = []

    house.turn(10)

    assert seen.told()["stall"]["reason"] == "no_worker"
    assert seen.told()["remedy"] == "nightshift worker"
    check(seen, Stall.NO_WORKER)
    house.worker()
    house.turn(2)
    assert seen.told()["stall"] is None


def test_a_worker_that_has_another_key_is_none(house: House, seen: Seen) -> None:
    house.post.present = [{"base_url": BASE_URL + "/other"}]

    house.turn(10)

    check(seen, Stall.NO_WORKER)


def test_a_worker_that_was_killed_is_not_waited_for_until_its_heartbeat_ends(
    house: House, seen: Seen
) -> None:
    for _ in range(9):
        before = house.post.present[0].get("silent_s", 0.0)
        house.worker(silent_s=before + 1.0)
        house.turn()

    assert seen.told()["stall"]["reason"] == "no_worker"


def test_no_call_ends_for_longer_than_one_may_take(house: House, seen: Seen) -> None:
    house.turn(60)
    assert seen.told()["stall"] is None

    house.turn(12)

    assert seen.told()["stall"]["reason"] == "no_progress"
    check(seen, Stall.NO_PROGRESS)


@pytest.mark.parametrize("jump_s", [24 * 3600, -24 * 3600])
def test_a_clock_that_is_set_is_no_standstill_and_hides_none(
    house: House, seen: Seen, jump_s: float
) -> None:
    house.clock.wall += jump_s
    house.turn(2)
    assert (seen.told()["stall"], [event for event in seen.events if event]) == (None, [])

    house.post.present = []
    house.turn(10)

    check(seen, Stall.NO_WORKER)


@pytest.mark.parametrize(
    "facts",
    [
        {"jobs": {JOB: {"chunks": 1, "down_s": 100.0}}},
        {"jobs": {JOB: {"chunks": 1, "wait": {"code": "endpoint.rate_limited", "said": "later"}}}},
        {"jobs": {"job_01k9abcdefghjkmnpqrstvwxyz": {"chunks": 1}}},
    ],
)
def test_a_job_that_waits_for_what_is_known_does_not_stand_still(
    house: House, seen: Seen, facts: dict[str, Any]
) -> None:
    house.worker(**facts)

    house.turn(80)

    assert seen.told()["stall"] is None


def comes_late(house: House) -> None:
    house.post.present = []
    house.turn(120)


def was_throttled(house: House) -> None:
    wait = {"code": "endpoint.rate_limited", "said": "later"}
    house.worker(jobs={JOB: {"chunks": 1, "wait": wait}})
    house.turn(120)


def came_with_redis(house: House) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house.post, "read", away)
        house.turn(120)
    house.post.present = []  # it has not beaten yet
    house.turn(3)


@pytest.mark.parametrize("waits", [comes_late, was_throttled, came_with_redis])
def test_a_job_that_waited_for_long_does_not_stand_still_when_it_may_go_on(
    house: House, seen: Seen, waits: Callable[[House], None]
) -> None:
    waits(house)
    if waits is came_with_redis:
        assert seen.told()["stall"] is None
    seen.events.clear()
    house.worker(jobs={JOB: {"in_flight": 1, "chunks": 1}})

    for _ in range(50):
        house.turn()
        assert seen.told()["stall"] is None
    assert not any(seen.events)
    house.turn(25)
    assert seen.told()["stall"]["reason"] == "no_progress"


def test_redis_is_away(house: House, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.post, "read", away)

    house.turn(5)
    house.clock.wall -= 3600  # set back

    check(seen, Stall.REDIS_AWAY)
    assert seen.shown[-1].attention is not None


def test_files_that_cannot_be_used(
    house: House, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(JobController, "turn", full)

    house.turn(3)

    check(seen, Stall.JOB_UNUSABLE)
    assert "full" in seen.shown[-1].stall.said if seen.shown[-1].stall else False


def zeroed(file: Path) -> None:
    with file.open("r+b") as there:
        there.write(bytes(file.stat().st_size))


def cut(file: Path) -> None:
    os.truncate(file, 4096)


def replaced(file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    copy.replace(file)


def gone(file: Path) -> None:
    shutil.rmtree(file.parent)


def home_gone(file: Path) -> None:
    file.parent.parent.rename(file.parent.parent.with_name("elsewhere"))


@pytest.mark.parametrize("spoil", [zeroed, cut, replaced, gone, home_gone])
def test_files_that_the_coordinator_has_open_and_nobody_else_would_find(
    house: House, seen: Seen, spoil: Callable[[Path], None]
) -> None:
    spoil(house.home.jobs_folder / JOB / DATABASE)

    house.turn(1)
    house.coordinator._checked_at = float("-inf")
    house.turn(2)

    (sign,) = house.post.coordinators.values()
    assert sign.ailing[JOB].text
    assert seen.in_metrics() == [Stall.JOB_UNUSABLE]
    assert seen.shown[-1].stall
    if spoil is not replaced:  # of which there is a file to go on with
        check(seen, Stall.JOB_UNUSABLE)


def test_a_home_that_is_back_is_worked_on_again(house: House, seen: Seen) -> None:
    away = house.home.folder.with_name("away")
    house.home.folder.rename(away)
    house.coordinator._checked_at = float("-inf")
    house.turn(1)
    assert seen.in_metrics() == [Stall.JOB_UNUSABLE]

    away.rename(house.home.folder)
    house.coordinator._isolation._until[JOB] = 0.0
    house.turn(4)

    assert seen.in_metrics() == []
    assert house.post.told[JOB]["stall"] is None


def test_what_a_job_waits_for_is_told_kept_and_no_standstill(house: House, seen: Seen) -> None:
    for second in range(0, 80, 2):
        facts = {"chunks": 1, "bound": "tpm", "waits": {"tpm": float(second)}}
        house.worker(name="one", jobs={JOB: facts})
        house.turn(2)

    bound = seen.told()["bound"]
    assert (bound["cause"], bound["share"]) == ("tpm", pytest.approx(1.0, abs=0.1))
    # The job has no such limit: it keeps to that of another.
    assert (bound["text"], bound["remedy"]) == ("another job's limit of tokens per minute", "")
    assert seen.told()["stall"] is None
    (point,) = [each for each in unpacked(house.post.series[JOB]).points if each.waited][-1:]
    assert set(point.waited) == {"tpm"}
    with closing(house.store()) as store:
        assert wait_times.waited_in_all(store.db)["tpm"] >= 60
        again = series_of(store, house.clock.wall)
    assert sum(each.waited.get("tpm", 0.0) for each in again.points) >= 60


@pytest.mark.usefixtures("seen")
def test_the_log_has_a_line_for_each_change_of_a_job_and_none_for_each_look(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nightshift.coordinator")
    house.turn(5)
    house.post.present = []
    house.turn(12)
    house.worker()
    house.turn(3)
    house.ask("pause")
    house.turn(3)
    house.ask("cancel")
    house.turn(5)

    lines = [each.getMessage() for each in caplog.records if each.name.endswith("coordinator")]
    told = [line.removeprefix(f"{JOB} ").split(":")[0] for line in lines if line.startswith(JOB)]
    assert told == ["stalled", "in_progress again", "paused", "cancelled"]
    assert "0 of 8 answered, 0 failed, 0.00 ₽" in lines[-1]
