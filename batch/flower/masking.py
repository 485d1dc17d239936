"""What tasks tell of themselves in Flower: readable, short, and nothing secret."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from flower.events import Events

LONGEST_SHOWN = 300
"""Characters of an argument or a result that are kept."""

_UNDER_WAY = ("RECEIVED", "STARTED")
_KIND = re.compile(r"[A-Za-z_][\w.]*")
_RAW = re.compile(r"[(\[{].*(?:[)\]}]|\.\.\.)", re.DOTALL)
"""Arguments as Celery writes them by itself, whole or cut."""


class MaskedEvents(Events):  # type: ignore[misc]  # Flower has no types
    """Flower's memory of tasks: what is masked here is so on every page, in the API and search."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Takes a worker's event in."""
        super().on_event(masked(event))

    def end_chunks(self, jobs: Collection[str]) -> None:
        """Chunks of these jobs, which are over, do not run any more: a worker that was killed with
        one never told of its end.
        """
        now = time.time()
        for uuid, task in list(self.state.tasks.items()):
            if task.state in _UNDER_WAY and uuid.partition("/")[0] in jobs:
                told = {"type": "task-revoked", "uuid": uuid, "hostname": task.hostname or "?"}
                times = {"timestamp": now, "local_received": now, "clock": (task.clock or 0) + 1}
                self.state.event({**told, **times, "terminated": True})


def masked(event: dict[str, Any]) -> dict[str, Any]:
    """The event with its arguments and result readable and short, and of an error only its kind."""
    shown = {name: value for name, value in event.items() if name != "traceback"}
    for name in ("args", "kwargs"):
        if name in shown:
            shown[name] = _arguments(str(shown[name]))
    if "result" in shown:
        shown["result"] = _result(str(shown["result"]))
    if "exception" in shown:
        kind = _KIND.match(str(shown["exception"]))
        shown["exception"] = kind.group() if kind else "error"
    return shown


def _arguments(text: str) -> str:
    """The sender's own words; arguments that nobody put into words are not shown."""
    if text in {"()", "[]", "{}"}:
        return ""
    return "(not shown)" if _RAW.fullmatch(text.strip()) else _short(text)


def _result(text: str) -> str:
    """The line that the task returned: Celery sends its repr, with quotes."""
    if text[:1] in {"'", '"'} and len(text) <= LONGEST_SHOWN:
        with suppress(ValueError, SyntaxError):
            return str(ast.literal_eval(text))
    return _short(text)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
