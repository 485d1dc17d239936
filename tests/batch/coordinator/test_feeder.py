"""Chunks under a cap: what is fed, what waits, and when nothing more fits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.coordinator.chunk_size import (
    LARGEST,
    MOST_BYTES,
    SMALLEST,
    UNKNOWN_OUTPUT,
    USUAL,
    Pulse,
    chunk_size,
)
from batch.coordinator.feeder import WARMING_S, Fed, Feeder
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.money.bounds import NO_BOUND, request_bound
from batch.money.caps import Room
from batch.store import delivery_ledger
from batch.store.call_units import Asked, Ruling, Unit
from batch.store.jobstore import JobStore
from jobs import wire
from jobs.budget import UNCAPPED, Amount
from jobs.chunk import MOST_MODELS, ReturnReason
from jobs.errors import ServiceUnavailable
from jobs.job_options import Budget, Limits
from jobs.period import Period
from jobs.prices import ModelPrice, Offer, PriceList, Rates
from jobs.request import HIDDEN_TOKENS, TOKENS_PER_MESSAGE, Request
from jobs.wire import pack_payload, unpack_payload
from tests.batch.making import (
    BASE_URL,
    JOB,
    MODEL,
    FakePost,
    FakeSender,
    answered,
    call,
    closing,
    delivery,
    feed,
    prices,
    publish,
    request,
    result,
    spec,
)

# A request of the following jobs has 1090 tokens in and 100 out at most; at 0.001 ₽ a token, and
# with the margin, that makes so many roubles.
TOKENS = 1190
BOUND = Decimal("1.428")


def line(number: int, **change: object) -> Request:
    return request(number, **{"body": b"{}", **change})


class Feeding:
    """A job, its feeder, and what it sends."""

    def __init__(self, folder: Path, requests: int | list[Request] = 8, **wish: Any) -> None:
        self.folder = folder
        self.wish: dict[str, Any] = {"chunk_size": 4, **wish}
        if isinstance(requests, int):
            requests = [line(number) for number in range(1, requests + 1)]
        self.store = publish(folder, requests, priced=prices(), **self.wish)
        self.post, self.sender = FakePost(), FakeSender()
        self.room: Room | None = None
        self.feeder = Feeder(
            self.store,
            cast(CoordinatorRedis, self.post),
            cast(Sender, self.sender),
            lambda: self.room,
        )

    def feed(self, room: int = 9) -> Fed:
        return self.feeder.feed(self.store.job(), room)

    def sizes(self, room: int = 9) -> list[int]:
        return [len(chunk.requests) for chunk in self.feed(room).chunks]

    def allow(self, **budget: Any) -> None:
        wish = {**self.wish, "budget": Budget(**budget)}
        self.store.change_spec(spec(self.folder, **wish))

    def answer(self, number: int, cost: str = "0.1") -> None:
        chunk = next(each for each in self.store.chunks.alive() if each.chunk == number)
        delivery_ledger.apply(self.store, [answered(chunk, cost=cost)])


def budget(rub: int | Decimal | None = None, **more: int) -> Budget:
    return Budget(rub=None if rub is None else Decimal(rub), **more)


# ── What is fed ──────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_is_on_the_disk_and_its_payload_whole(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 5, limits=Limits(rpm=60))

    fed = job.feed()

    assert [len(chunk.requests) for chunk in fed.chunks] == [4, 1]
    assert JobStore(job.store.folder).chunks.out() == [1, 2]
    payload = job.post.payloads[JOB, 1]
    assert (payload.base_url, payload.models, payload.terms.rpm) == (BASE_URL, (MODEL,), 60)
    assert (payload.grant, payload.version) == (UNCAPPED, wire.VERSION)
    assert [work.body for work in payload.requests] == [b"{}"] * 4
    assert payload.requests[0].bound == Amount(BOUND, TOKENS)
    assert job.sender.chunks == [1, 2]


def test_only_so_many_chunks_are_under_way(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 20)

    assert len(job.feed(room=2).chunks) == 2
    assert len(job.feed(room=0).chunks) == 0
    assert len(job.store.chunks.out()) == 2


def test_several_models_of_a_chunk_are_named_once_each(tmp_path: Path) -> None:
    models = ["b/n", "a/m", "b/n"]
    job = Feeding(tmp_path, [line(n, model=name) for n, name in enumerate(models, start=1)])

    job.feed()

    payload = job.post.payloads[JOB, 1]
    assert [payload.models[work.model] for work in payload.requests] == models
    assert len(payload.models) == 2


def test_a_chunk_is_for_a_bounded_number_of_models_and_all_requests_go_out(tmp_path: Path) -> None:
    """A worker keeps a dispatcher and a pace for each: thousands at once hold all others up."""
    count = MOST_MODELS + 6
    lines = [line(n, model=f"m/{n}") for n in range(1, count + 1)]
    job = Feeding(tmp_path, lines, chunk_size=200)

    assert job.sizes() == [MOST_MODELS, 6]
    assert len(job.post.payloads[JOB, 1].models) == MOST_MODELS


def test_a_request_larger_than_a_chunk_travels_alone(tmp_path: Path) -> None:
    """A line may be longer than what travels together: a chunk without it would hang the job."""
    long = b'{"x":"%s"}' % (b"x" * (MOST_BYTES + 1))
    job = Feeding(tmp_path, [line(1), line(2, body=long), line(3)])

    assert job.sizes() == [1, 1, 1]
    unpack_payload(pack_payload(job.post.payloads[JOB, 2]))


def test_what_came_back_travels_with_the_count_of_its_calls(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 2)
    feed(job.store, 2)
    delivery_ledger.apply(job.store, [delivery(closed=[closing(1, [(0, 3, 1), (1, 0, 0)])])])

    job.feed()

    works = job.post.payloads[JOB, 2].requests
    assert [(work.attempts, work.uncertain) for work in works] == [(3, 1), (0, 0)]


def test_a_chunk_that_is_sent_again_is_the_same_without_what_is_done(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 3)
    job.feed()
    delivery_ledger.apply(job.store, [delivery(results=[result(1)])])

    job.feeder.send_again(job.store.job(), job.store.chunks.alive()[0])

    payload = job.post.payloads[JOB, 1]
    assert [work.ordinal for work in payload.requests] == [0, 2]
    assert job.sender.chunks == [1, 1]


@pytest.mark.parametrize("broken", ["post", "sender"])
def test_what_the_post_does_not_take_is_open_on_the_disk(tmp_path: Path, broken: str) -> None:
    job = Feeding(tmp_path, 8, budget=budget(100))
    job.feed(room=1)
    job.post.away, job.sender.fails = broken == "post", broken == "sender"

    with pytest.raises(ServiceUnavailable):
        job.feed()

    store = JobStore(job.store.folder)
    assert store.chunks.out() == [1, 2]
    assert store.chunks.exposure().rub == 8 * BOUND
    assert store.queue.waiting(9) == []


@pytest.mark.parametrize(("newer", "bounds"), [("0.002", 8), ("0.0005", 4)])
def test_newer_prices_count_from_the_next_chunk_on_where_they_are_dearer(
    tmp_path: Path, newer: str, bounds: int
) -> None:
    """A catalogue that fell may be wrong, or rise again: what was accepted is never undercut."""
    job = Feeding(tmp_path, 8, budget=budget(100))
    job.feed(room=1)

    job.store.add_prices(prices(newer, taken_at=2.0))
    job.feed(room=1)

    grants = [chunk.grant.rub for chunk in job.store.chunks.alive()]
    assert grants == [4 * BOUND, bounds * BOUND]


@pytest.mark.parametrize(
    ("since", "fed"),
    [(WARMING_S - 9, [2]), (WARMING_S + 9, [2, 4, 2]), (-24 * 3600, [2, 4, 2])],
    ids=["soon", "late", "a clock that was set back"],
)
def test_requests_wait_so_long_at_most_for_those_that_warm_a_cache_for_them(
    tmp_path: Path, since: float, fed: list[int]
) -> None:
    job = Feeding(tmp_path, 8)
    row = replace(job.store.job(), warm=2)
    sizes = [len(chunk.requests) for chunk in job.feeder.feed(row, 9).chunks]

    late = replace(row, started_at=time.time() - since)
    sizes += [len(chunk.requests) for chunk in job.feeder.feed(late, 9).chunks]

    assert sizes == fed


# ── Under a cap (FAULTS L8) ──────────────────────────────────────────────────────────────────────


def test_near_the_cap_chunks_shrink(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 12, budget=budget(BOUND * 6))

    assert job.sizes() == [4, 2]
    assert job.sizes() == []
    assert job.store.chunks.exposure().rub == BOUND * 6


def test_while_something_is_out_the_budget_is_not_exhausted(tmp_path: Path) -> None:
    """What it does not need of its grant comes back, and feeds the rest."""
    job = Feeding(tmp_path, 12, budget=budget(BOUND * 6))
    assert not job.feed().exhausted

    job.answer(1, cost="0.1")
    then = job.feed()

    assert not then.exhausted
    assert [len(chunk.requests) for chunk in then.chunks] == [3]


def test_the_budget_is_exhausted_when_nothing_fits_and_nothing_is_out(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 12, budget=budget(BOUND * 6))
    job.feed()

    job.answer(1, cost=str(BOUND))
    job.answer(2, cost=str(BOUND))

    assert job.feed() == Fed([], exhausted=True)
    assert job.store.chunks.exposure().rub == BOUND * 6


def test_a_higher_cap_lets_it_go_on(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 12, budget=budget(BOUND))
    job.feed()
    job.answer(1, cost=str(BOUND))
    assert job.feed().exhausted

    job.allow(rub=BOUND * 3)

    assert job.sizes() == [2]


def test_a_lost_chunk_alone_does_not_keep_the_budget_from_being_exhausted(tmp_path: Path) -> None:
    """Its worker may never come back: the job would wait for ever without a word."""
    job = Feeding(tmp_path, 2, budget=budget(BOUND * 2))
    job.feed()
    job.store.chunks.lose(job.store.chunks.alive()[0])

    assert job.feed() == Fed([], exhausted=True)


def test_a_request_that_does_not_fit_is_passed_over_i21(tmp_path: Path) -> None:
    lines = [line(n, max_output=10**6 if n in (2, 3) else 100) for n in range(1, 6)]
    job = Feeding(tmp_path, lines, budget=budget(100))

    assert [triple[0] for triple in job.feed().chunks[0].requests] == [0, 3]
    job.answer(1)
    assert [triple[0] for triple in job.feed().chunks[0].requests] == [4]
    job.answer(2)
    assert job.feed() == Fed([], exhausted=True)
    assert [each.ordinal for each in job.store.queue.waiting(9)] == [1, 2]


def test_requests_that_fit_are_found_behind_any_number_of_those_that_do_not(tmp_path: Path) -> None:
    lines = [line(n, max_output=10**6 if n < 30 else 100) for n in range(1, 33)]
    job = Feeding(tmp_path, lines, budget=budget(100))

    assert [triple[0] for triple in job.feed().chunks[0].requests] == [29, 30, 31]


def test_tokens_are_capped_alike(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 8, budget=budget(tokens=TOKENS * 3))

    assert job.sizes() == [3]
    assert job.store.chunks.exposure().tokens == TOKENS * 3
    assert job.post.payloads[JOB, 1].grant == Amount(None, TOKENS * 3)


def test_both_caps_hold_at_once(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 8, budget=budget(BOUND * 3, tokens=TOKENS * 2))

    assert job.sizes() == [2]


def test_a_cap_in_requests_counts_what_is_done_and_what_is_out(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 12, budget=budget(requests=6))

    assert job.sizes() == [4, 2]
    job.answer(1)
    assert not job.feed().exhausted
    job.answer(2)
    assert job.feed() == Fed([], exhausted=True)
    assert job.store.job().finished == 6


def test_copies_are_not_bought_so_a_cap_in_requests_does_not_count_them(tmp_path: Path) -> None:
    alike = [line(number, body=b'{"n":1}') for number in range(1, 4)]
    others = [line(number, body=b'{"n":%d}' % number) for number in range(4, 9)]
    job = Feeding(tmp_path, alike + others, chunk_size=2, budget=budget(requests=4), dedupe="all")

    assert job.sizes(room=1) == [2]
    job.answer(1)

    assert job.store.job().finished == 4
    assert job.sizes() == [2]


def test_a_cap_of_as_many_requests_as_there_are_is_none(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 6, budget=budget(requests=6))

    job.feed()
    job.answer(1)
    job.answer(2)

    assert job.feed() == Fed([], exhausted=False)


@pytest.mark.parametrize(
    ("cap", "fit"), [(Budget(rub=Decimal(100)), [3]), (Budget(tokens=10**9), [0, 3])]
)
def test_what_nobody_can_bound_fits_no_cap_i22(tmp_path: Path, cap: Budget, fit: list[int]) -> None:
    lines = [
        line(1, model="un/priced"),
        line(2, max_output=None),
        line(3, unbounded="image_url"),
        line(4),
    ]
    job = Feeding(tmp_path, lines, budget=cap)

    assert [triple[0] for triple in job.feed().chunks[0].requests] == fit
    job.answer(1)
    assert job.feed() == Fed([], exhausted=True)


def test_without_a_cap_it_is_fed_with_an_output_that_the_pace_assumes(tmp_path: Path) -> None:
    job = Feeding(tmp_path, [line(1, max_output=None), line(2, unbounded="image_url")])

    job.feed()

    works = job.post.payloads[JOB, 1].requests
    assert [(work.rub, work.tokens) for work in works] == [(None, 1090 + UNKNOWN_OUTPUT)] * 2


def test_under_a_new_cap_nothing_is_fed_while_a_chunk_without_a_grant_is_out(
    tmp_path: Path,
) -> None:
    """It was told that it may spend anything."""
    job = Feeding(tmp_path, 8)
    job.feed(room=1)
    job.allow(rub=100)

    assert job.feed() == Fed([], exhausted=False)
    job.answer(1)
    assert job.sizes() == [4]


def test_a_cap_below_what_was_spent_feeds_nothing_not_even_what_is_free(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 4, budget=budget(100), chunk_size=2)
    job.feed(room=1)
    delivery_ledger.apply(
        job.store, [delivery([call(0, cost="7")], [result(0)], [closing(1, [(1, 0, 0)])])]
    )
    job.store.add_prices(prices("0", taken_at=2.0), accepted=True)

    job.allow(rub=5)

    assert job.feed() == Fed([], exhausted=True)


def test_a_cap_of_nothing_lets_go_what_is_free(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 4, budget=budget(0))
    assert job.feed().exhausted

    job.store.add_prices(prices("0", taken_at=2.0), accepted=True)

    assert job.sizes() == [4]


def test_almost_all_of_a_cap_is_used_since_differences_come_back(tmp_path: Path) -> None:
    """A cap of a thousand bounds, and calls that cost a sixth of theirs: 99 % of it are used."""
    cap = BOUND * 1000
    job = Feeding(tmp_path, 7000, budget=budget(cap), chunk_size=64)
    job.store.db.execute("PRAGMA synchronous = OFF")

    while not job.feed(room=4).exhausted:
        for number in job.store.chunks.out():
            job.answer(number, cost=str(BOUND / 6))

    assert cap * Decimal("0.99") <= job.store.job().settled_rub <= cap
    assert cap - job.store.job().settled_rub < BOUND


# ── Under the caps of the home ───────────────────────────────────────────────────────────────────


def room_for(rub: Decimal, *, waits: bool = False) -> Room:
    ends = datetime(2026, 11, 25, tzinfo=UTC)
    return Room(rub, Period.DAY, Decimal(500), ends, untouched=False, waits=waits)


def test_a_job_without_a_cap_keeps_within_what_the_home_leaves(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 8)
    job.room = room_for(3 * BOUND)

    fed = job.feed(room=1)

    assert [len(chunk.requests) for chunk in fed.chunks] == [3]
    assert fed.chunks[0].grant == Amount(3 * BOUND)


@pytest.mark.parametrize(("own", "home", "fits"), [(2, 5, 2), (5, 2, 2)])
def test_the_lower_of_both_caps_counts(tmp_path: Path, own: int, home: int, fits: int) -> None:
    job = Feeding(tmp_path, 8, budget=budget(own * BOUND))
    job.room = room_for(home * BOUND)

    assert job.sizes(room=1) == [fits]


def test_it_is_told_when_it_is_the_home_that_has_no_room(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 8, budget=budget(BOUND))
    job.room = room_for(BOUND / 2)
    assert job.feed() == Fed([], exhausted=True, full=job.room)

    job.allow(rub=BOUND / 2)
    assert job.feed() == Fed([], exhausted=True, full=None)


def test_a_chunk_of_another_job_that_may_spend_anything_is_waited_for(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 8)
    job.room = room_for(100 * BOUND, waits=True)

    assert job.feed() == Fed([], exhausted=False)


def test_what_nobody_can_bound_goes_at_the_bound_that_the_user_gave(tmp_path: Path) -> None:
    """FAULTS I22."""
    image = line(1, unbounded="image_url")
    given = Decimal(7)
    job = Feeding(tmp_path, [image, line(2)], budget=budget(100), request_bound_rub=given)

    (chunk,) = job.feed().chunks

    assert chunk.grant == Amount(given + BOUND)
    assert [work.rub for work in job.post.payloads[JOB, 1].requests] == [given, BOUND]


# ── Arithmetic ───────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 10**7))
def test_a_chunk_is_neither_tiny_nor_huge(requests: int) -> None:
    size = chunk_size(requests, None)

    assert SMALLEST <= size <= LARGEST
    assert size * 64 >= min(requests, 64 * USUAL)


@given(
    st.integers(0, 10**7),
    st.floats(0, 1e6),
    st.floats(0, 1e5),
    st.floats(1, 1e3),
)
def test_a_measured_chunk_is_neither_tiny_nor_huge(
    requests: int, rate: float, in_flight: float, spread: float
) -> None:
    size = chunk_size(requests, None, Pulse(rate, in_flight, spread))

    assert SMALLEST <= size <= LARGEST


def test_a_slow_job_has_small_chunks_that_still_outnumber_its_calls_in_flight() -> None:
    assert chunk_size(10**6, None, Pulse(rate=5.0, in_flight=20, spread=5)) == 10
    assert chunk_size(10**6, None, Pulse(rate=5.0, in_flight=200, spread=20)) == 125
    assert chunk_size(10**6, None, Pulse(rate=3000.0, in_flight=256, spread=2)) == USUAL
    assert chunk_size(10**6, None, Pulse(rate=500.0, in_flight=1024, spread=12)) == 384


def test_a_chunk_of_long_texts_is_no_larger_than_a_worker_bears(tmp_path: Path) -> None:
    long = [line(number, body=b'"' + b"x" * 700_000 + b'"') for number in range(1, 8)]
    job = Feeding(tmp_path, long, chunk_size=100)

    assert job.sizes() == [2, 2, 2, 1]


def test_a_wanted_size_is_kept() -> None:
    assert chunk_size(10**6, 3) == 3


def test_a_bound_knows_tokens_without_a_price_and_nothing_without_an_output() -> None:
    known = prices()

    assert request_bound(MODEL, 1000, 200, known) == Amount(Decimal("1.44"), 1200)
    assert request_bound("un/priced", 1000, 200, known) == Amount(None, 1200)
    assert request_bound(MODEL, 1000, 200, None) == Amount(None, 1200)
    assert request_bound(MODEL, 1000, None, known) == NO_BOUND


# ── Models that rest ─────────────────────────────────────────────────────────────────────────────


def test_of_a_model_that_is_set_aside_nothing_is_fed_until_it_may(tmp_path: Path) -> None:
    other = "example/other"
    job = Feeding(
        tmp_path, [line(number, model=other if number % 2 else MODEL) for number in range(1, 9)]
    )
    job.feeder.aside[other] = ReturnReason("endpoint.no_quota", "limit: 0", model=other)

    assert job.sizes() == [4]
    assert {payload.models for payload in job.post.payloads.values()} == {(MODEL,)}
    assert job.sizes() == []

    job.feeder.aside.clear()
    assert job.sizes() == [4]


def test_a_worker_is_told_whether_anything_was_answered_and_how_much_is_left(
    tmp_path: Path,
) -> None:
    job = Feeding(tmp_path, 8)
    job.feed(1)
    job.answer(1)
    job.feed(1)

    first, second = (job.post.payloads[JOB, number].terms for number in (1, 2))
    assert (first.answered, first.left) == (False, 8)
    assert (second.answered, second.left) == (True, 4)


def test_a_firm_provider_bounds_its_requests_alone(tmp_path: Path) -> None:
    dear = Offer("Dear", Rates(Decimal("0.01"), Decimal("0.01")), tag="dear")
    cheap = Offer("Cheap", Rates(Decimal("0.001"), Decimal("0.001")), tag="cheap/fp8")
    listed = PriceList(1.0, BASE_URL, "", {MODEL: ModelPrice(MODEL, (cheap, dear))})
    pinned = [line(1), line(2, pin="cheap"), line(3, pin="unknown"), line(4, pin="dear,cheap")]
    store = publish(tmp_path, pinned, priced=listed)

    bounds = [
        request_bound(each.model, each.prompt_bound, each.output_bound, listed, pin=each.pin).rub
        for each in store.queue.waiting(9)
    ]

    assert bounds == [BOUND * 10, BOUND, BOUND * 10, BOUND * 10]
    assert store.queue.models() == [MODEL]
    store.close()


# ── Calls for several requests ───────────────────────────────────────────────────────────────────


class Pairs:
    """Asks two at a time, and another model than the requests name."""

    def trials(self, requests: Sequence[Asked]) -> Iterator[list[Unit]]:
        raise NotImplementedError

    def said(self, requests: Sequence[Asked], answer: bytes) -> dict[int, str | None]:
        raise NotImplementedError

    def units(self, requests: Iterable[Asked], *, alone: bool = False) -> Iterator[Unit]:
        ordinals = [each.ordinal for each in requests]
        size = 1 if alone else 2
        for at in range(0, len(ordinals), size):
            some = tuple(ordinals[at : at + size])
            body = b"%d" % len(some)
            yield Unit(some, body, 1, 0, (1,) * len(some), "b/n", max_output=100 * len(some))

    def rule(self, *_: object) -> dict[int, Ruling]:
        return {}


PAIR = 1 + TOKENS_PER_MESSAGE + HIDDEN_TOKENS + 200


def pairs(folder: Path, requests: int = 5, **wish: Any) -> Feeding:
    job = Feeding(folder, requests, **wish)
    job.feeder = Feeder(
        job.store, cast(CoordinatorRedis, job.post), cast(Sender, job.sender), lambda: None, Pairs()
    )
    return job


def calls_of(job: Feeding, chunk: int = 1) -> list[tuple[int, bytes]]:
    return [(work.ordinal, work.body) for work in job.post.payloads[JOB, chunk].requests]


def test_a_call_for_several_travels_as_the_request_that_leads_it(tmp_path: Path) -> None:
    job = pairs(tmp_path)

    assert job.sizes() == [4, 1]

    assert calls_of(job) == [(0, b"2"), (2, b"2")]
    assert calls_of(job, 2) == [(4, b"1")]
    payload = job.post.payloads[JOB, 1]
    assert (payload.models, payload.requests[0].tokens) == (("b/n",), PAIR)


def test_the_price_of_the_model_that_is_asked_bounds_a_call(tmp_path: Path) -> None:
    job = pairs(tmp_path, budget=budget(100))
    job.store.add_prices(prices("0.003", "b/n", taken_at=2.0), accepted=True)

    job.feed()

    (bound, *_) = [work.rub for work in job.post.payloads[JOB, 1].requests]
    assert bound == PAIR * Decimal("0.003") * Decimal("1.2")


def test_a_call_for_several_has_been_tried_as_often_as_any_of_them(tmp_path: Path) -> None:
    job = pairs(tmp_path, 2)
    job.feed()
    job.store.db.execute("UPDATE chunks SET state = 'closed'")
    job.store.db.execute("INSERT INTO returned VALUES (0, 1, 0), (1, 3, 2)")

    job.feed()

    (one,) = job.post.payloads[JOB, 2].requests
    assert (one.attempts, one.uncertain) == (3, 2)


def test_where_not_even_one_call_for_several_fits_one_request_may(tmp_path: Path) -> None:
    job = pairs(tmp_path, budget=budget(tokens=PAIR - 1))

    assert job.sizes() == [1]
    assert calls_of(job) == [(0, b"1")]


def test_a_cap_in_requests_counts_each_of_a_call(tmp_path: Path) -> None:
    job = pairs(tmp_path, budget=budget(requests=3))

    assert [job.sizes() for _ in range(3)] == [[2], [1], []]


def test_calls_are_sent_again_as_they_were_but_for_those_that_are_done(tmp_path: Path) -> None:
    job = pairs(tmp_path, 4)
    (chunk,) = job.feed().chunks
    done = [result(n, call=f"box-{n}") for n in (0, 1, 2)]
    delivery_ledger.apply(job.store, [delivery(results=done)])
    job.post.payloads.clear()

    job.feeder.send_again(job.store.job(), chunk)

    assert calls_of(job) == [(2, b"2")]


def test_what_is_sent_again_for_several_is_not_sent_for_each_as_well(tmp_path: Path) -> None:
    job = pairs(tmp_path, 8)
    second = job.feed().chunks[1]
    job.post.payloads.clear()

    job.feeder.send_again(job.store.job(), second)

    assert [ordinal for ordinal, _ in calls_of(job, 2)] == [4, 6]


def test_the_options_that_let_the_rest_go_are_those_that_are_short(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 8, budget=budget(100))

    def lacks(**caps: Any) -> list[str]:
        job.allow(**caps)
        return job.feeder.lacks(job.store.job()).split()[::2]

    assert lacks(rub=Decimal(0)) == ["--request-bound-rub"], "no prices are known yet"
    job.feed(1)
    assert lacks(rub=Decimal(100)) == []
    assert lacks(rub=Decimal(0)) == ["--budget-rub"]
    assert lacks(rub=Decimal(100), tokens=1) == ["--budget-tokens"]
    assert lacks(rub=Decimal(0), tokens=1, requests=0) == [
        *("--budget-rub", "--budget-tokens", "--budget-requests")
    ]


def test_the_limit_that_lets_the_rest_go_has_room_for_what_is_spent_too(tmp_path: Path) -> None:
    job = Feeding(tmp_path, 8)
    job.feed(1)
    job.answer(1)
    job.allow(tokens=1)

    option, figure = job.feeder.lacks(job.store.job()).split()

    wanted = 4 * (20 + 5) + 4 * TOKENS
    assert option == "--budget-tokens"
    assert wanted <= int(figure) < 1.1 * wanted
