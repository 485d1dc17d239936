"""What last troubled a job: noted by the coordinator, told in a sentence without any prompt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from batch import language
from batch.coordinator import job_controller as active_module
from batch.coordinator.isolation import TROUBLE_S
from batch.coordinator.reconcile import SILENCE_S
from batch.store.incidents import Trouble
from batch.store.jobstore import JobStore
from batch.watching.latest_incidents import OUTAGE, Troubles, meaning, told
from jobs.chunk import WORKER_DIED, ReturnReason
from jobs.errors import StorageUnavailable
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from tests.batch.house import Clock, House, job
from tests.batch.making import JOB, closing, delivery, result
from workers.calling import classifier

SECRET = "the prompt was: my secret"


@pytest.fixture
def house(tmp_path: Path, clock: Clock) -> House:
    house = House(tmp_path, clock)
    job(house, 8)
    house.turn(2)
    return house


def trouble(house: House) -> dict[str, Any] | None:
    """As it is published; nothing that an endpoint said is ever in it."""
    document: dict[str, Any] = house.post.told[JOB]
    assert "secret" not in str(document["trouble"])
    found: dict[str, Any] | None = document["trouble"]
    return found


# ---- what is noted ------------------------------------------------------------------------------


def test_a_job_that_goes_well_has_none(house: House) -> None:
    house.answer(1)
    house.turn(2)

    assert trouble(house) is None


def test_refusals_are_counted_from_a_worker_and_from_the_home(house: House) -> None:
    busy = {"in_flight": 1, "chunks": 1, "refused": {"1": {"endpoint.rate_limited": 5}}}
    house.worker(jobs={JOB: busy})
    house.turn(3)
    first = trouble(house)
    assert first is not None
    assert (first["code"], first["times"]) == ("endpoint.rate_limited", 5)
    assert house.clock.wall - 5 < first["at"] < house.clock.wall - 1

    payload = house.post.take(JOB, 1)
    back = [(work.ordinal, 1, 0) for work in payload.requests]
    house.post.send(delivery(closed=[closing(1, back, refusals={"endpoint.rate_limited": 6})]))
    house.worker(jobs={})
    house.turn(3)

    found = trouble(house)
    assert found is not None
    assert found["times"] == 6


def test_a_request_that_is_refused_for_good_counts_too(house: House) -> None:
    payload = house.post.take(JOB, 1)
    ordinals = [work.ordinal for work in payload.requests][:2]
    failed = [result(n, 1, code="endpoint.moderation", message=SECRET) for n in ordinals]
    house.post.send(delivery([], failed))
    house.turn(2)

    found = trouble(house)
    assert found is not None
    assert (found["code"], found["times"]) == ("endpoint.moderation", 2)


def test_what_troubled_a_job_outlives_its_coordinator_and_its_end(house: House) -> None:
    house.worker(jobs={JOB: {"down_s": 3.0}})
    house.turn(2)
    house.worker()
    house.turn(20)
    first = trouble(house)

    house.restart()
    house.turn(2)
    assert first is not None
    assert trouble(house) == first

    house.worker(jobs={JOB: {"down_s": 3.0}})
    house.turn(2)
    house.worker()
    house.answer(1, 2)
    house.turn(3)
    (kept,) = house.row().troubles
    assert house.row().ended
    assert (kept.code, kept.times) == (OUTAGE, 2)
    assert trouble(house) == {"code": kept.code, "at": kept.at, "times": kept.times}


def test_a_storm_of_troubles_is_written_down_now_and_then(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    monkeypatch.setattr(JobStore, "keep_troubles", lambda _, troubles: written.append(troubles))
    house.worker(jobs={JOB: {"down_s": 3.0}})
    house.turn(60)

    assert 5 <= len(written) <= 7


def test_an_outage_is_one_trouble_however_long_it_lasts(house: House) -> None:
    house.worker(jobs={JOB: {"in_flight": 0, "down_s": 3.0}})
    house.turn(60)
    house.worker(jobs={JOB: {"in_flight": 1}})
    house.turn(30)
    found = trouble(house)
    assert found is not None
    assert (found["code"], found["times"]) == (OUTAGE, 1)
    assert 28 <= house.clock.wall - found["at"] <= 32

    house.worker(jobs={JOB: {"in_flight": 0, "down_s": 1.0}})
    house.turn(3)

    again = trouble(house)
    assert again is not None
    assert again["times"] == 2


def test_a_worker_that_falls_silent_is_told_once_also_when_its_end_is_heard(house: House) -> None:
    payload = house.post.take(JOB, 1)
    house.turn(2)
    del house.post.claimed[JOB, 1]
    house.turn(int(SILENCE_S) + 4)
    first = trouble(house)
    assert first is not None
    assert (first["code"], first["times"]) == ("worker.silent", 1)

    back = [(work.ordinal, 1, 1) for work in payload.requests]
    house.post.send(delivery(closed=[closing(1, back, WORKER_DIED)]))
    house.turn(3)

    assert trouble(house) == first


def test_a_killed_worker_is_told_when_the_next_one_finds_what_it_left(house: House) -> None:
    for chunk in (1, 2):
        back = [(work.ordinal, 1, 1) for work in house.post.take(JOB, chunk).requests]
        house.post.send(delivery(closed=[closing(chunk, back, WORKER_DIED)], sequence=chunk))
    house.turn(2)

    found = trouble(house)
    assert found is not None
    assert (found["code"], found["times"]) == ("worker.died", 1)


def test_why_the_endpoint_stopped_the_job_is_told_without_its_words(house: House) -> None:
    rejected = ReturnReason("endpoint.key_rejected", SECRET, PauseReason.KEY_REJECTED)
    payload = house.post.take(JOB, 1)
    back = [(work.ordinal, 1, 0) for work in payload.requests]
    house.post.send(delivery(closed=[closing(1, back, rejected)]))
    house.turn(2)

    found = trouble(house)
    assert found is not None
    assert found["code"] == "endpoint.key_rejected"


def test_a_redis_that_was_away_is_told_when_it_is_back(house: House) -> None:
    house.post.away = True
    house.turn(5)
    house.post.away = False
    house.turn(3)

    found = trouble(house)
    assert found is not None
    assert (found["code"], found["times"]) == ("redis.away", 1)


def test_a_disk_that_failed_is_told_when_the_job_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        failing = active_module.JobController
        broken.setattr(failing, "turn", _no_disk)
        house.turn(2)
    house.turn(int(TROUBLE_S) + 3)

    found = trouble(house)
    assert found is not None
    assert (found["code"], found["times"]) == ("home.unusable", 1)


def _no_disk(*_: object) -> None:
    raise StorageUnavailable(Message("the disk is full"))


# ---- how it is said -----------------------------------------------------------------------------


def test_what_is_met_again_soon_is_one_and_later_another() -> None:
    troubles = Troubles()
    for at in (0.0, 9.0, 18.0, 40.0):
        troubles.meet(OUTAGE, at)

    assert troubles.last == Trouble(OUTAGE, 40.0, 2)


@pytest.mark.parametrize(
    ("trouble", "english", "russian"),
    [
        (
            Trouble(OUTAGE, 99.5),
            "the endpoint did not respond, just now",
            "эндпоинт не отвечал, только что",
        ),
        (
            Trouble(OUTAGE, 40.0),
            "the endpoint did not respond, 60 s ago",
            "эндпоинт не отвечал, 60 s назад",
        ),
        (
            Trouble("endpoint.rate_limited", 40.0, 1234),
            "rate limited (HTTP 429), 1,234 times, last 60 s ago",
            "превышен лимит запросов (HTTP 429), 1 234 раза, последний — 60 s назад",
        ),
        (Trouble("endpoint.new", 40.0), "endpoint.new, 60 s ago", "endpoint.new, 60 s назад"),
    ],
)
def test_it_is_said_in_a_short_sentence(trouble: Trouble, english: str, russian: str) -> None:
    assert told(trouble, 100.0, "60 s") == english
    language.use("ru")
    try:
        assert told(trouble, 100.0, "60 s").replace("\N{NO-BREAK SPACE}", " ") == russian
    finally:
        language.use("en")


def test_every_code_of_an_answer_has_a_meaning() -> None:
    codes = re.findall(r"^    (endpoint\.\S+) +[RTS]  ", classifier.__doc__ or "", re.MULTILINE)

    assert len(codes) > 25
    assert [code for code in codes if not meaning(code)] == []
