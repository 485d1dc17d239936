"""Requests that fail without a call, and those that are tried anew."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from msgspec import structs

from batch.store import delivery_ledger
from batch.store.jobstore import JobStore
from tests.batch.making import (
    call,
    closing,
    delivery,
    feed,
    publish,
    request,
    result,
    waiting,
)


def fail(store: JobStore, *codes: str) -> None:
    """Feeds one request for each code, and fails it with that."""
    chunk = feed(store, len(codes))
    ordinals = [ordinal for ordinal, _, _ in chunk.requests]
    results = [result(n, chunk.chunk, code=code) for n, code in zip(ordinals, codes, strict=True)]
    calls = [call(n, chunk.chunk) for n in ordinals]
    delivery_ledger.apply(store, [delivery(calls, results, [closing(chunk.chunk)])])


def test_a_request_whose_calls_nobody_knows_the_end_of_is_set_aside_p12(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    feed(store, 3)
    delivery_ledger.apply(store, [delivery(closed=[closing(1, [(0, 3, 3), (1, 2, 2), (2, 1, 0)])])])

    assert store.failures.set_poison_aside(3, 1005.0) == 1
    assert store.failures.set_poison_aside(3, 1006.0) == 0

    assert waiting(store) == [1, 2]
    row = store.db.execute("SELECT * FROM results").fetchone()
    assert (row["ordinal"], row["code"], row["attempts"]) == (0, "system.poison_row", 3)
    assert store.job().failed == 1


def test_failed_requests_wait_again_and_keep_their_count_of_calls(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    fail(store, "endpoint.5xx", "endpoint.refused")

    assert store.failures.retry() == 2

    assert [(each.ordinal, each.attempts) for each in store.queue.waiting(2)] == [(0, 1), (1, 1)]
    assert (store.job().failed, store.job().left) == (0, 4)
    assert store.job().settled_rub == 1


def test_only_failures_with_the_named_codes_are_tried_again(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    fail(store, "endpoint.5xx", "endpoint.refused", "system.poison_row")

    assert store.failures.retry(("endpoint.5xx", "system.poison_row", "' OR 1=1 --")) == 2

    assert waiting(store) == [0, 2]
    assert store.job().failed == 1


def test_a_failure_that_was_taken_back_does_not_come_back_with_a_second_delivery(
    tmp_path: Path,
) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    failure = delivery([call(0)], [result(0, code="endpoint.5xx")], [closing(1)])
    delivery_ledger.apply(store, [failure])

    store.failures.retry()
    delivery_ledger.apply(store, [failure])

    assert waiting(store) == [0]
    assert (store.job().failed, store.job().calls) == (0, 1)


def test_a_request_that_is_tried_again_leaves_the_chunk_in_which_it_failed(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    old = feed(store, 2)
    delivery_ledger.apply(store, [delivery([call(0)], [result(0, code="endpoint.5xx")])])
    store.failures.retry()

    new = feed(store, 2)
    store.chunks.lose(store.chunks.alive()[0])

    assert new.requests == [(0, 1, 0)]
    assert store.chunks.lost().chunks == 1
    assert old.chunk == 1
    assert waiting(store) == [1]


# ── Answers that were cut off are bought again ───────────────────────────────────────────────────


CUT = ("truncated",)


def buy_cut(folder: Path, *, count: int = 3, limit: int = 4000) -> JobStore:
    """All answered, the first two cut off; those are to be bought again under a higher limit."""
    bodies = [b'{"model":"m","messages":[],"max_tokens":100,"x":1.0}', b'{"messages":[] }']
    lines = [request(n + 1, body=bodies[n % 2]) for n in range(count)]
    store = publish(folder, lines)
    feed(store, count)
    results = [result(n, flags=CUT if n < 2 else ()) for n in range(count)]
    delivery_ledger.apply(store, [delivery([call(n) for n in range(count)], results, [closing(1)])])
    assert store.job().truncated == 2
    assert store.failures.retry([], max_tokens=limit) == 2
    return store


def test_cut_answers_are_sent_again_with_a_higher_limit_and_nothing_else_changed(
    tmp_path: Path,
) -> None:
    store = buy_cut(tmp_path)

    assert waiting(store) == [0, 1]
    assert {each.output_bound for each in store.queue.waiting(2)} == {4000}
    assert store.queue.body(0) == b'{"model":"m","messages":[],"max_tokens":4000,"x":1.0}'
    assert store.queue.body(1) == b'{"messages":[],"max_tokens":4000}'
    assert store.queue.original(0)[0] == b'{"model":"m","messages":[],"max_tokens":100,"x":1.0}'
    assert (store.job().completed, store.job().left, store.job().truncated) == (1, 2, 0)


def test_a_better_answer_takes_the_place_of_the_cut_one_and_both_are_paid(tmp_path: Path) -> None:
    store = buy_cut(tmp_path)
    feed(store, 2)
    second = [result(0, 2), result(1, 2, flags=CUT)]

    delivery_ledger.apply(store, [delivery([call(0, 2), call(1, 2)], second, [closing(2)])])

    job = store.job()
    assert (job.completed, job.failed, job.truncated, job.settled_rub) == (3, 0, 1, Decimal("2.5"))
    assert [
        row["call"] for row in store.db.execute("SELECT call FROM results ORDER BY ordinal")
    ] == [
        "box-2-0",
        "box-2-1",
        "box-1-2",
    ]
    assert not store.db.execute("SELECT * FROM former").fetchall()


def test_a_failure_leaves_the_cut_answer_where_it_was(tmp_path: Path) -> None:
    store = buy_cut(tmp_path)
    feed(store, 2)
    failed = [result(n, 2, code="endpoint.5xx") for n in (0, 1)]

    for _ in range(2):
        delivery_ledger.apply(store, [delivery([call(0, 2)], failed, [closing(2)])])

    job = store.job()
    assert (job.completed, job.failed, job.truncated) == (3, 0, 2)
    assert {row[0] for row in store.db.execute("SELECT state FROM results")} == {"completed"}
    assert waiting(store) == []


def test_what_was_not_bought_again_at_the_end_has_its_former_answer(tmp_path: Path) -> None:
    store = buy_cut(tmp_path)
    chunk = feed(store, 1)

    store.failures.restore()
    delivery_ledger.apply(store, [delivery([call(0, chunk.chunk)], [result(0, 1, flags=CUT)])])

    assert (store.job().completed, store.job().left, store.job().truncated) == (3, 0, 2)
    assert waiting(store) == []


def test_the_first_delivery_coming_again_is_not_the_better_answer(tmp_path: Path) -> None:
    store = buy_cut(tmp_path)

    delivery_ledger.apply(store, [delivery([call(0)], [result(0, flags=CUT)])])

    assert store.job().completed == 1
    assert waiting(store) == [0, 1]


def test_who_had_that_limit_already_is_not_bought_again(tmp_path: Path) -> None:
    store = buy_cut(tmp_path)
    feed(store, 2)
    second = [result(n, 2, flags=CUT) for n in (0, 1)]
    delivery_ledger.apply(store, [delivery([call(0, 2), call(1, 2)], second, [closing(2)])])

    assert store.failures.retry([], max_tokens=4000) == 0
    assert store.failures.retry([], max_tokens=8000) == 2


def test_a_row_that_kills_its_workers_keeps_the_answer_it_had(tmp_path: Path) -> None:
    store = buy_cut(tmp_path)
    feed(store, 2)
    delivery_ledger.apply(store, [delivery(closed=[closing(2, [(0, 4, 3), (1, 2, 0)])])])

    store.failures.set_poison_aside(3, 1005.0)

    job = store.job()
    assert (job.completed, job.failed, job.truncated) == (2, 0, 1)
    assert waiting(store) == [1]


def test_who_wanted_no_new_token_was_not_cut_off(tmp_path: Path) -> None:
    store = publish(tmp_path, [structs.replace(request(1), max_output=0)])
    feed(store, 1)
    delivery_ledger.apply(store, [delivery([call(0)], [result(0, flags=CUT)], [closing(1)])])

    assert not store.failures.truncated_below(9)
    assert store.failures.retry([], max_tokens=9) == 0
