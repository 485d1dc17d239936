"""The workers of a foreground run: put back when they die, and not without end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from batch import local
from batch.local import Interrupts, Workers
from batch.store.home import Home
from jobs.errors import NightshiftError, ServiceUnavailable, StorageUnavailable
from jobs.states import JobState
from tests.batch.making import publish

KILLED = "import os; os.kill(os.getpid(), 9)"


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Workers]]:
    """Makes a team whose workers do no more than this."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    started: list[Workers] = []

    def start(program: str, said: list[str]) -> Workers:
        (tmp_path / "workers" / "__main__.py").write_text(program)
        environ = {**os.environ, "PYTHONPATH": ""}
        started.append(Workers(1, environ, said.append))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def tend_until(
    one: Workers, over: Callable[[], bool], finished: Callable[[], int] = lambda: 0
) -> NightshiftError | None:
    """Tends until it is of no use, or over."""
    deadline = time.monotonic() + 60
    while not over() and time.monotonic() < deadline:
        try:
            one.tend(finished)
        except NightshiftError as error:
            return error
        time.sleep(0.02)
    return None


def test_a_worker_that_is_killed_again_and_again_with_nothing_done_ends_the_run(
    team: Callable[..., Workers],
) -> None:
    said: list[str] = []

    error = tend_until(team(KILLED, said), lambda: False)

    assert isinstance(error, ServiceUnavailable)
    assert "keeps being killed (signal 9)" in error.message
    assert "--max-in-flight" in error.hint
    assert len(said) == 6


def test_as_long_as_requests_are_done_between_deaths_another_worker_goes_on(
    team: Callable[..., Workers],
) -> None:
    said: list[str] = []

    error = tend_until(team(KILLED, said), lambda: len(said) > 12, lambda: len(said))

    assert error is None


def test_a_worker_whose_disk_fails_ends_the_run_with_its_words(
    team: Callable[..., Workers],
) -> None:
    said: list[str] = []
    program = 'import sys; print("the disk is full", file=sys.stderr); sys.exit(4)'

    error = tend_until(team(program, said), lambda: False)

    assert isinstance(error, StorageUnavailable)
    assert error.exit_code == 4
    assert said == ["  worker: the disk is full"]


class Played:
    """A coordinator whose steps are told beforehand, and workers that end at once."""

    alive = False

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)

    def step(self) -> None:
        self._steps.pop(0)()

    def nothing(self, *_: object) -> None:
        """What it is asked for otherwise."""

    tend = signal = kill = withdraw = nothing

    @property
    def left(self) -> int:
        return len(self._steps)


@pytest.mark.parametrize(("times", "ends"), [(1, True), (2, False)])
def test_p10_one_ctrl_c_while_files_are_written_does_not_keep_a_job_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, *, ends: bool
) -> None:
    store = publish(tmp_path, 1)
    interrupts = Interrupts()

    def press() -> None:
        for _ in range(times):
            interrupts.hear(signal.SIGINT, None)

    played = Played(
        lambda: store.set_state(JobState.FINALIZING, standing=JobState.IN_PROGRESS),
        press,
        lambda: None,
        lambda: store.set_state(JobState.COMPLETED, standing=JobState.FINALIZING),
    )

    @contextmanager
    def at_work(*_: object) -> Iterator[tuple[object, ...]]:
        yield played, None, interrupts, None

    monkeypatch.setattr(local, "_at_work", at_work)
    its = local.Crew(Home(tmp_path), "", cast("Workers", played))

    if ends:
        assert local.run_job(its, store.job()).state is JobState.COMPLETED
    else:
        with pytest.raises(KeyboardInterrupt):
            local.run_job(its, store.job())
        assert played.left == 2
    store.close()
