"""The order of feeding: a sample first, shared beginnings together, copies not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from batch.store import delivery_ledger, feed_order
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from jobs.budget import UNCAPPED
from jobs.money import parse_amount
from jobs.prices import ModelPrice, Offer, PriceList, Rates
from jobs.request import Request
from tests.batch.making import JOB, MODEL, answered, call, delivery, feed, request, result, spec

CACHED = PriceList(
    1.0,
    "",
    "0" * 64,
    {
        MODEL: ModelPrice(
            MODEL,
            (Offer("", Rates(parse_amount("0.2"), parse_amount("1"), parse_amount("0.02"))),),
        )
    },
)
LONG = {name: f"You are {name}. " * 400 for name in "abc"}


def body(system: str, user: object = "", **more: object) -> bytes:
    """A request's body."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": str(user)}]
    return json.dumps({"model": MODEL, "messages": messages, **more}).encode()


def job(
    folder: Path,
    bodies: Iterable[bytes],
    prices: PriceList | None = CACHED,
    *,
    dedupe: str = "",
    sample: int = 0,
) -> JobStore:
    """A job with these requests."""
    draft = Draft(folder / "jobs", JOB, dedupe=dedupe)
    every = [request(line, body=each) for line, each in enumerate(bodies, start=1)]
    for each in every:
        draft.add(each)
    draft.drop_copies()
    draft.keep_samples((place, b"") for place in range(len(every)))
    draft.publish(spec(folder), prices, 1000.0, sample=sample)
    return JobStore(folder / "jobs" / JOB)


def fed(store: JobStore, limit: int = 10_000) -> list[int]:
    """The ordinals that wait, in the order in which they are fed."""
    return [each.ordinal for each in store.queue.waiting(limit)]


# ── Shared beginnings ────────────────────────────────────────────────────────────────────────────


def test_prompts_with_a_shared_beginning_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_order, "LEAD", 2)
    store = job(tmp_path, (body(LONG["abc"[n % 3]], n) for n in range(9)))

    # The first of a group leaves one request ahead of its turn, and so warms the cache.
    assert fed(store) == [0, 3, 1, 6, 4, 2, 7, 5, 8]
    assert store.job().warm == 1


def test_the_first_of_each_group_goes_far_ahead_and_at_the_start_alone(tmp_path: Path) -> None:
    store = job(tmp_path, (body(LONG["abc"[n % 3]], n) for n in range(9)))

    assert fed(store)[:3] == [0, 1, 2]
    assert store.job().warm == 3
    assert [each.ordinal for each in store.queue.waiting(9, head=3)] == [0, 1, 2]
    assert not store.queue.head_is_done(3)
    delivery_ledger.apply(
        store, [answered(store.chunks.grant(store.queue.waiting(9, head=3), UNCAPPED, 1.0))]
    )
    assert store.queue.head_is_done(3)
    assert store.job().completed == 3


def test_one_beginning_for_all_needs_no_order_but_one_call_goes_first(tmp_path: Path) -> None:
    store = job(tmp_path, (body(LONG["a"], n) for n in range(5)))

    assert fed(store) == list(range(5))
    assert store.job().warm == 1
    assert store.db.execute("SELECT count(*) FROM feeding").fetchone()[0] == 0


@pytest.mark.parametrize("prices", [None, "uncached"], ids=["no prices", "no price of a cache"])
def test_without_a_price_for_what_is_cached_the_files_order_stays(
    tmp_path: Path, prices: str | None
) -> None:
    plain = ModelPrice(MODEL, (Offer("", Rates(parse_amount("0.2"), parse_amount("1"))),))
    listed = PriceList(1.0, "", "0" * 64, {MODEL: plain}) if prices else None
    store = job(tmp_path, (body(LONG["abc"[n % 3]], n) for n in range(9)), listed)

    assert fed(store) == list(range(9))
    assert store.job().warm == 0


def test_short_prompts_keep_the_files_order(tmp_path: Path) -> None:
    store = job(tmp_path, (body("ab"[n % 2], n) for n in range(6)))

    assert fed(store) == list(range(6))


def test_results_are_taken_in_by_their_place_in_the_queue(tmp_path: Path) -> None:
    store = job(tmp_path, (body(LONG["abc"[n % 3]], n) for n in range(9)))
    chunk = store.chunks.grant(store.queue.waiting(4), UNCAPPED, 1.0)
    assert sorted(triple[0] for triple in chunk.requests) == sorted(fed_first(store, 4))

    applied = delivery_ledger.apply(store, [answered(chunk)])
    never_fed = fed(store)[-1]
    foreign = delivery_ledger.apply(store, [delivery([call(never_fed)], [result(never_fed)])])

    assert (applied.completed, applied.foreign) == (4, 0)
    assert (foreign.completed, foreign.foreign) == (0, 2)
    assert len(fed(store)) == 5
    for ordinal in range(9):
        assert json.loads(store.queue.body(ordinal))["messages"][1]["content"] == str(ordinal)


