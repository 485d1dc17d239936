"""Deliveries as they come: each fact is counted once, whatever comes twice, late, or forged."""

from __future__ import annotations

import sqlite3
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.coordinator import outputs
from batch.reports.cost_report import cost_of
from batch.store import delivery_ledger
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from jobs.budget import Amount
from jobs.chunk import WORKER_DIED, ReturnReason
from jobs.outcome import Billing
from jobs.pause_reasons import PauseReason
from jobs.usage import Usage
from jobs.wire import Delivery, Found
from tests.batch.making import (
    JOB,
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


def results(store: JobStore) -> dict[int, str]:
    return {
        row["ordinal"]: row["code"] or row["state"]
        for row in store.db.execute("SELECT * FROM results ORDER BY ordinal")
    }


def returned(store: JobStore) -> list[tuple[int, int, int]]:
    return [tuple(row) for row in store.db.execute("SELECT * FROM returned ORDER BY ordinal")]


def books_agree(store: JobStore) -> bool:
    """Whether the job's sums are those of its ledger, recounted."""
    job, cost = store.job(), cost_of(store)
    return (job.settled_rub, job.booked_rub, job.calls) == (
        cost.rub,
        cost.uncertain_rub,
        cost.calls,
    )


# ── Once ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_delivery_brings_results_costs_and_the_end_of_its_chunk(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    chunk = feed(store, 3)

    applied = delivery_ledger.apply(store, [answered(chunk, 0, 2)])

    assert (applied.completed, applied.failed, applied.calls) == (2, 0, 2)
    assert (applied.closed, applied.foreign) == ([1], 0)
    assert results(store) == {0: "completed", 2: "completed"}
    assert returned(store) == [(1, 1, 0)]
    assert store.job().settled_rub == Decimal(1)
    assert books_agree(store)


def test_a_delivery_that_comes_twice_changes_nothing_twice(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    once = answered(feed(store, 3))
    delivery_ledger.apply(store, [once])
    before = (store.job(), list(store.db.execute("SELECT * FROM answers").fetchall()))

    applied = delivery_ledger.apply(store, [once, once])

    assert not applied.anything
    assert applied.reasons == []
    assert (store.job(), list(store.db.execute("SELECT * FROM answers").fetchall())) == before


@settings(max_examples=20)
@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=4))
def test_the_order_of_deliveries_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], again: list[int]
) -> None:
    store = publish(tmp_path_factory.mktemp("job"), 3)
    feed(store, 3, Amount(Decimal(20), None))
    parts = [
        delivery([call(0, id="box-1", cost=None)]),
        delivery([call(0, id="box-2", cost="1.25", attempt=2)], [result(0, call="box-2")]),
        delivery([call(1)], [result(1)]),
        delivery(closed=[closing(1, [(2, 0, 0)], refusals={"endpoint.rate_limited": 3})]),
    ]

    for place in (*order, *again):
        delivery_ledger.apply(store, [parts[place]])

    assert results(store) == {0: "completed", 1: "completed"}
    assert returned(store) == [(2, 0, 0)]
    assert store.chunks.alive() == []
    assert store.chunks.exposure().rub == Decimal("3.75")
    assert store.refusals() == {"endpoint.rate_limited": 3}
    assert books_agree(store)


