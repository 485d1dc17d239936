"""Caps and grants: what fits, and that a grant is never overdrawn (FAULTS L8)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.budget import UNCAPPED, Amount, Grant
from jobs.money import add, total

RUB = st.decimals(0, Decimal("1e6"), places=12)
AMOUNTS = st.builds(Amount, st.one_of(st.none(), RUB), st.one_of(st.none(), st.integers(0, 10**9)))
WHOLE = st.builds(Amount, RUB, st.integers(0, 10**9))


@pytest.mark.parametrize(
    ("amount", "within", "fits"),
    [
        (Amount(Decimal(1), 1), UNCAPPED, True),
        (Amount(None, None), UNCAPPED, True),
        (Amount(Decimal(1), 5), Amount(Decimal(1), 5), True),
        (Amount(Decimal("1.000000000001"), 5), Amount(Decimal(1), 5), False),
        (Amount(Decimal(1), 6), Amount(Decimal(1), 5), False),
        # What nobody can bound fits no cap.
        (Amount(None, 1), Amount(Decimal(1), None), False),
        (Amount(Decimal(1), None), Amount(None, 5), False),
        (Amount(None, 1), Amount(None, 5), True),
        # A cap of nothing has room for what is free, and an overdrawn one for nothing at all.
        (Amount(Decimal(0), 0), Amount(Decimal(0), 0), True),
        (Amount(Decimal(0), 0), Amount(Decimal(-1), 0), False),
    ],
)
def test_an_amount_fits_a_cap_in_every_part_that_is_capped(
    amount: Amount, within: Amount, fits: bool
) -> None:
    assert amount.fits(within) is fits


@given(AMOUNTS, AMOUNTS)
def test_a_sum_knows_only_what_both_parts_know(left: Amount, right: Amount) -> None:
    both = left + right

    assert (both.rub is None) is (left.rub is None or right.rub is None)
    assert (both.tokens is None) is (left.tokens is None or right.tokens is None)
    assert both == right + left


@given(WHOLE, WHOLE)
def test_what_was_added_can_be_taken_away_again(left: Amount, right: Amount) -> None:
    assert left + right - right == left


@given(
    AMOUNTS,
    st.lists(st.tuples(WHOLE, st.fractions(0, 1), st.booleans()), max_size=30),
)
def test_calls_of_a_grant_never_cost_more_than_the_grant(
    granted: Amount, calls: list[tuple[Amount, object, bool]]
) -> None:
    """Whatever is taken, settled at once or later, costs nothing, a part or all of its bound."""
    grant, spent, open_calls = Grant(granted), [], []
    for bound, share, at_once in calls:
        if not grant.take(bound):
            continue
        assert bound.rub is not None
        assert bound.tokens is not None
        cost = Amount(
            (bound.rub * Decimal(float(share))).quantize(Decimal("1e-12"), "ROUND_DOWN"),  # type: ignore[arg-type]
            int(bound.tokens * share),  # type: ignore[operator]
        )
        open_calls.append((bound, cost))
        if at_once:
            spent.append(open_calls.pop())
            grant.settle(*spent[-1])
        for mark in (grant.left.rub, grant.left.tokens):
            assert mark is None or mark >= 0

    if granted.rub is not None:
        settled = total(cost.rub or Decimal(0) for _, cost in spent)
        booked = total(bound.rub or Decimal(0) for bound, _ in open_calls)
        assert grant.left.rub is not None
        assert add(add(settled, booked), grant.left.rub) == granted.rub
    if granted.tokens is not None:
        used = sum(cost.tokens or 0 for _, cost in spent)
        used += sum(bound.tokens or 0 for bound, _ in open_calls)
        assert grant.left.tokens == granted.tokens - used


def test_a_call_that_does_not_fit_takes_nothing() -> None:
    grant = Grant(Amount(Decimal(10), 100))

    assert not grant.take(Amount(Decimal(5), 101))
    assert grant.left == Amount(Decimal(10), 100)


def test_a_refusal_that_cost_nothing_gives_its_bound_back() -> None:
    grant = Grant(Amount(Decimal(10), 100))

    grant.take(Amount(Decimal(10), 100))
    grant.settle(Amount(Decimal(10), 100), Amount(Decimal(0), 0))

    assert grant.take(Amount(Decimal(10), 100))


def test_a_call_of_unknown_outcome_uses_its_bound_up() -> None:
    bound = Amount(Decimal(6), 60)
    grant = Grant(Amount(Decimal(10), 100))

    grant.take(bound)
    grant.settle(bound, bound)

    assert not grant.take(bound)
    assert grant.left == Amount(Decimal(4), 40)


def test_a_call_dearer_than_its_bound_leaves_less_than_nothing_e27() -> None:
    grant = Grant(Amount(Decimal(10), 100))

    grant.take(Amount(Decimal(5), 50))
    grant.settle(Amount(Decimal(5), 50), Amount(Decimal(11), 50))

    assert grant.left.rub == -1
    assert not grant.take(Amount(Decimal(0), 1))
