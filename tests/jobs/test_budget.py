"""Caps and grants: what fits, and that a grant is never overdrawn (FAULTS L8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.budget import AHEAD_OF, AHEAD_S, NOTHING, UNCAPPED, Amount, Grant
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


BOUNDS = st.builds(Amount, st.decimals(0, 9, places=2), st.integers(0, 1000))
PARTLY = st.builds(
    Amount,
    st.one_of(st.none(), st.decimals(0, 99, places=2)),
    st.one_of(st.none(), st.integers(0, 5000)),
)


@dataclass
class Spender:
    """A worker that starts and ends calls, and what an endpoint may have billed for them."""

    grant: Grant
    on_disk: Amount = NOTHING
    flying: list[Amount] = field(default_factory=list)
    ended: Amount = NOTHING
    asked: int = 0
    now: float = 0.0

    def start(self, bound: Amount) -> None:
        if self.grant.is_low or not self.grant.has_room(bound):
            self.on_disk = self.grant.wider(1)
            assert self.on_disk == self.on_disk.most(self.grant.opened), "it never shrinks"
            self.grant.open(self.on_disk, self.now)
            self.asked += 1
        assert self.grant.has_room(bound) is bound.fits(self.grant.left)
        if self.grant.take(bound):
            self.flying.append(bound)

    def end(self, share: int) -> None:
        if self.flying:
            bound = self.flying.pop(0)
            assert bound.rub is not None
            assert bound.tokens is not None
            spent = Amount(bound.rub * share / 4, bound.tokens * share // 4)
            self.ended += spent
            self.grant.settle(bound, spent)

    @property
    def at_most(self) -> Amount:
        """Whatever becomes of the calls in flight."""
        most = self.ended
        for each in self.flying:
            most += each
        return most


@given(PARTLY, st.lists(st.one_of(BOUNDS, st.integers(0, 4)), max_size=60))
def test_what_a_lost_worker_can_have_spent_was_opened_before_and_is_within_its_grant(
    granted: Amount, happens: list[Amount | int]
) -> None:
    one = Spender(Grant(granted, [each for each in happens if isinstance(each, Amount)]))
    for each in happens:
        one.end(each) if isinstance(each, int) else one.start(each)
        one.now += 0.1
        assert one.at_most.fits(one.on_disk)
        assert one.on_disk.fits(granted)
        assert granted == UNCAPPED or one.grant.left.least(granted) == one.grant.left


@pytest.mark.parametrize(("share", "lasts_s", "seldom"), [(0, 0.01, 0), (1, 0.04, 60), (4, 1, 300)])
def test_little_more_is_opened_than_is_in_flight_and_more_is_seldom_asked_for(
    share: int, lasts_s: float, seldom: int
) -> None:
    """What answers cost is opened anew, a quarter of the calls at once or what half a second costs:
    at 25 calls per second, each a quarter of its bound, that are 4 calls.
    """
    bound = Amount(Decimal("0.8"), 1000)
    one = Spender(Grant(UNCAPPED, [bound] * 1000))
    for _ in range(24):
        one.start(bound)
    ahead = 1 + 25 // AHEAD_OF
    assert bound * 24 == one.at_most
    assert one.on_disk.fits(bound * (24 + ahead))

    one.asked = 0
    for _ in range(976):
        one.end(share)
        one.start(bound)
        one.now += lasts_s

    assert one.asked <= seldom
    a_while = int(AHEAD_S / lasts_s * share / 4) + 1
    assert (one.on_disk - one.at_most).fits(bound * (1 + max(ahead, a_while)))


@pytest.mark.parametrize("whole", [UNCAPPED, Amount(None, 100)])
def test_what_has_no_bound_is_not_counted_as_opened(whole: Amount) -> None:
    bounds = [Amount(None, 5), Amount(Decimal(1), 5)]
    grant = Grant(whole, bounds)
    for bound in bounds:
        grant.open(grant.wider(1), 0.0)
        assert grant.take(bound)
        grant.settle(bound, Amount(Decimal(3), 2))
    assert (grant.opened.rub, grant.left.rub) == (None, None)
    assert grant.opened.tokens == 5 + 5 + 2


def test_a_call_without_a_bound_fits_no_cap_and_asks_for_nothing() -> None:
    grant = Grant(Amount(Decimal(9), None), [Amount(None, 5)])
    grant.open(grant.wider(1), 0.0)

    assert not grant.take(Amount(None, 5))
    assert not Amount(None, 5).fits(grant.left)
