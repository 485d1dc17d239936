"""Refusals that are alike in a row are a fault of the job, not of each request (E33)."""

from __future__ import annotations

import pytest

from jobs.outcome import NOT_BILLED, Answered, Outcome, Refused, Retry, RetryKind, Stop
from jobs.states import PauseReason
from workers.pacing.storm import MISSING_MODEL, NO_MODEL, Storms

BAD = Refused("endpoint.bad_request", "temperature must be below 2")
MISSING = Refused(NO_MODEL, "no such model")
GOOD = Answered(NOT_BILLED)
BUSY = Retry(RetryKind.THROTTLED, "endpoint.rate_limited", "slow down")


def stops(*outcomes: Outcome, most: int = 10, in_flight: int = 0) -> list[int]:
    """At which of the outcomes the job stops."""
    storms = Storms()
    judged = [
        storms.judge("job", "model", each, most=most, in_flight=in_flight) for each in outcomes
    ]
    return [place for place, each in enumerate(judged) if isinstance(each, Stop)]


def test_so_many_refusals_alike_in_a_row_stop_the_job() -> None:
    assert stops(*[BAD] * 12) == [9, 10, 11]
    assert stops(*[BAD] * 3, most=3) == [2]


def test_the_pause_tells_what_the_endpoint_said_and_how_to_go_on() -> None:
    storms = Storms()
    stop = storms.judge("job", "model", BAD, most=1, in_flight=0)
    assert isinstance(stop, Stop)
    assert stop.reason is PauseReason.MISCONFIGURED
    for told in ("temperature must be below 2", "--retry-failed", "--max-refusals 0"):
        assert told in stop.message


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(GOOD, id="an answer"),
        pytest.param(Refused("endpoint.moderation", "flagged"), id="a refusal of another kind"),
    ],
)
def test_what_comes_between_begins_the_count_anew(between: Outcome) -> None:
    assert stops(*[BAD] * 9, between, *[BAD] * 9) == []


def test_what_is_tried_again_neither_counts_nor_ends_the_row() -> None:
    assert stops(*[BAD] * 5, *[BUSY] * 20, *[BAD] * 5) == [29]


def test_refusals_come_sooner_than_answers_so_they_must_outnumber_what_is_in_flight() -> None:
    assert stops(*[BAD] * 40, in_flight=40) == []
    assert stops(*[BAD] * 42, in_flight=40) == [40, 41]


def test_e33_a_missing_model_is_believed_soon_and_whatever_else_is_in_flight() -> None:
    assert stops(*[MISSING] * 4, in_flight=200) == [MISSING_MODEL - 1, MISSING_MODEL]


def test_nothing_stops_a_job_that_asked_for_it_but_a_missing_model() -> None:
    assert stops(*[BAD] * 500, most=0) == []
    assert stops(*[MISSING] * 3, most=0) == [2]


def test_jobs_and_models_are_counted_apart_and_forgotten() -> None:
    storms = Storms()
    for job, model in [("a", "m"), ("a", "n"), ("b", "m")] * 9:
        assert storms.judge(job, model, BAD, most=10, in_flight=0) is BAD
    storms.forget("a")
    assert storms.judge("a", "m", BAD, most=10, in_flight=0) is BAD
    assert isinstance(storms.judge("b", "m", BAD, most=10, in_flight=0), Stop)
