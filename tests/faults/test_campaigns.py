"""Short runs of what `scripts/torture` does for long: P2, P4, P5, P8, R2–R4, R15, R16."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.torturing.campaigns import Campaign, deal_everything, deal_harmless
from scripts.torturing.house import House

ENDPOINT = ("--latency", "lognormal:0.5:0.5:4", "--max-in-flight", "100")


@pytest.mark.timeout(300)
def test_p5_kills_of_anything_lose_no_row_and_repeat_only_calls_in_flight(tmp_path: Path) -> None:
    with House(tmp_path, workers=3, endpoint=ENDPOINT) as house:
        tally = Campaign(house, rows=400, seed=7).run(10, 0.7, deal_everything)

    assert tally.broken == []
    assert tally.rows > 0
    assert 0 < tally.bought_twice <= tally.in_flight


@pytest.mark.timeout(300)
def test_r2_r15_r16_a_lost_redis_and_lost_or_repeated_messages_cost_no_call(tmp_path: Path) -> None:
    with House(tmp_path, workers=2, endpoint=ENDPOINT) as house:
        tally = Campaign(house, rows=400, seed=8).run(8, 1.5, deal_harmless)

    assert tally.broken == []
    assert tally.bought_twice == 0
