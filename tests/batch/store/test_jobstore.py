"""What waits, what is out, what it may cost: as it stands on the disk."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from batch.store import ledger
from batch.store.jobstore import JobStore, Lost
from jobs.budget import Amount
from jobs.errors import UsageError
from jobs.result import Call
from jobs.states import JobState, PauseReason
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


def again(store: JobStore) -> JobStore:
    """The same job, as another process finds it on the disk."""
    return JobStore(store.folder)


def waiting(store: JobStore, limit: int = 100) -> list[int]:
    return [each.ordinal for each in store.waiting(limit)]


def fail(store: JobStore, *codes: str) -> None:
    """Feeds one request for each code, and fails it with that."""
    chunk = feed(store, len(codes))
    ordinals = [ordinal for ordinal, _, _ in chunk.requests]
    results = [result(n, chunk.chunk, code=code) for n, code in zip(ordinals, codes, strict=True)]
    calls = [call(n, chunk.chunk) for n in ordinals]
    ledger.apply(store, [delivery(calls, results, [closing(chunk.chunk)])])


# ── What waits ───────────────────────────────────────────────────────────────────────────────────


def test_requests_are_fed_in_the_order_of_the_file(tmp_path: Path) -> None:
    store = publish(tmp_path, 5)

    first, second = feed(store, 2), feed(store, 2)

    assert [triple[0] for triple in (*first.requests, *second.requests)] == [0, 1, 2, 3]
    assert waiting(again(store)) == [4]


def test_what_came_back_is_fed_before_what_was_never_fed(tmp_path: Path) -> None:
    store = publish(tmp_path, 6)
    chunk = feed(store, 4)
    ledger.apply(store, [delivery(closed=[closing(1, [(1, 2, 1), (3, 1, 0)])])])
    ledger.apply(store, [delivery(results=[result(0), result(2)])])

    found = store.waiting(3)

    assert [(each.ordinal, each.attempts, each.uncertain) for each in found] == [
        (1, 2, 1),
        (3, 1, 0),
        (4, 0, 0),
    ]
    assert waiting(store, 1) == [1]
    assert chunk.chunk not in store.chunks_out()


def test_what_is_passed_over_goes_on_waiting(tmp_path: Path) -> None:
    store = publish(tmp_path, 6)
    chosen = [each for each in store.waiting(5) if each.ordinal in (1, 3)]

    store.grant(chosen, Amount(), 1001.0)

    assert waiting(again(store)) == [0, 2, 4, 5]


def test_of_each_model_the_smallest_requests_that_wait_are_found(tmp_path: Path) -> None:
    sizes = [("a", 50), ("b", 10), ("a", 20), ("b", 30), ("a", 40), ("a", 30)]
    lines = [
        request(line, model=model, max_output=size)
        for line, (model, size) in enumerate(sizes, start=1)
    ]
    store = publish(tmp_path, lines)
    store.grant(store.waiting(1), Amount(), 1001.0)

    assert [each.ordinal for each in store.smallest(2)] == [2, 5, 1, 3]


def test_chunk_numbers_are_never_used_twice(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    numbers = []
    for _ in range(4):
        chunk = feed(again(store), 1)
        numbers.append(chunk.chunk)
        store.take_back(chunk)

    assert numbers == [1, 2, 3, 4]


# ── What is out ──────────────────────────────────────────────────────────────────────────────────


def test_a_grant_is_on_the_disk_before_anything_leaves(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)

    chunk = feed(store, 2, Amount(Decimal("7.25"), 900))

    assert again(store).open_chunks() == [chunk]
    assert again(store).exposure() == Amount(Decimal("7.25"), 900)
    assert again(store).job().started_at == 1001.0


def test_exposure_is_what_was_spent_and_booked_and_what_is_left_of_grants(tmp_path: Path) -> None:
    store = publish(tmp_path, 6)
    feed(store, 3, Amount(Decimal(10), 3000))
    feed(store, 3, Amount(Decimal(5), 1000))

    ledger.apply(store, [delivery([call(0, cost="1.5"), call(1, cost=None, bound="4")])])

    job = store.job()
    assert (job.settled_rub, job.booked_rub) == (Decimal("1.5"), Decimal(4))
    # 1.5 and 4 are of the first grant of 10, whose rest is 4.5.
    assert store.exposure() == Amount(Decimal(15), 25 + 300 + (3000 - 325) + 1000)


def test_a_grant_that_was_overdrawn_counts_no_less_than_nothing_e27(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2, Amount(Decimal(3), 100))

    ledger.apply(store, [delivery([call(0, cost="8")])])

    assert store.exposure().rub == Decimal(8)


def test_a_closed_chunk_gives_its_rest_back(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2, Amount(Decimal(10), 1000))

    ledger.apply(store, [answered(chunk, cost="0.25")])

    assert store.exposure() == Amount(Decimal("0.5"), 50)


def test_a_lost_chunk_keeps_what_is_left_of_its_grant(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    chunk = feed(store, 2, Amount(Decimal(10), 1000))
    ledger.apply(store, [delivery([call(0, cost="1")], [result(0)])])

    store.lose(chunk)

    assert waiting(store) == [1, 2, 3]
    assert store.chunks_out() == []
    assert store.exposure().rub == 10
    assert store.lost() == Lost(1, Decimal(9))


def test_what_was_lost_without_a_grant_has_no_figure(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    store.lose(feed(store, 2, Amount(Decimal(10), 1000)))
    store.lose(feed(store, 2))

    assert store.lost() == Lost(2, None)


def test_a_chunk_that_was_closed_meanwhile_is_not_lost(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2)
    ledger.apply(store, [answered(chunk)])

    store.lose(chunk)

    assert (waiting(store), store.lost().chunks) == ([], 0)


def test_a_chunk_that_nobody_took_gives_all_of_it_back(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    chunk = feed(store, 2, Amount(Decimal(10), 1000))

    store.take_back(chunk)

    assert waiting(store) == [0, 1, 2]
    assert store.exposure() == Amount(Decimal(0), 0)
    assert store.open_chunks() == []


def test_the_unfinished_of_a_chunk_are_those_without_a_result(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    chunk = feed(store, 4)
    ledger.apply(store, [delivery(results=[result(0), result(2, code="endpoint.refused")])])

    assert store.unfinished(chunk) == [(1, 0, 0), (3, 0, 0)]
    assert store.under_way() == 2
    assert [each.ordinal for each in store.details(store.unfinished(chunk))] == [1, 3]


def test_a_chunk_that_was_fed_without_a_cap_is_seen_as_such(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    feed(store, 2, Amount(None, 50))

    assert store.unlimited_out(rub=True, tokens=False)
    assert not store.unlimited_out(rub=False, tokens=True)


# ── Poison (FAULTS P12) ──────────────────────────────────────────────────────────────────────────


def test_a_request_whose_calls_nobody_knows_the_end_of_is_set_aside_p12(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    feed(store, 3)
    ledger.apply(store, [delivery(closed=[closing(1, [(0, 3, 3), (1, 2, 2), (2, 1, 0)])])])

    assert store.set_poison_aside(3, 1005.0) == 1
    assert store.set_poison_aside(3, 1006.0) == 0

    assert waiting(store) == [1, 2]
    row = store.db.execute("SELECT * FROM results").fetchone()
    assert (row["ordinal"], row["code"], row["attempts"]) == (0, "system.poison_row", 3)
    assert store.job().failed == 1


# ── Once more ────────────────────────────────────────────────────────────────────────────────────


def test_failed_requests_wait_again_and_keep_their_count_of_calls(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    fail(store, "endpoint.5xx", "endpoint.refused")

    assert store.retry_failed() == 2

    assert [(each.ordinal, each.attempts) for each in store.waiting(2)] == [(0, 1), (1, 1)]
    assert (store.job().failed, store.job().left) == (0, 4)
    assert store.job().settled_rub == 1


def test_only_failures_with_the_named_codes_are_tried_again(tmp_path: Path) -> None:
    store = publish(tmp_path, 3)
    fail(store, "endpoint.5xx", "endpoint.refused", "system.poison_row")

    assert store.retry_failed(("endpoint.5xx", "system.poison_row", "' OR 1=1 --")) == 2

    assert waiting(store) == [0, 2]
    assert store.job().failed == 1


def test_a_failure_that_was_taken_back_does_not_come_back_with_a_second_delivery(
    tmp_path: Path,
) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    failure = delivery([call(0)], [result(0, code="endpoint.5xx")], [closing(1)])
    ledger.apply(store, [failure])

    store.retry_failed()
    ledger.apply(store, [failure])

    assert waiting(store) == [0]
    assert (store.job().failed, store.job().calls) == (0, 1)


def test_a_request_that_is_tried_again_leaves_the_chunk_in_which_it_failed(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    old = feed(store, 2)
    ledger.apply(store, [delivery([call(0)], [result(0, code="endpoint.5xx")])])
    store.retry_failed()

    new = feed(store, 2)
    store.lose(store.open_chunks()[0])

    assert new.requests == [(0, 1, 0)]
    assert store.lost().chunks == 1
    assert old.chunk == 1
    assert waiting(store) == [1]


# ── The job ──────────────────────────────────────────────────────────────────────────────────────


def test_a_job_is_moved_along_lawful_arrows_only(tmp_path: Path) -> None:
    store = publish(tmp_path)

    with pytest.raises(UsageError, match="in_progress cannot become completed"):
        store.set_state(JobState.COMPLETED)
    assert store.job().state is JobState.IN_PROGRESS


def test_a_job_that_somebody_else_has_moved_stays_where_it_is(tmp_path: Path) -> None:
    store = publish(tmp_path)
    again(store).set_state(JobState.PAUSED, reason=PauseReason.USER, text="by hand")

    moved = store.set_state(JobState.FINALIZING, standing=JobState.IN_PROGRESS)

    assert not moved
    assert (store.job().state, store.job().reason_text) == (JobState.PAUSED, "by hand")


def test_a_pause_is_told_with_its_reason_and_forgotten_when_the_job_goes_on(tmp_path: Path) -> None:
    store = publish(tmp_path)

    store.set_state(JobState.PAUSED, reason=PauseReason.KEY_REJECTED, text="401")
    paused = store.job()
    store.set_state(JobState.IN_PROGRESS)

    assert (paused.reason, paused.reason_text) == ("key_rejected", "401")
    assert (store.job().reason, store.job().reason_text) == ("", "")


def test_an_ended_job_has_an_end_and_one_that_goes_on_has_none(tmp_path: Path) -> None:
    store = publish(tmp_path)

    store.set_state(JobState.CANCELLING)
    store.set_state(JobState.CANCELLED, now=1010.0)
    ended = store.job()
    store.set_state(JobState.IN_PROGRESS)

    assert (ended.ended, ended.ended_at) == (True, 1010.0)
    assert (store.job().ended, store.job().ended_at) == (False, None)


def test_the_spec_is_read_once_and_changes_are_seen(tmp_path: Path) -> None:
    store = publish(tmp_path)
    first, second = store.job().spec, store.job().spec

    store.change_spec(spec(tmp_path, name="other"))

    assert first is second
    assert store.job().spec.name == "other"


def test_the_newest_prices_count_and_all_are_kept(tmp_path: Path) -> None:
    store = publish(tmp_path, priced=prices("0.001"))

    store.add_prices(prices("0.003", taken_at=2.0))

    assert store.prices() == prices("0.003", taken_at=2.0)
    assert store.prices_of() == (2.0, 1.0)
    assert store.accepted_prices() == prices("0.001")
    assert [each.taken_at for each in store.all_prices()] == [1.0, 2.0]


def test_a_wish_is_left_for_the_coordinator(tmp_path: Path) -> None:
    store = publish(tmp_path)

    again(store).want("cancel")

    assert store.job().wanted == "cancel"
    assert store.job().id == JOB


# ── Lookups: only as many rows are read as can be asked for ──────────────────────────────────────


def uncertain(ordinal: int, sent_at: float, generation_id: str = "gen") -> Call:
    return call(ordinal, cost=None, sent_at=sent_at, generation_id=generation_id)


def test_the_oldest_calls_that_are_due_are_found_by_how_often_they_were_asked_for(
    tmp_path: Path,
) -> None:
    store = publish(tmp_path, 6)
    feed(store, 6)
    calls = [
        uncertain(0, 30.0),
        uncertain(1, 10.0),
        uncertain(2, 20.0),
        uncertain(3, 10.0, ""),
        uncertain(4, 99.0),
    ]
    ledger.apply(store, [delivery(calls)])
    store.db.execute("UPDATE calls SET lookups = 1 WHERE ordinal = 2")

    found = store.to_ask_for([50.0, 40.0], 10)

    assert [row["ordinal"] for row in found] == [1, 0, 2]
    assert [row["ordinal"] for row in store.to_ask_for([50.0, 10.0], 1)] == [1]


def test_an_answered_call_is_awaited_longer_than_one_that_was_cut(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2)
    ledger.apply(store, [delivery([call(0, cost=None, generation_id="gen", usage=None)])])
    cut = [store.awaits_lookups(answered=2, unanswered=1)]
    store.db.execute("UPDATE calls SET lookups = 1")
    cut.append(store.awaits_lookups(answered=2, unanswered=1))
    store.db.execute("UPDATE calls SET prompt = 5, completion = 5")
    answered_once = store.awaits_lookups(answered=2, unanswered=1)
    store.db.execute("UPDATE calls SET lookups = 2")

    assert cut == [True, False]
    assert answered_once
    assert not store.awaits_lookups(answered=2, unanswered=1)


def test_no_question_of_a_turn_reads_a_table_to_its_end(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    chunk = feed(store, 2)
    asked: list[str] = []
    store.db.set_trace_callback(asked.append)

    store.job()
    store.waiting(2)
    store.open_chunks()
    store.chunks_out()
    store.chunks_untold()
    store.unlimited_out(rub=True, tokens=True)
    store.lost()
    store.exposure()
    store.under_way()
    store.unfinished(chunk)
    store.to_ask_for([1.0, 2.0], 50)
    store.awaits_lookups(answered=2, unanswered=1)
    store.set_poison_aside(3, 1.0)
    store.suspects()
    store.trial_out()
    store.body(0)
    ledger.apply(store, [answered(chunk)])

    store.db.set_trace_callback(None)
    indexed = re.compile(r"SEARCH|SCAN (job|SUBQUERY|CONSTANT|json_each|\d)|.* USING .*INDEX")
    for query in {each for each in asked if each.startswith(("SELECT", "INSERT", "UPDATE"))}:
        plan = [row["detail"] for row in store.db.execute(f"EXPLAIN QUERY PLAN {query}")]
        # What is read in the order that is asked for ends at its limit.
        ends = "LIMIT" in query and not any("TEMP B-TREE" in step for step in plan)
        whole = [step for step in plan if step.startswith("SCAN") and not indexed.match(step)]
        assert ends or not whole, (query, plan)
