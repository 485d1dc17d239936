"""The shared pace, decided by a real server: what `limiter.lua` promises in its head.

The ids name the lines of the catalogue of faults (E1, E5, P14).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
from redis import Redis

from tests.conftest import SEAL, Server
from workers.pacing.dispatcher import TICK_S
from workers.pacing.leases import LEASE_S, Lease, LeaseRequest
from workers.redis import shared_limiter
from workers.redis.worker_redis import WorkerRedis

SCOPE = "scope"
HASH, SLOTS = f"ns:pace:{SCOPE}", f"ns:slots:{SCOPE}"


class Crowd:
    """Several workers at one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._posts: dict[str, WorkerRedis] = {}

    async def ask(self, worker: str, **changes: Any) -> Lease:
        given: dict[str, Any] = {"wanted": 0, "in_flight": 0, **changes}
        return await self.post(worker).limiters.exchange(SCOPE, LeaseRequest(**given))

    def post(self, worker: str) -> WorkerRedis:
        if worker not in self._posts:
            self._posts[worker] = WorkerRedis(self._url, worker, SEAL)
        return self._posts[worker]

    async def close(self) -> None:
        for post in self._posts.values():
            await post.connection.close()


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    one = Redis.from_url(server.url)
    yield one
    one.close()


def together(server: Server, scene: Callable[[Crowd], Awaitable[None]]) -> None:
    async def whole() -> None:
        crowd = Crowd(server.url)
        try:
            await scene(crowd)
        finally:
            await crowd.close()

    asyncio.run(asyncio.wait_for(whole(), 20))


def limit_of(redis: Redis) -> float:
    return float(cast(bytes, redis.hget(HASH, "limit")))


