"""Tells of jobs that stand still for want of a coordinator: one that is gone cannot tell itself.

Whoever has the home, the secrets of notifications, and outlives its coordinator may look:
`nightshift watch` and `nightshift status --watch`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, suppress

from batch.notifications.notifier import Teller
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.errors import NightshiftError
from jobs.stall import Signs, stalled

EVERY_S = 5.0


class Watchman:
    """Looks now and then at the jobs of a home, or at `only` one, on a thread of its own."""

    def __init__(self, home: Home, only: str = "") -> None:
        self._home = home
        self._only = only
        self._teller = Teller(home.jobs_folder)
        self._asleep: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchman", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def close(self) -> None:
        """Ends, after the last words were tried once."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self._teller.close()

    def _run(self) -> None:
        while not self._end.wait(EVERY_S):
            with suppress(OSError):
                self.look()

    def look(self) -> None:
        """Once at each job that is not over; one that cannot be read hides no other."""
        for job in [self._only] if self._only else self._home.job_ids():
            with suppress(NightshiftError, OSError, sqlite3.Error):
                self._look_at(job)

    def _look_at(self, job: str) -> None:
        touched = self._home.touched(job)
        if self._asleep.get(job) == touched:
            return
        with closing(self._home.open(job, read_only=True)) as store:
            self._see(store)
            if store.job().ended:
                self._asleep[job] = touched

    def _see(self, store: JobStore) -> None:
        job, well_at = store.job(), self._home.well_at()
        is_there = self._home.is_coordinated(job.id)
        signs = Signs(uncoordinated_since=None if is_there else well_at, silent_since=well_at)
        stall = stalled(job.state, job.reason, signs, time.time())
        if stall is not None:
            self._teller.see(store, stall)
        else:
            self._teller.forget(job.id)
