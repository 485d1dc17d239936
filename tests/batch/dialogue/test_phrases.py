"""How a job's progress is put into words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from batch.dialogue.phrases import sentence
from batch.watching.progress import progress_of
from jobs.states import JobState
from tests.batch.making import publish


def test_when_all_answers_are_there_none_is_in_flight_whatever_workers_told_before(
    tmp_path: Path,
) -> None:
    job = replace(publish(tmp_path, 10).job(), state=JobState.IN_PROGRESS, completed=4)

    under_way = sentence(progress_of(job, 1.0, in_flight=3))
    over = sentence(progress_of(replace(job, completed=10), 1.0, in_flight=3))

    assert "3 in flight" in under_way
    assert "in flight" not in over
