"""The rows that a call and its outcome become."""

from __future__ import annotations

from decimal import Decimal

from jobs.budget import Amount
from jobs.outcome import Billing, Outcome
from jobs.result import ResultState
from tests.workers.fakes import COST, MODEL, completion, refusal
from workers.calling.classifier import classify
from workers.calling.endpoint import Answer, Broken, BrokenKind
from workers.delivery.journal import Sent
from workers.delivery.records import call_row, call_without_answer, never_sent, raw_body, result_of

SENT = Sent("box-1", "job", 4, 7, 3, 1, 100.0, MODEL, Amount(Decimal("0.5"), 900))


def judged(answer: Answer) -> Outcome:
    return classify(answer, asked_model=MODEL, now=0.0)


def test_an_answered_call_becomes_a_row_with_its_cost_and_a_completed_result() -> None:
    answer = completion()
    row = call_row(SENT, answer, judged(answer))
    result = result_of(SENT, answer, judged(answer), 200.0)

    assert (row.id, row.ordinal, row.chunk, row.attempt) == ("box-1", 7, 4, 3)
    assert (row.billing, row.cost, row.bound) == (Billing.KNOWN, COST, Decimal("0.5"))
    assert (row.code, row.generation_id) == ("", "gen-body")
    assert (result.state, result.code, result.attempts) == (ResultState.COMPLETED, "", 3)
    assert result.request_id == "req-1"
    assert raw_body(answer, judged(answer)) == answer.body


def test_a_refused_call_becomes_a_free_row_and_a_failed_result() -> None:
    answer = refusal(400, "bad")
    row = call_row(SENT, answer, judged(answer))
    result = result_of(SENT, answer, judged(answer), 200.0)

    assert (row.billing, row.cost, row.code) == (Billing.NONE, None, "endpoint.bad_request")
    assert (result.state, result.code, result.message, result.status) == (
        ResultState.FAILED,
        "endpoint.bad_request",
        "bad",
        400,
    )


def test_a_call_that_broke_keeps_the_id_of_its_headers_and_has_no_body() -> None:
    answer = Broken(BrokenKind.CUT, "cut", 0.1, 200, {"x-generation-id": "gen-9"})
    row = call_row(SENT, answer, judged(answer))

    assert (row.billing, row.generation_id, row.bound_tokens) == (Billing.UNKNOWN, "gen-9", 900)
    assert raw_body(answer, judged(answer)) == b""


def test_a_call_that_was_cut_here_is_booked_at_its_bound() -> None:
    row = call_without_answer(SENT, "gen-9", "drained")

    assert (row.billing, row.bound, row.status) == (Billing.UNKNOWN, Decimal("0.5"), None)
    assert (row.generation_id, row.code) == ("gen-9", "drained")


def test_a_request_that_is_never_sent_again_fails_without_a_call() -> None:
    result = never_sent(7, 2, 200.0)

    assert (result.state, result.code, result.call) == (ResultState.FAILED, "system.uncertain", "")