def fed_first(store: JobStore, count: int) -> list[int]:
    """The ordinals at the front of the queue."""
    rows = store.db.execute("SELECT ordinal FROM queue ORDER BY rank LIMIT ?", (count,))
    return [row[0] for row in rows]


# ── A sample ─────────────────────────────────────────────────────────────────────────────────────


def test_a_sample_is_spread_over_the_file_and_goes_first(tmp_path: Path) -> None:
    store = job(tmp_path, (body("x", n) for n in range(100)), sample=4)

    assert fed(store)[:6] == [0, 25, 50, 75, 1, 2]
    assert (store.job().sample, store.job().warm) == (4, 0)
    assert sorted(fed(store)) == list(range(100))


def test_a_sample_larger_than_the_job_is_the_job(tmp_path: Path) -> None:
    assert job(tmp_path, (body("x", n) for n in range(3)), sample=20).job().sample == 3


# ── Copies ───────────────────────────────────────────────────────────────────────────────────────


def test_what_is_alike_but_for_the_order_of_members_is_a_copy(tmp_path: Path) -> None:
    first = body("x", 1, max_tokens=5)
    turned = json.dumps(dict(reversed(json.loads(first).items())), indent=None).encode()
    store = job(tmp_path, [first, turned, body("x", 1, max_tokens=6)], dedupe="same")

    assert fed(store) == [0, 2]
    assert copies(store) == [(1, 0)]


@pytest.mark.parametrize(
    ("temperature", "is_copied"),
    [(None, True), (0, True), (0.0, True), (0.7, False), (1, False), ("warm", False)],
)
def test_chance_is_bought_each_time(tmp_path: Path, temperature: object, is_copied: bool) -> None:
    alike = [body("x", 1, temperature=temperature)] * 3

    assert fed(job(tmp_path / "same", alike, dedupe="same")) == ([0] if is_copied else [0, 1, 2])
    assert fed(job(tmp_path / "all", alike, dedupe="all")) == [0]
    assert fed(job(tmp_path / "off", alike)) == [0, 1, 2]


def test_a_copy_ends_as_its_original_does_and_once(tmp_path: Path) -> None:
    store = job(tmp_path, [body("x")] * 3 + [body("y")], dedupe="same")
    chunk = feed(store, 4)
    told = delivery([call(0), call(3)], [result(0), result(3, code="endpoint.400")], job=JOB)

    first, again = delivery_ledger.apply(store, [told]), delivery_ledger.apply(store, [told])

    assert (first.completed, first.failed) == (3, 1)
    assert (again.completed, again.failed) == (0, 0)
    assert [triple[0] for triple in chunk.requests] == [0, 3]
    assert (store.job().completed, store.job().failed, store.job().left) == (3, 1, 0)
    assert store.queue.copied() == 2


def test_a_failed_request_is_tried_again_with_its_copies_and_bought_once(tmp_path: Path) -> None:
    store = job(tmp_path, [body("x")] * 3, dedupe="same")
    failed = delivery([call(0)], [result(0, code="endpoint.500")])
    feed(store, 3)
    delivery_ledger.apply(store, [failed])

    assert store.failures.retry() == 3
    assert fed(store) == [0]
    assert store.job().left == 3
    delivery_ledger.apply(store, [failed])
    assert store.job().left == 3


def test_a_poisoned_request_takes_its_copies_along(tmp_path: Path) -> None:
    store = job(tmp_path, [body("x")] * 3, dedupe="same")
    chunk = feed(store, 3)
    store.chunks.lose(chunk)
    store.db.execute("UPDATE returned SET uncertain = 3")

    assert store.failures.set_poison_aside(3, 1.0) == 3
    assert store.job().failed == 3


def test_a_line_that_is_refused_for_its_id_is_nobodys_original(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "jobs", JOB, dedupe="same")
    same_id = [Request(line, "r", MODEL, body("x", line // 2), 1, 5) for line in (1, 2, 3)]
    for each in (*same_id, Request(4, "other", MODEL, body("x", 1), 1, 5)):
        draft.add(each)
    assert len(list(draft.drop_duplicates())) == 2

    assert draft.drop_copies() == 0
    draft.publish(spec(tmp_path), None, 1000.0)
    assert fed(JobStore(tmp_path / "jobs" / JOB)) == [0, 3]


def copies(store: JobStore) -> list[tuple[int, int]]:
    """(copy, original)."""
    return [tuple(row) for row in store.db.execute("SELECT ordinal, original FROM copies")]
