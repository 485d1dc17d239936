"""All in one: a server, workers and the coordinator of this command's own, until a job rests."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO

from batch import embedded
from batch.coordinator.post import Post
from batch.coordinator.sender import Sender
from batch.coordinator.service import Coordinator
from batch.dialogue.display import Display, LogLines
from batch.dialogue.terminal import Say, safe, say
from batch.language import _, again
from batch.settings import Settings
from batch.store.home import Home
from batch.store.jobstore import JobRow
from jobs.errors import ServiceUnavailable, StorageUnavailable, UsageError
from jobs.money import plain
from jobs.states import JobState

_WORKER_DRAIN_S = 930.0
_CUT_S = 15.0
_MOST_IN_VAIN = 6
"""Workers that ended one after the other with not one more request done. A request that kills its
worker is set aside at its third.
"""

SETTLE_S = 60.0
_LOOKUPS_AT_ONCE = 50
_BORN_DEAD_S = 3.0
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [\w.]+: ")
"""What stands before a worker's words in its log; a person at a terminal needs none of it."""


class Workers:
    """Worker processes of this command: started, watched, ended; `tell` gets what they say."""

    def __init__(self, count: int, environ: dict[str, str], tell: Say) -> None:
        self.tell = tell
        self._environ = environ
        self._done = -1
        self._in_vain = 0
        self._readers: list[threading.Thread] = []
        self._processes = [self._one() for _ in range(count)]

    def restart(self) -> None:
        """Puts others in the place of all that ended."""
        for place, (process, _born) in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[place] = self._one()

    def _one(self) -> tuple[subprocess.Popen[bytes], float]:
        # Its standard input is a pipe of ours: it ends by itself when we are gone, however we went.
        process = subprocess.Popen(
            [sys.executable, "-m", "workers"],
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if process.stderr is not None:
            reader = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
            reader.start()
            self._readers.append(reader)
        return process, time.monotonic()

    def _pass_on(self, words: IO[bytes]) -> None:
        for line in words:
            text = _STAMP.sub("", line.decode("utf-8", "replace").rstrip())
            if text:
                self.tell("  " + _("worker: {words}").format(words=safe(again(text))))

    @property
    def alive(self) -> bool:
        """Whether any of them runs."""
        return any(process.poll() is None for process, _born in self._processes)

    def tend(self, finished: Callable[[], int]) -> None:
        """Puts another in the place of one that died; raises where that is of no use.

        `finished` tells how many requests are done.
        """
        for place, (process, born) in enumerate(self._processes):
            code = process.poll()
            if code is None:
                continue
            if code == UsageError.exit_code:
                self._hear_out()
                raise UsageError("the worker does not start", hint="its reason stands above")
            if code == StorageUnavailable.exit_code:
                self._hear_out()
                raise StorageUnavailable("the worker had to end", hint="its reason stands above")
            self._count_death(finished())
            born_dead = code >= 0 and time.monotonic() - born < _BORN_DEAD_S
            if born_dead or self._in_vain > _MOST_IN_VAIN:
                self._hear_out()
                raise _keeps_ending(code)
            self.tell(_("a worker was killed; another goes on, and nothing answered is lost"))
            self._processes[place] = self._one()

    def _count_death(self, finished: int) -> None:
        before, self._done = self._done, finished
        self._in_vain = 1 if self._done > before else self._in_vain + 1

    def signal(self, number: signal.Signals) -> None:
        """Tells all of them."""
        for process, _born in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def end(self, enough: Callable[[], bool]) -> None:
        """Lets calls in flight end, unless it is `enough`; then ends what is left."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + _WORKER_DRAIN_S
        while self.alive and not enough() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """Ends what is left, and has all their words told."""
        self.signal(signal.SIGKILL)
        for process, _born in self._processes:
            process.wait()
        self._hear_out()

    def _hear_out(self) -> None:
        for reader in self._readers:
            reader.join(1.0)


def _keeps_ending(code: int) -> ServiceUnavailable:
    if code >= 0:
        hint = "NIGHTSHIFT_LOG=INFO shows why"
        return ServiceUnavailable(f"the worker keeps ending (exit code {code})", hint=hint)
    hint = "if the system kills it for its memory, let it have more, or lower --max-in-flight"
    return ServiceUnavailable(f"the worker keeps being killed (signal {-code})", hint=hint)


@contextmanager
def _stopped_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a terminal that goes away go to `handler` meanwhile."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


class Interrupts:
    """Counts what would stop a command, while a job runs, instead of dying."""

    def __init__(self) -> None:
        self.count = 0

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """One more."""
        self.count += 1


@dataclass(frozen=True)
class Crew:
    """The server and the workers of a foreground command."""

    home: Home
    url: str
    workers: Workers


@contextmanager
def crew(home: Home, settings: Settings, base_url: str, workers: int) -> Iterator[Crew]:
    """Starts them, so that they are there when the input is checked and the user has agreed."""
    # All of them as Ctrl-C, so that no server is left behind.
    as_ctrl_c = _stopped_by(signal.default_int_handler)
    with as_ctrl_c, embedded.server(settings.redis_url, home.folder) as url:
        team = Workers(workers, _environment(home, url, base_url), say)
        try:
            yield Crew(home, url, team)
        finally:
            team.kill()


def run_job(its: Crew, job: JobRow) -> JobRow:
    """Works on the job until it ends, is paused for the user, or is interrupted.

    Returns the job as it then stands; `KeyboardInterrupt` after an orderly stop by Ctrl-C. The
    workers have ended then.
    """
    home = its.home
    with _at_work(its, job) as (coordinator, _sender, interrupts, display):
        _work(its, job, coordinator, interrupts, lambda: not _wants_workers(home, job.id))
        # Its files are written while the workers end, and Ctrl-C would make that no shorter.
        _wind_up(coordinator, its.workers, interrupts, display)
        while _row(home, job.id).state is JobState.FINALIZING and interrupts.count <= 1:
            coordinator.step()
        stopped = interrupts.count > 0
    if stopped and not _rests(home, job.id):
        raise KeyboardInterrupt
    return _row(home, job.id)


def settle_job(its: Crew, job: JobRow) -> None:
    """Asks the endpoint once more for every call of a job that is over and whose cost is unknown.

    Returns when it has answered for each, or `SETTLE_S` later; the outputs are written anew.
    """
    with closing(its.home.open(job.id, read_only=True)) as store:
        asked = {(row["ordinal"], row["id"]): row for row in store.uncertain()}
        deadline = time.monotonic() + SETTLE_S

        def told() -> bool:
            left = {(row["ordinal"], row["id"]): row["lookups"] for row in store.uncertain()}
            waits = any(left.get(key) == row["lookups"] for key, row in asked.items())
            return (not waits and store.is_written()) or time.monotonic() > deadline

        with _at_work(its, job) as (coordinator, sender, interrupts, display):
            calls = [(row["ordinal"], row["id"], row["generation_id"]) for row in asked.values()]
            for start in range(0, len(calls), _LOOKUPS_AT_ONCE):
                some = calls[start : start + _LOOKUPS_AT_ONCE]
                rate = plain(job.spec.rate)
                sender.look_up(job.id, job.spec.name, job.spec.base_url, some, rate)
            _work(its, job, coordinator, interrupts, told)
            _wind_up(coordinator, its.workers, interrupts, display)


@contextmanager
def _at_work(its: Crew, job: JobRow) -> Iterator[tuple[Coordinator, Sender, Interrupts, Display]]:
    """A coordinator for the job, and who watches and who may stop it."""
    with ExitStack() as stack:
        post = stack.enter_context(closing(Post(its.url)))
        sender = stack.enter_context(closing(Sender(its.url)))
        interrupts = Interrupts()
        stack.enter_context(_stopped_by(interrupts.hear))
        display = stack.enter_context(closing(Display()))
        _log_to(display, stack)
        coordinator = stack.enter_context(
            closing(Coordinator(its.home, post, sender, only=job.id, listen=display.show))
        )
        its.workers.tell = display.say
        its.workers.restart()
        stack.callback(its.workers.end, lambda: interrupts.count > 0)
        yield coordinator, sender, interrupts, display


def _log_to(display: Display, stack: ExitStack) -> None:
    """What the coordinator has to say appears above the bar."""
    log, lines = logging.getLogger("nightshift"), LogLines(display.say)
    log.addHandler(lines)
    stack.callback(log.removeHandler, lines)


def _work(
    its: Crew,
    job: JobRow,
    coordinator: Coordinator,
    interrupts: Interrupts,
    rests: Callable[[], bool],
) -> None:
    while not interrupts.count and not rests():
        coordinator.step()
        its.workers.tend(lambda: _row(its.home, job.id).finished)


def _wind_up(
    coordinator: Coordinator, team: Workers, interrupts: Interrupts, display: Display
) -> None:
    """Calls in flight end and their answers come home.

    A second Ctrl-C cuts the calls. A third, and any where the job rests already, leaves at once:
    then the next worker of this home delivers what is left.
    """
    heard = interrupts.count
    if heard:
        display.stopping(_("stopping; calls in flight end first (Ctrl-C again cuts them)"))
    team.signal(signal.SIGTERM)
    deadline, cut = time.monotonic() + _WORKER_DRAIN_S, False
    while team.alive and time.monotonic() < deadline:
        coordinator.step()
        if interrupts.count > heard + 1 or (interrupts.count and not heard):
            break
        if interrupts.count > heard and not cut:
            display.stopping(_("cutting the calls in flight; they may be billed"))
            team.signal(signal.SIGQUIT)
            deadline, cut = time.monotonic() + _CUT_S, True
    team.kill()
    with suppress(ServiceUnavailable):
        coordinator.withdraw()


def _rests(home: Home, job_id: str) -> bool:
    """Whether nothing more happens to the job without the user."""
    job = _row(home, job_id)
    return job.ended or job.needs_user


def _wants_workers(home: Home, job_id: str) -> bool:
    """Whether calls of the job may still be made, or lookups, without the user."""
    return not _rests(home, job_id) and _row(home, job_id).state is not JobState.FINALIZING


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
