"""How a job's progress is put into words."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from msgspec import structs

from batch.cli.progress_text import sentence, shown_state, standing_of
from batch.watching.progress import progress_of
from jobs.states import JobState
from jobs.worker_heartbeat import Wait
from tests.batch.making import publish


def test_when_all_answers_are_there_none_is_in_flight_whatever_workers_told_before(
    tmp_path: Path,
) -> None:
    job = replace(publish(tmp_path, 10).job(), state=JobState.IN_PROGRESS, completed=4)

    under_way = sentence(progress_of(job, 1.0, in_flight=3))
    over = sentence(progress_of(replace(job, completed=10), 1.0, in_flight=3))

    assert "3 in flight" in under_way
    assert "in flight" not in over


def test_a_job_that_stops_has_the_time_left_of_its_calls_and_no_end(tmp_path: Path) -> None:
    job = replace(publish(tmp_path, 1000).job(), state=JobState.IN_PROGRESS, completed=40)

    stops = progress_of(job, 0.5, in_flight=6, stopping=True, calls_left_s=12.0)
    cancelled = replace(job, state=JobState.CANCELLING)

    for progress in (stops, progress_of(cancelled, 0.5, in_flight=6, calls_left_s=12.0)):
        assert "12 s left" in sentence(progress)
        assert "6 in flight" in sentence(progress)
        assert (progress.left_s, progress.done_at) == (12.0, None)
    assert shown_state(stops) == standing_of(stops) == "stopping"
    assert progress_of(job, 0.5, stopping=True).left_s is None


NOW = 1_795_600_000.0
SAID = "HTTP 429: slow\x1b[31m down"


@pytest.mark.parametrize(
    ("wait", "told"),
    [
        (Wait("endpoint.5xx", SAID), "endpoint down, retrying (HTTP 429: slow\\x1b[31m down)"),
        (Wait("endpoint.key_rejected", SAID), "retrying (HTTP 429: slow\\x1b[31m down)"),
        (Wait("endpoint.rate_limited", SAID, NOW, NOW), "waiting until {until} (HTTP 429: slow"),
        (
            Wait("endpoint.rate_limited", SAID, NOW, NOW - 3600),
            "asked to wait until {until}, next attempt at {next} (HTTP 429: slow",
        ),
    ],
)
def test_what_holds_a_job_up_is_told_in_the_endpoints_words(
    tmp_path: Path, wait: Wait, told: str
) -> None:
    job = replace(publish(tmp_path, 10).job(), state=JobState.IN_PROGRESS, completed=4)
    until, asking = (datetime.fromtimestamp(at).astimezone() for at in (NOW, NOW - 3600))

    progress = progress_of(job, 0.0, workers=1, down_s=9.0, wait=wait)

    form = "%Y-%m-%d %H:%M %Z"  # it is long ago
    expected = told.format(until=f"{until:{form}}", next=f"{asking:{form}}")
    assert expected in sentence(progress)
    document = progress.as_json()
    assert document["wait"] == {
        name: each for name, each in structs.asdict(wait).items() if name != "data"
    }
    assert document["reason_text"] == SAID


def test_a_job_that_rests_waits_for_nothing_else(tmp_path: Path) -> None:
    job = replace(publish(tmp_path, 10).job(), state=JobState.PAUSED, reason="user")

    assert progress_of(job, 0.0, wait=Wait("endpoint.5xx", SAID)).wait is None
