"""The one rule by which a job stands still."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.lifecycle import needs_action, shown
from jobs.pause_reasons import PauseReason
from jobs.stall import SILENT_S, UNMANNED_S, Signs, Stall, stalled
from jobs.states import JobState

NOW = 1000.0
LATE = NOW - 10.0
"""What somebody who looks must be told of by then."""

WAYS: list[tuple[Stall, dict[str, Any]]] = [
    (Stall.COPIED, {"uncoordinated_since": LATE, "is_copied": True}),
    (Stall.NO_COORDINATOR, {"uncoordinated_since": LATE}),
    (Stall.REDIS_AWAY, {"redis_away_since": LATE}),
    (Stall.JOB_UNUSABLE, {"unusable_since": LATE}),
    (Stall.COORDINATOR_SILENT, {"silent_since": LATE}),
    (Stall.NO_WORKER, {"unmanned_since": LATE}),
    (Stall.NO_PROGRESS, {"still_since": LATE - 60.0, "slowest_s": 60.0}),
]


@pytest.mark.parametrize(("way", "signs"), WAYS)
def test_each_way_is_told_within_ten_seconds(way: Stall, signs: dict[str, Any]) -> None:
    found = stalled(JobState.IN_PROGRESS, "", Signs(**signs), NOW)

    assert found is not None
    assert (found.reason, found.since) == (way, next(iter(signs.values())))
    assert shown(JobState.IN_PROGRESS, "", found) == "stalled"
    assert needs_action(JobState.IN_PROGRESS, "", found)
    assert way.rule.meaning
    assert way.rule.cure
    assert way.rule.command


@pytest.mark.parametrize(("way", "signs"), WAYS[:5])
def test_a_clock_that_was_set_back_hides_none(way: Stall, signs: dict[str, Any]) -> None:
    later = signs | {next(iter(signs)): NOW + 3600}

    found = stalled(JobState.IN_PROGRESS, "", Signs(**later), NOW)

    assert found is not None
    assert (found.reason, found.since) == (way, NOW)


@pytest.mark.parametrize(("way", "signs"), WAYS)
def test_a_sign_of_this_very_moment_is_none(way: Stall, signs: dict[str, Any]) -> None:
    # The time of day is read once before the signs are, and once for them.
    noted = signs | {next(iter(signs)): NOW + 0.001}

    assert stalled(JobState.IN_PROGRESS, "", Signs(**noted), NOW) is None, way


def test_of_several_ways_the_root_is_told() -> None:
    signs = Signs(**{name: value for _, each in WAYS for name, value in each.items()})

    found = stalled(JobState.IN_PROGRESS, "", signs, NOW)

    assert found is not None
    assert found.reason is Stall.COPIED


@pytest.mark.parametrize(
    "signs",
    [
        {"silent_since": NOW - SILENT_S + 1},
        {"unmanned_since": NOW - UNMANNED_S + 1},
        {"still_since": NOW - 65.0, "slowest_s": 60.0},
    ],
)
def test_what_may_be_a_moment_only_is_not_told(signs: dict[str, Any]) -> None:
    assert stalled(JobState.IN_PROGRESS, "", Signs(**signs), NOW) is None


@pytest.mark.parametrize(
    ("state", "reason", "stands"),
    [
        (JobState.COMPLETED, "", False),
        (JobState.PAUSED, PauseReason.USER, False),
        (JobState.PAUSED, PauseReason.BUDGET_EXHAUSTED, False),
        (JobState.PAUSED, PauseReason.WINDOW_CLOSED, True),
        (JobState.CANCELLING, "", True),
    ],
)
def test_only_a_job_that_should_go_on_can_stand_still(
    state: JobState, reason: str, stands: bool
) -> None:
    found = stalled(state, reason, Signs(uncoordinated_since=LATE), NOW)

    assert (found is not None) is stands


@pytest.mark.parametrize("signs", [signs for way, signs in WAYS[-2:]])
def test_a_scheduled_job_needs_no_worker(signs: dict[str, Any]) -> None:
    assert stalled(JobState.PAUSED, PauseReason.WINDOW_CLOSED, Signs(**signs), NOW) is None
