"""OpenAI's SDK, without its 370 modules of types, of which no call here uses one.

They would be a quarter of a worker's start (0.25 of 0.85 s of CPU), since a call's bytes are made
and read here. Loaded they are as usual, as soon as somebody asks for a name of theirs.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any


def _find(name: str, package: ModuleSpec | None) -> ModuleSpec | None:
    folders = package and package.submodule_search_locations
    return PathFinder.find_spec(name, folders) if folders else None


def _put_off(spec: ModuleSpec) -> ModuleType:
    """A package whose modules can be imported, and whose own code runs when it is needed."""
    package = module_from_spec(spec)

    def load(wanted: str) -> Any:
        if wanted.startswith("__") or spec.loader is None:
            raise AttributeError(wanted)
        del package.__getattr__
        spec.loader.exec_module(package)
        return getattr(package, wanted)

    package.__getattr__ = load  # type: ignore[method-assign]
    sys.modules[spec.name] = package
    return package


_types = _find("openai.types", PathFinder.find_spec("openai"))
if "openai" not in sys.modules and _types is not None:
    _package = _put_off(_types)
    if _responses := _find("openai.types.responses", _types):
        # As an import of it would have done.
        _package.responses = _put_off(_responses)  # type: ignore[attr-defined]

from openai import AsyncOpenAI  # noqa: E402  after its types are put off

__all__ = ["AsyncOpenAI"]
