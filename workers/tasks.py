"""The two Celery tasks. They carry references only: no prompt, no answer, no key.

Both return one line for Flower. An error of a task is told by its kind, never with its text.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from jobs.errors import BadMessage
from jobs.money import show
from jobs.names import LOOK_UP, RUN_CHUNK
from workers.service import Service
from workers.ticket import Summary


def register(app: Celery, service: Service) -> None:
    """Gives the app its tasks, run by this process's service."""

    @app.task(name=RUN_CHUNK)  # type: ignore[untyped-decorator]  # Celery has no types
    def run_chunk(job: str, chunk: int, *_: Any, **__: Any) -> str:
        try:
            return _line(service.run_chunk(job, int(chunk)))
        except BadMessage as error:
            return f"dropped: {error.message}"
        except ConnectionError:
            return "dropped: Redis does not answer; the coordinator sends the chunk again"

    @app.task(name=LOOK_UP)  # type: ignore[untyped-decorator]  # Celery has no types
    def look_up(job: str, calls: list[tuple[int, str, str]], *_: Any, **__: Any) -> str:
        known = service.look_up(job, calls)
        return f"{known} of {len(calls)} calls are known to the endpoint"


def _line(summary: Summary | None) -> str:
    if summary is None:
        return "dropped: that chunk was taken or is done"
    parts = [f"{summary.completed} answered", f"{summary.failed} failed"]
    if summary.returned:
        parts.append(f"{summary.returned} given back ({summary.reason})")
    return f"{', '.join(parts)}, {show(summary.cost)}"