def test_of_two_ends_of_a_request_the_first_counts_and_both_are_paid(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    chunk = feed(store, 1)
    store.chunks.lose(chunk)
    feed(store, 1)

    delivery_ledger.apply(store, [delivery([call(0, 2)], [result(0, 2)], [closing(2)])])
    delivery_ledger.apply(store, [answered(chunk)])

    row = store.db.execute("SELECT call FROM results").fetchone()
    assert row["call"] == "box-2-0"
    assert store.job().settled_rub == Decimal(1)
    assert (store.job().completed, store.chunks.lost().chunks) == (1, 0)


@pytest.mark.parametrize(
    ("generations", "cost", "tokens"),
    [(("gen", "gen"), "0.5", 25), (("gen", "other"), "1", 50), (("", ""), "1", 50)],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_generation_that_two_calls_of_a_request_name_is_paid_once(
    tmp_path: Path, generations: tuple[str, str], cost: str, tokens: int, *, together: bool
) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    calls = [
        call(0, id=f"box-{nth}", attempt=nth, generation_id=name)
        for nth, name in enumerate(generations, start=1)
    ]

    for some in [calls] if together else [[each] for each in calls]:
        delivery_ledger.apply(store, [delivery(some)])

    job = store.job()
    assert (job.settled_rub, job.settled_tokens, job.calls) == (Decimal(cost), tokens, 2)
    assert books_agree(store)


def test_a_generation_whose_first_call_was_cut_is_paid_by_the_second(tmp_path: Path) -> None:
    """Of the first nobody knew; when it is looked up, it is the same one."""
    store = publish(tmp_path, 1)
    feed(store, 1)
    cut = call(0, id="box-x", cost=None, generation_id="gen")
    whole = call(0, id="box-2", attempt=2, cost="0.5", generation_id="gen")

    delivery_ledger.apply(store, [delivery([cut]), delivery([whole])])
    assert (store.job().settled_rub, store.job().booked_rub) == (Decimal("0.5"), Decimal(2))

    delivery_ledger.apply(store, [found("0.5", Usage(20, 5))])
    assert (store.job().settled_rub, store.job().booked_rub) == (Decimal("0.5"), Decimal(0))
    assert store.job().settled_tokens == 25
    assert books_agree(store)


def test_an_answer_of_a_worker_that_was_given_up_is_taken_all_the_same_p13(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2)
    store.chunks.lose(chunk)

    delivery_ledger.apply(store, [delivery([call(0)], [result(0)])])

    assert results(store) == {0: "completed"}
    assert returned(store) == [(1, 0, 0)]


# ── A chunk's end ────────────────────────────────────────────────────────────────────────────────


def test_a_closing_that_overtakes_results_leaves_the_chunk_open_for_them(tmp_path: Path) -> None:
    """Else its grant would be given away before its cost is known, and its requests forgotten."""
    store = publish(tmp_path, 3)
    feed(store, 3, Amount(Decimal(9), None))

    first = delivery_ledger.apply(
        store, [delivery([call(0)], [result(0)], [closing(1, [(2, 1, 0)])])]
    )
    exposed = store.chunks.exposure().rub
    then = delivery_ledger.apply(store, [delivery([call(1)], [result(1)])])

    assert (first.closed, [number for number, _ in first.reasons]) == ([], [1])
    assert exposed == 9
    assert returned(store) == [(2, 1, 0)]
    assert (then.closed, then.reasons) == ([1], [])
    assert store.chunks.exposure().rub == 1


def test_what_a_told_chunk_owes_waits_again_when_it_never_comes(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2)
    delivery_ledger.apply(store, [delivery([call(0)], [result(0)], [closing(1)])])

    store.chunks.lose(store.chunks.alive()[0])

    assert returned(store) == [(1, 0, 0)]


def test_the_closing_of_a_lost_chunk_tells_how_often_its_requests_were_called(
    tmp_path: Path,
) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2, Amount(Decimal(9), None))
    store.chunks.lose(chunk)

    cut = call(0, cost=None, bound="3", status=None, code="system.worker_died")
    died = closing(1, [(0, 1, 1), (1, 0, 0)], WORKER_DIED)
    applied = delivery_ledger.apply(store, [delivery([cut], closed=[died])])

    assert applied.closed == [1]
    assert returned(store) == [(0, 1, 1), (1, 0, 0)]
    assert store.chunks.exposure().rub == 3
    assert store.job().booked_rub == 3


def test_refusals_of_a_closing_are_counted_once(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2)
    told = delivery(closed=[closing(1, [(0, 0, 0)], refusals={"endpoint.rate_limited": 2})])

    delivery_ledger.apply(store, [told])
    delivery_ledger.apply(store, [told])

    assert store.refusals() == {"endpoint.rate_limited": 2}


def test_the_reason_of_a_closing_is_handed_on(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    reason = ReturnReason("endpoint.key_rejected", "401", PauseReason.KEY_REJECTED)

    applied = delivery_ledger.apply(store, [delivery(closed=[closing(1, [(0, 1, 0)], reason)])])

    assert applied.reasons == [(1, reason)]


# ── Money ────────────────────────────────────────────────────────────────────────────────────────


def test_a_million_small_costs_would_add_up_exactly(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    many = [call(0, id=f"box-{n}", cost="0.0000522948192") for n in range(1000)]

    for _ in range(3):
        delivery_ledger.apply(store, [delivery(many)])

    assert store.job().settled_rub == Decimal("0.0522948192")
    assert books_agree(store)


def test_a_call_without_a_price_is_booked_at_nothing_but_counted(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)

    delivery_ledger.apply(store, [delivery([call(0, cost=None, bound=None)])])

    assert store.job().booked_rub == 0
    assert cost_of(store).unbounded_calls == 1


def test_a_call_that_was_not_billed_is_no_row_of_the_ledger(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)

    free = call(0, cost=None, billing=Billing.NONE)
    delivery_ledger.apply(store, [delivery([free], [result(0, code="endpoint.refused")])])

    assert (store.job().calls, store.job().failed) == (0, 1)


def test_tokens_are_counted_by_the_endpoint_or_else_at_their_bound(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    feed(store, 3, Amount(None, 2000))

    delivery_ledger.apply(store, [delivery([call(0), call(1, usage=None), call(2, cost=None)])])

    job = store.job()
    assert (job.settled_tokens, job.booked_tokens) == (25 + 300, 300)
    assert (job.calls, job.unknown) == (3, 1)
    assert store.chunks.exposure().tokens == 2000


def test_a_call_dearer_than_its_bound_is_told_of_e27(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2)

    fine = delivery_ledger.apply(store, [delivery([call(0, cost="2", bound="2")])])
    dear = delivery_ledger.apply(store, [delivery([call(1, cost="2.000001", bound="2")])])

    assert fine.overrun is None
    assert dear.overrun == delivery_ledger.Overrun(1, Decimal("2.000001"), Decimal(2))


# ── Uncertain calls ──────────────────────────────────────────────────────────────────────────────


def in_doubt(tmp_path: Path, *, usage: Usage | None = None, bound: str | None = "2") -> JobStore:
    """A job of two requests, one call of which ended nobody knows how."""
    store = publish(tmp_path, 2, priced=prices())
    feed(store, 2, Amount(Decimal(9), 1000))
    one = call(0, id="box-x", cost=None, bound=bound, generation_id="gen", usage=usage)
    delivery_ledger.apply(store, [delivery([one])])
    return store


def found(cost: str | None, usage: Usage | None = None) -> Delivery:
    return delivery(
        found=[Found(0, "box-x", None if cost is None else Decimal(cost), usage, "Minimax")]
    )


def test_a_lookup_moves_a_call_from_booked_to_settled(tmp_path: Path) -> None:
    store = in_doubt(tmp_path)

    applied = delivery_ledger.apply(store, [found("0.75", Usage(30, 10))])

    job = store.job()
    assert applied.settled == 1
    assert (job.settled_rub, job.booked_rub) == (Decimal("0.75"), Decimal(0))
    assert (job.settled_tokens, job.booked_tokens) == (40, 0)
    assert (job.calls, job.unknown) == (1, 0)
    assert store.chunks.exposure() == Amount(Decimal(9), 1000)
    assert cost_of(store).by_source == {"lookup": Decimal("0.75")}
    assert books_agree(store)


def test_a_call_that_nothing_bounds_is_counted_as_such_until_its_cost_is_found(
    tmp_path: Path,
) -> None:
    store = in_doubt(tmp_path, bound=None)
    assert (store.job().unknown, store.job().unbounded) == (1, 1)

    delivery_ledger.apply(store, [found("0.75")])

    assert (store.job().unknown, store.job().unbounded) == (0, 0)
    assert (store.job().settled_rub, store.job().booked_rub) == (Decimal("0.75"), Decimal(0))


def test_a_lookup_that_tells_no_tokens_counts_the_most_there_can_be(tmp_path: Path) -> None:
    store = in_doubt(tmp_path)

    delivery_ledger.apply(store, [found("0.75")])

    assert store.job().settled_tokens == 300


def test_a_lookup_that_knows_nothing_yet_is_counted(tmp_path: Path) -> None:
    store = in_doubt(tmp_path)

    applied = delivery_ledger.apply(store, [found(None), found(None)])

    assert not applied.anything
    assert store.db.execute("SELECT lookups FROM calls").fetchone()[0] == 2
    assert store.job().booked_rub == 2


def test_a_lookup_that_comes_twice_settles_once(tmp_path: Path) -> None:
    store = in_doubt(tmp_path)

    delivery_ledger.apply(store, [found("0.75")])
    applied = delivery_ledger.apply(store, [found("0.75"), found("7")])

    assert not applied.anything
    assert store.job().settled_rub == Decimal("0.75")


def test_what_nobody_told_stays_at_its_bound_and_is_listed_so_with_an_estimate(
    tmp_path: Path,
) -> None:
    store = in_doubt(tmp_path, usage=Usage(100, 50))
    outputs.write(store)

    cost = cost_of(store)

    assert (store.job().settled_rub, store.job().booked_rub) == (Decimal(0), Decimal(2))
    assert store.job().booked_tokens == 150, "tokens that were told count as told"
    assert (cost.uncertain_calls, cost.uncertain_rub) == (1, Decimal(2))
    assert (cost.estimated_rub, cost.by_source) == (Decimal("0.15"), {})
    assert not cost.exact
    assert store.chunks.exposure() == Amount(Decimal(9), 1000)


@pytest.mark.parametrize("usage", [Usage(100, 50), None])
def test_without_a_price_or_tokens_there_is_no_estimate(
    tmp_path: Path, usage: Usage | None
) -> None:
    store = in_doubt(tmp_path, usage=usage)
    if usage:
        store.db.execute("DELETE FROM prices")

    assert cost_of(store).estimated_rub == 0


def test_a_lookup_that_tells_other_tokens_than_the_answer_counts(tmp_path: Path) -> None:
    store = in_doubt(tmp_path, usage=Usage(100, 50))

    applied = delivery_ledger.apply(store, [found("0.16", Usage(101, 50))])

    assert applied.anything
    assert (store.job().settled_rub, store.job().settled_tokens) == (Decimal("0.16"), 151)
    assert store.job().booked_rub == store.job().booked_tokens == 0
    assert cost_of(store).by_source == {"lookup": Decimal("0.16")}


def test_a_call_taken_for_cut_whose_answer_comes_after_all_is_settled(tmp_path: Path) -> None:
    store = in_doubt(tmp_path)

    delivery_ledger.apply(
        store, [delivery([call(0, id="box-x", cost="0.25")], [result(0, call="box-x")])]
    )

    assert (store.job().settled_rub, store.job().booked_rub) == (Decimal("0.25"), Decimal(0))
    assert store.job().calls == 1
    assert books_agree(store)


def test_a_known_call_does_not_become_uncertain_again(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    delivery_ledger.apply(store, [delivery([call(0, id="box-x", cost="0.25")])])

    delivery_ledger.apply(store, [delivery([call(0, id="box-x", cost=None)])])

    assert (store.job().settled_rub, store.job().booked_rub) == (Decimal("0.25"), Decimal(0))


# ── Forged (FAULTS R19) ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ordinal", [1, 3, 4, 10**9])
def test_what_names_a_request_that_was_never_fed_is_left_out_r19(
    tmp_path: Path, ordinal: int
) -> None:
    """Of four lines the second is a twin, so there is no request 1; 3 was not fed."""
    draft = Draft(tmp_path / "jobs", JOB)
    for line in range(1, 5):
        draft.add(request(line, custom_id="same" if line < 3 else f"r-{line}"))
    assert len(list(draft.drop_duplicates())) == 1
    draft.publish(spec(tmp_path), None, 1000.0)
    store = JobStore(tmp_path / "jobs" / JOB)
    store.chunks.grant(store.queue.waiting(2), Amount(), 1001.0)

    honest = delivery([call(0)], [result(0)])
    forged = delivery([call(ordinal)], [result(ordinal)], found=[Found(ordinal, "x", Decimal(1))])
    applied = delivery_ledger.apply(store, [forged, honest])

    assert applied.foreign == 2
    assert results(store) == {0: "completed"}
    assert store.job().settled_rub == Decimal("0.5")
    assert books_agree(store)


def test_what_comes_of_a_chunk_that_was_fed_after_a_backup_is_taken_in(tmp_path: Path) -> None:
    """Of the requests that the file has not fed yet, those before it wait; it shows its age once
    for all, and what no chunk can have had is left out as ever (R19).
    """
    store = publish(tmp_path, 6)
    feed(store, 2)

    late = delivery([call(4, 7)], [result(4, 7), result(5, 7)], [closing(7, [(0, 1, 0)])])
    applied = delivery_ledger.apply(store, [late, delivery([call(99, 7)])])

    assert (applied.is_older, applied.foreign, applied.completed) == (True, 2, 1)
    assert store.job().settled_rub == Decimal("0.5")
    assert [each[0] for each in returned(store)] == [2, 3]
    assert [each.ordinal for each in store.queue.waiting(9)] == [2, 3, 5]
    assert books_agree(store)


def test_a_closing_gives_back_only_what_its_chunk_holds_r19(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    feed(store, 1)
    feed(store, 1)

    applied = delivery_ledger.apply(
        store, [delivery(closed=[closing(1, [(0, 1, 0), (1, 1, 0), (3, 1, 0), (99, 0, 0)])])]
    )

    assert applied.foreign == 3
    assert returned(store) == [(0, 1, 0)]
    assert [each.ordinal for each in store.queue.waiting(9)] == [0, 2, 3]


def test_a_closing_that_names_nothing_forgets_nothing(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2)

    applied = delivery_ledger.apply(store, [delivery(closed=[closing(1)])])

    assert applied.closed == []
    assert store.chunks.under_way() == 2


def test_a_fault_in_the_middle_of_a_batch_leaves_all_of_it_undone(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    good = answered(feed(store, 2))
    # As only a fault of our own could make it: the decoder refuses it.
    bad = delivery([call(0, id="box-y", bound_tokens=2**70)])

    with pytest.raises(OverflowError):
        delivery_ledger.apply(store, [good, bad])

    assert (store.job().calls, store.job().completed) == (0, 0)
    assert store.chunks.out() == [1]


def test_what_is_left_of_a_grant_is_free_only_when_all_calls_that_were_told_are_booked(
    tmp_path: Path,
) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2, Amount(Decimal(10)))
    answers = [result(0), result(1)]

    early = delivery_ledger.apply(store, [delivery([call(0)], answers, [closing(1, calls=3)])])
    assert early.closed == []
    assert store.chunks.exposure().rub == 10
    assert store.chunks.out() == [chunk.chunk]

    late = delivery([call(0, id="cut", cost=None, bound="2"), call(1)], sequence=2)
    assert delivery_ledger.apply(store, [late]).closed == [1]
    assert store.chunks.exposure().rub == Decimal("0.5") + 2 + Decimal("0.5")
    assert delivery_ledger.apply(store, [late]).closed == []


@pytest.mark.parametrize(
    ("sent_at", "counted"),
    [(1500.0, 1500.0), (1500.0 + 86400, 2990.0), (100.0, 1001.0 - delivery_ledger.SLACK_S)],
    ids=["right", "a day ahead", "far behind"],
)
def test_a_workers_clock_is_held_against_the_homes_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent_at: float, counted: float
) -> None:
    """Else a call of a worker a day ahead is asked for, and ends its job, a day late; and one a day
    behind is counted to yesterday's cap.
    """
    monkeypatch.setattr(time, "time", lambda: 3000.0)
    store = publish(tmp_path, 2)
    feed(store, 2)

    called = call(0, cost=None, sent_at=sent_at, latency_s=10.0, generation_id="gen", status=None)
    delivery_ledger.apply(store, [delivery([called], [result(0, finished_at=sent_at)])])

    (found,) = store.db.execute(
        "SELECT sent_at, finished_at FROM calls JOIN results USING (ordinal)"
    )
    assert found["sent_at"] == counted
    assert found["finished_at"] <= 3000
    assert store.spent_between(0, 3600) == 2
    assert len(store.uncertain.due([3000.0], 9, 3000.0)) == 1


def test_copies_of_a_request_count_with_it() -> None:
    applied = delivery_ledger.Applied()

    applied.count(result(0), 2)
    applied.count(result(1, code="endpoint.bad_request"), 3)
    applied.count(result(2, flags=("truncated",)), 1)

    assert (applied.completed, applied.failed, applied.truncated) == (5, 4, 2)


def test_a_result_keeps_the_time_that_it_tells_unless_that_is_to_come() -> None:
    at = delivery_ledger._Clock(sqlite3.connect(":memory:"), 1000.0)

    assert at.result(result(0, finished_at=999.0)).finished_at == 999.0
    assert at.result(result(0, finished_at=1001.0)).finished_at == 1000.0
