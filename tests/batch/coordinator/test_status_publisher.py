"""What the coordinator tells of its jobs for Flower, and how it heeds what is clicked there."""

from __future__ import annotations

import shutil
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batch.coordinator.flower_queries import Retried
from batch.coordinator.redis.flower_inbox import Wish
from batch.coordinator.worker_status import Presence, presence_of
from batch.flower.status_reader import ANSWER_S
from batch.reports.output_files import Piece
from batch.watching.time_series import unpacked
from jobs.errors import UsageError
from jobs.signing import Target
from jobs.states import JobState
from jobs.wire import Found
from tests.batch.house import Clock, House, job
from tests.batch.making import (
    BASE_URL,
    JOB,
    OTHER,
    answered,
    call,
    closing,
    delivery,
    feed,
    publish,
    result,
    statuses,
)

STRANGER = "job_01k9abcdefghjkmnpqrstvwxyz"


def click(house: House, wish: str, job: str = JOB, **more: Any) -> str:
    """A click, and what came of it; empty where nobody heard."""
    house.post.wished[job] = Wish(wish, "token", 0.0, **more)
    house.turn()
    told = house.post.answers.pop("token", "")
    assert isinstance(told, str)
    return told


# ---- telling ------------------------------------------------------------------------------------


def test_how_a_job_stands_and_went_is_told(house: House) -> None:
    job(house)
    house.worker(
        jobs={JOB: {"in_flight": 3, "chunks": 2, "refused": {"1": {"endpoint.rate_limited": 2}}}},
        limits=[{"scope": "abc", "limit": 64, "down": False}],
        outbox_lag_s=0.3,
    )
    house.turn(2)
    house.answer(1)
    house.turn()

    told = house.post.told[JOB]
    assert (told["busy"], told["in_flight"], told["refusals"]) == (1, 3, 2)
    assert told["limits"] == {"abc": 64}
    assert (told["completed"], told["calls"], told["spent_rub"]) == (4, 4, "0.4")
    assert told["lag_s"] == 0.3
    possible = {"pause": "", "cancel": "", "change": ""}
    assert told["objections"] == {**possible, "resume": "running", "retry": "nothing_failed"}
    assert told["files"] == {}
    (point,) = [each for each in unpacked(house.post.series[JOB]).points if each.samples]
    assert point.flying / point.samples > 0


def published(house: House) -> Any:
    return house.post.told[JOB]


def test_resume_can_be_clicked_while_a_job_waits_and_asks_the_endpoint_again(house: House) -> None:
    job(house)
    wait = {"code": "endpoint.rate_limited", "said": "429: come back tomorrow", "until": 9000.0}
    house.worker(jobs={JOB: {"in_flight": 0, "chunks": 1, "wait": wait}})
    house.turn(2)
    assert published(house)["objections"]["resume"] == ""

    assert click(house, "resume") == "done"

    house.turn()
    assert published(house)["lifted_at"] > 0


def test_refusals_are_drawn_once_when_they_move_from_a_worker_to_the_home(house: House) -> None:
    job(house, 4)
    busy = {"in_flight": 1, "chunks": 1, "refused": {"1": {"endpoint.rate_limited": 5}}}
    house.worker(jobs={JOB: busy})
    house.turn(2)
    payload = house.post.take(JOB, 1)
    back = [(work.ordinal, 1, 0) for work in payload.requests]
    refused = {"endpoint.rate_limited": 6}
    house.post.send(delivery(closed=[closing(1, back, refusals=refused)]))
    house.worker(jobs={})
    house.turn(6)

    series = unpacked(house.post.series[JOB])
    assert sum(p.errors.get("endpoint.rate_limited", 0) for p in series.points) == 6
    assert house.post.told[JOB]["refused"] == refused


def test_refusals_are_never_counted_twice_nor_forgotten_on_their_way(house: House) -> None:
    """A chunk's closing may come before its worker tells no more of it, and after."""
    job(house, 8)
    both = {str(chunk): {"endpoint.rate_limited": 5} for chunk in (1, 2)}
    house.worker(jobs={JOB: {"refused": both}})
    house.turn(3)
    seen = [house.post.told[JOB]["refusals"]]
    for chunk in (1, 2):
        back = [(work.ordinal, 1, 0) for work in house.post.take(JOB, chunk).requests]
        told = [closing(chunk, back, refusals={"endpoint.rate_limited": 6})]
        if chunk == 2:
            house.worker(jobs={JOB: {"refused": {}}})
            house.turn(2)
            seen.append(house.post.told[JOB]["refusals"])
        house.post.send(delivery(closed=told, sequence=chunk))
        house.turn(2)
        seen.append(house.post.told[JOB]["refusals"])

    assert seen == [10, 11, 11, 12]
    assert house.post.told[JOB]["refused"] == {"endpoint.rate_limited": 12}


