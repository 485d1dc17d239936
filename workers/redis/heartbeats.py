"""Signs of life, and what coordinators tell of the jobs that run here."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import msgspec

from jobs import names
from jobs.chunk import Speed
from jobs.worker_heartbeat import WorkerStatus
from workers.redis.claims import CLAIM_S, Claims, Key
from workers.redis.connection import Connection, as_connection_errors
from workers.redis.data_loss_check import Vouching

HOLD_S = 10
"""A coordinator has decided by then what becomes of a job that a worker stopped."""

_STOPPED = b"stopped"


@dataclass(frozen=True)
class Beat:
    """What Redis answers to a sign of life.

    `held` are jobs of which nothing may be sent. `lost` chunks are not this worker's any more.
    `fences` are those that coordinators vouch for (`batch.coordinator.fence`): a new one tells that
    Redis may have forgotten what it was told. `told` is what the coordinators of jobs tell of them,
    where they do.
    """

    held: set[str]
    lost: set[Key]
    fences: set[bytes]
    told: dict[str, Published]


class Published(msgspec.Struct, frozen=True):
    """What a worker reads of what a coordinator tells of a job: what the user allows by now, and
    when he last wanted that nothing is waited for any longer, Unix seconds.
    """

    pace: Speed
    lifted_at: float = 0.0


class Heartbeats:
    """Those of one worker."""

    def __init__(self, connection: Connection, vouching: Vouching, claims: Claims) -> None:
        self._redis = connection.redis
        self._worker = connection.worker
        self._ours = connection.ours
        self._seal = connection.seal
        self._vouching = vouching
        self._claims = claims
        self._renewed = ""
        """The nonce of the last beat."""

    async def beat(self, chunks: list[Key], presence: WorkerStatus) -> Beat:
        """Renews the claims and the worker's sign of life."""
        jobs, life = sorted({job for job, _ in chunks}), int(CLAIM_S * 1000)
        me = names.worker_key(self._worker)
        async with as_connection_errors():
            seconds, _ = await self._redis.time()
        # By one clock for all: what is put back later is old, and counts for nothing.
        presence = msgspec.structs.replace(presence, at=float(seconds))
        told_of_me = self._seal.sign(me, msgspec.json.encode(presence))
        async with as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.set(me, told_of_me, px=life)
            pipe.mget([names.NONCES, *(names.hold_key(job) for job in jobs)])
            pipe.mget([names.NONCES, *(names.progress_key(job) for job in jobs)])
            _, (_, *holds), (_, *told) = await pipe.execute()
        fences = await self._vouching.ask()
        async with as_connection_errors():
            lost = await self._claims.renew(
                chunks, whole=bool(fences) and self._renewed == self._vouching.nonce
            )
        self._renewed = self._vouching.nonce
        return Beat(
            held={
                job
                for job, hold in zip(jobs, holds, strict=True)
                if self._ours(names.hold_key(job), hold) is not None
            },
            lost=lost,
            fences=fences,
            told=self._published(zip(jobs, told, strict=True)),
        )

    def _published(self, told: Iterable[tuple[str, bytes | None]]) -> dict[str, Published]:
        """What of it makes sense."""
        found = {}
        for job, signed in told:
            known = self._ours(names.progress_key(job), signed)
            with suppress(msgspec.DecodeError):
                found[job] = msgspec.json.decode(known or b"", type=Published)
        return {job: each for job, each in found.items() if each.pace.is_sound}

    async def look(self, jobs: Iterable[str]) -> tuple[set[str], dict[str, Published]]:
        """Those of the jobs of which nothing may be sent, and what is told of them all: whatever
        the user takes back, money goes out until it is heard.
        """
        asked = sorted(jobs)
        keys = [key(job) for key in (names.hold_key, names.progress_key) for job in asked]
        async with as_connection_errors():
            found = cast("list[bytes | None]", await self._redis.mget([names.NONCES, *keys]))[1:]
        holds, told = found[: len(asked)], found[len(asked) :]
        held = {job for job, hold in zip(asked, holds, strict=True) if hold is not None}
        return held, self._published(zip(asked, told, strict=True))

    async def hold(self, job: str) -> None:
        """No worker starts anything of the job until its coordinator has had the time to decide."""
        async with as_connection_errors():
            key = names.hold_key(job)
            await self._redis.set(key, self._seal.sign(key, _STOPPED), nx=True, ex=HOLD_S)

    async def leave(self) -> None:
        """This worker is gone."""
        async with as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(names.worker_key(self._worker), names.voucher_key(self._vouching.nonce))
            pipe.hdel(names.NONCES, self._worker)
            await pipe.execute()
