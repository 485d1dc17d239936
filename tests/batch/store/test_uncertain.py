"""When calls of unknown cost are asked for."""

from __future__ import annotations

from pathlib import Path

from batch.store import delivery_ledger
from jobs.result import Call
from tests.batch.making import (
    call,
    delivery,
    feed,
    publish,
)


def uncertain(ordinal: int, sent_at: float, generation_id: str = "gen") -> Call:
    return call(ordinal, cost=None, sent_at=sent_at, generation_id=generation_id)


def test_the_oldest_calls_that_are_due_are_found_by_how_often_they_were_asked_for(
    tmp_path: Path,
) -> None:
    store = publish(tmp_path, 6)
    feed(store, 6)
    store.db.execute("UPDATE chunks SET fed_at = 5")
    calls = [
        uncertain(0, 30.0),
        uncertain(1, 10.0),
        uncertain(2, 20.0),
        uncertain(3, 10.0, ""),
        uncertain(4, 99.0),
    ]
    delivery_ledger.apply(store, [delivery(calls)])
    store.db.execute("UPDATE calls SET lookups = 1 WHERE ordinal = 2")

    found = store.uncertain.due([50.0, 40.0], 10, 100.0)

    assert [row["ordinal"] for row in found] == [1, 0, 2]
    assert [row["ordinal"] for row in store.uncertain.due([50.0, 10.0], 1, 100.0)] == [1]


def test_an_answered_call_is_awaited_longer_than_one_that_was_cut(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2)
    delivery_ledger.apply(store, [delivery([call(0, cost=None, generation_id="gen", usage=None)])])
    cut = [store.uncertain.awaits(answered=2, unanswered=1)]
    store.db.execute("UPDATE calls SET lookups = 1")
    cut.append(store.uncertain.awaits(answered=2, unanswered=1))
    store.db.execute("UPDATE calls SET prompt = 5, completion = 5")
    answered_once = store.uncertain.awaits(answered=2, unanswered=1)
    store.db.execute("UPDATE calls SET lookups = 2")

    assert cut == [True, False]
    assert answered_once
    assert not store.uncertain.awaits(answered=2, unanswered=1)