def test_a_closing_whose_results_are_still_on_their_way_is_not_counted_beside_its_worker(
    house: House,
) -> None:
    job(house, 4)
    house.worker(jobs={JOB: {"refused": {"1": {"endpoint.rate_limited": 6}}}})
    house.turn()
    house.post.take(JOB, 1)
    house.post.send(delivery(closed=[closing(1, refusals={"endpoint.rate_limited": 6})]))
    house.turn(2)
    house.restart()
    house.turn(2)

    assert house.out() == [1]
    assert house.post.told[JOB]["refusals"] == 6


def test_a_cost_that_is_found_later_is_drawn_where_its_call_ended(house: House) -> None:
    job(house, 4)
    house.turn()
    payload = house.post.take(JOB, 1)
    calls = [
        call(work.ordinal, sent_at=1002.0, cost=None, bound="0.5") for work in payload.requests
    ]
    house.post.send(delivery(calls, []))
    house.turn()
    house.post.send(delivery(found=[Found(calls[0].ordinal, calls[0].id, Decimal("0.3"))]))
    house.turn(6)

    series = unpacked(house.post.series[JOB])
    assert [point.cost for point in series.points if point.cost] == [Decimal("0.3")]
    assert series.points[0].cost


def test_a_cost_that_is_found_after_the_end_is_drawn_too(house: House) -> None:
    job(house, 4)
    house.worker(jobs={JOB: {"in_flight": 3}})
    house.turn()
    payload = house.post.take(JOB, 1)
    calls = [call(work.ordinal, sent_at=1002.0, cost=None) for work in payload.requests]
    results = [result(work.ordinal, 1) for work in payload.requests]
    house.post.send(delivery(calls, results, [closing(1)]))
    house.turn(4)
    assert house.row().ended
    before = unpacked(house.post.series[JOB])
    house.post.send(delivery(found=[Found(calls[0].ordinal, calls[0].id, Decimal("0.3"))]))
    house.turn(6)

    series = unpacked(house.post.series[JOB])
    assert (before.cost, series.cost) == (Decimal(0), Decimal("0.3"))
    assert [point.flying for point in series.points] == [point.flying for point in before.points]


def test_a_job_that_ended_is_told_at_its_end_and_when_redis_forgot(house: House) -> None:
    job(house)
    house.turn()
    house.answer(1, 2)
    house.turn(3)
    before = house.post.told.pop(JOB)
    drawn = house.post.series.pop(JOB)

    house.post.mark = "server-2"
    house.turn(4)

    again = house.post.told[JOB]
    assert again["state"] == before["state"] == "completed"
    assert again["spent_rub"] == "0.8"
    assert sum(p.completed for p in unpacked(house.post.series[JOB]).points) == 8
    assert sum(p.completed for p in unpacked(drawn).points) == 8


def test_jobs_that_are_not_over_stand_above_those_that_are(house: House) -> None:
    job(house)
    publish(house.folder, 1, job=OTHER).close()
    store = house.change(OTHER)
    store.set_state(JobState.CANCELLING)
    store.set_state(JobState.CANCELLED, now=9e9)
    store.close()

    house.turn(2)

    assert house.post.ranks[JOB] > house.post.ranks[OTHER]


def test_what_stood_in_the_home_is_drawn_after_a_restart(house: House) -> None:
    job(house)
    store = house.change()
    chunk = feed(store)
    from batch.store import delivery_ledger

    delivery_ledger.apply(store, [answered(chunk, cost="0.25")])
    store.close()

    house.turn(2)

    series = unpacked(house.post.series[JOB])
    assert sum(point.cost for point in series.points) == Decimal("1.00")


def test_failures_that_are_tried_again_are_failures_no_more(house: House) -> None:
    job(house, 4)
    house.turn()
    payload = house.post.take(JOB, 1)
    ordinals = [work.ordinal for work in payload.requests]
    failed = [result(n, 1, code="endpoint.5xx") for n in ordinals[:2]]
    house.post.send(delivery([], failed))
    house.turn(6)
    assert unpacked(house.post.series[JOB]).failures == {"endpoint.5xx": 2}

    store = house.change()
    store.failures.retry()
    store.close()
    house.turn(6)

    assert unpacked(house.post.series[JOB]).failures == {}


# ---- clicking -----------------------------------------------------------------------------------


def test_a_job_is_paused_resumed_and_cancelled_by_clicks(house: House) -> None:
    job(house)
    house.turn()

    assert click(house, "pause") == "done"
    assert (house.row().state, house.row().reason) == (JobState.PAUSED, "user")

    assert click(house, "resume") == "done"
    assert house.row().state is JobState.IN_PROGRESS

    assert click(house, "cancel") == "done"
    house.turn()
    assert house.row().state is JobState.CANCELLED
    house.turn(3)

    assert click(house, "pause") == "ended"
    assert click(house, "resume") == "done"
    house.turn(2)
    assert house.row().state is JobState.IN_PROGRESS


