"""One worker process: its parts, wired together, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Coroutine
from typing import Any

from jobs.errors import BadMessage
from jobs.ids import check_job_id
from jobs.wire import Found
from workers import recovery
from workers.endpoint import Endpoint
from workers.engine import Engine
from workers.lookup import found_in
from workers.outbox import Outbox
from workers.post import Post
from workers.runner import Runner
from workers.settings import WorkerSettings
from workers.ticket import Summary

BEAT_S = 2.0
FAREWELL_S = 8.0
"""A worker that ends waits so long for the home to acknowledge its last results."""

MOST_CALLS = 1024

log = logging.getLogger("nightshift.worker")


class Service:
    """Everything of a worker process but Celery."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._settings = settings
        self._engine = Engine()
        self._started = time.time()

    # ---- for Celery's threads ------------------------------------------------------------------

    def start(self) -> None:
        """The loop runs and what a killed worker left is on its way when this returns."""
        self._engine.start()
        self._engine.run("start", self._start())

    def run_chunk(self, job: str, chunk: int) -> Summary | None:
        """Runs a chunk to its end; None when it is not, or no longer, ours to run."""
        return self._engine.run(f"{job}/{chunk}", self._chunk(job, chunk))

    def look_up(self, job: str, calls: list[tuple[int, str, str]]) -> int:
        """Asks the endpoint what (ordinal, call, generation id) cost; returns how many it knew."""
        return self._engine.run(f"{job}/lookup/{time.monotonic_ns()}", self._look_up(job, calls))

    def drain(self) -> None:
        """Nothing new starts. Returns at once; for signal handlers too."""
        self._engine.call(self._runner.drain)

    def abort(self) -> None:
        """Cuts the calls in flight."""
        self._engine.call(self._runner.abort)

    def stop(self) -> None:
        """The last results are delivered, or on the disk for the next worker here."""
        self._engine.run("stop", self._stop())
        self._engine.stop()

    # ---- on the loop ----------------------------------------------------------------------------

    async def _start(self) -> None:
        settings = self._settings
        self._post = Post(settings.redis_url, self.name)
        self._outbox = Outbox(settings.scratch / "outbox", self._post)
        self._endpoint = Endpoint(settings.base_url, settings.api_key, max_connections=MOST_CALLS)
        dice = random.Random()  # noqa: S311  jitter, no secret
        self._runner = Runner(
            self._endpoint, self._outbox, self._post, settings.key_fingerprint, dice
        )
        self._epoch = ""
        folders = recovery.recover(settings.scratch / "outbox", self._outbox)
        if folders:
            self._outbox.when_acknowledged(lambda: recovery.forget(folders))
        self._outbox.start()
        self._beat = asyncio.create_task(self._beats(), name="beats")

    async def _chunk(self, job: str, chunk: int) -> Summary | None:
        check_job_id(job)
        if self._runner.draining or self._outbox.has_open(job, chunk):
            return None
        payload = await self._post.claim(job, chunk)
        if payload is None:
            return None
        if payload.base_url != self._settings.base_url:
            raise BadMessage("that chunk is for another endpoint")
        summary = await self._runner.run(payload)
        await self._quietly(self._post.release(job, chunk))
        return summary

    async def _look_up(self, job: str, calls: list[tuple[int, str, str]]) -> int:
        check_job_id(job)
        known = 0
        for ordinal, call, generation_id in calls:
            answer = await self._endpoint.generation(generation_id)
            found: Found = found_in(answer, ordinal, call)
            known += found.cost is not None
            self._outbox.put_found(job, found)
        return known

    async def _beats(self) -> None:
        while True:
            await self._quietly(self._one_beat())
            await asyncio.sleep(BEAT_S)

    async def _one_beat(self) -> None:
        held, epoch = await self._post.beat(list(self._runner.chunks), self._presence())
        self._runner.hold(held)
        if epoch != self._epoch:
            # Redis lost its memory, or a coordinator has just come: what it has not is sent again.
            self._epoch = epoch
            self._outbox.resend_all()

    def _presence(self) -> dict[str, object]:
        return {
            "name": self.name,
            "started": self._started,
            "chunks": len(self._runner.chunks),
            "in_flight": self._runner.in_flight,
            "base_url": self._settings.base_url,
            "key": self._settings.key_fingerprint,
            "draining": self._runner.draining,
            "limits": [
                {
                    "scope": lane.pace.scope,
                    "limit": lane.pace.limit,
                    "waiting": lane.waiting,
                    "down": lane.in_outage,
                }
                for lane in self._runner.lanes()
            ],
        }

    async def _stop(self) -> None:
        self._beat.cancel()
        if not await self._outbox.close(FAREWELL_S):
            log.warning(
                "the home has not acknowledged everything; the rest waits in %s",
                self._outbox.folder,
            )
        await self._quietly(self._post.leave())
        await self._endpoint.close()
        await self._post.close()

    @staticmethod
    async def _quietly(coroutine: Coroutine[Any, Any, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            await coroutine
