"""What only the user can mend pauses a job; no request fails of it, and resume goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from scripts.simulator import Simulator
from tests.acceptance.conftest import Ended, Shell, batch_lines, cost_of, ids, wait_until

ROWS = 12


def resume_line(ended: Ended) -> list[str]:
    """The command that a paused job names for going on."""
    (line,) = (line for line in ended.err.splitlines() if "nightshift resume" in line)
    return line.split()[1:]


def all_answered(shell: Shell, endpoint: Simulator) -> None:
    """Each is answered, billed once, and the cost is the endpoint's."""
    out = shell.folder / "out"
    assert ids(out / "output.jsonl") == [f"r-{number}" for number in range(ROWS)]
    assert (out / "errors.jsonl").read_bytes() == b""
    assert len(endpoint.book().billed()) == ROWS
    assert cost_of(out) == endpoint.book().total_billed()


@pytest.fixture
def endpoint(simulator: Callable[..., Simulator], shell: Shell) -> Simulator:
    """An endpoint of some latency, and an input."""
    one = simulator("--latency", "uniform:0.05:0.1", "--null-cost-share", "0")
    shell.point_at(one)
    shell.write("reviews.jsonl", batch_lines(ROWS))
    return one


def test_e30_a_rejected_key_pauses_and_a_good_one_goes_on_without_an_extra_call(
    endpoint: Simulator, shell: Shell
) -> None:
    endpoint.control("keys", {"allow": ["good"]})

    paused = shell("run", "reviews.jsonl", "-o", "out", code=3)

    assert "is paused: the key was rejected" in paused.err
    assert "set a valid key" in paused.err
    assert f"0 of {ROWS} done; nothing is lost" in paused.err
    assert shell.jobs()[0]["reason"] == "key_rejected"

    shell(*resume_line(paused), ROUTERAI_API_KEY="good")

    all_answered(shell, endpoint)


def test_e31_an_empty_account_pauses_until_there_is_money(
    endpoint: Simulator, shell: Shell
) -> None:
    endpoint.control("balance", {"balance": "0"})

    paused = shell("run", "reviews.jsonl", "-o", "out", code=3)
    endpoint.control("balance", {"balance": "1000"})
    shell(*resume_line(paused))

    assert "is paused: the account balance is used up" in paused.err
    assert "top up the account" in paused.err
    all_answered(shell, endpoint)


def test_a_wrong_address_pauses_and_the_right_one_goes_on(
    simulator: Callable[..., Simulator], endpoint: Simulator, shell: Shell
) -> None:
    """A server that moved answers with web pages: its new address is all that `resume` needs."""
    shell.point_at(simulator("--fault", "html:status=404"))

    paused = shell("run", "reviews.jsonl", "-o", "out", "--stop-after", "1", code=3)
    *command, option, _url = resume_line(paused)
    away = endpoint.base_url.replace("/api/v1", "/else/v1")

    assert "set the endpoint's right address" in paused.err
    assert f"--base-url {endpoint.base_url}" in shell(*command, option, away, code=2).err

    shell(*command, option, endpoint.base_url)

    all_answered(shell, endpoint)


def test_a_budget_is_never_exceeded_and_higher_ones_go_on(
    endpoint: Simulator, shell: Shell
) -> None:
    cap = Decimal("0.80")

    paused = shell("run", "reviews.jsonl", "-o", "out", "--budget-rub", str(cap), code=3)

    spent = endpoint.book().total_billed()
    assert Decimal(0) < spent <= cap
    assert Decimal(shell.jobs()[0]["spent_rub"]) == spent
    assert "is paused: the budget is used up" in paused.err
    words = resume_line(paused)
    assert (words[-2], Decimal(words[-1]) > cap) == ("--budget-rub", True)
    assert " already spent" in shell(*words[:-1], "0.01", code=2).err

    capped = shell(*words[:-1], "500", "--budget-requests", "8", code=3)
    assert len(endpoint.book().billed()) == 8

    # The line that is printed goes on with the job as it stands.
    assert resume_line(capped)[-2:] == ["--budget-requests", "12"]
    shell(*resume_line(capped))

    all_answered(shell, endpoint)


