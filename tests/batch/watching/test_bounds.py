"""By what a job is bound, summed up over its workers."""

from __future__ import annotations

import pytest

from batch.watching.bounds import BoundBy, WaitMeter, told
from jobs.bound import Bound


def test_what_was_waited_for_longest_within_the_last_minute_is_told() -> None:
    meter = WaitMeter()
    for second in range(0, 122, 2):
        # For a minute requests, then tokens, at one of two workers.
        waits = {"rpm": float(min(second, 60)), "tpm": max(second - 60.0, 0.0)}
        meter.note(float(second), {"one": waits, "other": {}})

    bound = meter.bound()
    assert bound is not None
    assert bound.cause is Bound.TPM
    assert bound.share == pytest.approx(0.5)
    assert meter.kept == {"rpm": 60.0, "tpm": 60.0}


def test_sums_that_begin_anew_are_not_taken_for_less() -> None:
    meter = WaitMeter()

    meter.note(0.0, {"one": {"rpm": 500.0}})
    new = [
        meter.note(2.0, {"one": {"rpm": 502.0}}),
        meter.note(4.0, {"one": {"rpm": 1.0}}),
        meter.note(6.0, {"one": {"rpm": 1.0, "of another release": 5.0}}),
    ]

    assert new == [{"rpm": 2.0}, {"rpm": 1.0}, {}]


def test_a_job_that_seldom_waits_is_bound_by_nothing() -> None:
    meter = WaitMeter()
    for second in range(60):
        meter.note(float(second), {"one": {"rpm": second * 0.2}})

    assert meter.bound() is None


@pytest.mark.parametrize("cause", Bound)
def test_every_cause_says_what_it_is(cause: Bound) -> None:
    text = told(BoundBy(cause, 0.93), "job_x")

    assert cause.rule.meaning in text
    assert "(93 % of the last minute)" in text
    assert "{" not in text
