"""The two Celery tasks. They carry references only: no prompt, no answer, no key.

Both return one line for Flower. An error of a task is told by its kind, never with its text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery

from jobs.errors import BadMessage, NewerMessage
from jobs.message import N_
from jobs.money import show
from jobs.names import LOOK_UP, RUN_CHUNK
from workers.pending import Summary
from workers.worker_service import Service

log = logging.getLogger("nightshift.tasks")


def register(app: Celery, service: Service) -> None:
    """Gives the app its tasks, run by this process's service."""
    # Loaded by the first task otherwise, which may come when no file can be opened any more.
    _ = app.backend

    @app.task(name=RUN_CHUNK)  # type: ignore[untyped-decorator]  # Celery has no types
    def run_chunk(
        job: object = None, chunk: object = None, fence: object = "", *_: Any, **__: Any
    ) -> str:
        return _in_a_line(lambda: _line(service.run_chunk(job, chunk, fence)))

    @app.task(name=LOOK_UP)  # type: ignore[untyped-decorator]  # Celery has no types
    def look_up(job: object = None, signed: object = None, *_: Any, **__: Any) -> str:
        return _in_a_line(lambda: "{} of {} calls are known".format(*service.look_up(job, signed)))


def _in_a_line(work: Callable[[], str]) -> str:
    try:
        return work()
    except BadMessage as error:
        if isinstance(error, NewerMessage):
            log.warning(error.message)
        return f"dropped: {error.message}"
    except ConnectionError:
        return "dropped: Redis does not answer; the coordinator sends the chunk again"
    except Exception as error:
        log.error(N_("a task failed: {kind}", kind=type(error).__name__))  # noqa: TRY400
        log.debug("", exc_info=error)
        return f"failed: {type(error).__name__}"


def _line(summary: Summary | None) -> str:
    if summary is None:
        return "dropped: that chunk was taken or is done"
    parts = [f"{summary.completed} answered", f"{summary.failed} failed"]
    if summary.returned:
        parts.append(f"{summary.returned} given back ({summary.reason})")
    return f"{', '.join(parts)}, {show(summary.cost)}"
