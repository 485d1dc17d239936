"""Waiting is arithmetic: any dice, any attempt, the bounds hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.pacing.backoff import (
    LONGEST_WAIT_S,
    SPREAD_S,
    Backoff,
    Dice,
    delay,
    full_jitter,
)

SHARES = st.floats(0, 1)
SECONDS = st.floats(0, 1e9)
FAILURES = st.integers(0, 10**9)
BACKOFFS = st.builds(Backoff, st.floats(0.001, 60), st.floats(0.001, 3600), st.floats(0.001, 3600))


def loaded(share: float) -> Dice:
    """Dice that always fall at the same share of the range."""
    return lambda low, high: low + (high - low) * share


@given(FAILURES, BACKOFFS, SHARES)
def test_jitter_stays_between_nothing_and_the_cap(
    failures: int, backoff: Backoff, share: float
) -> None:
    assert 0 <= full_jitter(failures, backoff, loaded(share)) <= backoff.cap


@given(FAILURES, BACKOFFS)
def test_the_range_never_shrinks_with_more_failures(failures: int, backoff: Backoff) -> None:
    widest = loaded(1)

    assert full_jitter(failures, backoff, widest) <= full_jitter(failures + 1, backoff, widest)


@pytest.mark.parametrize(
    ("failures", "widest"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (90, 60)]
)
def test_the_range_doubles_up_to_the_cap(failures: int, widest: float) -> None:
    assert full_jitter(failures, Backoff(base=1, cap=60), loaded(1)) == widest


@given(FAILURES, st.none() | SECONDS, BACKOFFS, SHARES)
def test_the_ceiling_comes_last(
    failures: int, told: float | None, backoff: Backoff, share: float
) -> None:
    assert 0 <= delay(failures, told, backoff, loaded(share)) <= backoff.ceiling


@given(FAILURES, st.floats(0, LONGEST_WAIT_S - SPREAD_S), SHARES)
def test_the_servers_word_is_kept_to_within_a_second(
    failures: int, told: float, share: float
) -> None:
    waited = delay(failures, told, Backoff(), loaded(share))

    assert told <= waited <= told + SPREAD_S
