"""An outbox's journal, its segments kept as long as something in them is not in the home.

A disk that failed once is not believed again: `failure` is set, and `on_failure` called once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from jobs.errors import StorageUnavailable
from jobs.message import N_
from workers.delivery.journal import Journal, Record, Sent

LOOK_S = 0.002
"""So long it is not asked again whether the journal still stands where it was: at full speed that
would cost as much as writing to it."""

log = logging.getLogger("nightshift.outbox")


class Segments:
    """All methods are for the event loop's thread."""

    def __init__(self, folder: Path) -> None:
        self.failure: StorageUnavailable | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.is_kept = True
        """Whether all that was written here stands on the disk until it is in the home."""
        self._journal = Journal(folder)
        self._segment = self._journal.segment
        self._synced_no_more = False
        self._looked_at = float("-inf")
        self._users: Counter[int] = Counter()

    @property
    def folder(self) -> Path:
        """Where the journal stands."""
        return self._journal.folder

    @property
    def in_use(self) -> bool:
        """Whether anything here is still needed."""
        return bool(self._users)

    def look(self) -> None:
        """What is in a journal that was deleted is in memory alone. Asked before each call, it is
        seen to every `LOOK_S`.
        """
        now = time.monotonic()
        if self.failure is None and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            try:
                self._journal.look()
            except StorageUnavailable as error:
                self._believe_no_more()
                self.fail(error)

    def write(self, record: Record) -> list[int]:
        """The segment that holds the record now and is kept for it; none if the disk refused."""
        try:
            segment = self._journal.write(record)
        except StorageUnavailable as error:
            self.is_kept = self.is_kept and isinstance(record, Sent)
            self.fail(error)
            return []
        if self._journal.is_full:
            self.fail(
                StorageUnavailable(
                    N_("no space left for the outbox {folder}", folder=self.folder),
                    hint=N_("free up space, then restart the worker"),
                )
            )
        self._users[segment] += 1
        old, self._segment = self._segment, segment
        if old != segment and old not in self._users:
            self._forget(old)
        return [segment]

    def keep(self, segments: Iterable[int]) -> None:
        """These are needed once more."""
        self._users.update(segments)

    def release(self, segments: Iterable[int]) -> None:
        """These are needed once less; what nobody needs is deleted."""
        for segment in segments:
            self._users[segment] -= 1
            if self._users[segment] <= 0:
                del self._users[segment]
                self._forget(segment)

    def _forget(self, segment: int) -> None:
        try:
            self._journal.forget(segment)
        except StorageUnavailable as error:
            self.fail(error)

    def fail(self, error: StorageUnavailable) -> None:
        """No call leaves any more; the first time it is told."""
        if self.failure is None:
            self.failure = error
            log.error(N_("{why}; no new calls are sent", why=error.message))
            self.on_failure()

    async def sync(self) -> None:
        """After this, what was written before is on the disk. `StorageUnavailable` if it is not."""
        if not self._journal.is_dirty or self._synced_no_more:
            return
        try:
            await asyncio.to_thread(self._journal.begin_sync())
        except StorageUnavailable:
            # A disk that failed once must not be believed when it is asked again.
            self._believe_no_more()
            raise

    def close(self, *, empty: bool) -> None:
        """Lets go. With `empty`, everything is in the home: nothing is left on the disk."""
        try:
            self._journal.close(empty=empty)
        except StorageUnavailable as error:
            self.fail(error)

    def _believe_no_more(self) -> None:
        self.is_kept, self._synced_no_more = False, True
