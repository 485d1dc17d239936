"""By what a job is bound, summed up over its workers."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from batch.watching.bottleneck_summary import ANOTHERS, BoundBy, WaitMeter, told
from batch.watching.progress import at_standstill, progress_of
from jobs.bottleneck import Bound
from jobs.job_options import Limits
from jobs.stall import Stall, Stalled
from tests.batch.making import publish


def test_what_was_waited_for_longest_within_the_last_minute_is_told() -> None:
    meter = WaitMeter()
    for second in range(0, 122, 2):
        # For a minute requests, then tokens, at one of two workers.
        waits = {"rpm": float(min(second, 60)), "tpm": max(second - 60.0, 0.0)}
        meter.note(float(second), {"one": waits, "other": {}})

    bound = meter.bound(Limits(tpm=1000))
    assert bound is not None
    assert told(bound, "job_x").endswith("raise it: nightshift resume job_x --tpm 2000")
    assert bound.cause is Bound.TPM
    assert bound.share == pytest.approx(0.5)
    assert meter.kept == {"rpm": 60.0, "tpm": 60.0}


def test_sums_that_begin_anew_or_jump_count_for_no_longer_than_it_was() -> None:
    meter = WaitMeter()

    meter.note(0.0, {"one": {"rpm": 500.0}})
    new = [
        meter.note(2.0, {"one": {"rpm": 502.0}}),
        meter.note(4.0, {"one": {"rpm": 1.0}}),
        meter.note(6.0, {"one": {"rpm": 1.0, "of another release": 5.0}}),
        meter.note(8.0, {"one": {"rpm": 503.0}}),
    ]

    assert new == [{"rpm": 2.0}, {}, {}, {"rpm": 6.0}]


def test_a_job_that_seldom_waits_is_bound_by_nothing() -> None:
    meter = WaitMeter()
    for second in range(60):
        meter.note(float(second), {"one": {"rpm": second * 0.2}})

    assert meter.bound(Limits()) is None


@pytest.mark.parametrize("cause", Bound)
def test_every_cause_says_what_it_is(cause: Bound) -> None:
    text = told(BoundBy(cause, 0.93, "20"), "job_x")

    assert cause.rule.meaning in text
    assert "(93 % of the last minute)" in text
    assert "{" not in text


@pytest.mark.parametrize("cause", ANOTHERS)
def test_a_limit_that_the_job_does_not_have_is_told_as_anothers(cause: Bound) -> None:
    bound = BoundBy(cause, 0.93)

    assert told(bound, "job_x") == f"bound by {ANOTHERS[cause]} (93 % of the last minute)"
    assert bound.as_json("job_x")["remedy"] == ""


@pytest.mark.parametrize("cause", Bound)
@pytest.mark.parametrize("reason", Stall)
def test_what_a_job_waits_for_travels_as_json(cause: Bound, reason: Stall, tmp_path: Path) -> None:
    progress = progress_of(publish(tmp_path).job(), 0.5, bound=BoundBy(cause, 0.5, "20"))
    stalled = at_standstill(progress, Stalled(reason, 7.0), 8.0)

    told = json.loads(msgspec.json.encode(progress.as_json()))
    assert told["bound"]["text"] == str(cause.rule.meaning)
    assert json.loads(msgspec.json.encode(stalled.as_json()))["stall"]["reason"] == reason