def test_the_first_calls_are_few_where_no_limit_is_known(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        share = await crowd.ask("a", wanted=1000)
        assert (share.slots, share.requests, share.tokens) == (4, -1, -1)

    together(server, scene)


def test_workers_share_a_limit_fairly_and_never_exceed_it_in_sum(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        flying = {"a": 0, "b": 0, "c": 0}
        for _ in range(20):
            for name in ("a", "b", "c"):
                # Some calls ended since; as many start as the share has room for.
                flying[name] -= flying[name] // 3
                share = await crowd.ask(name, wanted=100, in_flight=flying[name], most=30)
                flying[name] = max(flying[name], share.slots)
                assert sum(flying.values()) <= 30

        assert flying == {"a": 10, "b": 10, "c": 10}

    together(server, scene)


def test_what_one_worker_does_not_want_others_may_have(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        for _ in range(3):
            small = await crowd.ask("a", wanted=3, most=30)
            large = await crowd.ask("b", wanted=100, most=30)

        assert (small.slots, large.slots) == (3, 27)

    together(server, scene)


def test_a_worker_that_has_more_in_flight_than_its_share_starts_none_and_gives_back_as_they_end(
    server: Server,
) -> None:
    """A worker that fills each place anew as a call ends would else keep all of them for ever."""

    async def scene(crowd: Crowd) -> None:
        assert (await crowd.ask("a", wanted=100, most=10)).slots == 10
        assert (await crowd.ask("b", wanted=100, most=10)).slots == 0
        assert (await crowd.ask("a", wanted=100, in_flight=10, most=10)).slots == 5
        assert (await crowd.ask("b", wanted=100, most=10)).slots == 0
        assert (await crowd.ask("a", wanted=100, in_flight=7, most=10)).slots == 5
        assert (await crowd.ask("b", wanted=100, most=10)).slots == 3
        assert (await crowd.ask("a", wanted=100, in_flight=2, most=10)).slots == 5
        assert (await crowd.ask("b", wanted=100, in_flight=3, most=10)).slots == 5

    together(server, scene)


def test_the_slots_of_a_dead_worker_come_back_after_its_lease(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limiter, "LEASE_S", 0.5)

    async def scene(crowd: Crowd) -> None:
        await crowd.ask("dead", wanted=10, in_flight=10, most=10)
        assert (await crowd.ask("b", wanted=10, most=10)).slots == 0

        got = Lease(0, 0, 0, 0, 0)
        started = time.monotonic()
        while got.slots < 10:
            got = await crowd.ask("b", wanted=10, most=10)
            await asyncio.sleep(0.02)

        assert 0.4 < time.monotonic() - started < 10

    together(server, scene)


def test_e1_a_pause_stops_all_workers_and_ends(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=1, in_flight=1, throttles=1, retry_after_s=3)
        pauses = [(await crowd.ask(name, wanted=1)).pause_s for name in ("a", "b", "c")]
        assert all(0.5 < pause <= 3 for pause in pauses)

        # A shorter word does not shorten it.
        assert (await crowd.ask("b", wanted=1, retry_after_s=0.1)).pause_s > 0.3
        await asyncio.sleep(3)
        assert (await crowd.ask("c", wanted=1)).pause_s == 0

    together(server, scene)


def test_requests_per_minute_are_granted_at_their_rate_whoever_asks(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        granted = 0
        started = time.monotonic()
        while time.monotonic() - started < 2:
            for name in ("a", "b", "c"):
                share = await crowd.ask(name, wanted=99, rpm=6000, requests=50)
                granted += share.requests
            await asyncio.sleep(0.01)
        passed = time.monotonic() - started

        assert granted <= 100 * passed
        assert granted >= 0.9 * 100 * (passed - 0.1)

    together(server, scene)


@pytest.mark.parametrize("rpm", [1, 7, 60, 600, 10_000])
def test_no_minute_sees_more_requests_than_its_limit(
    server: Server, redis: Redis, rpm: int
) -> None:
    """A worker starts what it was granted at once or hands it back, so that nothing more is granted
    in a minute and that moment.
    """

    async def scene(crowd: Crowd) -> None:
        grants: list[tuple[float, int]] = []
        while not grants or grants[-1][0] < 90:
            share = await crowd.ask("a", wanted=9, rpm=rpm, requests=10**6)
            grants.append((read(redis, "clock"), share.requests))
            # Time goes by: the script's own clock is all that counts the seconds.
            redis.hincrbyfloat(HASH, "at", -0.09 if len(grants) % 3 else -0.17)
        most = max(
            sum(count for at, count in grants if start <= at < start + 60 + TICK_S)
            for start, _ in grants
        )

        assert most <= rpm
        assert most >= min(rpm, max(1, 0.99 * rpm - 1))

    together(server, scene)


def test_tokens_per_minute_are_granted_at_their_rate(server: Server, redis: Redis) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=1, tpm=60_000, tokens=10**6)
        redis.hincrbyfloat(HASH, "at", -0.2)
        share = await crowd.ask("a", wanted=1, tpm=60_000, tokens=10**6)
        assert share.tokens == pytest.approx(min(500, 1000 * read(redis, "clock")), rel=0.01)
        assert share.requests == -1

        redis.hincrbyfloat(HASH, "at", -100)
        assert (await crowd.ask("a", wanted=1, tpm=60_000, tokens=10**6)).tokens <= 500

    together(server, scene)


def test_what_one_worker_could_not_start_is_there_for_the_others(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        limits: dict[str, Any] = {"wanted": 9, "rpm": 60, "tpm": 60_000, "rub_per_hour": 36.0}
        wish = {"requests": 1, "tokens": 10**6, "rub": 1.0}
        await crowd.ask("b", **limits)
        put(redis, req=1, tok=300, rub=0.003)
        had = await crowd.ask("a", **limits, **wish)
        assert (had.requests, read(redis, "reqs")) == (1, 1)
        assert min(had.tokens, had.rub) > 0

        # All places it may have in flight are taken, so it hands that back, and gets none for now.
        left = {"left_requests": 1, "left_tokens": had.tokens, "left_rub": had.rub}
        none = await crowd.ask("a", in_flight=9, **limits, **wish, **left)
        assert (none.requests, none.tokens, none.rub) == (0, 0, 0)
        assert (read(redis, "reqs"), read(redis, "toks")) == pytest.approx((0, 0), abs=1e-6)

        share = await crowd.ask("b", **limits, **wish)
        assert (share.requests, read(redis, "reqs")) == (1, 1)
        assert share.tokens > had.tokens
        assert share.rub > had.rub

    together(server, scene)


def test_who_starts_calls_all_the_time_gets_more_though_none_of_its_places_is_free_now(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        asked = {"wanted": 99, "rpm": 6000, "requests": 50, "most": 10}
        await crowd.ask("a", **asked)
        put(redis, req=20)
        share = await crowd.ask("a", in_flight=10, started=5, left_requests=5, **asked)
        assert share.requests > 5

    together(server, scene)


def test_what_started_before_a_limit_was_told_counts_towards_it(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=99, started=70)
        await crowd.ask("a", wanted=99, rpm=60, requests=9)
        put(redis, req=9)
        assert (await crowd.ask("a", wanted=99, rpm=60, requests=9)).requests == 0

        redis.hincrbyfloat(HASH, "at", -61)
        assert (await crowd.ask("a", wanted=99, rpm=60, requests=9)).requests > 0

    together(server, scene)


def put(redis: Redis, **fields: float) -> None:
    """The shared pace stands so."""
    redis.hset(HASH, mapping={name: str(value) for name, value in fields.items()})


def read(redis: Redis, field: str) -> float:
    return float(cast(bytes, redis.hget(HASH, field)))


def test_the_limit_doubles_per_round_until_a_crowd_is_refused_and_is_halved_then(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        limit = 4
        for _ in range(4):
            await crowd.ask("a", wanted=999, in_flight=limit, successes=limit)
            assert limit_of(redis) == 2 * limit
            limit *= 2

        share = await crowd.ask("a", wanted=999, in_flight=20, throttles=44)
        assert share.limit == 32

    together(server, scene)


def test_e5_after_a_crowd_what_is_still_in_flight_is_what_the_endpoint_bears(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999)
        put(redis, limit=100)
        await crowd.ask("b", wanted=999, in_flight=30)
        assert (await crowd.ask("a", wanted=999, in_flight=50, throttles=40)).limit == 80

    together(server, scene)


def test_e5_a_limit_that_was_found_is_tried_again_only_after_a_while(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999, in_flight=100, throttles=90)
        put(redis, limit=100, edge=100, hold=5, tries=1, calm=9, ok=1000, bad=0)

        await crowd.ask("a", wanted=999, in_flight=100, successes=100)
        assert limit_of(redis) == 100

        put(redis, hold=0)
        await crowd.ask("a", wanted=999, in_flight=100, successes=100)
        assert limit_of(redis) == pytest.approx(105)

        # One is refused: so many are borne, and the next try comes later.
        await crowd.ask("a", wanted=999, in_flight=104, throttles=1)
        assert limit_of(redis) == 103
        assert read(redis, "hold") == pytest.approx(15, abs=0.5)

        # What is borne after all for a while is a limit that has risen.
        put(redis, limit=131, hold=0, calm=9)
        await crowd.ask("a", wanted=999, in_flight=131, successes=10)
        assert (read(redis, "edge"), read(redis, "tries")) == (0, 0)

    together(server, scene)


def test_e5_from_a_limit_that_fell_a_little_the_step_back_is_as_large_as_the_refusals(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999)
        put(redis, limit=100, slow=0, edge=0, ok=90, bad=0)
        await crowd.ask("a", wanted=999, in_flight=90, throttles=10)
        assert limit_of(redis) == pytest.approx(90, abs=0.5)

    together(server, scene)


def test_e5_a_single_refusal_that_stops_all_of_many_is_worth_a_place(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        # The answer of a call is here before the endpoint has its place free again.
        for many, left in ((200, 198), (10, 10)):
            await crowd.ask("a", wanted=999, in_flight=many)
            put(redis, limit=many, edge=many, hold=60, slow=0, calm=9, ok=1000, bad=0, pause=0)
            await crowd.ask("a", wanted=999, in_flight=many, throttles=1, retry_after_s=1.0)
            assert limit_of(redis) == left

    together(server, scene)


def test_a_few_refusals_of_a_few_calls_are_no_crowd_and_do_not_keep_a_low_limit_low(
    server: Server, redis: Redis
) -> None:
    """Two of seven may well be chance; and what is known to be chance does not end the growth."""

    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999)
        put(redis, limit=7, slow=0, calm=2)
        await crowd.ask("a", wanted=999, successes=5, throttles=2)
        assert limit_of(redis) >= 5

        put(redis, limit=4, slow=1, deaf=60, calm=2, ok=20, bad=2, edge=0)
        await crowd.ask("a", wanted=999, in_flight=4, successes=4, throttles=1)
        assert limit_of(redis) >= 8

    together(server, scene)


def test_refusals_that_no_step_back_makes_fewer_are_chance_and_cost_no_speed(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999)
        put(redis, limit=100, slow=0)
        for _ in range(12):
            put(redis, calm=2)
            await crowd.ask("a", wanted=999, in_flight=90, successes=90, throttles=10)
        assert limit_of(redis) == pytest.approx(100, abs=1)

    together(server, scene)


def test_more_in_flight_that_brings_no_more_answers_is_given_up_again(
    server: Server, redis: Redis
) -> None:
    """A fast endpoint that nobody limits answers 500 a second, however many calls are in flight."""

    async def scene(crowd: Crowd) -> None:
        for _ in range(60):
            limit = int(limit_of(redis)) if redis.exists(HASH) else 4
            await crowd.ask("a", wanted=9999, in_flight=limit, successes=min(limit, 50))
            redis.hincrbyfloat(HASH, "at", -0.1)
        assert limit_of(redis) <= 256

    together(server, scene)


def test_a_slow_endpoint_that_bears_a_thousand_calls_gets_them(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        rounds = 0
        while not redis.exists(HASH) or limit_of(redis) < 1000:
            begun = int(limit_of(redis)) if redis.exists(HASH) else 4
            for _ in range(10):
                # A call takes a minute; a tenth of them ends in each tenth of it.
                limit = int(limit_of(redis)) if redis.exists(HASH) else 4
                await crowd.ask("a", wanted=9999, in_flight=limit, successes=(begun + 9) // 10)
                redis.hincrbyfloat(HASH, "at", -6)
            rounds += 1
            assert rounds < 15

    together(server, scene)


def test_a_limit_that_is_not_used_does_not_grow(server: Server, redis: Redis) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=2)
        put(redis, limit=100)
        await crowd.ask("a", wanted=2, in_flight=2, successes=50)
        assert limit_of(redis) == 100

    together(server, scene)


def test_a_limit_of_a_few_and_a_fraction_is_used_up_by_the_few(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999)
        put(redis, limit=2.9, edge=2.9, slow=0, hold=0, tries=1, calm=9)
        await crowd.ask("a", wanted=999, in_flight=2, successes=2)
        assert limit_of(redis) > 3

    together(server, scene)


def test_a_rate_below_which_refusals_go_on_was_none_but_one_that_says_how_long_is(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        refused = {"wanted": 999, "requests": 99, "throttles": 1, "limited": 1}
        for window, found in ((1.0, 0), (20.0, pytest.approx(0.985 * 40 / 60.1, rel=0.01))):
            await crowd.ask("a", wanted=999)
            put(redis, rate=1, found=1, tight=0, met=9, let_in=41)
            await crowd.ask("a", started=0, window_s=window, **refused)
            assert read(redis, "rate") == found

        # One call after the other is refused by chance, and found no rate again for a while.
        put(redis, rate=0, let_in=41, limit=1, ok=0, bad=5, vain=5)
        await crowd.ask("a", window_s=1.0, **refused)
        assert read(redis, "rate") == 0

    together(server, scene)


def test_a_rate_that_nobody_told_is_what_was_let_in_during_the_last_minute(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        # 600 in ten seconds, then: come back in fifty.
        for _ in range(10):
            await crowd.ask("a", wanted=999, in_flight=60, started=60, successes=60)
            redis.hincrbyfloat(HASH, "at", -0.01)
        refusal = {"throttles": 40, "started": 40, "limited": 40, "window_s": 50.0}
        before = limit_of(redis)
        share = await crowd.ask("a", wanted=999, requests=99, **refusal)
        assert read(redis, "rate") == pytest.approx(0.985 * 10, abs=0.2)
        assert share.requests <= 2
        # It is no limit of calls in flight.
        assert limit_of(redis) == before

        # It is tried whether more is borne by now, faster the longer nothing is refused.
        put(redis, met=300)
        redis.hincrbyfloat(HASH, "at", -1)
        await crowd.ask("a", wanted=999, requests=99)
        assert 0.985 * 10 < read(redis, "rate") < 0.985 * 10 * 1.02

    together(server, scene)


def test_a_rate_that_was_found_is_forgotten_when_nothing_met_it_for_long(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        for met, is_kept in ((890, True), (901, False)):
            await crowd.ask("a", wanted=9)
            put(redis, rate=1, found=1, met=met)
            share = await crowd.ask("a", wanted=9, requests=9)
            assert (read(redis, "rate") > 0, share.requests >= 0) == (is_kept, is_kept)

    together(server, scene)


def test_a_refusal_of_few_calls_is_no_rate_and_three_in_a_row_are(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=9, in_flight=2, started=20, successes=20)
        put(redis, limit=2)
        redis.hincrbyfloat(HASH, "at", -20)

        refused = {"wanted": 9, "requests": 9, "started": 1, "throttles": 1, "limited": 1}
        for _ in range(2):
            assert (await crowd.ask("a", **refused)).requests == -1
            redis.hincrbyfloat(HASH, "at", -2)

        assert (await crowd.ask("a", **refused)).requests >= 0

    together(server, scene)


def test_a_limit_that_was_told_and_is_met_all_the_same_is_kept_by_a_wider_margin(
    server: Server, redis: Redis
) -> None:
    """What is late on its way meets what is not: that is no limit of calls in flight."""

    async def scene(crowd: Crowd) -> None:
        asked = {"wanted": 999, "rpm": 600, "requests": 99}
        await crowd.ask("a", in_flight=60, started=60, successes=60, **asked)
        before, late = limit_of(redis), read(redis, "late")
        for _ in range(3):
            # Several that are refused within a second are one word.
            await crowd.ask("a", in_flight=30, throttles=30, limited=30, window_s=1.0, **asked)
        assert read(redis, "late") == pytest.approx(late + 0.2, abs=0.01)
        assert (limit_of(redis), read(redis, "rate")) == (before, 0)

        # It is forgotten again, within hours.
        redis.hincrbyfloat(HASH, "at", -7200)
        await crowd.ask("a", **asked)
        assert read(redis, "late") == late

        # If no margin helps, it is something else.
        for _ in range(20):
            put(redis, met=2, tight=0, calm=2)
            await crowd.ask("a", in_flight=30, throttles=30, limited=30, window_s=1.0, **asked)
        assert limit_of(redis) < before

    together(server, scene)


def test_a_refusal_that_names_no_while_is_one_of_too_many_at_once(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999, in_flight=60, started=60, successes=60)
        await crowd.ask("a", wanted=999, in_flight=30, throttles=30, limited=30, window_s=1.0)
        assert read(redis, "rate") == 0
        assert limit_of(redis) < 64

    together(server, scene)


def test_roubles_per_hour_are_granted_at_their_rate(server: Server, redis: Redis) -> None:
    async def scene(crowd: Crowd) -> None:
        granted = 0.0
        await crowd.ask("a", wanted=1, rub_per_hour=3600.0, rub=1000.0)
        for _ in range(100):
            redis.hincrbyfloat(HASH, "at", -0.1)
            granted += (await crowd.ask("a", wanted=1, rub_per_hour=3600.0, rub=1000.0)).rub
        assert granted == pytest.approx(10.0, abs=0.5)

    together(server, scene)


def test_calls_in_flight_and_drops_are_shared_by_weight(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        drops = {"high": 0.0, "low": 0.0}
        flying = {"high": 0, "low": 0}
        for _ in range(60):
            for name, weight in (("low", 10.0), ("high", 90.0)):
                flying[name] -= flying[name] // 3
                share = await crowd.ask(
                    name,
                    wanted=100,
                    in_flight=flying[name],
                    weight=weight,
                    most=100,
                    tpm=6_000_000,
                    tokens=10**6,
                )
                flying[name] = max(flying[name], share.slots)
                drops[name] += max(share.tokens, 0.0)
            await asyncio.sleep(0.02)
        assert flying == {"high": 90, "low": 10}
        assert 4 < drops["high"] / drops["low"] < 14

    together(server, scene)


def test_a_worker_that_leaves_gives_its_calls_in_flight_back_at_once(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=10, in_flight=10, most=10)
        assert (await crowd.ask("b", wanted=10, most=10)).slots == 0

        await crowd.post("a").leave()

        assert (await crowd.ask("b", wanted=10, most=10)).slots == 10

    together(server, scene)


def test_e44_faults_of_all_workers_make_one_outage_and_its_probes_are_shared_out(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=50, in_flight=4, faults=5)
        assert (await crowd.ask("b", wanted=50)).down_s == 0
        assert (await crowd.ask("b", wanted=50, faults=5)).down_s > 0

        probes = 0
        for _ in range(1800):
            redis.hincrbyfloat(HASH, "at", -1)
            for name in ("a", "b", "c", "d"):
                share = await crowd.ask(name, wanted=50)
                assert share.slots == int(share.probe)
                probes += share.probe
        assert 55 <= probes <= 65
        assert (await crowd.ask("a", wanted=50)).down_s > 1790

    together(server, scene)


def test_e44_the_first_sign_of_life_ends_an_outage_for_all_who_come_back_in_steps(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=999)
        put(redis, limit=256, slow=0, edge=256, hold=99)
        await crowd.ask("a", wanted=999, faults=256)
        assert (await crowd.ask("b", wanted=999)).slots == 0

        await crowd.ask("a", wanted=999, alive=1, successes=1)

        assert (await crowd.ask("b", wanted=999)).down_s == 0
        steps = [limit_of(redis)]
        while steps[-1] < 256:
            await crowd.ask("a", wanted=999, in_flight=int(steps[-1]), successes=int(steps[-1]))
            steps.append(limit_of(redis))
        assert steps == [32, 64, 128, 256]

    together(server, scene)


def test_e44_faults_between_answers_are_no_outage(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        for _ in range(30):
            await crowd.ask("a", wanted=9, faults=7)
            assert (await crowd.ask("b", wanted=9, alive=1)).down_s == 0

    together(server, scene)


def test_the_limit_never_falls_below_one_call_nor_rises_above_the_users(
    server: Server, redis: Redis
) -> None:
    async def scene(crowd: Crowd) -> None:
        for _ in range(8):
            await crowd.ask("a", wanted=9, in_flight=0, throttles=9)
            put(redis, calm=9)
        assert limit_of(redis) == 1

        put(redis, bad=0, hold=0, edge=0)
        for _ in range(8):
            share = await crowd.ask("a", wanted=99, in_flight=99, successes=99, most=7)
        assert share.limit == 7

    together(server, scene)


@pytest.mark.parametrize("hours", [-1, 1, 24 * 365])
def test_p14_a_clock_that_jumps_neither_starves_nor_pauses_nor_forgets(
    server: Server, redis: Redis, hours: int
) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("dead", wanted=5, in_flight=5, most=10)
        await crowd.ask("a", wanted=10, most=10, rpm=600, requests=5, throttles=1)
        await crowd.ask("a", wanted=10, most=10, retry_after_s=2.0)
        # The clock was set back: all that was written lies in the future.
        shift = -3600 * hours
        redis.hincrbyfloat(HASH, "at", shift)
        for worker, entry in cast("dict[bytes, bytes]", redis.hgetall(SLOTS)).items():
            parts = entry.decode().split()
            parts[2] = str(float(parts[2]) + shift)
            redis.hset(SLOTS, worker.decode(), " ".join(parts))

        share = await crowd.ask("a", wanted=10, in_flight=5, most=10, rpm=600, requests=9)
        assert share.pause_s <= 2.0
        redis.hincrbyfloat(HASH, "at", -0.3)
        share = await crowd.ask("a", wanted=10, in_flight=5, most=10, rpm=600, requests=9)
        assert share.requests >= 2
        dead = cast("bytes | None", redis.hget(SLOTS, "dead"))
        if dead is not None:
            assert float(dead.split()[2]) <= time.time() + LEASE_S + 1

    together(server, scene)


def test_keys_of_a_pace_that_nobody_uses_go(server: Server, redis: Redis) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=1)
        assert 0 < redis.ttl(HASH) <= 86_400
        assert 0 < redis.ttl(SLOTS) <= 3600

    together(server, scene)


def test_a_server_that_is_away_is_a_connection_error_and_is_found_again(server: Server) -> None:
    async def scene(crowd: Crowd) -> None:
        await crowd.ask("a", wanted=1)
        server.kill()
        with pytest.raises(ConnectionError):
            await crowd.ask("a", wanted=1)
        server.start()

        async def back() -> bool:
            return (await crowd.ask("a", wanted=1)).slots == 1

        assert await back()

    together(server, scene)
