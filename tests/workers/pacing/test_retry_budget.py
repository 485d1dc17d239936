"""Repetitions for faults: a tenth of the requests, a few in reserve, one a second in any case."""

from __future__ import annotations

from workers.pacing.retry_budget import RESERVE, TRICKLE_S, RetryBudget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(budget: RetryBudget) -> int:
    count = 0
    while budget.take():
        count += 1
    return count


def test_a_tenth_of_the_requests_and_the_reserve_may_be_repeated() -> None:
    budget = RetryBudget(Clock())
    for _ in range(10_000):
        budget.called()
    assert RESERVE + 999 <= taken(budget) <= RESERVE + 1001


def test_who_waits_long_enough_gets_one_in_any_case() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    taken(budget)
    assert not budget.take()
    clock.now += TRICKLE_S
    assert taken(budget) == 1


def test_seconds_in_which_nobody_asked_are_kept_for_those_who_do_later_up_to_the_reserve() -> None:
    """Else the last requests of a short job waited longer than all of it took before."""
    clock = Clock()
    budget = RetryBudget(clock)
    clock.now += 20 * TRICKLE_S
    assert RESERVE + 20 <= taken(budget) <= RESERVE + 21
    clock.now += 3600 * TRICKLE_S
    assert taken(budget) == RESERVE


def test_e45_calls_of_a_flaky_endpoint_stay_a_tenth_above_the_requests() -> None:
    """Every second call fails for an hour, at ten requests a second."""
    clock = Clock()
    budget = RetryBudget(clock)
    requests, calls, waiting = 36_000, 0, 0
    for _ in range(requests):
        clock.now += 0.1
        budget.called()
        calls += 1
        waiting += 1
        while waiting and budget.take():
            calls += 1
            waiting -= 1
    assert calls <= 1.1 * requests + RESERVE + clock.now / TRICKLE_S
