"""Calls of unknown cost whose job is over: the endpoint is asked for them all the same, in time."""

from __future__ import annotations

import logging
from contextlib import closing

from batch.coordinator.lookups import WAITS_S, Lookups
from batch.coordinator.task_publisher import Sender
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.errors import ServiceUnavailable
from jobs.money import plain
from jobs.signing import Target
from jobs.states import ENDED

_AGAIN_S = 5.0
"""What was asked for and is not answered, and what no worker can be asked for, is looked at again
after this.
"""

log = logging.getLogger("nightshift.coordinator")


class Afterwards:
    """Knows when which job is to be looked at; Unix seconds."""

    def __init__(self, home: Home, sender: Sender) -> None:
        self._home = home
        self._sender = sender
        self._due: dict[str, tuple[float, Lookups]] = {}

    def note(self, store: JobStore) -> None:
        """A job that is over was seen, or has changed."""
        job_id, at = store.job().id, store.uncertain.next_at(WAITS_S)
        if at is None:
            self._due.pop(job_id, None)
        else:
            known = self._due.get(job_id)
            self._due[job_id] = (at, known[1] if known else Lookups(store))

    def turn(self, now: float, targets: set[Target]) -> None:
        """Asks for what is due, where a worker for its endpoint and key is there."""
        for job_id, (at, lookups) in list(self._due.items()):
            # Nothing is due later than that, unless the clock was set back.
            if 0 < at - now <= WAITS_S[-1]:
                continue
            self._due[job_id] = (now + _AGAIN_S, lookups)
            try:
                with closing(self._home.open(job_id, read_only=True)) as store:
                    self._ask(store, lookups, now, targets)
            except ServiceUnavailable:
                raise
            except Exception as error:
                # Looked at again: its files may be usable then, and no other job waits for it.
                log.debug("%s is not looked up: %s", job_id, type(error).__name__)

    def _ask(self, store: JobStore, lookups: Lookups, now: float, targets: set[Target]) -> None:
        job = store.job()
        if job.state not in ENDED:
            del self._due[job.id]
        elif job.spec.target in targets:
            lookups.store = store
            due = lookups.due(now)
            if due:
                rate = plain(job.spec.rate)
                self._sender.look_up(job.id, job.spec.name, job.spec.target, due, rate)
