"""What one process knows of the shared pace, with a keeper in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.bottleneck import Bound
from jobs.chunk import Terms
from jobs.errors import BadMessage
from tests.workers.fakes import FakeKeeper
from workers.pacing.leases import Lease, LeaseRequest, lease_of
from workers.pacing.limiter import Limiter, strictest
from workers.pacing.wait_meter import Waits
from workers.usage_estimate import ENOUGH, UsageEstimate


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def paced(keeper: FakeKeeper, clock: Clock | None = None, **terms: Any) -> Limiter:
    one = Limiter("scope", keeper, clock or Clock())
    one.set_terms(Terms(**terms))
    return one


def exchange(one: Limiter, ready: int, tokens: int = 0, rub: float = 0.0) -> None:
    asyncio.run(one.exchange(ready, tokens, rub))


def admitted(one: Limiter, tokens: int = 0) -> list[UsageEstimate]:
    """What those calls took that may start now."""
    tolls = []
    while estimate := one.try_admit(tokens):
        tolls.append(estimate)
    return tolls


def test_nothing_starts_before_the_shared_pace_was_asked() -> None:
    one = paced(FakeKeeper())
    assert not admitted(one)

    exchange(one, 3)

    assert len(admitted(one)) == 3


def test_calls_in_flight_are_limited_by_the_share() -> None:
    one = paced(FakeKeeper(slots=4))
    exchange(one, 10)
    tolls = admitted(one)
    assert len(tolls) == 4

    one.ended(tolls[0])

    assert len(admitted(one)) == 1
    assert one.in_flight == 4


def test_what_happened_is_told_once_and_again_if_it_was_not_heard() -> None:
    keeper = FakeKeeper()
    one = paced(keeper)
    exchange(one, 3)
    for estimate in admitted(one):
        one.ended(estimate)
    one.succeeded()
    one.throttled(7.0, by_rate=True)
    one.throttled(None, by_rate=False)
    one.faulty()

    keeper.away = True
    with pytest.raises(ConnectionError):
        exchange(one, 0)
    keeper.away = False
    exchange(one, 0)
    exchange(one, 0)

    told = [
        (ask.started, ask.successes, ask.throttles, ask.limited, ask.faults, ask.retry_after_s)
        for ask in keeper.asks
    ]
    assert told == [(0, 0, 0, 0, 0, 0.0), (3, 1, 2, 1, 1, 7.0), (0, 0, 0, 0, 0, 0.0)]


def test_what_comes_while_the_others_are_told_is_told_next() -> None:
    class Slow(FakeKeeper):
        async def exchange(self, scope: str, ask: LeaseRequest) -> Lease:
            one.succeeded()
            one.throttled(9.0, by_rate=False)
            return await super().exchange(scope, ask)

    keeper = Slow()
    one = paced(keeper)
    one.throttled(3.0, by_rate=False)
    exchange(one, 0)
    exchange(one, 0)

    told = [(ask.successes, ask.throttles, ask.retry_after_s) for ask in keeper.asks]
    assert told == [(0, 1, 3.0), (1, 1, 9.0)]


def test_e44_a_sign_of_life_makes_the_faults_before_it_no_outage() -> None:
    keeper = FakeKeeper()
    one = paced(keeper)
    one.faulty()
    one.alive()
    one.faulty()
    exchange(one, 0)
    assert (keeper.asks[0].faults, keeper.asks[0].alive) == (1, 1)


def test_e1_a_pause_holds_here_at_once_and_for_as_long_as_was_told() -> None:
    clock = Clock()
    one = paced(FakeKeeper(), clock)
    exchange(one, 9)
    estimate = one.try_admit(0)
    assert estimate

    one.ended(estimate)
    one.throttled(7.0, by_rate=False)

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
    assert not admitted(one)
    assert one.pause_s == 3.0

    clock.now += 3.0

    assert len(admitted(one)) == 1


def test_what_was_leased_and_did_not_start_is_handed_back_with_the_next_asking() -> None:
    keeper = FakeKeeper(slots=2)
    one = paced(keeper, rpm=600, tpm=60_000, rub_per_hour=1.0)
    exchange(one, 5, 100, 0.1)
    assert len(admitted(one, 100)) == 2

    exchange(one, 3, 100, 0.1)

    ask = keeper.asks[-1]
    assert (ask.left_requests, ask.left_tokens) == (3, 300)
    assert ask.left_rub == pytest.approx(0.5)
    assert (ask.requests, ask.tokens) == (3, 300)
    assert (one._requests, one._tokens) == (3, 300)


def test_nothing_that_was_leased_starts_while_it_is_handed_back() -> None:
    keeper = FakeKeeper(slots=2)
    one = paced(keeper, rpm=600)
    exchange(one, 5)
    keeper.away = True

    with pytest.raises(ConnectionError):
        exchange(one, 5)

    assert not admitted(one)


def test_a_request_larger_than_the_bucket_starts_and_leaves_a_debt() -> None:
    keeper = FakeKeeper()
    one = paced(keeper, tpm=600)
    exchange(one, 1, 400)

    tolls = admitted(one, 4000)
    assert len(tolls) == 1
    exchange(one, 4, 4000)

    assert (keeper.asks[-1].tokens, keeper.asks[-1].left_tokens) == (4 * 4000, -3600)


def test_calls_are_paced_by_what_answers_use_and_not_by_what_they_could() -> None:
    keeper = FakeKeeper()
    one = paced(keeper, tpm=60_000, rub_per_hour=100.0)
    exchange(one, 1, 4000, 2.0)
    assert (keeper.asks[0].tokens, keeper.asks[0].rub) == (4000, 2.0)
    for _ in range(ENOUGH):
        one.learn(4000, 1000, 0.5)

    exchange(one, 10, 4000, 2.0)

    assert keeper.asks[1].tokens == 10 * 1000
    assert keeper.asks[1].rub == pytest.approx(10 * 0.5)


def test_what_a_call_used_more_or_less_than_it_took_is_settled() -> None:
    one = paced(FakeKeeper(), tpm=60_000)
    for _ in range(ENOUGH):
        one.learn(400, 100, None)
    exchange(one, 2, 400)
    less, more = admitted(one, 400)
    assert one._tokens == 0

    one.ended(less, tokens=20)
    assert one._tokens == 80
    one.ended(more, tokens=170)
    assert one._tokens == 10


def test_what_was_taken_in_ignorance_does_not_come_back_as_a_burst() -> None:
    one = paced(FakeKeeper(), tpm=60_000)
    exchange(one, 1, 4000)
    (estimate,) = admitted(one, 4000)

    one.learn(4000, 1000, None)
    one.ended(estimate, tokens=1000)

    assert one._tokens == 0


def test_unknown_usage_gives_no_tokens_back() -> None:
    one = paced(FakeKeeper(), tpm=60_000)
    exchange(one, 1, 400)
    (estimate,) = admitted(one, 400)
    before = one._tokens

    one.ended(estimate)

    assert one._tokens == before


def test_a_call_that_does_not_start_after_all_gives_everything_back() -> None:
    one = paced(FakeKeeper(slots=1), rpm=60, tpm=6000)
    exchange(one, 1, 50)
    estimate = one.try_admit(50)
    assert estimate

    one.cancel(estimate)

    assert one.in_flight == 0
    assert one.try_admit(50)


def test_limits_that_the_endpoint_tells_count_where_they_are_lower() -> None:
    keeper = FakeKeeper()
    one = paced(keeper, rpm=600)
    one.hear({"x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens": "90000"})
    exchange(one, 0)
    one.hear({"x-ratelimit-limit-requests": "6000"})
    exchange(one, 0)

    assert [(ask.rpm, ask.tpm) for ask in keeper.asks] == [(60, 90_000), (600, 90_000)]


def test_of_the_limits_of_several_jobs_the_lowest_count() -> None:
    found = strictest([Terms(rpm=60, max_in_flight=9), Terms(), Terms(rpm=90, rub_per_hour=5.0)])
    assert (found.rpm, found.tpm, found.max_in_flight, found.rub_per_hour) == (60, None, 9, 5.0)


def test_e4_however_long_a_wait_is_told_somebody_looks_now_and_then() -> None:
    clock, day = Clock(), 86_400.0
    one = paced(FakeKeeper(), clock)
    waits = []
    for _ in range(7):
        for _ in range(50):
            one.throttled(day, by_rate=True)
        waits.append(one.pause_s)
        assert one.waits_long
        assert one.told_until == clock.now + day
        clock.now += one.pause_s
    assert waits == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]

    one.succeeded()
    assert not one.waits_long
    one.throttled(day, by_rate=True)
    assert one.pause_s == 60.0


def test_a_short_wait_is_kept_to_and_nobody_is_told() -> None:
    one = paced(FakeKeeper())
    one.throttled(20.0, by_rate=True)
    assert (one.pause_s, one.waits_long) == (20.0, False)


def test_a_wait_that_is_lifted_ends_here_and_for_all() -> None:
    keeper = FakeKeeper()
    keeper.pause_s = 60.0
    one = paced(keeper)
    one.throttled(86_400.0, by_rate=True)
    exchange(one, 1)
    assert not admitted(one)

    one.lift()
    exchange(one, 1)

    assert len(admitted(one)) == 1
    assert keeper.pause_s == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"x",
        [],
        [1] * 7,
        [1, 1, b"nan", b"0", b"0", 1, b"0", 0],
        [1, 1, b"0", b"inf", b"0", 1, b"0", 0],
        [1, 1, b"0", b"0", b"-3", 1, b"0", 0],
        [-1, 1, b"0", b"0", b"0", 1, b"0", 0],
        [1, 1, b"0", b"0", b"0", 10**40, b"0", 0],
        [b"x", 1, b"0", b"0", b"0", 1, b"0", 0],
    ],
)
def test_a_share_that_the_script_cannot_have_given_is_none(answer: object) -> None:
    with pytest.raises(BadMessage):
        lease_of(answer)


def test_a_share_is_read_as_the_script_gives_it() -> None:
    given = [4, -1, b"-1", b"0.5", b"1e-05", 40, b"0", 1]

    assert lease_of(given) == Lease(4, -1, -1.0, 0.5, 1e-05, 40, 0.0, probe=True)


# ---- by what a process is bound -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "headers", "slots", "bound"),
    [
        ({}, {}, 4, Bound.CONCURRENCY),
        ({"max_in_flight": 99}, {}, 4, Bound.MAX_IN_FLIGHT),  # 99 is the fake's limit of all
        ({}, {}, 1000, None),
        ({"rpm": 60}, {}, 1000, Bound.RPM),
        ({"tpm": 60}, {}, 1000, Bound.TPM),
        ({"rub_per_hour": 1.0}, {}, 1000, Bound.RUB_PER_HOUR),
        ({}, {"x-ratelimit-limit-requests": "60"}, 1000, Bound.ENDPOINT_RPM),
        ({"rpm": 600}, {"x-ratelimit-limit-requests": "60"}, 1000, Bound.ENDPOINT_RPM),
        ({"rpm": 60}, {"x-ratelimit-limit-requests": "600"}, 1000, Bound.RPM),
    ],
)
def test_what_keeps_the_next_call_back_is_named(
    terms: dict[str, Any], headers: dict[str, str], slots: int, bound: Bound | None
) -> None:
    one = paced(FakeKeeper(slots=slots), **terms)
    one.hear(headers)
    exchange(one, 10, tokens=10, rub=0.1)

    while one.try_admit(10, 0.1):
        pass

    one.slots += bool(terms or headers) and slots == 1000  # were there a place
    assert one.bound is bound


def test_a_pause_comes_before_all_limits() -> None:
    one = paced(FakeKeeper(slots=4), rpm=60)
    exchange(one, 10)
    one.pause(20.0)

    assert one.bound is Bound.RETRY_AFTER


def test_waits_are_added_up_by_cause() -> None:
    clock = Clock()
    waits = Waits(clock)

    for cause in (Bound.RPM, Bound.RPM, None, Bound.TPM, Bound.RPM):
        waits.begin(cause)
        clock.now += 2.0

    assert waits.seconds() == {"rpm": 6.0, "tpm": 2.0}
