"""Money in whole runs: prices that change in mid-job, and sums to the last digit (E28, L7, L8)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from scripts.torturing.installation import Installation

PATIENCE_S = 90.0
ROWS = 400
MODELS = ("minimax/minimax-m1", "minimax/minimax-m2", "deepseek/deepseek-chat", "example/per-call")
"""With a tier by size, cached tokens, hours, and a price per call."""

_EAGER = (
    "from batch import main; from batch.money import pricewatch;"
    " pricewatch.CHECK_S = 0.5; main.main()"
)


class EagerHouse(Installation):
    """Its coordinator reads the prices every half second."""

    def _command(self, name: str) -> list[str]:
        if name == "coordinator":
            return [sys.executable, "-c", _EAGER, "coordinator"]
        return super()._command(name)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Installation]:
    endpoint = ("--latency", "uniform:0.1:0.4", "--max-in-flight", "20")
    with EagerHouse(tmp_path, workers=1, endpoint=endpoint) as one:
        yield one


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Returns as soon as it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.05)


def line(number: int) -> str:
    """A request to one of several models; a few are long enough for another tier of the price."""
    model = MODELS[number % len(MODELS)]
    long = model.startswith("deepseek") and number % 100 == 2
    text = f"отзыв {number}" + " слово" * (50_000 if long else number % 50)
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 200}
    request = {"custom_id": f"night-{number}", "method": "POST", "url": "/v1/chat/completions"}
    return json.dumps({**request, "body": body}, ensure_ascii=False) + "\n"


def test_e28_l7_a_price_that_triples_in_mid_job_pauses_it_and_every_sum_is_exact(
    house: Installation,
) -> None:
    cap = Decimal(500)
    source = house.input("night")
    source.write_text("".join(line(number) for number in range(ROWS)))
    options = ("--budget-rub", str(cap), "--max-in-flight", "10")
    job = house.command(
        "submit", str(source), "-o", str(house.output("night")), "--name", "night", *options
    )
    wait_until("some are answered", lambda: len(house.simulator.book().billed()) > 20)

    house.simulator.control("prices", {"factor": "3"})
    wait_until("it is paused", lambda: house.is_paused(job))
    before = house.state(job)

    assert before["reason"] == "price_rise"
    # The catalogue tells, or the first bill that is higher than it may be, whichever comes first.
    told = str(before["reason_text"])
    assert "(+200 %)" in told or "--max-price-rise" in told
    assert len(house.simulator.book().billed()) < ROWS

    house.command("resume", job)
    house.wait("night")

    found = house.audit("night", job, 0, cap=cap)
    assert found.broken == []
    assert (found.completed, found.uncertain, found.bought_twice) == (ROWS, 0, 0)
    assert found.ledger_rub == found.endpoint_rub > 0
    cost = json.loads((house.output("night") / "cost.json").read_text())
    assert set(cost["by_model"]) == set(MODELS)
    assert cost["tokens"]["cached"] > 0
    assert Decimal(cost["saved_by_cache_rub"]) > 0
    assert sum(Decimal(each["cost_rub"]) for each in cost["by_model"].values()) == found.ledger_rub
    assert sum(map(Decimal, cost["by_source"].values())) == found.ledger_rub
    assert len(cost["prices"]) >= 2
