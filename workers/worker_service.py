"""One worker process: its parts, wired together, and how it begins and ends."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

import msgspec

from jobs.budget import Amount
from jobs.constraints import Count
from jobs.errors import BadMessage, NightshiftError
from jobs.ids import check_job_id
from jobs.message import N_
from jobs.money import parse_amount
from jobs.names import lookup_place
from jobs.wire import Begin
from jobs.worker_heartbeat import WorkerStatus
from workers.calling.balance_check import Resting
from workers.calling.endpoint import Broken, BrokenKind, Endpoint
from workers.calling.lookup import found_in
from workers.delivery import recovery
from workers.delivery.outbox import Outbox, new_name
from workers.event_loop import Engine
from workers.pending import RunningChunk, Summary
from workers.redis.claims import LOOK_LATER_S, LOOK_S
from workers.redis.heartbeats import Published
from workers.redis.worker_redis import WorkerRedis
from workers.runner import Runner
from workers.status_report import job_statuses, limit_statuses
from workers.worker_settings import WorkerSettings

BEAT_S = 2.0
HEED_S = 0.25
"""How often it is asked what the user paused or took back: money goes out meanwhile."""

FAREWELL_S = 8.0
"""A worker that ends waits so long for the home to acknowledge its last results."""

LONG_FAREWELL_S = 900.0
"""And so long if they are nowhere but in its memory."""

CUT_S = 5.0
"""Calls that were cut have ended after this at the latest."""

FIRST_REST_S = 2.0
"""A chunk waits no longer for the balance that is asked for before its first call."""

PERMIT_S = 60.0
"""A chunk waits so long for its coordinator's leave, which comes as fast as a command or two: for
longer than that waits for the disk.
"""

LOOKUP_S = 30.0
MOST_CALLS = 1024
MOST_REMEMBERED = 100_000
"""Chunks that ran here, and never will again: who put one back into Redis buys nothing twice."""

log = logging.getLogger("nightshift.worker")


class _Asked(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A call whose cost is asked for."""

    ordinal: Count
    call: str
    generation_id: str


