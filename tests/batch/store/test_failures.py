"""Requests that fail without a call, and those that are tried anew."""

from __future__ import annotations

from pathlib import Path

from batch.store import ledger
from batch.store.jobstore import JobStore
from tests.batch.making import (
    call,
    closing,
    delivery,
    feed,
    publish,
    result,
    waiting,
)


def fail(store: JobStore, *codes: str) -> None:
    """Feeds one request for each code, and fails it with that."""
    chunk = feed(store, len(codes))
    ordinals = [ordinal for ordinal, _, _ in chunk.requests]
    results = [result(n, chunk.chunk, code=code) for n, code in zip(ordinals, codes, strict=True)]
    calls = [call(n, chunk.chunk) for n in ordinals]
    ledger.apply(store, [delivery(calls, results, [closing(chunk.chunk)])])


def test_a_request_whose_calls_nobody_knows_the_end_of_is_set_aside_p12(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    feed(store, 3)
    ledger.apply(store, [delivery(closed=[closing(1, [(0, 3, 3), (1, 2, 2), (2, 1, 0)])])])

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
    ledger.apply(store, [failure])

    store.failures.retry()
    ledger.apply(store, [failure])

    assert waiting(store) == [0]
    assert (store.job().failed, store.job().calls) == (0, 1)


def test_a_request_that_is_tried_again_leaves_the_chunk_in_which_it_failed(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    old = feed(store, 2)
    ledger.apply(store, [delivery([call(0)], [result(0, code="endpoint.5xx")])])
    store.failures.retry()

    new = feed(store, 2)
    store.chunks.lose(store.chunks.alive()[0])

    assert new.requests == [(0, 1, 0)]
    assert store.chunks.lost().chunks == 1
    assert old.chunk == 1
    assert waiting(store) == [1]
