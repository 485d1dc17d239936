"""Whole jobs against an endpoint that refuses and breaks (E14, E30, E31, E44, E45): laws hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.auditor import Audit
from scripts.torturing.installation import Installation

PATIENCE_S = 90.0


@pytest.fixture
def house_with(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Starts a coordinator, a worker and an endpoint with these options."""
    houses = []

    def start(*endpoint: str) -> Installation:
        house = Installation(tmp_path, workers=1, endpoint=endpoint)
        houses.append(house)
        house.__enter__()
        return house

    yield start
    for house in houses:
        house.__exit__(None, None, None)


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Returns as soon as it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.05)


def audited(house: Installation, job: str, allowed_twice: int = 0) -> Audit:
    """Waits for the end of the job; the laws hold (L1–L4, L6, L7).

    L3 but for answers with a NaN in them: that is no JSON, so the line has it as text; and for
    streams, which are put together.
    """
    house.wait("night")
    found = house.audit("night", job, allowed_twice)
    odd = sum(call.fault in {"cost", "sse"} for call in house.simulator.book().chats())
    changed = [broken for broken in found.broken if broken.startswith("L3")]
    assert [broken for broken in found.broken if broken not in changed] == []
    assert len(changed) <= odd, changed
    return found


def over(house: Installation, job: str) -> bool:
    """Whether the outputs stand. A pause is ended: a page of HTML among the faults asks for it."""
    if house.is_paused(job):
        house.command("resume", job)
    return house.is_over("night")


def refusals(house: Installation, job: str) -> dict[str, int]:
    """How often each refusal was met, by its code."""
    by_code: Any = house.state(job)["refusals_by_code"]
    return dict(by_code)


def test_429_500_and_errors_within_200_cost_no_request(
    house_with: Callable[..., Installation],
) -> None:
    house = house_with(
        *("--latency", "uniform:0.05:0.3", "--fault", "429:share=0.1,retry_after=1"),
        *("--fault", "500:share=0.02", "--fault", "error200:share=0.03,code=502,form=json"),
    )

    found = audited(house, house.submit("night", 150))

    assert (found.completed, found.failed) == (150, 0)
    assert found.bought_twice == 0
    faults = {call.fault for call in house.simulator.book().chats()} - {None}
    assert len(faults) == 3, faults


def test_e30_a_key_rejected_in_the_middle_pauses_and_every_request_stays(
    house_with: Callable[..., Installation],
) -> None:
    house = house_with("--latency", "uniform:0.2:0.6", "--max-in-flight", "20")
    job = house.submit("night", 150, "--stop-after", "5")
    wait_until("some calls are billed", lambda: len(house.simulator.book().billed()) >= 20)

    house.simulator.control("keys", {"allow": ["another"]})
    wait_until("it is paused", lambda: house.is_paused(job))
    paused = house.state(job)
    rejected = sum(call.status == 401 for call in house.simulator.book().chats())
    house.simulator.control("keys", {"allow": None})
    house.command("resume", job)

    assert paused["reason"] == "key_rejected"
    assert paused["failed"] == 0
    assert rejected <= 3 * 20
    found = audited(house, job)
    assert (found.completed, found.bought_twice) == (150, 0)


def test_e31_money_that_ends_in_the_middle_pauses_and_every_request_stays(
    house_with: Callable[..., Installation],
) -> None:
    house = house_with("--latency", "uniform:0.2:0.6", "--max-in-flight", "20")
    job = house.submit("night", 150)
    wait_until("some calls are billed", lambda: len(house.simulator.book().billed()) >= 20)

    house.simulator.control("balance", {"balance": "0"})
    wait_until("it is paused", lambda: house.is_paused(job))
    paused = house.state(job)
    house.simulator.control("balance", {"balance": "1000"})
    house.command("resume", job)

    assert paused["reason"] == "insufficient_balance"
    assert paused["failed"] == 0
    found = audited(house, job)
    assert (found.completed, found.bought_twice) == (150, 0)


def test_e14_e44_an_endpoint_that_is_down_for_a_while_costs_nothing_but_time(
    house_with: Callable[..., Installation],
) -> None:
    house = house_with("--latency", "uniform:0.2:0.6", "--max-in-flight", "20")
    job = house.submit("night", 150)
    wait_until("some calls are billed", lambda: len(house.simulator.book().billed()) >= 20)

    house.simulator.kill()
    wait_until("it is known to be down", lambda: bool(house.state(job)["down"]))
    down = house.state(job)
    time.sleep(3.0)
    house.simulator.start()
    found = audited(house, job, allowed_twice=20)

    assert down["state"] == "in_progress"
    assert down["failed"] == 0
    assert (found.completed, found.failed) == (150, 0)
    probes = refusals(house, job)
    assert sum(probes.values()) <= 65, probes


def test_e45_a_mix_of_all_faults_leaves_the_laws_whole(
    house_with: Callable[..., Installation],
) -> None:
    house = house_with("--latency", "uniform:0.02:0.2", "--fault", "mix:share=0.1")
    requests = 300
    job = house.submit("night", requests, "--timeout", "10")

    wait_until("it is over", lambda: over(house, job))
    calls = house.simulator.book().chats()
    faulty = [call for call in calls if call.fault]
    found = audited(house, job, allowed_twice=sum(bool(call.billed) for call in faulty))

    assert found.completed + found.failed == requests
    assert found.completed >= requests * 0.95
    assert len(calls) <= 1.1 * requests + len(faulty)
    for line in (house.output("night") / "errors.jsonl").read_text().splitlines():
        told = json.loads(line)["nightshift"]
        assert told["code"].startswith("endpoint."), told
        assert told["message"]
