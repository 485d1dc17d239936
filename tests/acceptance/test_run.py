"""`nightshift run`, from a file to answers, errors and the cost."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from scripts.simulator import Simulator
from tests.acceptance.conftest import (
    MODEL,
    Shell,
    batch_lines,
    cost_of,
    ids,
    read_lines,
)

ONE_BAD_LINE = batch_lines(2) + "not json\n" + batch_lines(1, first=2)


def test_every_request_is_answered_once_in_input_order_and_the_cost_is_the_endpoints(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--latency", "uniform:0.01:0.2")
    shell.point_at(endpoint)
    source = shell.write("reviews.jsonl", batch_lines(120))

    done = shell("run", source, "-o", "out")

    output = shell.folder / "out" / "output.jsonl"
    assert ids(output) == [f"r-{number}" for number in range(120)], done
    assert (shell.folder / "out" / "errors.jsonl").read_bytes() == b""
    book = endpoint.book()
    assert len(book.billed()) == 120
    assert cost_of(shell.folder / "out") == book.total_billed()
    costs = [Decimal(line["nightshift"]["cost_rub"]) for line in read_lines(output)]
    assert sum(costs) == book.total_billed()
    assert done.out == ""
    assert "120 of 120 answered" in done.err
    assert f"exactly {book.total_billed().normalize():f} ₽" in done.err


def test_bare_bodies_come_packed_through_standard_input_and_options_fill_in_what_they_leave_out(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    body = {"messages": [{"role": "user", "content": "Хорошо?"}]}
    lines = f"{json.dumps(body)}\n\n{json.dumps({**body, 'custom_id': 'mine'})}\n"

    options = ("--model", MODEL, "--max-tokens", "50", "--quiet")
    done = shell("run", "-", *options, stdin=gzip.compress(lines.encode()))

    assert (done.out, done.err) == ("", "")
    (folder,) = shell.folder.glob("stdin.job_*")
    assert ids(folder / "output.jsonl") == ["line-1", "mine"]
    assert {call.model for call in endpoint.book().chats()} == {MODEL}


def test_what_failed_is_told_with_exit_1_and_can_be_sent_again(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--fault", "400:row=Отзыв 2")
    shell.point_at(endpoint)
    source = shell.write("reviews.jsonl", batch_lines(4))

    done = shell("run", source, "-o", "out", code=1)

    assert ids(shell.folder / "out" / "output.jsonl") == ["r-0", "r-1", "r-3"]
    (error,) = read_lines(shell.folder / "out" / "errors.jsonl")
    assert error["custom_id"] == "r-2"
    assert "1 failed" in done.err
    assert "1 × endpoint.bad_request (HTTP 400), line 3: " in done.err
    way = next(line for line in done.err.splitlines() if "--input" in line)
    printed = shell(*way.partition(" > ")[0].split()[1:]).out
    line = source.read_text().splitlines()[2]
    assert json.loads(printed) == json.loads(line)
    assert printed.endswith(line.partition('"body": ')[2] + "\n")

    endpoint.control("faults", [])
    shell("resume", "latest", "--retry", "failed")

    assert ids(shell.folder / "out" / "output.jsonl") == ["r-0", "r-1", "r-2", "r-3"]
    assert (shell.folder / "out" / "errors.jsonl").read_bytes() == b""
    assert len(endpoint.book().billed()) == 4
    assert cost_of(shell.folder / "out") == endpoint.book().total_billed()


def test_faulty_lines_are_skipped_if_asked_and_stand_among_the_errors(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator())
    source = shell.write("reviews.jsonl", ONE_BAD_LINE)

    done = shell("run", source, "-o", "out", "--skip-invalid", "--no-progress", code=1)

    assert "in_progress:" not in done.err
    assert ids(shell.folder / "out" / "output.jsonl") == ["r-0", "r-1", "r-2"]
    (error,) = read_lines(shell.folder / "out" / "errors.jsonl")
    assert error["nightshift"]["line"] == 3
    assert "line 3" in done.err
    assert "1 line skipped" in done.err


def test_f15_odd_names_of_input_work(simulator: Callable[..., Simulator], shell: Shell) -> None:
    shell.point_at(simulator())
    for name in (b"two words\nand a line.jsonl", b"l" * 249 + b".jsonl", b"\xff\xfe.jsonl.gz"):
        source = shell.folder / os.fsdecode(name)
        source.write_bytes(gzip.compress(batch_lines(2).encode()))
        shell("submit", source)

    folders = [Path(job["name"]) for job in reversed(shell.jobs())]
    shell("resume", "latest")

    assert [len(str(folder)) for folder in folders] == [len("two words\nand a line"), 249, 2]
    (folder,) = (path for path in shell.folder.iterdir() if ".job_" in path.name)
    assert ids(folder / "output.jsonl") == ["r-0", "r-1"]
    assert shell("status").out.count("\n") == 4


def test_out_of_hours_a_run_waits_and_says_until_when_and_p15_a_second_is_refused(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    source = shell.write("reviews.jsonl", batch_lines(3))
    later = datetime.now(UTC) + timedelta(hours=6)
    closed = f"{later:%H}:00-{later + timedelta(hours=1):%H}:00@UTC"

    waiting = shell.start("run", source, "-o", "out", "--window", closed)
    waiting.says("scheduled: 0/3 · resumes at ")
    second = shell("run", source, "-o", "other", code=2)
    (job,) = shell.jobs()
    other = shell("submit", source, "-o", "other")
    refused = shell("resume", other.out.strip(), code=2)
    waiting.send(signal.SIGINT)
    stopped = waiting.ends(130)

    assert "another nightshift process is running" in second.err
    assert job["reason"] == "window_closed"
    assert "no coordinator is running" in other.err
    assert "running another job" in refused.err
    assert not endpoint.book().chats()
    assert f"nightshift resume {job['job']}" in stopped.err

    shell("resume", job["job"], "--window", "")

    assert ids(shell.folder / "out" / "output.jsonl") == ["r-0", "r-1", "r-2"]
