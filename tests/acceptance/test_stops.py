"""Ctrl-C, signals and kills in the middle of a run, and going on afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from decimal import Decimal

import pytest

from scripts.simulator import Simulator
from tests.acceptance.conftest import (
    Running,
    Shell,
    batch_lines,
    cost_of,
    end_server,
    ids,
    wait_until,
)

ROWS = 24


@pytest.fixture
def begun(simulator: Callable[..., Simulator], shell: Shell) -> Callable[..., Begun]:
    """Starts a run and returns once calls are in flight."""

    def begun(latency: str, *options: str) -> Begun:
        endpoint = simulator("--latency", latency, "--null-cost-share", "0")
        shell.point_at(endpoint)
        shell.write("reviews.jsonl", batch_lines(ROWS))
        running = shell.start(
            "run",
            "reviews.jsonl",
            "-o",
            "out",
            "--max-in-flight",
            "10",
            "--name",
            "first",
            *options,
        )
        wait_until("calls are in flight", lambda: len(endpoint.book().in_flight()) >= 5)
        return Begun(shell, endpoint, running)

    return begun


class Begun:
    """A run under way, and what must hold at its end."""

    def __init__(self, shell: Shell, endpoint: Simulator, running: Running) -> None:
        self.shell = shell
        self.endpoint = endpoint
        self.running = running

    def quicken(self) -> None:
        """The endpoint answers at once from now on."""
        self.endpoint.control("latency", {"latency": "none"})

    @property
    def calls(self) -> int:
        """Calls so far."""
        return len(self.endpoint.book().chats())

    def completes(self, bought_twice: int) -> None:
        """`resume` ends well, and no more calls than these were made in vain."""
        self.quicken()
        self.shell("resume", "latest")

        out = self.shell.folder / "out"
        assert ids(out / "output.jsonl") == [f"r-{number}" for number in range(ROWS)]
        assert (out / "errors.jsonl").read_bytes() == b""
        book = self.endpoint.book()
        assert len(book.chats()) - ROWS <= bought_twice
        (job,) = [job for job in self.shell.jobs() if job["name"] == "first"]
        uncertain = Decimal(job["uncertain_rub"])
        assert bought_twice or not uncertain
        assert cost_of(out) <= book.total_billed() <= cost_of(out) + uncertain


def test_p10_one_ctrl_c_lets_calls_end_and_resume_repeats_none(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:0.7")

    run.running.send(signal.SIGINT)
    ended = run.running.ends(130)

    assert "stopping" in ended.err
    assert "nightshift resume job_" in ended.err
    (job,) = run.shell.jobs()
    assert job["completed"] == run.calls
    run.completes(bought_twice=0)


def test_p10_a_second_ctrl_c_cuts_the_calls_and_they_stand_as_uncertain(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:300", "--budget-rub", "100")
    in_flight = len(run.endpoint.book().in_flight())

    run.running.send(signal.SIGINT)
    run.running.says("stopping")
    run.running.send(signal.SIGINT)
    ended = run.running.ends(130)

    assert "cutting the calls in flight; they may be billed" in ended.err
    (job,) = run.shell.jobs()
    assert job["uncertain_rub"] != "0"
    run.completes(bought_twice=max(in_flight, run.calls))


def test_a_third_ctrl_c_leaves_at_once_and_nothing_is_broken(begun: Callable[..., Begun]) -> None:
    run = begun("constant:300")

    for said in ("stopping", "cutting"):
        run.running.send(signal.SIGINT)
        run.running.says(said)
    run.running.send(signal.SIGINT)
    run.running.ends(130)

    run.completes(bought_twice=run.calls)


def test_p8_after_sigterm_nothing_of_the_job_is_sent_by_a_run_of_another(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:0.7")
    run.running.send(signal.SIGTERM)
    run.running.ends(130)
    before = run.calls
    run.quicken()

    run.shell.write("other.jsonl", batch_lines(3, first=1000))
    started = time.monotonic()
    run.shell("run", "other.jsonl", "-o", "other")

    assert run.calls - before == 3
    assert ids(run.shell.folder / "other" / "output.jsonl") == ["r-1000", "r-1001", "r-1002"]
    assert time.monotonic() - started < 30


def test_a_killed_command_takes_its_worker_with_it_and_resume_completes(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:2")
    wait_until("some are done", lambda: run.shell.jobs()[0]["completed"] >= 5)

    run.running.process.kill()
    run.running.process.wait()
    wait_until("no call is in flight", lambda: not run.endpoint.book().in_flight())
    made = run.calls

    assert made < ROWS
    run.completes(bought_twice=0)


def test_resume_of_another_job_is_refused_while_a_run_is_at_work(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:300")
    run.shell.write("other.jsonl", batch_lines(1, first=1000))

    submitted = run.shell("submit", "other.jsonl", "-o", "other")
    refused = run.shell("resume", submitted.out.strip(), code=2)

    assert "no coordinator is at work yet" in submitted.err
    assert "on another job" in refused.err


def test_ctrl_c_while_the_input_is_checked_leaves_no_job(shell: Shell) -> None:
    pipe = shell.folder / "endless.jsonl"
    os.mkfifo(pipe)
    running = shell.start("submit", pipe)
    with pipe.open("wb") as feed:
        feed.write(batch_lines(1).encode())
        feed.flush()
        running.says("checking")
        running.send(signal.SIGINT)
        ended = running.ends(130)

    assert "interrupted" in ended.err
    assert shell.jobs() == []
    end_server(shell.folder / "home")
