"""All in one: a coordinator beside the server and the workers of a command, until a job rests."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from types import FrameType

from batch.cli.progress_display import Display, LogLines
from batch.coordinator.coordinator_service import Coordinator
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.language import _
from batch.local_processes import DRAIN_S, Crew, stopped_by
from batch.settings import worker_patience
from batch.store.home import Home
from batch.store.jobstore import JobRow
from jobs.errors import ServiceUnavailable
from jobs.lifecycle import is_at_rest
from jobs.money import plain
from jobs.signing import Target
from jobs.states import JobState

_CUT_S = 15.0

SETTLE_S = 60.0
_LOOKUPS_AT_ONCE = 50


class Interrupts:
    """Counts what would stop a command, while a job runs, instead of dying."""

    def __init__(self) -> None:
        self.count = 0

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """One more."""
        self.count += 1


def run_job(its: Crew, job: JobRow) -> JobRow:
    """Works on the job until it ends, is paused for the user, or is interrupted.

    Returns the job as it then stands; `KeyboardInterrupt` after an orderly stop by Ctrl-C. The
    workers have ended then.
    """
    home = its.home
    with _at_work(its, job) as (coordinator, _sender, interrupts, display):
        _work(its, job, coordinator, interrupts, lambda: not _wants_workers(_row(home, job.id)))
        # Its files are written while the workers end, and Ctrl-C would make that no shorter.
        _wind_up(its, coordinator, interrupts, display)
        told = False
        while _row(home, job.id).state is JobState.FINALIZING and interrupts.count <= 1:
            if interrupts.count and not told:
                told = True
                display.say(_("all requests are done; writing the files"))
            coordinator.step()
    job = _row(home, job.id)
    if interrupts.count and not is_at_rest(job):
        raise KeyboardInterrupt
    return job


def settle_job(its: Crew, job: JobRow) -> None:
    """Asks the endpoint once more for every call of a job that is over and whose cost is unknown.

    Returns when it has answered for each, or `SETTLE_S` later; the outputs are written anew.
    """
    with closing(its.home.open(job.id, read_only=True)) as store:
        asked = {(row["ordinal"], row["id"]): row for row in store.uncertain.calls()}
        deadline = time.monotonic() + SETTLE_S

        def told() -> bool:
            left = {(row["ordinal"], row["id"]): row["lookups"] for row in store.uncertain.calls()}
            waits = any(left.get(key) == row["lookups"] for key, row in asked.items())
            return (not waits and store.is_written()) or time.monotonic() > deadline

        with _at_work(its, job) as (coordinator, sender, interrupts, display):
            calls = [(row["ordinal"], row["id"], row["generation_id"]) for row in asked.values()]
            for start in range(0, len(calls), _LOOKUPS_AT_ONCE):
                some = calls[start : start + _LOOKUPS_AT_ONCE]
                rate = plain(job.spec.rate)
                sender.look_up(job.id, job.spec.name, _target(its, job), some, rate)
            _work(its, job, coordinator, interrupts, told)
            _wind_up(its, coordinator, interrupts, display)


@contextmanager
def _at_work(its: Crew, job: JobRow) -> Iterator[tuple[Coordinator, Sender, Interrupts, Display]]:
    """A coordinator for the job, and who watches and who may stop it."""
    with closing(its.home.open(job.id)) as store:
        # Its calls are made with the key that is set here, whichever it was submitted with.
        store.set_key(its.key)
    with ExitStack() as stack:
        redis = stack.enter_context(closing(CoordinatorRedis(its.url, its.seal)))
        sender = stack.enter_context(closing(Sender(its.url, its.seal)))
        interrupts = Interrupts()
        stack.enter_context(stopped_by(interrupts.hear))
        display = stack.enter_context(closing(Display(its.home)))
        _log_to(display, stack)
        coordinator = stack.enter_context(
            closing(
                Coordinator(
                    *(its.home, redis, sender),
                    only=job.id,
                    listen=display.show,
                    patience_s=worker_patience(os.environ),
                )
            )
        )
        its.workers.tell = its.own.tell = display.say
        its.workers.restart()
        stack.callback(its.workers.end, lambda: interrupts.count > 0)
        yield coordinator, sender, interrupts, display


def _target(its: Crew, job: JobRow) -> Target:
    return Target(job.spec.base_url, its.key)


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
        its.own.tend(coordinator.away_since)
        its.workers.tend(lambda: _row(its.home, job.id).finished)


def _wind_up(its: Crew, coordinator: Coordinator, interrupts: Interrupts, display: Display) -> None:
    """Calls in flight end and their answers come home.

    A second Ctrl-C cuts the calls. A third, and any where the job rests already, leaves at once:
    then the next worker of this home delivers what is left.
    """
    heard, team = interrupts.count, its.workers
    if heard:
        display.stopping(
            _("stopping; waiting for calls in flight (press Ctrl-C again to abort them)")
        )
    team.signal(signal.SIGTERM)
    deadline, cut = time.monotonic() + DRAIN_S, False
    while team.alive and time.monotonic() < deadline:
        coordinator.step()
        its.own.tend(coordinator.away_since)
        if interrupts.count > heard + 1 or (interrupts.count and not heard):
            break
        if interrupts.count > heard and not cut:
            display.stopping(_("aborting calls in flight; they may still be billed"))
            team.signal(signal.SIGQUIT)
            deadline, cut = time.monotonic() + _CUT_S, True
    team.kill()
    with suppress(ServiceUnavailable):
        coordinator.withdraw()


def _wants_workers(job: JobRow) -> bool:
    """Whether calls of the job may still be made, or lookups, without the user."""
    return not is_at_rest(job) and job.state is not JobState.FINALIZING


def _row(home: Home, job_id: str) -> JobRow:
    store = home.open(job_id, read_only=True)
    try:
        return store.job()
    finally:
        store.close()
