"""Jobs beside each other, and what is shown of an endpoint that is down."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from batch.coordinator.chunk_size import CHUNKS_PER_WORKER
from batch.coordinator.job_controller import LEAST_CHUNKS
from jobs.chunk import Speed
from jobs.job_commands import Change
from jobs.job_options import Limits
from jobs.states import JobState
from tests.batch.house import House, job
from tests.batch.making import JOB, OTHER, spec


def test_a_job_alone_fills_the_workers_and_leaves_them_room_for_others(house: House) -> None:
    job(house, 400)
    house.turn(3)
    assert len(house.out(JOB)) == CHUNKS_PER_WORKER


def test_jobs_of_an_endpoint_share_its_workers(house: House) -> None:
    job(house, 400)
    job(house, 400, OTHER)
    house.turn(3)
    assert len(house.out(OTHER)) == CHUNKS_PER_WORKER // 2
    # What is out stays out; as it comes back, less is fed.
    house.answer(*house.out(JOB)[:20])
    house.turn(3)
    assert len(house.out(JOB)) == CHUNKS_PER_WORKER // 2


def test_however_many_jobs_there_are_each_is_fed(house: House) -> None:
    names = [f"job_01jd{number:022d}" for number in range(CHUNKS_PER_WORKER)]
    for name in names:
        job(house, 16, name)
    house.turn(3)
    assert {len(house.out(name)) for name in names} == {LEAST_CHUNKS}


def test_chunks_of_an_urgent_job_are_taken_first(house: House) -> None:
    job(house, 4, priority=100.0)
    house.turn()
    assert house.sender.shares == [100.0]


def test_what_the_user_changes_reaches_workers_that_run_the_job(house: House) -> None:
    job(house, 4)
    house.turn()
    store = house.change()
    change = Change(limits={"rpm": 7, "refusals": 0}, fields={"priority": 100.0})
    store.heed(change, now=datetime.now(UTC))
    store.close()
    house.turn()

    text = json.dumps(house.post.told[JOB]["pace"])
    assert msgspec.json.decode(text, type=Speed) == Speed(7, None, None, None, 100.0)
    assert house.row().spec.limits == Limits(rpm=7, refusals=0)


def test_a_spec_of_before_has_the_usual_priority(tmp_path: Path) -> None:
    now = spec(tmp_path)
    old = json.loads(now.model_dump_json())
    del old["priority"], old["limits"]["rub_per_hour"], old["limits"]["refusals"]
    assert type(now).model_validate(old) == now
    assert now.terms().share == 10.0


def test_e44_a_job_whose_endpoint_is_down_goes_on_and_says_why_nothing_moves(
    house: House,
) -> None:
    job(house)
    house.worker(jobs={JOB: {"in_flight": 0, "chunks": 2, "down_s": 61.5}})
    house.turn(2)
    told = house.post.told[JOB]
    assert (told["state"], told["reason"], told["down_s"]) == ("in_progress", "endpoint_down", 61.5)
    assert "does not respond" in str(told["reason_text"])
    assert house.row().state is JobState.IN_PROGRESS

    house.worker(jobs={JOB: {"in_flight": 4, "chunks": 2, "down_s": 0.0}})
    house.turn(2)
    told = house.post.told[JOB]
    assert (told["reason"], told["reason_text"], told["down"]) == ("", "", False)
