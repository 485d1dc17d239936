"""What is out, and what it may cost: as it stands on the disk."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from batch.store import delivery_ledger
from batch.store.chunks import Lost
from jobs.budget import Amount
from jobs.usage import Usage
from jobs.wire import Begin, Permit
from tests.batch.making import (
    again,
    answered,
    call,
    delivery,
    feed,
    publish,
    result,
    waiting,
)


def test_chunk_numbers_are_never_used_twice(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    numbers = []
    for _ in range(4):
        chunk = feed(again(store), 1)
        numbers.append(chunk.chunk)
        store.chunks.take_back(chunk)

    assert numbers == [1, 2, 3, 4]


def test_a_grant_is_on_the_disk_before_anything_leaves(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)

    chunk = feed(store, 2, Amount(Decimal("7.25"), 900))

    assert again(store).chunks.alive() == [chunk]
    assert again(store).chunks.exposure() == Amount(Decimal("7.25"), 900)
    assert again(store).job().started_at == 1001.0


def test_exposure_is_what_was_spent_and_booked_and_what_is_left_of_grants(tmp_path: Path) -> None:
    store = publish(tmp_path, 6)
    feed(store, 3, Amount(Decimal(10), 3000))
    feed(store, 3, Amount(Decimal(5), 1000))

    delivery_ledger.apply(store, [delivery([call(0, cost="1.5"), call(1, cost=None, bound="4")])])

    job = store.job()
    assert (job.settled_rub, job.booked_rub) == (Decimal("1.5"), Decimal(4))
    # 1.5 and 4 are of the first grant of 10, whose rest is 4.5.
    assert store.chunks.exposure() == Amount(Decimal(15), 25 + 300 + (3000 - 325) + 1000)


def test_a_grant_that_was_overdrawn_counts_no_less_than_nothing_e27(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2, Amount(Decimal(3), 100))

    delivery_ledger.apply(store, [delivery([call(0, cost="8", usage=Usage(90, 60))])])

    assert store.chunks.exposure() == Amount(Decimal(8), 150)


def test_a_closed_chunk_gives_its_rest_back(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2, Amount(Decimal(10), 1000))

    delivery_ledger.apply(store, [answered(chunk, cost="0.25")])

    assert store.chunks.exposure() == Amount(Decimal("0.5"), 50)


def test_a_lost_chunk_keeps_what_is_left_of_its_grant(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    chunk = feed(store, 2, Amount(Decimal(10), 1000))
    delivery_ledger.apply(store, [delivery([call(0, cost="1")], [result(0)])])

    store.chunks.lose(chunk)

    assert waiting(store) == [1, 2, 3]
    assert store.chunks.out() == []
    assert store.chunks.exposure().rub == 10
    assert store.chunks.lost() == Lost(1, Decimal(9))


def test_what_was_lost_without_a_grant_has_no_figure(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    store.chunks.lose(feed(store, 2, Amount(Decimal(10), 1000)))
    store.chunks.lose(feed(store, 2))

    assert store.chunks.lost() == Lost(2, None)


def test_what_is_left_of_lost_grants_is_free_when_they_are_given_up(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    lost, _ = (feed(store, 2, Amount(Decimal(9), 900)) for _ in range(2))
    store.chunks.lose(lost)
    delivery_ledger.apply(store, [delivery([call(0, cost="1")])])
    before = store.revision()

    assert store.chunks.give_up() == 1

    assert store.chunks.exposure() == Amount(Decimal(10), 25 + 900)
    assert (store.chunks.lost().chunks, store.chunks.out()) == (0, [2])
    assert store.revision() > before, "the outputs tell of it"
    delivery_ledger.apply(store, [delivery([call(1, cost="2")], [result(1)])])
    assert store.job().settled_rub == Decimal(3)
    assert store.chunks.give_up() == 0


def test_a_chunk_that_was_closed_meanwhile_is_not_lost(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2)
    delivery_ledger.apply(store, [answered(chunk)])

    store.chunks.lose(chunk)

    assert (waiting(store), store.chunks.lost().chunks) == ([], 0)


def test_a_chunk_that_nobody_took_gives_all_of_it_back(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    chunk = feed(store, 2, Amount(Decimal(10), 1000))

    store.chunks.take_back(chunk)

    assert waiting(store) == [0, 1, 2]
    assert store.chunks.exposure() == Amount(Decimal(0), 0)
    assert store.chunks.alive() == []


def test_the_unfinished_of_a_chunk_are_those_without_a_result(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    chunk = feed(store, 4)
    delivery_ledger.apply(
        store, [delivery(results=[result(0), result(2, code="endpoint.refused")])]
    )

    assert store.chunks.unfinished(chunk) == [(1, 0, 0), (3, 0, 0)]
    assert store.chunks.under_way() == 2
    assert [each.ordinal for each in store.queue.details(store.chunks.unfinished(chunk))] == [1, 3]


def test_a_chunk_that_was_fed_without_a_cap_is_seen_as_such(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    feed(store, 2, Amount(None, 50))

    assert store.chunks.unlimited_out(rub=True, tokens=False)
    assert not store.chunks.unlimited_out(rub=False, tokens=True)


def test_a_chunk_whose_closing_came_is_begun_by_nobody_any_more(tmp_path: Path) -> None:
    store = publish(tmp_path)
    chunk = feed(store, 2)
    ask = Begin(chunk.chunk, "box", "token")
    with store.transaction() as db:
        db.execute("UPDATE chunks SET told = 1")

    assert store.chunks.begin([ask]) == {chunk.chunk: Permit()}
