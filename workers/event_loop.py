"""One event loop per worker process, in a thread of its own, and how pool threads use it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class Engine:
    """Runs coroutines for threads that wait for them."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True, name="engine")

    def start(self) -> None:
        """Starts the loop."""
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Called from another thread: waits for the coroutine's end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def call(self, function: Callable[[], object]) -> None:
        """Has the loop's thread call a function soon; may be called in a signal handler."""
        self.loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Ends the loop; nothing may run any more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5.0)
