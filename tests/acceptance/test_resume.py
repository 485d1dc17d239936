"""`nightshift resume`: what it tells and asks before it sends anything, and each way to need it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from scripts.simulator import Simulator
from tests.acceptance.conftest import (
    Shell,
    batch_lines,
    cost_of,
    ids,
    read_lines,
    wait_until,
    worker_of,
)

ROWS = 12


@pytest.fixture
def endpoint(simulator: Callable[..., Simulator], shell: Shell) -> Simulator:
    """An endpoint of some latency, and an input."""
    one = simulator("--latency", "uniform:0.05:0.1", "--null-cost-share", "0")
    shell.point_at(one)
    shell.write("reviews.jsonl", batch_lines(ROWS))
    return one


def planned(shell: Shell, *options: str) -> dict[str, Any]:
    """The table of a resume that does nothing."""
    told = shell("resume", "latest", "--dry-run", "--json", *options)
    found: dict[str, Any] = json.loads(told.out)
    return found


def groups(table: dict[str, Any]) -> dict[str, int]:
    """How many requests each group has."""
    return {group.get("code", group["group"]): group["requests"] for group in table["send"]}


def hang(shell: Shell, endpoint: Simulator) -> Any:
    """A run of which five calls hang and none was answered."""
    endpoint.control("latency", {"latency": "constant:300"})
    run = shell.start(
        *("run", "reviews.jsonl", "-o", "out", "--max-in-flight", "5", "--budget-rub", "100")
    )
    wait_until("calls are in flight", lambda: len(endpoint.book().in_flight()) == 5)
    return run


def test_after_a_cut_the_table_tells_what_may_be_paid_twice_and_a_person_is_asked(
    endpoint: Simulator, shell: Shell
) -> None:
    run = hang(shell, endpoint)
    for said in ("stopping", "aborting"):
        run.send(signal.SIGINT)
        run.says(said)
    run.ends(130)
    made = len(endpoint.book().chats())

    table = planned(shell)
    assert groups(table) == {"never_sent": ROWS - 5, "uncertain": 5}
    assert [group["may_be_paid_twice"] for group in table["send"]] == [False, True]
    assert table["uncertain"]["calls"] == 5
    booked, left = Decimal(table["uncertain"]["at_most_rub"]), Decimal(table["left"]["rub"])
    assert left == 100 - booked
    likely, most = (Decimal(table["total"][name]) for name in ("likely_rub", "at_most_rub"))
    assert 0 < likely < most
    assert Decimal(planned(shell, "--budget-rub", "3")["left"]["rub"]) == 3 - booked

    asked = shell.terminal("resume", "latest", columns=100)
    asked.shows("5 requests may be paid for twice. Continue? [y/N]")
    asked.press(b"n\n")
    text = asked.ends(130)
    assert "sent before, unconfirmed: may be paid for twice" in text
    assert "budget left: " in text
    assert " of 100.00 ₽" in text
    assert len(endpoint.book().chats()) == made

    endpoint.control("latency", {"latency": "none"})
    done = shell("resume", "latest")
    assert "never sent" in done.err
    assert done.out == ""
    assert len(ids(shell.folder / "out" / "output.jsonl")) == ROWS
    assert len(endpoint.book().chats()) == made + ROWS


def test_after_a_kill_what_was_under_way_is_told_apart_and_json_comes_before_the_run(
    endpoint: Simulator, shell: Shell
) -> None:
    run = hang(shell, endpoint)
    at_work = planned(shell)
    assert (at_work["running"], at_work["send"]) == (True, [])
    assert f"is running: 0 of {ROWS} done" in shell("resume", "latest", "--dry-run").out
    worker = worker_of(run.process.pid)
    for pid in (run.process.pid, worker):
        os.kill(pid, signal.SIGKILL)
    run.process.wait()

    table = planned(shell)
    assert groups(table) == {"never_sent": ROWS - 5, "under_way": 5}
    assert Decimal(table["set_aside_rub"]) > 0

    endpoint.control("latency", {"latency": "none"})
    done = shell("resume", "latest", "--json", "--yes")

    assert {**json.loads(done.out), "dry_run": True} == table
    assert len(ids(shell.folder / "out" / "output.jsonl")) == ROWS


def test_failures_are_tried_again_by_their_code_and_only_after_a_yes(
    endpoint: Simulator, shell: Shell
) -> None:
    endpoint.control("faults", ["400:row=Отзыв 2", "400:row=Отзыв 3", "422:row=Отзыв 5"])
    shell("run", "reviews.jsonl", "-o", "out", code=1)
    codes = {error["nightshift"]["code"] for error in read_lines(shell.folder / "out/errors.jsonl")}
    assert codes == {"endpoint.bad_request", "endpoint.unprocessable"}
    endpoint.control("faults", [])

    every = planned(shell, "--retry-failed")
    assert groups(every) == {"endpoint.bad_request": 2, "endpoint.unprocessable": 1}
    assert groups(planned(shell, "--code", "*.unp*,endpoint.unprocessable")) == {
        "endpoint.unprocessable": 1
    }
    unknown = shell("resume", "latest", "--retry-failed", "--code", "system.*", code=2)
    assert "no request failed with the code system.*" in unknown.err
    assert "endpoint.bad_request (2), endpoint.unprocessable (1)" in unknown.err

    asked = shell.terminal("resume", "latest", "--code", "endpoint.unprocessable", columns=100)
    asked.shows("retrying 1 failed request. Continue? [y/N]")
    asked.press(b"y\n")
    asked.ends(1)
    assert len(ids(shell.folder / "out" / "errors.jsonl")) == 2

    shell("resume", "latest", "--retry-failed")
    assert len(ids(shell.folder / "out" / "output.jsonl")) == ROWS
    assert len(endpoint.book().billed()) == ROWS
    nothing = shell("resume", "latest", "--retry-failed")
    assert "there is nothing left to send\n  no request failed" in nothing.err


def test_what_makes_another_job_is_refused_by_name_and_what_may_change_is_not(
    endpoint: Simulator, shell: Shell
) -> None:
    paused = ("run", "reviews.jsonl", "-o", "out", "--max-tokens", "300", "--budget-requests", "4")
    shell(*paused, code=3)

    for option, value in (("--model", "other/model"), ("-o", "else")):
        refused = shell("resume", "latest", option, value, code=2)
        assert f"{option.replace('-o', '--output-dir')} of a submitted job cannot" in refused.err
        assert "None" not in refused.err
    assert "submit a new job" in shell("resume", "latest", "--never-pay-twice", code=2).err
    again = shell("run", "reviews.jsonl", "-o", "out", "--model", "other/model", code=2)
    assert "waits for the results of job_" in again.err
    assert "it was submitted with another model, max_tokens" in again.err
    assert f"nightshift resume {shell.jobs()[0]['job']}" in again.err
    other = shell("run", "reviews.jsonl", "-o", "out", "--dedupe", "--max-tokens", "300", code=2)
    assert "it was submitted with another dedupe" in other.err
    same = shell("run", "reviews.jsonl", "-o", "out", "--max-tokens", "300", code=2)
    assert "are done\n" in same.err
    assert len(shell.jobs()) == 1

    # The input is not needed any more: what is sent is what was checked.
    shell.write("reviews.jsonl", "not what it was")
    changed = shell("run", "reviews.jsonl", "-o", "out", "--max-tokens", "300", code=2)
    assert "it was submitted before" in changed.err
    assert "reviews.jsonl was changed" in changed.err
    told = shell(
        *("resume", "latest", "--max-tokens", "300", "-o", "out"),
        *("--budget-requests", "20", "--rpm", "1000", "--max-in-flight", "3", "--window", ""),
    )
    assert "request budget left: 16 of 20" in told.err
    assert ids(shell.folder / "out" / "output.jsonl") == [f"r-{number}" for number in range(ROWS)]
    assert len(endpoint.book().billed()) == ROWS


def test_a_dry_run_changes_nothing_and_needs_nothing(endpoint: Simulator, shell: Shell) -> None:
    shell("submit", "reviews.jsonl", "-o", "out")
    shell("cancel", "latest")
    before = shell("status", "latest", "--json").out

    told = shell("resume", "latest", "--dry-run", "--budget-rub", "9", ROUTERAI_API_KEY="")

    assert f"0 of {ROWS} done, {ROWS} to send" in told.out
    assert "budget left: 9.00 ₽ of 9.00 ₽" in told.out
    assert told.err == ""
    assert shell("status", "latest", "--json").out == before
    assert not endpoint.book().chats()


def test_what_is_still_unknown_at_the_end_is_said_and_a_later_resume_settles_it(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    lag_s = 15.0
    endpoint = simulator(
        *("--null-cost-share", "0", "--lookup-lag", str(lag_s)),
        *("--fault", "cut:row=Отзыв 1,attempt=1"),
    )
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(3))
    done = shell("run", "reviews.jsonl", "-o", "out")
    job = shell.jobs()[0]["job"]
    told = f"the cost of 1 call is not confirmed yet: nightshift resume {job} looks it up"
    before = json.loads((shell.folder / "out" / "cost.json").read_text())

    assert told in done.err
    assert told in shell("cost", "latest").out
    assert before["uncertain"]["calls"] == 1
    cut = min(endpoint.book().chats(), key=lambda call: call.delivery == "full")
    wait_until("the endpoint knows", lambda: time.monotonic() > cut.received_mono + lag_s + 1)

    settled = shell("resume", "latest")

    assert "looking up the cost of 1 unconfirmed call" in settled.err
    assert "1 confirmed; cost " in settled.err
    after = json.loads((shell.folder / "out" / "cost.json").read_text())
    assert after["uncertain"]["calls"] == 0
    assert Decimal(after["cost_rub"]) == endpoint.book().total_billed()
    assert told not in shell("cost", "latest").out
    assert len(endpoint.book().chats()) == 4


def test_answers_that_were_cut_off_are_told_and_bought_again_by_the_printed_command(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--answer-tokens", "120", "--null-cost-share", "0")
    shell.point_at(endpoint)
    source = shell.write("reviews.jsonl", batch_lines(ROWS, max_tokens=10))
    out = shell.folder / "out"

    done = shell("run", source, "-o", "out")
    cut = read_lines(out / "output.jsonl")

    assert f"{ROWS} answers cut off at the token limit, lines 1, 2, 3" in done.err
    assert "most answers so far are truncated" in done.err
    assert json.loads((out / "cost.json").read_text())["flagged"][0]["requests"] == ROWS
    way = next(line for line in done.err.splitlines() if "--retry truncated" in line[:80])
    assert way.endswith("--max-tokens 4000")

    assert "--max-tokens 4000" in shell("resume", "latest", "--retry", "truncated", code=2).err
    few = shell("resume", "latest", "--retry", "truncated", "--max-tokens", "9", code=2)
    assert "had 9 tokens or more" in few.err
    shell(*way.split()[1:])

    whole = read_lines(out / "output.jsonl")
    assert [line["nightshift"].get("flags") for line in whole] == [None] * ROWS
    assert [line["custom_id"] for line in whole] == [line["custom_id"] for line in cut]
    assert len(endpoint.book().billed()) == 2 * ROWS
    assert cost_of(out) == endpoint.book().total_billed()
    assert {call.finish_reason for call in endpoint.book().chats()[ROWS:]} == {"stop"}
    assert (
        "no answer of this job was truncated"
        in shell("resume", "latest", "--retry", "truncated", "--max-tokens", "5000", code=2).err
    )
