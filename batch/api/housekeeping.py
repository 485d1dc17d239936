"""What is done of itself: results become files, and files whose time is over go."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from batch.api.context import Desk
from jobs.errors import NightshiftError

_LOOK_S = 1.0

log = logging.getLogger("nightshift.api")


class Closing:
    """A thread that looks after what nobody asks for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="closing")
        self._thread.start()

    def close(self) -> None:
        """Ends."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._safely(self._desk.look)
            self._safely(lambda: self._desk.sweep(time.time()))

    @staticmethod
    def _safely(work: Callable[[], None]) -> None:
        """A disk that cannot be used may be usable again."""
        try:
            work()
        except (NightshiftError, OSError) as error:
            log.warning("%s", getattr(error, "message", error))