def test_a_cap_of_the_day_is_never_exceeded_and_the_job_waits_by_itself(
    endpoint: Simulator, shell: Shell
) -> None:
    cap = Decimal("0.80")
    told = shell("budget", "--budget-rub-per-day", str(cap), "--budget-zone", "Asia/Omsk").out
    assert "today: 0.00 ₽ of 0.80 ₽ spent" in told

    run = shell.start("run", "reviews.jsonl", "-o", "out")
    wait_until("it waits", lambda: any(job["state"] == "paused" for job in shell.jobs()))
    spent = endpoint.book().total_billed()
    (waiting,) = shell.jobs()
    used = json.loads(shell("budget", "--json").out)

    assert Decimal(0) < spent <= cap
    assert (waiting["reason"], waiting["needs_action"]) == ("cap_reached", False)
    assert waiting["remedy"].startswith("nightshift budget --budget-rub-per-day ")
    assert "scheduled (a daily or monthly cap is reached)" in shell("status").out
    assert "for all jobs is reached; resumes at" in waiting["reason_text"]
    assert Decimal(used["day"]["spent_rub"]) == Decimal(used["month"]["spent_rub"]) == spent

    shell("budget", "--no-caps")
    run.ends(0)

    all_answered(shell, endpoint)


def test_e14_an_endpoint_that_is_away_is_waited_for_and_said_to_be(
    endpoint: Simulator, shell: Shell
) -> None:
    endpoint.stop()
    run = shell.start("run", "reviews.jsonl", "-o", "out")
    run.says("endpoint down, retrying")
    told = shell("status", "latest").out
    endpoint.start()
    run.ends(0)

    assert "not responding" in told
    all_answered(shell, endpoint)


def test_a_paused_job_and_a_cancelled_one_wait_for_resume(
    endpoint: Simulator, shell: Shell
) -> None:
    job = shell("submit", "reviews.jsonl", "-o", "out").out.strip()

    paused = shell("pause", job)
    assert f"{job} is paused" in paused.err
    assert shell("watch", job, code=3).err.count(job) >= 2

    cancelled = shell("cancel", "latest")
    assert f"{job} is cancelled" in cancelled.err
    assert shell("watch", job, code=5)
    assert "the job has already finished" in shell("pause", job, code=2).err
    assert set(ids(shell.folder / "out" / "errors.jsonl")) == {
        f"r-{number}" for number in range(ROWS)
    }
    assert not endpoint.book().chats()

    shell("resume", job)

    all_answered(shell, endpoint)


def test_errors_that_cost_nothing_do_not_use_up_the_cap(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    """300 rows of some 10.2 ₽ under a cap of 14 ₽. One call in twenty is an error within HTTP 200:
    each is held at its bound of 0.34 ₽ until the balance shows that nothing was taken.
    """
    one = simulator(
        *("--latency", "uniform:0.02:0.05", "--hidden-tokens", "390", "--answer-tokens", "47"),
        *("--reasoning-tokens", "20", "--fault", "wrapped:status=200,share=0.1,times=15"),
    )
    shell.point_at(one)
    shell.write("reviews.jsonl", batch_lines(300, max_tokens=260))
    cap = Decimal(14)

    shell("run", "reviews.jsonl", "-o", "out", "--budget-rub", str(cap), "--yes")

    assert Decimal(10) < one.book().total_billed() < Decimal("10.4")
    assert len(one.book().chats()) == 315
    assert cost_of(shell.folder / "out") == one.book().total_billed()
    told = json.loads((shell.folder / "out" / "cost.json").read_text())
    assert told["exact"]
    assert told["by_source"].keys() == {"endpoint", "balance"}
