"""One dispatcher for each model that is called here, and the loops that take from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from jobs.chunk import Terms
from workers.pacing.dispatcher import Dispatcher
from workers.pending import PendingRequest, RunningChunk

Call = Callable[[Dispatcher, PendingRequest], Coroutine[Any, Any, None]]


class Dispatchers:
    """`make` makes the dispatcher of a model; `call` runs the call of a request that was admitted.

    A model for which nothing is left to do is forgotten when another one comes.
    """

    def __init__(self, make: Callable[[str], Dispatcher], call: Call) -> None:
        self._make = make
        self._call = call
        self._open: dict[str, tuple[Dispatcher, asyncio.Task[None]]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Dispatcher]:
        return iter([dispatcher for dispatcher, _ in self._open.values()])

    def of(self, chunks: Iterable[RunningChunk]) -> list[Dispatcher]:
        """Those for the models of these chunks."""
        models = {model for chunk in chunks for model in chunk.payload.models}
        return [self._open[model][0] for model in models & self._open.keys()]

    def add(self, model: str, terms: Terms, requests: list[PendingRequest]) -> None:
        """Requests of one job for that model, on these terms."""
        dispatcher = self._get(model)
        dispatcher.set_terms(requests[0].job, terms)
        dispatcher.add(requests)

    def set_terms(self, job: str, terms: Terms) -> None:
        """The user changed what the job may have, while it runs."""
        for dispatcher in self:
            if dispatcher.knows(job):
                dispatcher.set_terms(job, terms)

    def forget(self, job: str) -> None:
        """Nothing of the job is here any more."""
        for dispatcher in self:
            dispatcher.set_terms(job, None)

    def take_back(self, wanted: Callable[[PendingRequest], bool]) -> list[PendingRequest]:
        """Removes and returns all waiting requests of which `wanted` is true."""
        return [request for each in self for request in each.take_back(wanted)]

    def close(self) -> None:
        """Nothing is taken from them any more."""
        for _, taking in self._open.values():
            taking.cancel()

    def _get(self, model: str) -> Dispatcher:
        if model not in self._open:
            for idle in [name for name, (each, _) in self._open.items() if each.is_idle]:
                self._open.pop(idle)[1].cancel()
            made = self._make(model)
            self._open[model] = made, asyncio.create_task(self._serve(made), name=f"calls {model}")
        return self._open[model][0]

    async def _serve(self, dispatcher: Dispatcher) -> None:
        loop = asyncio.get_running_loop()
        async for request in dispatcher.admitted():
            task = loop.create_task(self._call(dispatcher, request))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
