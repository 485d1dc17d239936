"""No cap is exceeded at any moment, in jobs that are played at random (L8); see scripts/torture."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from scripts.torturing import cap_simulation, known_costs


@pytest.mark.parametrize("seed", range(1000, 1008))
def test_l8_no_cap_of_a_job_or_a_home_is_ever_exceeded(tmp_path: Path, seed: int) -> None:
    toll = cap_simulation.run(tmp_path, 40, seed)

    assert toll.broken == []
    assert toll.jobs == 40
    assert toll.calls > 100
    assert toll.capped > 0


def test_l8_the_play_sees_a_cap_that_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feeder that takes bounds too low is found out."""
    monkeypatch.setattr("batch.coordinator.feeder.margin", lambda _: Decimal("0.3"))

    assert cap_simulation.run(tmp_path, 100, 1).broken


def test_l7_every_way_to_add_up_a_job_makes_the_same_number(tmp_path: Path) -> None:
    found = known_costs.run(tmp_path, 5000, seed=3)

    assert found.calls > 5000
    assert found.by["handed in"] > 0
    assert found.agree, found.by


def test_l7_a_call_that_no_price_explains_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = known_costs._cost
    monkeypatch.setattr(known_costs, "_cost", lambda *call: cost(*call) * 103 // 100)

    found = known_costs.run(tmp_path, 500, seed=3)

    assert len(set(found.by.values())) == 1
    assert found.unlisted > 400
    assert not found.agree
