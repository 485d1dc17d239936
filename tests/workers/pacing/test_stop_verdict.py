"""A stop is a verdict over time: one row and one moment never stop a job (E30 to E33)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.outcome import NOT_BILLED, Answered, Outcome, Refused, Retry, RetryKind, Stop
from jobs.pause_reasons import PauseReason
from tests.workers.fakes import JOB, MODEL, OTHER_JOB, payload, work
from workers.pacing.stop_verdict import MOST_APART, NO_MODEL, Judge
from workers.pending import PendingRequest, RunningChunk

OTHER_MODEL = "example/other"
BAD = Refused("endpoint.bad_request", "temperature must be below 2")
MISSING = Refused(NO_MODEL, "no such model")
GOOD = Answered(NOT_BILLED)
KEY = Stop(PauseReason.KEY_REJECTED, "endpoint.key_rejected", "User not found.")
PAGE = Stop(PauseReason.MISCONFIGURED, "endpoint.wrong_address", "404 page")
FIREWALL = Stop(PauseReason.MISCONFIGURED, "endpoint.blocked", "Access denied")
BUSY = Retry(RetryKind.THROTTLED, "endpoint.rate_limited", "slow down")
NO_QUOTA = Retry(RetryKind.THROTTLED, "endpoint.no_quota", "limit: 0", after=38.0)


class Court:
    """A judge, a clock, and the requests that stand before it."""

    def __init__(self, **terms: Any) -> None:
        self.now = 1000.0
        self.judge = Judge(lambda: self.now)
        self._terms = terms
        self._requests: dict[tuple[str, str, int], PendingRequest] = {}

    def __call__(
        self, outcome: Outcome, row: int = 0, *, model: str = MODEL, job: str = JOB, **more: Any
    ) -> Outcome:
        in_flight = more.pop("in_flight", 0)
        key = job, model, row
        if key not in self._requests:
            chunk = RunningChunk(payload(work(row), job=job, **self._terms))
            request = PendingRequest.of(chunk, work(row, **more))
            self._requests[key] = replace(request, model=model, calls=0)
        return self.judge.judge(self._requests[key], outcome, in_flight=in_flight)

    def stops(self, *outcomes: Outcome, in_flight: int = 0) -> list[int]:
        """At which of the outcomes, each of another request, the job stops."""
        judged = [self(each, row, in_flight=in_flight) for row, each in enumerate(outcomes)]
        return [place for place, each in enumerate(judged) if isinstance(each, Stop)]


def is_doubted(outcome: Outcome) -> bool:
    return isinstance(outcome, Retry) and outcome.kind is RetryKind.DOUBTED


# ── Stops ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stop", [KEY, PAGE, FIREWALL, MISSING])
def test_before_anything_is_answered_it_is_believed_thrice_over_two_seconds(stop: Outcome) -> None:
    court = Court()

    assert all(is_doubted(court(stop, row)) for row in range(5))
    court.now += 2.0
    assert isinstance(court(stop, 0), Stop)


@pytest.mark.parametrize(("stop", "patience"), [(KEY, 60), (PAGE, 600)])
def test_among_answers_it_passes_and_what_persists_stops(stop: Stop, patience: float) -> None:
    court = Court()
    court(GOOD)
    for row in range(1, 9):
        assert is_doubted(court(stop, row))
    court.now += patience - 1
    assert is_doubted(court(stop, 9))
    court.now += 1

    assert court(stop, 10) == stop


def test_an_answer_ends_all_doubts() -> None:
    court = Court()
    for _ in range(20):
        court(GOOD)
        court.now += 30
        assert is_doubted(court(KEY, 1)) or isinstance(court(KEY, 1), Refused)


def test_how_often_and_how_long_are_what_the_user_says() -> None:
    court = Court(stop_after_rows=2, stop_after_s=5.0)
    court(GOOD)
    assert is_doubted(court(KEY, 1))
    court.now += 5

    assert court(KEY, 2) == KEY


def test_what_one_request_alone_gets_is_its_own() -> None:
    court = Court()
    for _ in range(MOST_APART):
        court(GOOD, 1)
        court.now += 1
        assert is_doubted(court(KEY, 2))
        court.now += 1
    court(GOOD, 1)
    court.now += 1

    assert court(KEY, 2) == Refused(KEY.code, KEY.message)


def test_a_firewalls_page_is_of_that_text_where_others_are_answered() -> None:
    court, last = Court(), Court()
    last(GOOD)
    for _ in range(3):
        court(GOOD)
        court.now += 1
        # It may be a moment's page of a gateway.
        assert is_doubted(court(FIREWALL, 1))
        assert is_doubted(last(FIREWALL, 1))
        court.now += 1
    court(GOOD)

    for one in (court, last):
        assert one(FIREWALL, 1) == Refused("endpoint.forbidden", "Access denied")


def test_the_last_request_stops_the_job_once_and_ends_after_the_resume() -> None:
    court = Court(answered=True)
    assert is_doubted(court(KEY, 1))
    for _ in range(5):
        court.now += 20
        outcome = court(KEY, 1)
    assert isinstance(outcome, Stop)

    resumed = Court(answered=True)
    for _ in range(6):
        outcome = resumed(KEY, 1, attempts=6)
        resumed.now += 20
    assert isinstance(outcome, Refused)


def test_a_balance_that_is_told_to_be_empty_is_believed_soon() -> None:
    stop = Stop(
        PauseReason.INSUFFICIENT_BALANCE, "endpoint.insufficient_balance", "no", is_sure=True
    )
    court = Court()
    court(GOOD)
    assert all(is_doubted(court(stop, row)) for row in range(1, 4))
    court.now += 2

    assert isinstance(court(stop, 4), Stop)


def test_where_other_models_are_answered_only_that_model_stops() -> None:
    court = Court()
    court(GOOD, 0)
    for row in range(1, 9):
        court(KEY, row)
        court.now += 10
        court(GOOD, 0, model=OTHER_MODEL)
    outcome = court(KEY, 9)

    assert isinstance(outcome, Stop)
    assert outcome.model == MODEL


# ── Waits ────────────────────────────────────────────────────────────────────────────────────────


def test_endless_limits_of_one_model_end_in_a_stop_of_that_model_with_the_words() -> None:
    court = Court()
    for row in range(9):
        assert court(NO_QUOTA, row) == NO_QUOTA
        court.now += 10
    court.now += 38
    outcome = court(NO_QUOTA, 9)

    assert isinstance(outcome, Stop)
    assert (outcome.reason, outcome.model) == (PauseReason.RATE_LIMITED, MODEL)
    assert outcome.message == "limit: 0"


def test_a_limit_that_named_its_end_is_waited_for_until_then() -> None:
    court = Court()
    hours = Retry(RetryKind.THROTTLED, "endpoint.rate_limited", "a day's limit", after=6 * 3600.0)
    for row in range(9):
        assert court(hours, row) == hours
    court.now += 5 * 3600

    assert court(hours, 1) == hours
    assert court(GOOD) == GOOD


def test_limits_between_answers_are_no_reason_to_stop() -> None:
    court = Court()
    for row in range(200):
        court(GOOD, row)
        assert court(BUSY, row + 1) == BUSY
        court.now += 60


# ── Refusals alike ───────────────────────────────────────────────────────────────────────────────


def test_so_many_refusals_alike_in_a_row_stop_the_job() -> None:
    assert Court().stops(*[BAD] * 12) == [9, 10, 11]
    assert Court(max_refusals=3).stops(*[BAD] * 3) == [2]
    assert Court(max_refusals=0).stops(*[BAD] * 500) == []


def test_the_pause_tells_what_the_endpoint_said_and_how_to_go_on() -> None:
    stop = Court(max_refusals=1)(BAD)

    assert isinstance(stop, Stop)
    for told in ("temperature must be below 2", "--retry failed", "--max-refusals 0"):
        assert told in stop.message


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(GOOD, id="an answer"),
        pytest.param(Refused("endpoint.moderation", "flagged"), id="a refusal of another kind"),
    ],
)
def test_what_comes_between_begins_the_count_anew(between: Outcome) -> None:
    assert Court().stops(*[BAD] * 9, between, *[BAD] * 9) == []


def test_what_is_tried_again_neither_counts_nor_ends_the_row() -> None:
    assert Court().stops(*[BAD] * 5, *[BUSY] * 20, *[BAD] * 5) == [29]


def test_refusals_come_sooner_than_answers_so_they_must_outnumber_what_is_in_flight() -> None:
    assert Court().stops(*[BAD] * 40, in_flight=40) == []
    assert Court().stops(*[BAD] * 42, in_flight=40) == [40, 41]


def test_jobs_and_models_are_counted_apart_and_forgotten() -> None:
    court = Court()
    for row in range(9):
        for job, model in [(JOB, MODEL), (JOB, OTHER_MODEL), (OTHER_JOB, MODEL)]:
            assert court(BAD, row, model=model, job=job) is BAD
    court.judge.forget(JOB)

    assert court(BAD, 10) is BAD
    assert isinstance(court(BAD, 10, job=OTHER_JOB), Stop)
