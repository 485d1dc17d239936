"""The workers of a foreground command: put back when they die, and not without end."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from batch import local_processes
from batch.local_processes import Workers
from jobs.errors import NightshiftError, ServiceUnavailable, StorageUnavailable

KILLED = "import os; os.kill(os.getpid(), 9)"


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Workers]]:
    """Makes a team whose workers do no more than this."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    started: list[Workers] = []

    def start(program: str, said: list[str], *, patient: bool = False) -> Workers:
        (tmp_path / "workers" / "__main__.py").write_text(program)
        environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
        started.append(Workers(1, environ, said.append, patient=patient))
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


def test_a_server_rests_longer_and_longer_between_workers_that_are_killed_and_goes_on(
    team: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(local_processes, "time", clock)
    said: list[str] = []
    rests: list[int] = []
    workers = team(KILLED, said, patient=True)

    def rested() -> bool:
        clock.now = float(sum(rests))
        rests[:] = map(int, re.findall(r"starting another in (\d+) s", "\n".join(said)))
        return len(rests) == 7

    assert tend_until(workers, rested) is None
    assert rests == [2, 4, 8, 16, 32, 60, 60]
    workers.tend(lambda: 0)
    assert not workers.alive
    clock.now += 60
    workers.tend(lambda: 0)
    assert len(re.findall("another has taken over", "\n".join(said))) == 6
    assert tend_until(workers, lambda: "starting another in 60 s" in said[-2]) is None


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
