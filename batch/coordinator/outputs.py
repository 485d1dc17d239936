"""The four files of jobs that are over, written beside the coordinator's other work.

A million requests take half a minute to write: the other jobs go on meanwhile. Whether the files
show what the ledger says is on the disk, so a killed writer is found out by the next.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from batch import reports
from batch.reports.page import prepare
from batch.store.jobstore import JobStore

_PATIENCE_S = 0.2
"""A small job is written in no time: then its end waits for no other turn."""


class Writer:
    """Writes one job's files after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "outputs")
        self._thread.submit(prepare)
        self._running: dict[Path, Future[None]] = {}
        self.ended = threading.Event()
        """Set when something was written, or could not be; whoever looks clears it."""

    def stands(self, store: JobStore) -> bool:
        """Whether a job's files show what its ledger says; if not, they are being written.

        Raises what a writing that began earlier ended with.
        """
        running = self._running.get(store.folder)
        if running is None:
            if store.is_written():
                return True
            running = self._running[store.folder] = self._thread.submit(_write, store.folder)
            running.add_done_callback(lambda _: self.ended.set())
            wait([running], _PATIENCE_S)
        if not running.done():
            return False
        del self._running[store.folder]
        running.result()
        return store.is_written()

    @property
    def is_busy(self) -> bool:
        """Whether anything is being written."""
        return not all(running.done() for running in self._running.values())

    def close(self) -> None:
        """What is being written is written to its end; what waits is left to the next."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def write(store: JobStore) -> None:
    """Writes the four files of a job anew, and remembers what they show."""
    store.failures.restore()
    with store.snapshot():
        revision = store.revision()
        reports.write_all(store)
    store.written(revision)


def _write(folder: Path) -> None:
    store = JobStore(folder)
    try:
        write(store)
    finally:
        store.close()
