"""All in one: a server, workers and the coordinator of this command's own, until a job rests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

from batch import embedded
from batch.coordinator import Coordinator
from batch.home import Home
from batch.post import Post
from batch.sender import Sender
from batch.settings import Settings
from batch.store.jobstore import JobRow
from batch.terminal import Display, say
from jobs.errors import ServiceUnavailable, UsageError
from jobs.states import JobState, PauseReason

_WORKER_DRAIN_S = 930.0
_CUT_S = 15.0
_MOST_RESTARTS = 20
_BORN_DEAD_S = 3.0


class Workers:
    """Worker processes of this command: started, watched, ended."""

    def __init__(self, count: int, environ: dict[str, str]) -> None:
        self._environ = environ
        self._processes = [self._start() for _ in range(count)]
        self._restarts = 0

    def _start(self) -> tuple[subprocess.Popen[bytes], float]:
        # Its standard input is a pipe of ours: it ends by itself when we are gone, however we went.
        process = subprocess.Popen(
            [sys.executable, "-m", "workers"],
            env=self._environ,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return process, time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether any of them runs."""
        return any(process.poll() is None for process, _ in self._processes)

    def tend(self) -> None:
        """Puts another in the place of one that died; raises where that is of no use."""
        for place, (process, born) in enumerate(self._processes):
            code = process.poll()
            if code is None:
                continue
            if code == UsageError.exit_code:
                raise UsageError("the worker does not start", hint="its reason stands above")
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS or time.monotonic() - born < _BORN_DEAD_S:
                raise ServiceUnavailable(
                    "the worker keeps ending",
                    hint="NIGHTSHIFT_LOG=INFO shows why; then resume the job",
                )
            say("a worker was killed; another goes on, and nothing answered is lost")
            self._processes[place] = self._start()

    def signal(self, number: signal.Signals) -> None:
        """Tells all of them."""
        for process, _ in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def kill(self) -> None:
        """Ends what is left."""
        self.signal(signal.SIGKILL)
        for process, _ in self._processes:
            process.wait()


class Interrupts:
    """Counts Ctrl-C and SIGTERM while a job runs, instead of dying of them."""

    def __init__(self) -> None:
        self.count = 0
        self._old = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def restore(self) -> None:
        """Ctrl-C means what it meant before."""
        for number, handler in self._old.items():
            signal.signal(number, handler)


def run_job(home: Home, settings: Settings, job: JobRow, workers: int) -> JobRow:
    """Works on the job until it ends, is paused for the user, or is interrupted.

    Returns the job as it then stands; `KeyboardInterrupt` after an orderly stop by Ctrl-C.
    """
    url = settings.redis_url or embedded.start_or_find(home.folder)
    post, sender, interrupts, display = Post(url), Sender(url), Interrupts(), Display()
    team: Workers | None = None
    try:
        post.check()
        coordinator = Coordinator(home, post, sender, only=job.id, listen=display.show)
        try:
            team = Workers(workers, _environment(home, url, job.spec.base_url))
            _work(coordinator, team, interrupts, lambda: _rests(home, job.id))
            _wind_up(coordinator, team, interrupts, display)
        finally:
            if team:
                team.kill()
            coordinator.close()
    finally:
        display.close()
        interrupts.restore()
        post.close()
        sender.close()
        if settings.redis_url is None:
            embedded.leave(url)
    if interrupts.count:
        raise KeyboardInterrupt
    return _row(home, job.id)


def _work(
    coordinator: Coordinator, team: Workers, interrupts: Interrupts, rests: Callable[[], bool]
) -> None:
    while not interrupts.count and not rests():
        coordinator.step()
        team.tend()


def _wind_up(
    coordinator: Coordinator, team: Workers, interrupts: Interrupts, display: Display
) -> None:
    """Calls in flight end and their answers come home; a second Ctrl-C cuts them."""
    stopped, heard = time.monotonic(), interrupts.count
    if heard:
        display.close()
        say("stopping: calls in flight are let end; Ctrl-C again cuts them (they may be billed)")
    team.signal(signal.SIGTERM)
    while team.alive and time.monotonic() - stopped < _WORKER_DRAIN_S:
        coordinator.step()
        if interrupts.count > heard:
            team.signal(signal.SIGQUIT)
            stopped, heard = time.monotonic() - _WORKER_DRAIN_S + _CUT_S, 10**9


def _rests(home: Home, job_id: str) -> bool:
    """Whether nothing more happens to the job without the user."""
    job = _row(home, job_id)
    waits = job.state is JobState.PAUSED and job.reason != PauseReason.WINDOW_CLOSED
    return job.ended or waits


def _row(home: Home, job_id: str) -> JobRow:
    store = home.open(job_id, read_only=True)
    try:
        return store.job()
    finally:
        store.close()


def _environment(home: Home, url: str, base_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "NIGHTSHIFT_REDIS_URL": url,
        "NIGHTSHIFT_BASE_URL": base_url,
        "NIGHTSHIFT_HOME": str(home.folder),
        "NIGHTSHIFT_TIED": "1",
    }
