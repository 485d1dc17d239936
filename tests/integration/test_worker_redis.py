"""A worker's side of a real server: claims, signs of life, deliveries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import uvloop
from redis import Redis

from batch.coordinator.fence import Fence
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.store.home import Home
from jobs import names
from jobs.budget import Amount
from jobs.errors import BadMessage, NightshiftError, UsageError
from jobs.wire import Begin, Permit, pack_payload
from jobs.worker_heartbeat import WorkerStatus
from tests.conftest import SEAL, Server
from tests.workers.fakes import JOB, OTHER_JOB, payload, work
from workers.pacing.leases import LeaseRequest
from workers.redis import claims
from workers.redis.worker_redis import WorkerRedis

KEY = (JOB, 1)


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    one = Redis.from_url(server.url)
    yield one
    one.close()


def between(
    server: Server,
    scene: Callable[[WorkerRedis, WorkerRedis], Awaitable[None]],
    *,
    vouching: bool = True,
) -> None:
    """Two workers at one server, to which its memory is vouched for."""

    async def whole() -> None:
        one, two = WorkerRedis(server.url, "one", SEAL), WorkerRedis(server.url, "two", SEAL)
        try:
            if vouching:
                await vouched(server, one, two)
            await scene(one, two)
        finally:
            await one.connection.close()
            await two.connection.close()

    asyncio.run(asyncio.wait_for(whole(), 20))


FENCE = "f1"
CLAIM = (*KEY, FENCE)


async def vouched(server: Server, *workers: WorkerRedis, fence: str = FENCE) -> None:
    """A coordinator vouches for what stands there."""
    home = CoordinatorRedis(server.url, SEAL)
    home.memory.begin_fence(fence, FENCE)
    for worker in workers:
        await worker.heartbeats.beat([], WorkerStatus())
    server_id = home.memory.vouch(fence, 1, "").server
    assert home.memory.vouch(fence, 1, server_id).whole
    home.close()


def put(redis: Redis, key: str, data: bytes) -> None:
    redis.set(key, SEAL.sign(key, data))


def lay_down(redis: Redis, chunk: int = 1) -> None:
    put(redis, names.payload_key(JOB, chunk), pack_payload(payload(work(1), chunk=chunk)))


def test_a_chunk_goes_to_the_first_who_claims_it(server: Server, redis: Redis) -> None:
    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        assert await one.claims.claim(*CLAIM) is None
        lay_down(redis)

        assert await one.claims.claim(*CLAIM) == payload(work(1))
        assert await two.claims.claim(*CLAIM) is None
        assert await one.claims.claim(*CLAIM) is None
        assert redis.get(names.claim_key(*KEY)) == b"one"
        assert 14_000 < redis.pttl(names.claim_key(*KEY)) <= 15_000

    between(server, scene)


def test_a_connection_that_broke_while_nobody_used_it_is_as_one_that_is_away(
    server: Server,
) -> None:
    """Of such a one uvloop, on which workers run, says RuntimeError."""

    async def scene() -> None:
        one = WorkerRedis(server.url, "one", SEAL)
        await one.heartbeats.beat([], WorkerStatus())
        (idle,) = one.connection.redis.connection_pool._available_connections
        assert idle._writer is not None
        idle._writer.transport.abort()
        await asyncio.sleep(0)

        with pytest.raises(ConnectionError):
            await one.heartbeats.look({JOB})
        await one.heartbeats.look({JOB})
        await one.connection.close()

    uvloop.run(asyncio.wait_for(scene(), 20))


def test_p4_a_chunk_whose_worker_died_is_not_run_again_by_a_message_that_came_twice(
    server: Server, redis: Redis
) -> None:
    """Answers of it may be on their way: what is left of it travels under another number."""

    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        lay_down(redis)
        await one.claims.claim(*CLAIM)
        redis.delete(names.claim_key(*KEY))  # as 15 s after its worker's death

        assert await two.claims.claim(*CLAIM) is None
        assert await one.claims.claim(*CLAIM) is None

    between(server, scene)


def test_a_chunk_that_is_done_is_not_run_again(server: Server, redis: Redis) -> None:
    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        lay_down(redis)
        await one.claims.claim(*CLAIM)
        await one.claims.release(*KEY)

        assert redis.get(names.claim_key(*KEY)) is None
        assert await two.claims.claim(*CLAIM) is None
        redis.set(names.claim_key(*KEY), b"of somebody else")
        await one.claims.release(*KEY)
        assert redis.get(names.claim_key(*KEY)) == b"of somebody else"

    between(server, scene)


def test_a_chunk_that_the_home_forgot_leaves_nothing_and_is_not_taken(
    server: Server, redis: Redis
) -> None:
    home = CoordinatorRedis(server.url, SEAL)

    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        lay_down(redis)
        await one.claims.claim(*CLAIM)
        await one.claims.release(*KEY)
        home.chunks.forget_chunks(JOB, [1])

        assert [*redis.scan_iter(f"ns:*{JOB}*")] == []
        assert await two.claims.claim(*CLAIM) is None

    between(server, scene)
    home.close()


def test_r19_another_chunks_payload_and_garbage_are_not_taken(server: Server, redis: Redis) -> None:
    async def scene(one: WorkerRedis, _: WorkerRedis) -> None:
        put(redis, names.payload_key(JOB, 7), pack_payload(payload(work(1), chunk=8)))
        assert await one.claims.claim(JOB, 7, FENCE) is None
        put(redis, names.payload_key(JOB, 8), b"garbage")
        with pytest.raises(BadMessage):
            await one.claims.claim(JOB, 8, FENCE)

    between(server, scene)


def test_a_sign_of_life_renews_what_is_mine_and_tells_what_is_not(
    server: Server, redis: Redis
) -> None:
    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        for chunk in (1, 2, 3):
            lay_down(redis, chunk)
            await one.claims.claim(JOB, chunk, FENCE)
        lay_down(redis, 5)
        redis.set(names.claim_key(JOB, 5), "anybody")
        redis.pexpire(names.claim_key(JOB, 1), 500)
        put(redis, names.claim_key(JOB, 2), names.LOST)
        redis.delete(names.claim_key(JOB, 3), names.payload_key(JOB, 3))
        put(redis, names.hold_key(JOB), b"user")

        beat = await one.heartbeats.beat(
            [(JOB, 1), (JOB, 2), (JOB, 3), (OTHER_JOB, 4), (JOB, 5)], WorkerStatus(name="one")
        )

        assert beat.held == {JOB}
        assert beat.fences == {FENCE.encode()}
        assert beat.lost == {(JOB, 2), (JOB, 3), (OTHER_JOB, 4)}
        assert redis.get(names.claim_key(JOB, 3)) is None
        assert redis.pttl(names.claim_key(JOB, 1)) > 10_000
        assert redis.get(names.claim_key(JOB, 5)) == b"one"
        told = cast(bytes, redis.get(names.worker_key("one")))
        assert SEAL.verify(names.worker_key("one"), told).startswith(b'{"name":"one"')
        await one.leave()
        assert redis.get(names.worker_key("one")) is None
        assert (await two.heartbeats.beat([], WorkerStatus())).held == set()

        redis.flushall()
        assert (await one.heartbeats.beat([(JOB, 1)], WorkerStatus())).lost == set()
        assert redis.get(names.claim_key(JOB, 1)) == b"one"

    between(server, scene)


def test_a_sign_of_life_that_is_put_back_tells_of_nobody(server: Server, redis: Redis) -> None:
    home, now = CoordinatorRedis(server.url, SEAL), redis.time()[0]
    for name, at in (("here", now), ("ahead", now + 60), ("dead", now - 60)):
        key = names.worker_key(name)
        put(redis, key, msgspec.json.encode(WorkerStatus(name=name, at=float(at))))

    assert [worker.name for worker in home.status.workers()] == ["here"]
    home.close()


def test_deliveries_and_acknowledgements_pass_once_and_nonsense_is_passed_over(
    server: Server, redis: Redis
) -> None:
    async def scene(one: WorkerRedis, _: WorkerRedis) -> None:
        await one.deliveries.send([(JOB, b"a"), (OTHER_JOB, b"b"), (JOB, b"c")])
        found = [fields for _, fields in redis.xrange(names.results_key(JOB)) or ()]
        assert found == [{b"d": SEAL.sign(names.results_key(JOB), data)} for data in (b"a", b"c")]

        key = names.acks_key("box")
        redis.rpush(
            key,
            SEAL.sign(key, b"1"),
            "nonsense",
            "2",
            SEAL.sign("other", b"2"),
            SEAL.sign(key, b"3"),
        )
        assert await one.deliveries.acknowledged("box") == [1, 3]
        assert await one.deliveries.acknowledged("box") == []

    between(server, scene)


def test_whatever_fails_is_a_connection_error(server: Server) -> None:
    async def scene(one: WorkerRedis, _: WorkerRedis) -> None:
        server.kill()
        with pytest.raises(ConnectionError):
            await one.deliveries.acknowledged("box")
        with pytest.raises(ConnectionError):
            await one.heartbeats.beat([KEY], WorkerStatus())
        await one.connection.check()

    between(server, scene)


# ---- Others write there, too ---------------------------------------------------------------------


def test_what_others_put_in_the_place_of_claims_and_counts_holds_nobody_up(
    server: Server, redis: Redis
) -> None:
    home = CoordinatorRedis(server.url, SEAL)

    async def scene(one: WorkerRedis, _: WorkerRedis) -> None:
        for chunk in (1, 2):
            lay_down(redis, chunk)
            await one.claims.claim(JOB, chunk, FENCE)
            spoil(redis, names.claim_key(JOB, chunk))
        beat = await one.heartbeats.beat([(JOB, 2)], WorkerStatus())
        assert (beat.lost, beat.fences) == (set(), {FENCE.encode()})
        assert redis.get(names.claim_key(JOB, 2)) == b"one"
        await one.claims.release(JOB, 1)
        assert home.chunks.lose(JOB, 1)

        spoil(redis, names.acks_key("box"))
        assert await one.deliveries.acknowledged("box") == []
        assert not redis.exists(names.acks_key("box"))

        one.limiters.mark_dead(["aaaa"])
        redis.set(names.slots_key("scope"), "no hash")
        asked = LeaseRequest(wanted=1, in_flight=0, most=8)
        with pytest.raises(ConnectionError):
            await one.limiters.exchange("scope", asked)
        assert (await one.limiters.exchange("scope", asked)).slots == 1

        for nonce in range(2):
            found = cast("bytes", redis.hget(names.NONCES, "one"))
            key = names.voucher_key(found.decode())
            redis.delete(key)
            redis.hset(key, "count", "nan") if nonce else redis.set(key, "no hash")
            assert not (await one.heartbeats.beat([], WorkerStatus())).fences
            await vouched(server, one)
            assert (await one.heartbeats.beat([], WorkerStatus())).fences == {FENCE.encode()}

    between(server, scene)
    home.close()


def spoil(redis: Redis, key: str) -> None:
    redis.delete(key)
    redis.hset(key, "x", "x")


@pytest.mark.parametrize("count", ["", "garbage", "nan", "1e999", "9" * 5000])
def test_a_count_of_the_fence_that_is_none_is_a_memory_that_is_lost(
    count: str, server: Server, redis: Redis
) -> None:
    home = CoordinatorRedis(server.url, SEAL)
    home.memory.begin_fence(FENCE, FENCE)
    redis.set(names.fence_key(FENCE), count)

    assert not home.memory.vouch(FENCE, 1, home.memory.vouch(FENCE, 1, "").server).whole
    home.close()


def test_places_that_nobody_of_us_writes_to_are_passed_over_or_emptied(
    server: Server, redis: Redis
) -> None:
    home = CoordinatorRedis(server.url, SEAL)
    lay_down(redis)
    for chunk in ("9" * 5000, "-1", "x", ""):
        redis.set(names.payload_key(JOB, chunk), "x")
    redis.hset(names.WISHES, cast(Any, b"\xff\xfe"), "x")

    assert home.memory.laid_down() == {JOB: {1}}
    assert home.clicks.wishes() == {}
    assert not redis.exists(names.WISHES)
    home.close()


# ---- Redis comes back older than it was ----------------------------------------------------------


def test_r5_a_claim_by_an_older_memory_is_refused_whoever_asks(
    server: Server, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`one` was at work and does not notice; `new` starts afterwards. Once a coordinator vouches
    for that memory by a new fence, the old message is still worth nothing.
    """
    monkeypatch.setattr(claims, "VOUCHING_S", 0.3)

    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        lay_down(redis)
        await one.heartbeats.beat([], WorkerStatus())
        older = {key: redis.dump(key) or b"" for key in redis.scan_iter("*")}
        assert await two.claims.claim(*CLAIM) is not None
        await one.heartbeats.beat([], WorkerStatus())
        redis.flushall()
        for key, value in older.items():
            redis.restore(key, 0, value)

        new = WorkerRedis(server.url, "new", SEAL)
        try:
            assert await one.claims.claim(*CLAIM) is None
            assert await new.claims.claim(*CLAIM) is None
            await vouched(server, one, new, fence="f2")
            assert await one.claims.claim(*CLAIM) is None
            assert await new.claims.claim(*CLAIM) is None
            assert await new.claims.claim(*KEY, "f2") is not None
        finally:
            await new.connection.close()

    between(server, scene)


