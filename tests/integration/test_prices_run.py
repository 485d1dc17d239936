"""Money in whole runs: prices that change in mid-job, and sums to the last digit (E28, L7, L8)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from scripts.torturing.house import House

PATIENCE_S = 90.0
_EAGER = "from batch import pricewatch, main; pricewatch.CHECK_S = 0.5; main.main()"


class EagerHouse(House):
    """Its coordinator reads the prices every half second."""

    def _command(self, name: str) -> list[str]:
        if name == "coordinator":
            return [sys.executable, "-c", _EAGER, "coordinator"]
        return super()._command(name)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    endpoint = ("--latency", "uniform:0.1:0.4", "--max-in-flight", "20")
    with EagerHouse(tmp_path, workers=1, endpoint=endpoint) as one:
        yield one


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Returns as soon as it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.05)


def test_e28_a_price_that_triples_in_mid_job_pauses_it_and_every_sum_is_exact(
    house: House,
) -> None:
    cap = Decimal(500)
    job = house.submit("night", 400, "--budget-rub", str(cap), "--max-in-flight", "10")
    wait_until("some are answered", lambda: len(house.simulator.book().billed()) > 20)

    house.simulator.control("prices", {"factor": "3"})
    wait_until("it is paused", lambda: house.state(job)["state"] == "paused")
    before = house.state(job)

    assert before["reason"] == "price_rise"
    assert "(+200 %)" in str(before["reason_text"])
    assert len(house.simulator.book().billed()) < 400

    house.command("resume", job)
    house.wait("night")

    found = house.audit("night", job, 0, cap=cap)
    assert found.broken == []
    assert (found.completed, found.uncertain, found.bought_twice) == (400, 0, 0)
    assert found.ledger_rub == found.endpoint_rub > 0
