"""A price that rises while a job runs: it stops before its cap is in danger (FAULTS E27, E28)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from scripts.simulator import Simulator
from tests.acceptance.conftest import Shell, batch_lines, cost_of, ids

ROWS = 12


def test_e28_a_price_rise_pauses_a_capped_job_and_resume_goes_on_by_the_new_prices(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--latency", "constant:0.1", "--null-cost-share", "0")
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(ROWS))
    shell("submit", "reviews.jsonl", "-o", "out", "--budget-rub", "1000", "--max-in-flight", "1")
    endpoint.control("prices", {"factor": "50"})

    paused = shell("resume", "latest", "--yes", code=3)

    assert "is paused: price rise" in paused.err
    assert len(endpoint.book().billed()) < ROWS

    shell("resume", "latest", "--yes")

    assert ids(shell.folder / "out" / "output.jsonl") == [f"r-{number}" for number in range(ROWS)]
    assert cost_of(shell.folder / "out") == endpoint.book().total_billed() < Decimal(1000)
