"""Tells the user, on a thread of its own: nothing here delays or stops a job."""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batch.notifications import channels, delivery_log
from batch.notifications.channels import ways_of
from batch.notifications.delivery_log import Book, Letter
from batch.notifications.http_post import Undelivered
from batch.notifications.notification import Word, occasion, word_of
from batch.store.failure_causes import Causes, Why
from batch.store.jobstore import JobRow, JobStore
from jobs.message import N_
from jobs.names import NOTICES
from jobs.stall import Stalled

_LOOK_S = 1.0
LAST_PATIENCE_S = 15.0
"""So long a command that ends waits for the first try of its last words."""

log = logging.getLogger("nightshift.notices")


@dataclass(frozen=True)
class _Seen:
    job: str
    ways: dict[str, str]
    event: str
    word: Word | None


def _send(letter: Letter) -> None:
    channels.send(letter.way, letter.address, letter.word, letter.name, os.environ)


def _why(store: JobStore, stall: Stalled | None) -> Why:
    """What failed; of a job that stands still nothing, where its file cannot be read now."""
    try:
        return store.why()
    except sqlite3.Error:
        if stall is None:
            raise
        return Why(Causes(), Causes(), Causes())


class Teller:
    """Looks at jobs as the coordinator sees them, and tells what there is to tell.

    What was not delivered before, by whomever, is tried again from the start. `send` raises
    `Undelivered`.
    """

    def __init__(self, jobs_folder: Path, send: Callable[[Letter], None] = _send) -> None:
        self._folder = jobs_folder
        self._send = send
        self._seen: queue.SimpleQueue[_Seen | None] = queue.SimpleQueue()
        self._last: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    def see(self, store: JobStore, stall: Stalled | None = None, row: JobRow | None = None) -> None:
        """Takes in how a job stands, or that it stands still; waits for nobody. `row` is how it was
        read last, where its file may be unreadable by now.
        """
        job = row or store.job()
        there = ways_of(job.spec.notify)
        if not there:
            return
        event = occasion(job, stall, time.time())
        if self._last.get(job.id) == event:
            return
        self._last[job.id] = event
        word = word_of(job, event, _why(store, stall), stall) if event else None
        self.tell(job.id, there, event, word)

    def tell(self, job: str, there: dict[str, str], event: str, word: Word | None) -> None:
        """Tells of an event on these ways, once; waits for nobody."""
        self._start()
        self._seen.put(_Seen(job, there, event, word))

    def forget(self, job: str) -> None:
        """Somebody else tells of the job by now."""
        self._last.pop(job, None)

    def start(self) -> None:
        """Tries what is left from before, if anything is."""
        if any((folder / NOTICES).exists() for folder in self._folder.iterdir()):
            self._start()

    def close(self) -> None:
        """Ends, after the last words were tried once; what fails stays on the disk."""
        if self._thread:
            self._seen.put(None)
            self._thread.join(LAST_PATIENCE_S)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
            self._thread.start()

    # ---- on the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        books = self._left_behind()
        going = True
        while going:
            going = self._take_in(books)
            now = time.time()
            for job in list(books):
                self._deliver(job, books[job], now)
                if not books[job].waits:
                    del books[job]

    def _take_in(self, books: dict[str, Book]) -> bool:
        """Waits a moment for news; False once there is to be an end."""
        try:
            seen = self._seen.get(timeout=_LOOK_S)
            while seen is not None:
                self._note(seen, books)
                seen = self._seen.get_nowait()
        except queue.Empty:
            return True
        return False

    def _note(self, seen: _Seen, books: dict[str, Book]) -> None:
        folder = self._folder / seen.job
        found = books.get(seen.job) or delivery_log.read(folder)
        if found.note(seen.event, seen.ways, seen.word, time.time()):
            self._keep(seen.job, found)
        books[seen.job] = found

    def _left_behind(self) -> dict[str, Book]:
        there = [folder for folder in self._folder.iterdir() if (folder / NOTICES).exists()]
        books = {folder.name: delivery_log.read(folder) for folder in there}
        return {job: found for job, found in books.items() if found.waits}

    def _deliver(self, job: str, found: Book, now: float) -> None:
        for letter in found.letters:
            if letter.waits and letter.due_at <= now:
                self._try(job, letter)
                self._keep(job, found)

    def _try(self, job: str, letter: Letter) -> None:
        try:
            self._send(letter)
        except Undelivered as error:
            letter.missed(time.time())
            if letter.tries == 1 or not letter.waits:
                text = N_("retrying") if letter.waits else N_("giving up")
                log.warning(
                    N_("{job}: notification failed: {why}; {text}", job=job, why=error, text=text)
                )
        except Exception as error:  # a fault of ours must not end the thread
            letter.missed(time.time())
            log.error(N_("a notification failed: {kind}", kind=type(error).__name__))  # noqa: TRY400
        else:
            letter.sent = True
            log.info("%s: told by %s", job, letter.way)

    def _keep(self, job: str, found: Book) -> None:
        try:
            delivery_log.write(self._folder / job, found)
        except OSError as error:
            log.warning(N_("{job}: cannot record the notification: {why}", job=job, why=error))
