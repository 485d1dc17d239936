"""What is said of money that nobody knows for certain."""

from __future__ import annotations

from decimal import Decimal

import pytest

from batch.money.uncertain_cost_texts import paid, uncertain


@pytest.mark.parametrize(
    ("calls", "unbounded", "booked", "told"),
    [
        (0, 0, "0", ""),
        (1, 0, "1.84", "1 call of unknown cost, at most 1.84 ₽"),
        (2, 2, "0", "2 calls of unknown cost, no upper bound"),
        (3, 1, "1.5", "3 calls of unknown cost, at most 1.50 ₽ for 2 of them,"),
    ],
)
def test_a_bound_is_told_only_where_there_is_one(
    calls: int, unbounded: int, booked: str, told: str
) -> None:
    found = uncertain(calls, unbounded, Decimal(booked))

    assert found.startswith(told)
    assert "0.00" not in found


def test_a_call_of_unknown_cost_is_not_said_to_have_cost_nothing() -> None:
    assert paid(Decimal(0), 1) == "unknown"
    assert paid(Decimal("1.2"), 1) == "at least 1.20 ₽"
    assert paid(Decimal("1.2"), 0) == "1.20 ₽"
