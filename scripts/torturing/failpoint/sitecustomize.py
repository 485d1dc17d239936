"""Kills the process that starts with this on its path, at a named point in the code.

Python imports a `sitecustomize` before anything else. The environment says where:

    FAILPOINT=workers.delivery.journal:Journal.write:after:Ended:5

before or after the fifth call of that function whose first argument (of a method: after `self`) is
of that class; an empty class stands for any. The product knows nothing of it.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def install(point: str) -> None:
    """Has the function wrapped as soon as its module is there."""
    module, function, when, kind, number = point.split(":")
    sys.meta_path.insert(0, _Wrapping(module, function, when, kind, int(number)))


class _Wrapping(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, function: str, when: str, kind: str, number: int) -> None:
        self._module = module
        self._function = function
        self._when = when
        self._kind = kind
        self._left = number

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
                self._wrap(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap(self, module: ModuleType) -> None:
        *classes, name = self._function.split(".")
        owner: Any = functools.reduce(getattr, classes, module)
        setattr(owner, name, self._deadly(getattr(owner, name), 1 if classes else 0))

    def _deadly(self, function: Callable[..., Any], place: int) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            is_meant = not self._kind or type(arguments[place]).__name__ == self._kind
            self._left -= is_meant
            dies = is_meant and self._left == 0
            if dies and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            returned = function(*arguments, **named)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return returned

        return wrapped


if "FAILPOINT" in os.environ:
    install(os.environ["FAILPOINT"])
