"""Celery's thread pool, but it can drain and cut.

The stock pool waits for whole chunks on SIGTERM, cannot cancel (celery/celery#10490) and lets a
second SIGINT put chunks back that still run. Here a stop of any kind tells the runner, chunks
return within one call's time, and their rest goes back to the home through the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import signals
from celery.concurrency import thread
from celery.concurrency.base import apply_target


class _Result(thread.ApplyResult):  # type: ignore[misc]  # Celery has no types
    """A running chunk; Celery terminates it on SIGQUIT, a second SIGINT or `revoke`."""

    def terminate(self, signum: int | None = None) -> None:  # noqa: ARG002
        TaskPool.abort()


class TaskPool(thread.TaskPool):  # type: ignore[misc]  # Celery has no types
    """The pool of chunk tasks. `drain` and `abort` are set by the worker's wiring."""

    stopping = False
    drain: Callable[[], None] = staticmethod(lambda: None)
    abort: Callable[[], None] = staticmethod(lambda: None)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> _Result:
        """Runs a task in a thread; what Celery asks of every pool."""
        future = self.executor.submit(apply_target, target, args, kwargs, callback, accept_callback)
        result = _Result(future)
        # Celery's request holds its result only weakly.
        future.keep = result
        return result

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Called where Celery would kill a process; chunks end by `_Result.terminate`."""

    def on_close(self) -> None:
        """Flower's and the remote `shutdown` send no signal, but they close the pool."""
        TaskPool.drain()


@signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
def _stopping(how: str = "Warm", **_: object) -> None:
    """Of SIGTERM, SIGINT, SIGQUIT; a second one, or SIGQUIT, cuts."""
    if how == "Cold" or TaskPool.stopping:
        TaskPool.abort()
    else:
        TaskPool.stopping = True
        TaskPool.drain()
