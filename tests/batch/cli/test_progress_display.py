"""Progress where there is no terminal: a line of a log says that something happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batch.cli.progress_display import Display
from batch.cli.terminal import PLAIN_EVERY_S
from batch.store.home import Home
from batch.watching.progress import Progress, progress_of
from jobs.states import JobState
from jobs.worker_heartbeat import Wait
from tests.batch.making import JOB, publish


class Log:
    """What a display writes into a log file, as time goes by."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._capsys = capsys
        self._display = Display(Home(home), stop="nightshift pause latest")
        self._now = 0.0
        monkeypatch.setattr("batch.cli.progress_display.time.monotonic", lambda: self._now)

    def lines(self, progress: Progress, seconds: float) -> list[str]:
        for _second in range(round(seconds)):
            self._now += 1
            self._display.show(progress)
        return self._capsys.readouterr().err.splitlines()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Log:
    return Log(tmp_path, monkeypatch, capsys)


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    job = replace(publish(tmp_path, 100).job(), state=JobState.IN_PROGRESS, completed=10)
    return progress_of(job, 1.0, in_flight=3, workers=1)


def test_a_night_of_waiting_is_one_line(log: Log, progress: Progress) -> None:
    assert len(log.lines(progress, 3600)) == 1

    slower = replace(progress, rate=0.2, left_s=450.0, done_at=1e9, in_flight=1)
    assert log.lines(slower, 3600) == []


def test_what_was_done_is_told_now_and_then(log: Log, progress: Progress) -> None:
    log.lines(progress, 1)
    told = [
        line for done in range(60) for line in log.lines(replace(progress, completed=10 + done), 1)
    ]
    assert len(told) == 60 // PLAIN_EVERY_S


def test_another_state_is_told_at_once_and_another_try_of_a_wait_is_not(
    log: Log, progress: Progress
) -> None:
    log.lines(progress, 1)
    waits = replace(progress, wait=Wait("endpoint.rate_limited", "slow", 9e9, 1e9))

    (line,) = log.lines(waits, 1)
    assert "(slow)" in line
    again = [
        replace(waits, wait=Wait("endpoint.rate_limited", "slow", 9e9, 1e9 + n)) for n in (1, 2)
    ]
    assert [log.lines(each, 100) for each in again] == [[], []]
    (line,) = log.lines(replace(progress, state="paused", reason="user"), 1)
    assert line.startswith("paused")


def test_of_cut_answers_it_is_told_what_stops_the_job_and_a_limit_that_would_do(
    log: Log, progress: Progress
) -> None:
    told = log.lines(replace(progress, truncated=10), 2)

    command = f"nightshift resume {JOB} --retry truncated --max-tokens 4000"
    assert told[0].endswith(f"with a higher limit: nightshift pause latest, then {command}")
    assert "truncated" not in told[1]
