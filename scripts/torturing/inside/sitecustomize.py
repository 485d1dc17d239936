"""What is done inside a process that starts with this on its path; the product knows nothing of it.

Python imports a `sitecustomize` before anything else. The environment says what:

    FAILPOINT=workers.delivery.journal:Journal.write:after:Ended:5

kills it before or after the fifth call of that function whose first argument (of a method: after
`self`) is of that class; an empty class stands for any. The file FAILPOINT_TOLD then holds the
moment, in the machine's monotonic seconds.

    CONSTANTS=workers.redis.claims:CLAIM_S=6 batch.settings:LEAST_PATIENCE_S=8

gives a constant another value before anybody reads it, so that nobody has to wait for a long time
that is one only for the sake of busy machines; one a module.

    STOPWATCH=seconds.txt

writes down of each answer how long a worker had it in memory alone: from the last read on its
connection until its record stands in the journal.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class _Hook(importlib.abc.MetaPathFinder):
    """Changes a function of a module, a method or a constant as soon as the module is there."""

    def __init__(self, module: str, function: str, change: Callable[[Any], Any]) -> None:
        self._module = module
        self._function = function
        self._change = change

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                *classes, name = self._function.split(".")
                owner: Any = functools.reduce(getattr, classes, module)
                setattr(owner, name, self._change(getattr(owner, name)))

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def die(point: str) -> None:
    """Has the process killed at a point."""
    module, function, when, kind, number = point.split(":")
    place, left = (1 if "." in function else 0), int(number)

    def strike() -> None:
        Path(os.environ["FAILPOINT_TOLD"]).write_text(str(time.monotonic()))
        os.kill(os.getpid(), signal.SIGKILL)

    def change(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            is_meant = not kind or type(arguments[place]).__name__ == kind
            left -= is_meant
            dies = is_meant and left == 0
            if dies and when == "before":
                strike()
            returned = function(*arguments, **named)
            if dies:
                strike()
            return returned

        return wrapped

    sys.meta_path.insert(0, _Hook(module, function, change))


def put(module: str, constant: str, value: str) -> None:
    """Gives a constant of a module another value."""
    sys.meta_path.insert(0, _Hook(module, constant, lambda before: type(before)(value)))


def watch(path: str) -> None:
    """Has the seconds of each answer appended to a file."""
    generation = re.compile(rb"gen-[0-9a-z-]+")
    connections: dict[bytes, Any] = {}
    read_at: dict[Any, float] = {}

    def note_reads(receive: Callable[..., Any]) -> Callable[..., Any]:
        def data_received(self: Any, data: bytes) -> None:
            read_at[self] = time.monotonic()
            connections.update(dict.fromkeys(generation.findall(data), self))
            receive(self, data)

        return data_received

    def note_records(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Any, record: Any) -> Any:
            returned = write(self, record)
            if type(record).__name__ == "Ended":
                written = time.monotonic()
                name = generation.search(bytes(record.answer))
                if name is not None and name[0] in connections:
                    print(written - read_at[connections.pop(name[0])], file=seconds, flush=True)
            return returned

        return wrapped

    seconds = Path(path).open("a")  # noqa: SIM115  as long as the process lives
    sys.meta_path.insert(
        0, _Hook("aiohttp.client_proto", "ResponseHandler.data_received", note_reads)
    )
    sys.meta_path.insert(0, _Hook("workers.delivery.journal", "Journal.write", note_records))


if "FAILPOINT" in os.environ:
    die(os.environ["FAILPOINT"])
for told in os.environ.get("CONSTANTS", "").split():
    put(*re.split("[:=]", told))
if "STOPWATCH" in os.environ:
    watch(os.environ["STOPWATCH"])
