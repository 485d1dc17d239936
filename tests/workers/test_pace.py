"""What one process knows of the shared pace, with a keeper in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.chunk import Terms
from tests.workers.fakes import FakeKeeper
from workers import pace
from workers.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def paced(keeper: FakeKeeper, clock: Clock | None = None, **terms: Any) -> Pace:
    one = Pace("scope", keeper, clock or Clock())
    one.set_terms(Terms(**terms))
    return one


def exchange(one: Pace, ready: int, tokens: int = 0) -> None:
    asyncio.run(one.exchange(ready, tokens))


def admitted(one: Pace, tokens: int = 0) -> int:
    """How many calls may start now."""
    count = 0
    while one.try_admit(tokens):
        count += 1
    return count


def end(one: Pace, **changes: Any) -> None:
    given = {
        "reserved": 0,
        "used": 0,
        "throttled": False,
        "success": False,
        "retry_after": None,
        **changes,
    }
    one.ended(**given)


def test_nothing_starts_before_the_shared_pace_was_asked() -> None:
    one = paced(FakeKeeper())
    assert admitted(one) == 0

    exchange(one, 3)

    assert admitted(one) == 3


def test_calls_in_flight_are_limited_by_the_share() -> None:
    one = paced(FakeKeeper(slots=4))
    exchange(one, 10)
    assert admitted(one) == 4

    end(one)

    assert admitted(one) == 1
    assert one.in_flight == 4


def test_what_happened_is_told_once_and_again_if_it_was_not_heard() -> None:
    keeper = FakeKeeper()
    one = paced(keeper)
    exchange(one, 3)
    admitted(one)
    end(one, success=True)
    end(one, throttled=True, retry_after=7.0)

    keeper.away = True
    with pytest.raises(ConnectionError):
        exchange(one, 0)
    keeper.away = False
    exchange(one, 0)
    exchange(one, 0)

    told = [(ask.successes, ask.throttles, ask.retry_after_s) for ask in keeper.asks]
    assert told == [(0, 0, 0.0), (1, 1, 7.0), (0, 0, 0.0)]


def test_e1_a_pause_holds_here_at_once_and_for_as_long_as_was_told() -> None:
    clock = Clock()
    one = paced(FakeKeeper(), clock)
    exchange(one, 9)
    assert one.try_admit(0)

    end(one, throttled=True, retry_after=7.0)

    assert not one.try_admit(0)
    clock.now += 6.9
    assert not one.try_admit(0)
    clock.now += 0.2
    assert one.try_admit(0)


def test_a_pause_of_others_holds_here_too() -> None:
    keeper, clock = FakeKeeper(), Clock()
    one = paced(keeper, clock)
    keeper.pause_s = 3.0
    exchange(one, 1)
    assert admitted(one) == 0
    assert one.pause_s == 3.0

    clock.now += 3.0

    assert admitted(one) == 1


def test_requests_per_minute_are_leased_for_a_moment_only() -> None:
    clock = Clock()
    one = paced(FakeKeeper(), clock, rpm=600)
    exchange(one, 100)
    assert one.try_admit(0)

    clock.now += pace.STALE_S + 0.1
    exchange(one, 0)

    assert one.in_flight == 1
    assert admitted(one) == 0


def test_no_more_requests_are_leased_than_wait_or_fit_the_moment() -> None:
    keeper = FakeKeeper()
    one = paced(keeper, rpm=600)

    exchange(one, 3)
    exchange(one, 100)

    assert [ask.requests for ask in keeper.asks] == [3, 6 - 3]


def test_a_request_larger_than_the_bucket_starts_and_leaves_a_debt() -> None:
    keeper = FakeKeeper()
    one = paced(keeper, tpm=600)
    exchange(one, 5, 4000)

    assert admitted(one, 4000) == 2
    exchange(one, 4, 4000)

    assert keeper.asks[-1].tokens > 4000
    end(one, reserved=4000, used=100)
    assert one._tokens > 0


def test_unknown_usage_gives_no_tokens_back() -> None:
    one = paced(FakeKeeper(), tpm=60_000)
    exchange(one, 1, 400)
    assert one.try_admit(400)
    before = one._tokens

    end(one, reserved=400, used=None)

    assert one._tokens == before


def test_a_call_that_does_not_start_after_all_gives_everything_back() -> None:
    one = paced(FakeKeeper(slots=1), rpm=60, tpm=6000)
    exchange(one, 1, 50)
    assert one.try_admit(50)

    one.cancel(50)

    assert one.in_flight == 0
    assert one.try_admit(50)
