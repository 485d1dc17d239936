"""A price that rises while a job runs: it stops before its cap is in danger (FAULTS E27, E28)."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from scripts.simulator import Simulator
from tests.acceptance.conftest import MODEL, Shell, batch_lines, cost_of, ids, wait_until

ROWS = 12


def test_e28_a_price_rise_pauses_a_job_before_a_call_and_resume_accepts_it(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--latency", "constant:0.1", "--null-cost-share", "0")
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(ROWS))
    shell("submit", "reviews.jsonl", "-o", "out", "--budget-rub", "1000", "--max-in-flight", "1")
    endpoint.control("prices", {"factor": "3"})

    paused = shell("resume", "latest", "--yes", code=3)

    assert "is paused: prices have risen" in paused.err
    assert f"{MODEL} asks" in paused.err
    assert "(+200 %), more than the allowed 20 %" in paused.err
    assert list(endpoint.book().chats()) == []

    shell("resume", "latest", "--yes")

    assert ids(shell.folder / "out" / "output.jsonl") == [f"r-{number}" for number in range(ROWS)]
    assert cost_of(shell.folder / "out") == endpoint.book().total_billed() < Decimal(1000)
    prices = json.loads(shell("cost", "latest", "--json").out)["prices"]
    assert len(prices) == 3


def test_e27_a_call_dearer_than_its_bound_pauses_and_a_wider_margin_goes_on(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    """The catalogue was read moments ago, so it is the bill that tells of the rise."""
    endpoint = simulator("--latency", "constant:0.3", "--null-cost-share", "0")
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(ROWS))
    running = shell.start(
        *("run", "reviews.jsonl", "-o", "out", "--yes", "--budget-rub", "1000"),
        *("--max-in-flight", "1"),
    )
    wait_until("a call was answered", lambda: bool(endpoint.book().billed()))
    endpoint.control("prices", {"factor": "60"})

    paused = running.ends(3)

    assert "is paused: prices have risen" in paused.err
    assert "--max-price-rise" in paused.err
    assert len(endpoint.book().billed()) < ROWS

    shell("resume", "latest", "--yes", "--max-price-rise", "100")

    assert ids(shell.folder / "out" / "output.jsonl") == [f"r-{number}" for number in range(ROWS)]
    assert cost_of(shell.folder / "out") == endpoint.book().total_billed() < Decimal(1000)