def test_clicks_on_a_job_within_a_turn_are_all_heeded_in_their_order(house: House) -> None:
    job(house)
    house.turn()
    clicks = {f"{JOB}/2": Wish("resume", "second", 2.0), f"{JOB}/1": Wish("pause", "first", 1.0)}
    house.post.wished.update(clicks)

    house.turn()

    assert house.post.answers == {"first": "done", "second": "done"}
    assert house.row().state is JobState.IN_PROGRESS


@pytest.mark.parametrize("stranger", [STRANGER, "../etc", "", "job_x"])
def test_what_is_clicked_for_another_home_is_left_to_its_coordinator(
    house: House, stranger: str
) -> None:
    job(house)
    house.turn()

    assert click(house, "cancel", stranger) == ""
    assert stranger in house.post.wished
    assert house.row().state is JobState.IN_PROGRESS


def test_a_foreground_run_heeds_only_what_is_clicked_for_its_job(
    tmp_path: Path, clock: Clock
) -> None:
    house = House(tmp_path, clock, only=JOB)
    job(house)
    job(house, job=OTHER)
    house.turn()

    assert click(house, "pause", OTHER) == ""
    assert house.row(OTHER).state is JobState.IN_PROGRESS
    assert click(house, "pause") == "done"


def test_a_click_while_redis_is_away_is_no_trouble(house: House) -> None:
    job(house)
    house.turn()
    house.post.wished[JOB] = Wish("pause", "token", 0.0)

    house.post.fails = {"answer"}
    house.turn()
    house.post.fails = set()
    house.turn(2)

    assert house.row().state is JobState.PAUSED


# ---- what workers tell --------------------------------------------------------------------------


def test_workers_of_another_endpoint_or_older_ones_do_no_harm() -> None:
    mine: dict[str, Any] = {"jobs": {JOB: {"in_flight": 2}}, "base_url": BASE_URL}
    others: list[dict[str, Any]] = [
        {**mine, "base_url": "https://other.example"},
        {**mine, "key": "another"},
        {},
    ]
    told = [mine, {"base_url": BASE_URL}, *others]

    seen = presence_of(JOB, Target(BASE_URL, ""), [statuses(each) for each in told])

    assert (seen.workers, seen.busy, seen.in_flight) == (2, 1, 2)
    assert presence_of(JOB, Target(BASE_URL, ""), []) == Presence()


def test_a_coordinator_of_a_copied_home_on_the_same_redis_is_refused(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each would take results of the other's for its own."""
    job(house, 4)
    house.turn()
    folder = tmp_path_factory.mktemp("copied") / "home"
    shutil.copytree(house.folder, folder)
    copied = House(folder, house.clock)
    copied.post.serves = house.post.serves

    copied.turn(3)
    assert copied.post.payloads == {}
    assert copied.coordinator.away_since is not None, "it may be one that was just killed"

    with pytest.raises(UsageError, match="a copy of it"):
        copied.turn(20)

    house.turn(2)
    assert house.coordinator.away_since is None


def ask(house: House, wish: str, **more: Any) -> bytes:
    """A question, and its answer; it comes from a thread beside the coordinator's turns."""
    house.post.wished[f"{JOB}/1"] = Wish(wish, "token", 0.0, **more)
    house.turn()
    deadline = time.monotonic() + 30
    while "token" not in house.post.answers:
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.01)
    told = house.post.answers.pop("token")
    assert isinstance(told, bytes)
    return told


def test_what_a_retry_may_cost_is_told_by_cause(house: House) -> None:
    job(house, 4)
    house.turn()
    payload = house.post.take(JOB, 1)
    ordinals = [work.ordinal for work in payload.requests]
    failed = [result(n, 1, code="endpoint.5xx") for n in ordinals[:2]]
    house.post.send(delivery([], [*failed, result(ordinals[2], 1, code="endpoint.timeout")]))
    house.turn(2)

    found = msgspec.json.decode(ask(house, "plan"), type=list[Retried])

    assert [(each.code, each.requests) for each in found] == [
        ("endpoint.5xx", 2),
        ("endpoint.timeout", 1),
    ]
    assert click(house, "retry", codes=("endpoint.5xx",)) == "done"
    assert house.row().failed == 1


def test_files_of_a_job_that_is_over_are_told_and_sent(house: House) -> None:
    job(house)
    house.turn()
    house.answer(1, 2)
    house.turn(3)
    files = published(house)["files"]
    assert set(files) == {"output.jsonl", "errors.jsonl", "cost.json", "report.html"}

    found = msgspec.msgpack.decode(ask(house, "read", file="output.jsonl", offset=5), type=Piece)

    written = (Path(house.row().spec.output_dir) / "output.jsonl").read_bytes()
    assert house.post.answers_live_s["token"] <= ANSWER_S, "pieces must not gather in Redis"
    assert (found.size, found.data) == (files["output.jsonl"], written[5:])
    for other in ("../job.sqlite", "job.sqlite", "/etc/passwd", ""):
        assert ask(house, "read", file=other) == b""
