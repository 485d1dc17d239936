"""What may not be called any more, of all that is here; what waits of it goes back to the home."""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobs.chunk import DRAINED, HELD, ReturnReason, because
from jobs.message import N_
from workers.dispatch_loops import Dispatchers
from workers.pending import PendingRequest, RunningChunk

log = logging.getLogger("nightshift.worker")

LOST = because("lost", N_("the chunk has been reassigned"))


class Stops:
    """Of this worker, of jobs, models and chunks. `on_stop` hears of jobs that stopped here."""

    def __init__(
        self,
        chunks: dict[tuple[str, int], RunningChunk],
        dispatchers: Dispatchers,
        on_stop: Callable[[str], None],
    ) -> None:
        self.draining = False
        self.held: set[str] = set()
        """The jobs of which nothing may start."""
        self._models: set[tuple[str, str]] = set()
        self._chunks = chunks
        self._dispatchers = dispatchers
        self._on_stop = on_stop

    def why_not(self, request: PendingRequest) -> ReturnReason | None:
        """Why a request may not be called any more."""
        if self.draining:
            return DRAINED
        if request.job in self.held:
            return HELD
        if request.chunk.stopped:
            return request.chunk.stopped
        # Why was told by whoever met it first; the home may have thought better of it by now.
        return HELD if (request.job, request.model) in self._models else None

    def is_stopped(self, chunk: RunningChunk) -> bool:
        """Whether nothing of the chunk may be called any more."""
        return self.draining or chunk.payload.job in self.held or chunk.stopped is not None

    def drain(self) -> None:
        """Nothing new starts; what waits goes back; calls in flight end and are kept."""
        if not self.draining:
            log.info("stopping; waiting for calls in flight")
        self.draining = True
        self._return_all(lambda _: True, DRAINED)

    def hold(self, jobs: set[str]) -> None:
        """Exactly these jobs are paused or cancelled: nothing of them starts."""
        for job in sorted(jobs ^ self.held):
            log.info("%s %s", job, "is held: it is paused or over" if job in jobs else "goes on")
        self.held = jobs
        if jobs:
            self._return_all(lambda request: request.job in jobs, HELD)

    def lose(self, keys: set[tuple[str, int]]) -> None:
        """These chunks are not this worker's any more."""
        for key in keys & self._chunks.keys():
            self._stop_chunk(self._chunks[key], LOST)

    def stop(self, job: str, reason: ReturnReason) -> None:
        """Nothing of the job starts here any more, or nothing of it for the reason's model."""
        if reason.model:
            self._stop_model(job, reason)
        else:
            self._stop_job(job, reason)

    def resume(self, job: str) -> None:
        """What stopped models of the job is over, or nothing of it is here any more."""
        self._models = {key for key in self._models if key[0] != job}

    def _stop_model(self, job: str, reason: ReturnReason) -> None:
        log.info("%s stopped for %s: %s", job, reason.model, reason.code)
        self._models.add((job, reason.model))
        self._return_all(
            lambda request: (request.job, request.model) == (job, reason.model), reason
        )

    def _stop_job(self, job: str, reason: ReturnReason) -> None:
        """What the queue still has of it waits too, until the home has had the time to say."""
        log.info("%s stopped: %s", job, reason.code)
        self.held = self.held | {job}
        self._on_stop(job)
        for chunk in list(self._chunks.values()):
            if chunk.payload.job == job:
                self._stop_chunk(chunk, reason)

    def _stop_chunk(self, chunk: RunningChunk, reason: ReturnReason) -> None:
        chunk.stopped = chunk.stopped or reason
        self._return_all(lambda request: request.chunk is chunk, reason)

    def _return_all(self, wanted: Callable[[PendingRequest], bool], reason: ReturnReason) -> None:
        for request in self._dispatchers.take_back(wanted):
            request.chunk.give_back(request, reason)