class Service:
    """Everything of a worker process but Celery. `failure` is why it had to end, if it had to."""

    def __init__(self, settings: WorkerSettings) -> None:
        # Containers on the host's network share its name, and each of them has a process 1. By the
        # name of its outbox a successor knows this worker for dead.
        self._box = new_name()
        self.name = f"{socket.gethostname()}:{os.getpid()}:{self._box}"
        self.failure: NightshiftError | None = None
        self._settings = settings
        self._engine = Engine()
        self._started = time.time()
        self._ran: dict[tuple[str, int], None] = {}

    # ---- for Celery's threads ------------------------------------------------------------------

    def start(self) -> None:
        """The loop runs and what a killed worker left is on its way when this returns."""
        self._engine.start()
        self._engine.run(self._start())

    def run_chunk(self, job: object, chunk: object, fence: object = "") -> Summary | None:
        """Runs a chunk to its end; None when it is not, or no longer, ours to run.

        `BadMessage` for names and payloads that are not of our making.
        """
        if type(chunk) is not int or chunk < 0:
            raise BadMessage(N_("not a chunk number"))
        if not isinstance(fence, str):
            raise BadMessage(N_("not a fence"))
        return self._engine.run(self._chunk(check_job_id(job), chunk, fence))

    def look_up(self, job: object, signed: object) -> tuple[int, int]:
        """Asks the endpoint what calls cost; `signed` is what `Sender.look_up` made, as hex.

        Returns how many it knew, and of how many. `BadMessage` for what is not of our making.
        """
        place = lookup_place(check_job_id(job))
        try:
            told = self._settings.seal.verify(place, bytes.fromhex(str(signed)))
            asked, rate = msgspec.json.decode(told, type=tuple[list[_Asked], str])
            roubles = parse_amount(rate)
        except ValueError as error:
            raise BadMessage(N_("not a list of calls")) from error
        return self._engine.run(self._look_up(check_job_id(job), asked, roubles)), len(asked)

    def drain(self) -> None:
        """Nothing new starts. Returns at once; for signal handlers too."""
        self._engine.call(self._runner.stops.drain)

    def abort(self) -> None:
        """Cuts the calls in flight."""
        self._engine.call(self._runner.abort)

    def stop(self) -> None:
        """The last results are delivered, or on the disk for the next worker here."""
        self._engine.run(self._stop())
        self._engine.stop()

    # ---- on the loop ----------------------------------------------------------------------------

    async def _start(self) -> None:
        settings = self._settings
        self._redis = WorkerRedis(settings.redis_url, self.name, settings.seal)
        await self._redis.connection.check()
        self._outbox = Outbox(settings.scratch / "outbox", self._redis.deliveries, self._box)
        try:
            folders = recovery.recover(settings.scratch / "outbox", self._outbox)
        except NightshiftError:
            self._outbox.abandon()
            raise
        self._redis.limiters.mark_dead(folder.name for folder, _ in folders)
        if folders:
            self._outbox.when_acknowledged(lambda: recovery.forget(folders))
        self._endpoint = Endpoint(
            settings.base_url,
            settings.api_key,
            max_connections=MOST_CALLS,
            headers=settings.headers,
            secrets=settings.header_secrets,
            # What may be called in the clear was asked when the settings were read.
            insecure_http=True,
        )
        self._rest = Resting(self._endpoint, time.monotonic)
        self._resting = asyncio.create_task(self._quietly(self._look_at_rest()), name="balance")
        dice = random.Random()  # noqa: S311  jitter, no secret
        self._runner = Runner(
            self._endpoint,
            self._outbox,
            self._redis.limiters,
            self._may_spend,
            settings.target.key,
            dice,
            on_stop=self._tell_all,
        )
        self._telling: set[asyncio.Task[None]] = set()
        self._fences: set[bytes] = set()
        self._outbox.disk.on_failure = self._give_up
        self._outbox.start()
        self._beat = asyncio.create_task(self._beats(), name="beats")
        self._heed = asyncio.create_task(self._heeds(), name="holds")

    async def _may_spend(self, chunk: RunningChunk, amount: Amount) -> bool | None:
        """What waits of a chunk goes back where its coordinator is silent for `PERMIT_S`."""
        (job, number), stops = chunk.key, self._runner.stops
        hurries = bool(chunk.kept_waiting) or not chunk.has_begun
        deadline = time.monotonic() + PERMIT_S

        def given_up() -> bool:
            nonlocal deadline
            if chunk.has_begun and not self._runner.contact.holds:
                # Redis is away, not the coordinator: no other job could use its places.
                deadline = time.monotonic() + PERMIT_S
            return time.monotonic() > deadline or stops.is_stopped(chunk)

        ask = Begin(number, self._box, chunk.token, amount)
        return await self._redis.claims.ask(job, ask, given_up, LOOK_S if hurries else LOOK_LATER_S)

    def _tell_all(self, job: str) -> None:
        """What stopped a job here need not happen to every worker."""
        task = asyncio.create_task(self._quietly(self._redis.heartbeats.hold(job)))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _give_up(self) -> None:
        """The disk failed: no call leaves any more, and the process ends in order."""
        self.failure = self._outbox.disk.failure
        self._runner.stops.drain()
        os.kill(os.getpid(), signal.SIGTERM)

    async def _chunk(self, job: str, chunk: int, fence: str) -> Summary | None:
        if (
            self._runner.stops.draining
            or self._outbox.has_open(job, chunk)
            or (job, chunk) in self._ran
        ):
            return None
        await asyncio.wait([self._resting], timeout=FIRST_REST_S)
        self._rest.stirred()
        payload = await self._redis.claims.claim(job, chunk, fence)
        if payload is None or self._outbox.has_open(job, chunk):
            return None
        if (payload.base_url, payload.key) != self._settings.target:
            raise BadMessage(N_("the chunk is for another endpoint or key"))
        self._ran[job, chunk] = None
        if len(self._ran) > MOST_REMEMBERED:
            self._ran.pop(next(iter(self._ran)))
        summary = await self._runner.run(payload)
        await self._quietly(self._redis.claims.release(job, chunk))
        return summary

    async def _look_up(self, job: str, calls: list[_Asked], rate: Decimal) -> int:
        known = 0
        for asked in calls:
            if self._runner.stops.draining:
                break
            try:
                async with asyncio.timeout(LOOKUP_S):
                    answer = await self._endpoint.generation(asked.generation_id)
            except TimeoutError:
                answer = Broken(BrokenKind.TIMEOUT, N_("no answer to a cost lookup"), LOOKUP_S)
            found = found_in(answer, asked.ordinal, asked.call, rate)
            known += found.cost is not None
            self._outbox.put_found(job, found)
        return known

    async def _beats(self) -> None:
        while True:
            await self._quietly(self._one_beat())
            await asyncio.sleep(BEAT_S)

    async def _heeds(self) -> None:
        while True:
            await asyncio.sleep(HEED_S)
            if jobs := {job for job, _ in self._runner.chunks}:
                self._rest.stirred()
                await self._quietly(self._heed_holds(jobs))
            elif self._resting.done():
                self._resting = asyncio.create_task(self._quietly(self._look_at_rest()))

    async def _look_at_rest(self) -> None:
        if await self._rest.look():
            # A job may wait for it.
            await self._one_beat()

    async def _heed_holds(self, jobs: set[str]) -> None:
        held, told = await self._redis.heartbeats.look(jobs)
        self._hear(told)
        # While this worker tells of a job that stopped here, Redis does not know it yet.
        if not self._telling and held != self._runner.stops.held:
            self._runner.stops.hold(held)

    async def _one_beat(self) -> None:
        asked_at = time.monotonic()
        beat = await self._redis.heartbeats.beat(list(self._runner.chunks), self._presence())
        self._runner.renewed(beat.lost, asked_at)
        self._runner.stops.hold(beat.held)
        self._hear(beat.told)
        if not beat.fences <= self._fences:
            # What Redis has forgotten, or never had, is sent again.
            self._fences = beat.fences
            self._outbox.resend_all()

    def _hear(self, told: dict[str, Published]) -> None:
        for job, each in told.items():
            self._runner.renew_speed(job, each.pace)
            self._runner.lift(job, each.lifted_at)

    def _presence(self) -> WorkerStatus:
        return WorkerStatus(
            name=self.name,
            started=self._started,
            chunks=len(self._runner.chunks),
            in_flight=len(self._runner.calls),
            base_url=self._settings.base_url,
            key=self._settings.target.key,
            draining=self._runner.stops.draining,
            jobs=job_statuses(self._runner),
            outbox_lag_s=round(self._outbox.lag_s, 1),
            now=time.time(),
            open=self._outbox.open_chunks(),
            rest=self._rest.last,
            limits=limit_statuses(self._runner),
            foreign=self._redis.connection.foreign,
        )

    async def _stop(self) -> None:
        # Calls that were cut end within a moment; then their chunks are closed by this outbox, and
        # not by the next worker that finds its journal.
        deadline = time.monotonic() + CUT_S
        while self._runner.chunks and time.monotonic() < deadline:  # noqa: ASYNC110  ends soon
            await asyncio.sleep(0.01)
        self._beat.cancel()
        self._heed.cancel()
        self._resting.cancel()
        self._runner.dispatchers.close()
        patience = FAREWELL_S if self._outbox.disk.is_kept else LONG_FAREWELL_S
        if not await self._outbox.close(patience):
            log.warning(
                N_(
                    "the coordinator has not acknowledged all results; the rest is kept in"
                    " {folder}",
                    folder=self._outbox.disk.folder,
                ),
            )
        self.failure = self._outbox.disk.failure
        await self._quietly(self._redis.leave())
        await self._endpoint.close()
        await self._redis.connection.close()

    @staticmethod
    async def _quietly(coroutine: Coroutine[Any, Any, Any]) -> None:
        """Redis may be away; and no surprise may end what must go on."""
        try:
            await coroutine
        except ConnectionError:
            return
        except Exception as error:
            log.error(N_("heartbeat failure: {kind}", kind=type(error).__name__))  # noqa: TRY400
            log.debug("", exc_info=error)
