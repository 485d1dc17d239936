"""What follows when the calls of a job have ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from jobs.job_options import Spec
from jobs.lifecycle import Job, due, ending, is_cut_short
from jobs.pause_reasons import PauseReason
from jobs.states import JobState


@dataclass
class Row:
    state: JobState
    left: int
    reason: str = ""
    spec: Spec = Spec(name="n", source="s", output_dir="/out", base_url="http://127.0.0.1:1/v1")  # noqa: RUF009


@pytest.mark.parametrize(
    ("state", "left", "after"),
    [
        (JobState.IN_PROGRESS, 0, JobState.FINALIZING),
        (JobState.IN_PROGRESS, 1, None),
        (JobState.FINALIZING, 0, JobState.COMPLETED),
        # A retry came while the files were written.
        (JobState.FINALIZING, 1, JobState.IN_PROGRESS),
        (JobState.CANCELLING, 1, JobState.CANCELLED),
    ],
)
def test_what_is_asked_again_while_the_files_are_written_is_sent(
    state: JobState, left: int, after: JobState | None
) -> None:
    job = cast(Job, Row(state, left))
    assert ending(job, is_out=False, is_settled=True) is after


@pytest.mark.parametrize(
    ("state", "reason", "cut"),
    [
        (JobState.PAUSED, PauseReason.DEADLINE, True),
        (JobState.PAUSED, PauseReason.USER, False),
        (JobState.EXPIRED, "", True),
        # As the store keeps it after a command that came in between.
        (JobState.IN_PROGRESS, PauseReason.DEADLINE, False),
    ],
)
def test_only_the_deadline_cuts_a_job_short(state: JobState, reason: str, *, cut: bool) -> None:
    assert is_cut_short(cast(Job, Row(state, 1, reason))) is cut
    assert not is_cut_short(cast(Job, Row(state, 0, reason)))


def test_a_deadline_that_passes_pauses_a_job_at_work_and_no_other() -> None:
    now = datetime(2026, 5, 4, 7, tzinfo=UTC)
    spec = Row(JobState.IN_PROGRESS, 1).spec.model_copy(update={"deadline": now})

    def reason(state: JobState, left: int = 1, at: datetime = now) -> PauseReason | None:
        found = due(cast(Job, Row(state, left, spec=spec)), at)
        return found.reason if found else None

    assert reason(JobState.IN_PROGRESS) is PauseReason.DEADLINE
    assert reason(JobState.IN_PROGRESS, at=now - timedelta(seconds=1)) is None
    assert reason(JobState.IN_PROGRESS, left=0) is None
    assert {reason(state) for state in (JobState.COMPLETED, JobState.CANCELLING)} == {None}
