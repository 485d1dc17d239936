"""The three services as processes of their own, on one server: P2, P4, R2, R3, and the commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scripts.torturing.installation import Installation
from tests.journals import kill

ROWS = 200
ENDPOINT = ("--latency", "uniform:0.2:0.8", "--max-in-flight", "60")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Installation]:
    """A server, a coordinator and two workers."""
    with Installation(tmp_path, workers=2, endpoint=ENDPOINT) as one:
        yield one


def wait_until(what: str, holds: Callable[[], bool], patience_s: float = 90) -> None:
    """Returns as soon as it holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.05)


def billed(house: Installation) -> int:
    """Calls that the endpoint has charged for."""
    return len(house.simulator.book().billed())


def watch(house: Installation, job: str) -> subprocess.Popen[str]:
    """`nightshift watch`, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "batch", "watch", job, "--every", "0.2"],
        env=house.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lives_through(house: Installation, name: str, job: str, open_calls: int = 0) -> int:
    """The job ends by itself, the three books agree, every request is answered.

    Returns how many calls were bought twice: no more than were open when a worker was killed.
    """
    house.wait(name)
    found = house.audit(name, job, open_calls)
    assert found.broken == []
    assert (found.rows, found.completed, found.failed) == (ROWS, ROWS, 0)
    return found.bought_twice


def test_two_workers_do_a_submitted_job_while_it_is_watched(house: Installation) -> None:
    job = house.submit("night", ROWS)
    with watch(house, job) as watching:
        wait_until("both workers show", lambda: house.state(job)["workers"] == 2)
        seen = house.state(job)
        out, err = watching.communicate(timeout=90)

    assert watching.returncode == 0
    assert out == ""
    assert err.startswith("in_progress: ")
    assert f"{ROWS} of {ROWS} answered" in err
    assert seen["state"] == "in_progress"
    assert lives_through(house, "night", job) == 0
    told: dict[str, Any] = json.loads(house.command("cost", job, "--json"))
    assert Decimal(told["cost_rub"]) == house.simulator.book().total_billed()
    assert told["by_source"].keys() == {"endpoint"}


def test_p2_a_killed_worker_costs_no_more_than_its_calls_in_flight(
    house: Installation, tmp_path: Path
) -> None:
    job = house.submit("night", ROWS)
    wait_until("some calls are billed", lambda: billed(house) >= 20)

    worker = house.processes["worker-0"]
    open_calls = kill(worker.pid, tmp_path / "scratch" / "worker-0" / "outbox")
    worker.wait()
    house.start("worker-0")

    lives_through(house, "night", job, open_calls)


def test_r2_r3_p8_what_kills_no_worker_costs_no_call(house: Installation) -> None:
    """Redis forgets everything, twice; the coordinator is killed; a worker is told to stop."""
    job = house.submit("night", ROWS)
    blows: list[Callable[[], None]] = [
        lambda: flush(house),
        lambda: again(house, "coordinator"),
        lambda: house.kill("worker-1", signal.SIGTERM),
        lambda: again(house, "server"),
    ]

    for number, blow in enumerate(blows, start=1):
        wait_until("more calls are billed", lambda goal=number * 25: billed(house) >= goal)  # type: ignore[misc]
        blow()

    assert lives_through(house, "night", job) == 0


def again(house: Installation, name: str) -> None:
    """SIGKILL, and another in its place."""
    house.kill(name)
    house.start(name)


def flush(house: Installation) -> None:
    """FLUSHALL."""
    from redis import Redis

    with Redis(port=house.port) as redis:
        redis.flushall()


@pytest.fixture
def slow_house(tmp_path: Path) -> Iterator[Installation]:
    """The same with an endpoint that takes its time, so that a command comes in the middle."""
    endpoint = ("--latency", "uniform:1:2", "--max-in-flight", "15")
    with Installation(tmp_path, workers=2, endpoint=endpoint) as one:
        yield one


def test_pause_lets_calls_end_and_resume_goes_on_without_an_extra_call(
    slow_house: Installation,
) -> None:
    house = slow_house
    job = house.submit("night", ROWS)
    wait_until("some calls are billed", lambda: billed(house) >= 5)

    house.command("pause", job)
    wait_until("no call is in flight", lambda: house.state(job)["in_flight"] == 0)
    house.simulator.wait_idle()
    made = billed(house)
    wait_until("all that came is in the home", lambda: house.state(job)["completed"] == made)
    paused = house.state(job)
    # Longer than a worker takes to look for holds again.
    time.sleep(2.5)

    assert (paused["state"], paused["reason"]) == ("paused", "user")
    assert billed(house) == made < ROWS
    house.simulator.control("latency", {"latency": "none"})
    house.command("resume", job)
    assert lives_through(house, "night", job) == 0


def test_cancel_ends_the_job_with_what_was_answered_in_input_order(
    slow_house: Installation,
) -> None:
    house = slow_house
    job = house.submit("night", ROWS)
    wait_until("some calls are billed", lambda: billed(house) >= 5)

    house.command("cancel", job)
    with watch(house, job) as watching:
        watching.communicate(timeout=60)
    ended = house.state(job)

    assert watching.returncode == 5
    assert ended["state"] == "cancelled"
    assert ended["completed"] == billed(house) < ROWS
    found = house.audit("night", job, 0)
    assert found.broken == []
    assert found.completed == billed(house)
    for name in ("output.jsonl", "errors.jsonl"):
        lines = (house.output("night") / name).read_text().splitlines()
        rows = [json.loads(line)["nightshift"]["line"] for line in lines]
        assert rows == sorted(rows)


def test_without_a_worker_a_job_can_be_paused_and_cancelled(tmp_path: Path) -> None:
    with Installation(tmp_path, workers=0) as house:
        job = house.submit("night", 20)
        wait_until("it is fed", lambda: house.state(job)["workers"] == 0)
        house.command("pause", job)
        house.command("resume", job)
        house.command("cancel", job)
        wait_until("it is cancelled", lambda: house.state(job)["state"] == "cancelled", 20)

        assert house.audit("night", job, 0).broken == []


def test_p2_a_run_replaces_its_worker_when_that_is_killed(tmp_path: Path) -> None:
    with Installation(tmp_path, workers=0, endpoint=("--latency", "constant:0.5")) as house:
        house.kill("coordinator")
        job = house.submit("night", ROWS)
        environ = {**house.environ(), "NIGHTSHIFT_REDIS_URL": ""}
        command = [sys.executable, "-m", "batch", "resume", job]
        run = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        with run:
            wait_until("some calls are billed", lambda: billed(house) >= 20)
            outboxes = Path(environ["NIGHTSHIFT_SCRATCH"]) / "outbox"
            open_calls = kill(worker_of(run.pid), outboxes)
            _, err = run.communicate(timeout=90)

        assert run.returncode == 0, err
        assert "a worker was killed" in err
        lives_through(house, "night", job, open_calls)


def worker_of(command: int) -> int:
    """The process id of the worker that a command brought."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    split = [row.split(maxsplit=2) for row in rows]
    (pid,) = (row[0] for row in split if int(row[1]) == command and "-m workers" in row[2])
    return int(pid)
