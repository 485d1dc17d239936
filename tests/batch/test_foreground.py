"""A foreground run: how it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from batch import foreground
from batch.embedded_redis import OwnServer
from batch.foreground import Interrupts
from batch.local_processes import Crew, Workers
from batch.store.home import Home
from jobs.states import JobState
from tests.batch.making import publish
from tests.conftest import SEAL


class Played:
    """A coordinator whose steps are told beforehand, workers that end at once, and a display."""

    alive = False

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)
        self.said: list[str] = []

    def step(self) -> None:
        self._steps.pop(0)()

    def say(self, text: str) -> None:
        self.said.append(text)

    def nothing(self, *_: object) -> None:
        """What it is asked for otherwise."""

    tend = signal = kill = withdraw = nothing
    away_since = None

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
        yield played, None, interrupts, played

    monkeypatch.setattr(foreground, "_at_work", at_work)
    its = Crew(Home(tmp_path), "", cast("Workers", played), SEAL, "", cast("OwnServer", played))

    if ends:
        assert foreground.run_job(its, store.job()).state is JobState.COMPLETED
        assert played.said == ["all requests are done; writing the files"]
    else:
        with pytest.raises(KeyboardInterrupt):
            foreground.run_job(its, store.job())
        assert played.left == 2
    store.close()