def test_r5_a_claim_over_a_connection_that_was_made_anew_counts_for_nothing(
    server: Server, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lead to a server whose memory ends before another worker took the chunk."""
    monkeypatch.setattr(claims, "VOUCHING_S", 0.3)

    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        lay_down(redis)
        redis.client_kill_filter(_type="normal", skipme=True)

        with suppress(ConnectionError):
            assert await one.claims.claim(*CLAIM) is None
        assert await one.claims.claim(*CLAIM) is None
        assert redis.exists(names.taken_key(*KEY), names.claim_key(*KEY)) == 0

        for each in (one, two):
            with suppress(ConnectionError):
                await each.heartbeats.beat([], WorkerStatus())
        await vouched(server, one, two, fence="f2")
        assert await one.claims.claim(*KEY, "f2") is not None

    between(server, scene)


def test_a_chunk_is_given_up_or_kept_and_never_both(server: Server, redis: Redis) -> None:
    home = CoordinatorRedis(server.url, SEAL)

    async def scene(one: WorkerRedis, _: WorkerRedis) -> None:
        for chunk in (1, 2):
            lay_down(redis, chunk)
            await one.claims.claim(JOB, chunk, FENCE)
        assert not home.chunks.lose(JOB, 1)
        redis.delete(names.claim_key(JOB, 1), names.claim_key(JOB, 2))

        assert home.chunks.lose(JOB, 2)
        assert (await one.heartbeats.beat([(JOB, 1), (JOB, 2)], WorkerStatus())).lost == {(JOB, 2)}
        assert not home.chunks.lose(JOB, 1)
        assert home.chunks.lose(JOB, 2)
        assert redis.ttl(names.claim_key(JOB, 2)) > 86_400

    between(server, scene)
    home.close()


def test_a_worker_begins_a_chunk_and_opens_its_grant_when_its_coordinator_alone_says_so(
    server: Server, redis: Redis
) -> None:
    """What anybody else puts there counts for nothing, nor what was said to another attempt or
    before.
    """
    home = CoordinatorRedis(server.url, SEAL)
    place = names.permit_key(*KEY)
    little, more = Amount(Decimal(1), 5), Amount(Decimal(2), 5)

    async def asked(worker: WorkerRedis, token: str, opened: Amount = little) -> Begin:
        ask = Begin(1, worker.connection.worker.rpartition(":")[2], token, opened)
        answers.append(asyncio.create_task(worker.claims.ask(JOB, ask)))
        (mail,) = await asyncio.to_thread(home.results.read, [JOB], 5.0)
        home.results.acknowledge(mail)
        assert mail.asks == [ask]
        return ask

    answers: list[asyncio.Task[bool | None]] = []

    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        first = await asked(one, "a")
        for forged in (first.attempt.encode(), SEAL.sign("ns:permit:other:1", b"x"), b""):
            redis.set(place, forged)
            await asyncio.sleep(0.02)
        assert not answers[0].done()
        home.chunks.permit(JOB, {1: Permit(first.attempt, little)})
        genuine = cast(bytes, redis.get(place))
        assert await answers.pop()

        await asked(one, "a", more)
        redis.set(place, genuine)
        await asyncio.sleep(0.02)
        assert not answers[0].done(), "of before"
        home.chunks.permit(JOB, {1: Permit(first.attempt, more)})
        assert await answers.pop()

        second = await asked(two, "a")
        assert second.attempt != first.attempt
        assert await answers.pop() is False
        await asked(one, "b")
        assert await answers.pop() is False, "an attempt of a former time"

        redis.delete(place)
        ends = time.monotonic() + 0.3
        assert await one.claims.ask(JOB, first, lambda: time.monotonic() > ends) is None, (
            "nobody answers"
        )
        home.chunks.put_payload(payload(work(1)))
        assert not redis.exists(place), "a chunk of a home that was restored is another"

    between(server, scene, vouching=False)
    home.close()


def test_a_claim_whose_reply_is_lost_is_the_workers_all_the_same(
    server: Server, redis: Redis
) -> None:
    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        lay_down(redis)
        take, lose = one.claims._claim, [True]

        async def unheard(*given: Any) -> Any:
            found = await take(*given)
            if lose.pop() if lose else False:
                raise ConnectionError("reset")
            return found

        one.claims._claim = unheard  # type: ignore[assignment]
        assert await one.claims.claim(*CLAIM) == payload(work(1))
        assert await one.claims.claim(*CLAIM) is None
        assert await two.claims.claim(*CLAIM) is None

    between(server, scene)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_fence_holds_as_long_as_the_server_and_its_memory_are_the_same(
    hidden: bool, server: Server, redis: Redis, tmp_path: Path
) -> None:
    """Also after the coordinator's restart, where the server tells who it is."""
    if hidden:
        redis.acl_setuser("default", enabled=True, commands=["-info"], reset=False)

    class _Sender:
        fence = ""

    def fence() -> Fence:
        return Fence(Home(tmp_path), home, cast(Sender, _Sender()))

    home = CoordinatorRedis(server.url, SEAL)
    one = fence()
    assert not one.holds()
    one.renew()
    assert [one.holds() for _ in range(3)] == [True] * 3
    assert fence().holds() is not hidden

    again = fence()
    again.holds()
    again.renew()
    older = {key: redis.dump(key) or b"" for key in redis.scan_iter("*")}
    assert again.holds()
    assert again.holds()
    redis.flushall()
    for key, value in older.items():
        redis.restore(key, 0, value)
    assert not again.holds()

    again.renew()
    assert again.holds()
    redis.client_kill_filter(_type="normal", skipme=True)
    found = []
    for _ in range(2):
        with suppress(NightshiftError):
            found.append(again.holds())
    assert all(found) is not hidden
    home.close()


def test_r18_a_wrong_password_and_a_wrong_address_are_the_users_to_mend(
    server: Server, redis: Redis
) -> None:
    redis.config_set("requirepass", "right")

    async def scene(one: WorkerRedis, _: WorkerRedis) -> None:
        with pytest.raises(UsageError, match="password"):
            await one.connection.check()
        with pytest.raises(UsageError) as raised:
            WorkerRedis("nonsense://:canary@x", "one", SEAL)
        assert "canary" not in str(raised.value)

    between(server, scene, vouching=False)


def test_a_dead_workers_places_are_its_successors_at_once_and_nobody_elses(
    server: Server,
) -> None:
    async def scene() -> None:
        dead, alive = (
            WorkerRedis(server.url, "host:1:aaaa", SEAL),
            WorkerRedis(server.url, "host:2:bbbb", SEAL),
        )
        stranger, heir = (
            WorkerRedis(server.url, "other:1:cccc", SEAL),
            WorkerRedis(server.url, "host:3:dddd", SEAL),
        )
        try:
            for post, wanted in ((dead, 6), (alive, 2)):
                share = await post.limiters.exchange(
                    "scope", LeaseRequest(wanted=wanted, in_flight=0, most=8)
                )
                await post.limiters.exchange(
                    "scope", LeaseRequest(wanted=wanted, in_flight=share.slots, most=8)
                )
            heir.limiters.mark_dead(["aaaa", "unknown"])

            none = await stranger.limiters.exchange(
                "scope", LeaseRequest(wanted=1, in_flight=0, most=8)
            )
            its = await heir.limiters.exchange("scope", LeaseRequest(wanted=9, in_flight=0, most=8))

            assert none.slots == 0
            assert 1 <= its.slots <= 6
            there = await alive.limiters.exchange(
                "scope", LeaseRequest(wanted=2, in_flight=2, most=8)
            )
            assert there.slots >= 1
        finally:
            for post in (dead, alive, stranger, heir):
                await post.connection.close()

    asyncio.run(asyncio.wait_for(scene(), 20))


def test_a_job_that_stops_at_one_worker_is_held_for_all_until_its_home_says(
    server: Server, redis: Redis
) -> None:
    async def scene(one: WorkerRedis, two: WorkerRedis) -> None:
        lay_down(redis)
        await one.heartbeats.hold(JOB)

        assert await two.claims.claim(*CLAIM) is None
        assert (await two.heartbeats.beat([KEY], WorkerStatus())).held == {JOB}
        assert 5_000 < redis.pttl(names.hold_key(JOB)) <= 10_000

        put(redis, names.hold_key(JOB), b"user")
        await one.heartbeats.hold(JOB)
        assert redis.get(names.hold_key(JOB)) == SEAL.sign(names.hold_key(JOB), b"user")

    between(server, scene)
