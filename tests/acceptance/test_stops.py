"""Ctrl-C, signals and kills in the middle of a run, and going on afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import sys
import termios
import time
from collections.abc import Callable
from decimal import Decimal
from typing import IO

import pytest
from redis import Redis

from batch import embedded_redis
from jobs.errors import ServiceUnavailable
from scripts.simulator import Simulator
from tests.acceptance.conftest import (
    Running,
    Shell,
    batch_lines,
    end_server,
    ids,
    wait_until,
    worker_of,
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

    def completes(self, bought_twice: int, job: str = "latest") -> None:
        """`resume` ends well, and no more calls than these were made beside those of its rows."""
        self.quicken()
        self.shell("resume", job)

        out = self.shell.folder / "out"
        assert ids(out / "output.jsonl") == [f"r-{number}" for number in range(ROWS)]
        assert (out / "errors.jsonl").read_bytes() == b""
        book = self.endpoint.book()
        assert len(book.chats()) - ROWS <= bought_twice
        jobs = self.shell.jobs()
        spent = sum((Decimal(each["spent_rub"]) for each in jobs), Decimal(0))
        uncertain = sum((Decimal(each["uncertain_rub"]) for each in jobs), Decimal(0))
        assert bought_twice or not uncertain
        assert spent <= book.total_billed() <= spent + uncertain


def test_p8_p10_one_signal_lets_calls_end_and_nothing_is_sent_until_resume(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:0.7")

    run.running.send(signal.SIGINT)
    ended = run.running.ends(130)

    assert "stopping" in ended.err
    assert "nightshift resume job_" in ended.err
    (job,) = run.shell.jobs()
    made = run.calls
    assert job["completed"] == made

    # A run of another job finds nothing of this one in the queue.
    run.quicken()
    run.shell.write("other.jsonl", batch_lines(3, first=1000))
    run.shell("run", "other.jsonl", "-o", "other")
    assert run.calls - made == 3

    run.completes(bought_twice=3, job=job["job"])


def test_p10_a_second_ctrl_c_cuts_the_calls_and_they_stand_as_uncertain(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:300", "--budget-rub", "100")

    run.running.send(signal.SIGINT)
    run.running.says("stopping")
    run.running.send(signal.SIGINT)
    ended = run.running.ends(130)

    assert "aborting calls in flight; they may still be billed" in ended.err
    (job,) = run.shell.jobs()
    assert 0 < Decimal(job["uncertain_rub"]) < 100


def test_a_third_ctrl_c_leaves_at_once_and_nothing_is_broken(begun: Callable[..., Begun]) -> None:
    run = begun("constant:300")

    for said in ("stopping", "aborting"):
        run.running.send(signal.SIGINT)
        run.running.says(said)
    run.running.send(signal.SIGINT)
    run.running.ends(130)

    run.completes(bought_twice=run.calls)


def test_a_killed_command_takes_its_worker_with_it_and_resume_completes(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:1")
    wait_until("some are answered", lambda: len(run.endpoint.book().billed()) >= 5)

    run.running.process.kill()
    run.running.process.wait()
    wait_until("no call is in flight", lambda: not run.endpoint.book().in_flight())
    made = run.calls

    assert made < ROWS
    run.completes(bought_twice=0)


def _unread(pipe: IO[bytes]) -> int:
    """Bytes in a pipe that nobody has read yet."""
    count = fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(count, sys.byteorder)


def test_ctrl_c_while_the_input_is_checked_leaves_no_job(shell: Shell) -> None:
    pipe = shell.folder / "endless.jsonl"
    os.mkfifo(pipe)
    running = shell.start("submit", pipe)
    with pipe.open("wb") as feed:
        feed.write(batch_lines(1).encode())
        feed.flush()
        running.says("checking")
        wait_until("it waits for more", lambda: not _unread(feed))
        running.send(signal.SIGINT)
        ended = running.ends(130)

    assert "interrupted" in ended.err
    assert shell.jobs() == []
    end_server(shell.folder / "home")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_a_run_while_its_input_is_checked_leaves_no_job_and_no_process(
    shell: Shell, how: signal.Signals
) -> None:
    pipe = shell.folder / "endless.jsonl"
    os.mkfifo(pipe)
    running = shell.start("run", pipe, "--yes")
    with pipe.open("wb") as feed:
        feed.write(batch_lines(1).encode())
        feed.flush()
        running.says("checking")
        wait_until("it waits for more", lambda: not _unread(feed))
        worker = worker_of(running.process.pid)
        running.send(how)
        ended = running.ends(130)

    assert "interrupted" in ended.err
    assert embedded_redis.find(shell.folder / "home") is None
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert shell.jobs() == []


def test_a_run_under_nohup_goes_on_when_its_terminal_goes_away(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--latency", "constant:1", "--null-cost-share", "0")
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(ROWS))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # so does nohup, and children inherit it
    try:
        running = shell.start("run", "reviews.jsonl", "-o", "out", "--max-in-flight", "10")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until("calls are in flight", lambda: bool(endpoint.book().in_flight()))

    running.send(signal.SIGHUP)
    running.ends(0)

    assert len(ids(shell.folder / "out" / "output.jsonl")) == ROWS


def own_server(run: Begun) -> int:
    """The process id of the embedded server."""
    with Redis.from_url(embedded_redis.find(run.shell.folder / "home") or "") as redis:
        return int(redis.info("server")["process_id"])


def test_a_run_whose_server_is_killed_starts_it_again_and_buys_nothing_twice(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:1")

    os.kill(own_server(run), signal.SIGKILL)
    ended = run.running.ends(0)

    assert "the embedded server was killed; restarting it" in ended.err
    assert run.calls == ROWS
    assert len(ids(run.shell.folder / "out" / "output.jsonl")) == ROWS


def test_a_run_whose_server_stands_still_ends_and_says_so(
    begun: Callable[..., Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_redis, "_STANDS_STILL_S", 5.0)
    run = begun("constant:1")
    pid, own = own_server(run), embedded_redis.OwnServer(None, run.shell.folder / "home", print)

    os.kill(pid, signal.SIGSTOP)
    try:
        # At once: each waits some seconds for the server, and the claims of chunks outlive that.
        asked = [
            run.shell.start(*command)
            for command in (("status", "latest"), ("status",), ("doctor",), ("status", "--json"))
        ]
        ended = [one.ends(code) for one, code in zip(asked, (0, 0, 4, 0), strict=True)]
        told = [ended[0].out, ended[1].err, ended[2].out]
        (job,) = json.loads(ended[3].out)["jobs"]
        run.running.says("showing data from")
        told.append(run.running.err)
        for text in told:
            assert re.search(
                r"does not answer.*, since [0-9:]{8} \w+; showing data from .* ago", text
            )
        assert job["attention"]["text"] == "the embedded server does not answer"
        assert job["attention"]["since"] <= time.time() - job["attention"]["age_s"] + 1
        own.tend(time.monotonic() - 4)
        with pytest.raises(ServiceUnavailable, match="has not answered for a minute"):
            own.tend(time.monotonic() - 6)
    finally:
        os.kill(pid, signal.SIGCONT)

    run.running.ends(0)
    assert run.calls == ROWS


def test_f12_a_run_whose_workers_journal_is_deleted_ends_with_4_and_resume_completes(
    begun: Callable[..., Begun],
) -> None:
    run = begun("constant:1")

    shutil.rmtree(run.shell.folder / "home" / "worker" / "outbox")
    ended = run.running.ends(4)

    assert "was deleted while the worker was running" in ended.err
    assert "the worker exited" in ended.err
    assert run.calls < ROWS
    run.completes(bought_twice=0)
