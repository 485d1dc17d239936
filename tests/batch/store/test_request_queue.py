"""What waits, and in which order: as it stands on the disk."""

from __future__ import annotations

from pathlib import Path

from batch.store import delivery_ledger
from jobs.budget import Amount
from tests.batch.making import (
    again,
    closing,
    delivery,
    feed,
    publish,
    request,
    result,
    waiting,
)


def test_requests_are_fed_in_the_order_of_the_file(tmp_path: Path) -> None:
    store = publish(tmp_path, 5)

    first, second = feed(store, 2), feed(store, 2)

    assert [triple[0] for triple in (*first.requests, *second.requests)] == [0, 1, 2, 3]
    assert waiting(again(store)) == [4]


def test_what_came_back_is_fed_before_what_was_never_fed(tmp_path: Path) -> None:
    store = publish(tmp_path, 6)
    chunk = feed(store, 4)
    delivery_ledger.apply(store, [delivery(closed=[closing(1, [(1, 2, 1), (3, 1, 0)])])])
    delivery_ledger.apply(store, [delivery(results=[result(0), result(2)])])

    found = store.queue.waiting(3)

    assert [(each.ordinal, each.attempts, each.uncertain) for each in found] == [
        (1, 2, 1),
        (3, 1, 0),
        (4, 0, 0),
    ]
    assert waiting(store, 1) == [1]
    assert chunk.chunk not in store.chunks.out()

    store.chunks.grant(found[:2], Amount(), 1002.0)
    assert waiting(store) == [4, 5], "what was fed is not fed anew"


def test_what_is_passed_over_goes_on_waiting(tmp_path: Path) -> None:
    store = publish(tmp_path, 6)
    chosen = [each for each in store.queue.waiting(5) if each.ordinal in (1, 3)]

    store.chunks.grant(chosen, Amount(), 1001.0)

    assert waiting(again(store)) == [0, 2, 4, 5]


def test_of_each_model_the_smallest_requests_that_wait_are_found(tmp_path: Path) -> None:
    sizes = [("a", 50), ("b", 10), ("a", 20), ("b", 30), ("a", 40), ("a", 30)]
    lines = [
        request(line, model=model, max_output=size)
        for line, (model, size) in enumerate(sizes, start=1)
    ]
    store = publish(tmp_path, lines)
    store.chunks.grant(store.queue.waiting(1), Amount(), 1001.0)

    assert [each.ordinal for each in store.queue.smallest(2)] == [2, 5, 1, 3]
