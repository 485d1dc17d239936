"""The arrows between a job's states, as `jobs.states` draws them."""

from __future__ import annotations

from itertools import product

import pytest

from jobs.errors import UsageError
from jobs.pause_reasons import PauseReason
from jobs.states import ENDED, JobState, check_arrow

S = JobState
ARROWS = {
    (S.VALIDATING, S.IN_PROGRESS),
    (S.VALIDATING, S.FAILED),
    (S.VALIDATING, S.CANCELLING),
    (S.IN_PROGRESS, S.FINALIZING),
    (S.IN_PROGRESS, S.PAUSED),
    (S.IN_PROGRESS, S.CANCELLING),
    (S.IN_PROGRESS, S.EXPIRED),
    (S.PAUSED, S.IN_PROGRESS),
    (S.PAUSED, S.CANCELLING),
    (S.PAUSED, S.EXPIRED),
    (S.FINALIZING, S.COMPLETED),
    (S.FINALIZING, S.IN_PROGRESS),
    (S.CANCELLING, S.CANCELLED),
    (S.CANCELLING, S.IN_PROGRESS),
    (S.COMPLETED, S.IN_PROGRESS),
    (S.CANCELLED, S.IN_PROGRESS),
    (S.EXPIRED, S.IN_PROGRESS),
}


@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_a_job_goes_along_the_drawn_arrows_and_along_no_other(old: JobState, new: JobState) -> None:
    if (old, new) in ARROWS:
        check_arrow(old, new)
        return
    with pytest.raises(UsageError, match=f"a job that is {old} cannot become {new}"):
        check_arrow(old, new)


def test_a_refused_job_never_begins() -> None:
    assert not [new for old, new in ARROWS if old is S.FAILED]


def test_every_state_can_come_to_an_end() -> None:
    reached = set(ENDED)
    while found := {old for old, new in ARROWS if new in reached} - reached:
        reached |= found

    assert reached == set(JobState)


def test_states_and_reasons_are_told_in_the_words_of_the_batch_api() -> None:
    assert {state.value for state in ENDED} == {"completed", "cancelled", "failed", "expired"}
    assert PauseReason.BUDGET_EXHAUSTED.value == "budget_exhausted"
