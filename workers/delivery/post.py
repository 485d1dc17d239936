"""A worker's side of Redis: chunks taken and kept, deliveries sent, signs of life, the shared pace.

Every command gives up within seconds, and a failure of any kind is a `ConnectionError`: callers
keep what they have and try again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from jobs import names
from jobs.chunk import Payload, Speed
from jobs.errors import BadMessage, UsageError
from jobs.heartbeat import WorkerStatus
from jobs.redis_url import parse_redis_url
from jobs.seal import Seal
from jobs.wire import unpack_payload
from workers.pacing.pace import LEASE_S, SCRIPT, Ask, Share

TIMEOUT_S = 4.0
CLAIM_S = 15.0
"""A claim that is not renewed for so long is void: its worker is dead or cut off."""

TAKEN_S = 86_400
"""So long it is known who took a chunk; the home forgets it when it closes the chunk."""

DONE_S = 3600
HOLD_S = 10
"""A coordinator has decided by then what becomes of a job that a worker stopped."""
_DONE = b"done"
_STOPPED = b"stopped"

_CLAIM = """
local payload, hold, taken, claim = unpack(KEYS)
local function text(key)
  local found = redis.pcall('GET', key)
  return type(found) == 'string' and found
end
local data, held = text(payload), text(hold)
if not data or redis.call('EXISTS', taken, claim) > 0 then
  return false
end
if held and held ~= ARGV[4] then
  return { held }
end
redis.call('SET', taken, ARGV[1], 'EX', ARGV[2])
redis.call('SET', claim, ARGV[1], 'PX', ARGV[3])
return { false, data }
"""
"""In one step, so that a chunk without a payload is one that nobody can take any more. A hold is
given back to be looked at; with one that is forged it is tried again, which is passed over then.
"""

Key = tuple[str, int]
"""(job, chunk)."""


@dataclass(frozen=True)
class Beat:
    """What Redis answers to a sign of life.

    `held` are jobs of which nothing may be sent. `taken` chunks are another worker's by now; of
    `gone` ones neither claim nor payload is there, so they were given up, unless Redis itself lost
    its memory: then its `epoch` is another ("" when it has none). `told` is what the coordinators
    of jobs tell of them, where they do.
    """

    held: set[str]
    epoch: str
    taken: set[Key]
    gone: set[Key]
    told: dict[str, Published]


class Published(msgspec.Struct, frozen=True):
    """What a worker reads of what a coordinator tells of a job: what the user allows by now, and
    when he last wanted that nothing is waited for any longer, Unix seconds.
    """

    pace: Speed
    lifted_at: float = 0.0


class Post:
    """One worker process at one Redis."""

    def __init__(self, redis_url: str, worker: str, seal: Seal) -> None:
        self.worker = worker
        self.foreign = 0
        """What was dropped as not of our making."""
        self._seal = seal
        try:
            self._redis: Redis = Redis.from_url(
                parse_redis_url(redis_url).redis_py(),
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
            )
        except ValueError as error:
            # Its text may quote the address, and with it the password.
            raise UsageError(
                "the address of Redis is not one",
                hint="set NIGHTSHIFT_REDIS_URL to something like redis://localhost:6379/0",
            ) from error
        self._claim = self._redis.register_script(_CLAIM)
        self._pace = self._redis.register_script(SCRIPT)
        self._slots: set[str] = set()
        self._dead: set[bytes] = set()

    async def check(self) -> None:
        """`UsageError` if Redis does not let us in; that it is not there yet is no error."""
        try:
            await self._redis.ping()
        except (AuthenticationError, AuthorizationError) as error:
            raise UsageError(
                "Redis refuses the password", hint="check NIGHTSHIFT_REDIS_URL"
            ) from error
        except (RedisError, OSError, TimeoutError):
            return

    async def close(self) -> None:
        """Drops the connections."""
        await self._redis.aclose()

    def _ours(self, place: str, signed: bytes | None) -> bytes | None:
        """What was signed for that place; None where it is not there, or is somebody else's."""
        if signed is None:
            return None
        try:
            return self._seal.verify(place, signed)
        except BadMessage:
            self.foreign += 1
            return None

    # ---- chunks -----------------------------------------------------------------------------

    async def claim(self, job: str, chunk: int) -> Payload | None:
        """The payload, if this worker is the first to take the chunk.

        None for a message that came twice or too late, and while the job is held: the coordinator
        takes back or feeds again what nobody took. Raises `BadMessage` for a foreign payload.
        """
        # A claim dies with its worker, but the chunk is not free then: answers of it may lie in
        # that worker's journal. Its rest comes in a chunk of another number.
        keys = (
            names.payload_key(job, chunk),
            names.hold_key(job),
            names.taken_key(job, chunk),
            names.claim_key(job, chunk),
        )
        data = await self._take(keys)
        if data is None:
            return None
        try:
            payload = unpack_payload(self._seal.verify(keys[0], data))
        except BadMessage:
            self.foreign += 1
            # The chunk itself was not taken: its coordinator lays it down again.
            async with _as_connection_errors():
                await self._redis.delete(*keys[2:])
            raise
        same = (payload.job, payload.chunk) == (job, chunk)
        return payload if same else None

    async def _take(self, keys: tuple[str, ...], passed_over: bytes = b"") -> bytes | None:
        mine = (self.worker, TAKEN_S, int(CLAIM_S * 1000), passed_over)
        async with _as_connection_errors():
            found = cast("list[bytes | None] | None", await self._claim(keys, mine))
        if found is None:
            return None
        held, *data = found
        if held is None:
            return data[0]
        if self._ours(keys[1], held) is not None or passed_over:
            return None
        return await self._take(keys, held)

    async def beat(self, chunks: list[Key], presence: WorkerStatus) -> Beat:
        """Renews the claims and the worker's sign of life."""
        jobs = sorted({job for job, _ in chunks})
        async with _as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.get(names.EPOCH)
            pipe.mget([names.EPOCH, *(names.hold_key(job) for job in jobs)])
            pipe.mget([names.EPOCH, *(names.claim_key(*key) for key in chunks)])
            pipe.mget([names.EPOCH, *(names.progress_key(job) for job in jobs)])
            for key in chunks:
                pipe.exists(names.payload_key(*key))
            epoch, (_, *holds), (_, *claims), (_, *told), *payloads = await pipe.execute()
        me = self.worker.encode()
        seen = list(zip(chunks, claims, payloads, strict=True))
        taken = {key for key, claim, _ in seen if claim not in {None, me}}
        await self._renew([key for key in chunks if key not in taken], presence)
        return Beat(
            held={
                job
                for job, hold in zip(jobs, holds, strict=True)
                if self._ours(names.hold_key(job), hold) is not None
            },
            epoch=(epoch or b"").decode(errors="replace"),
            taken=taken,
            gone={key for key, claim, payload in seen if claim is None and not payload},
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

    async def _renew(self, chunks: list[Key], presence: WorkerStatus) -> None:
        life, me = int(CLAIM_S * 1000), names.worker_key(self.worker)
        told = self._seal.sign(me, msgspec.json.encode(presence))
        async with _as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            for key in chunks:
                pipe.set(names.claim_key(*key), self.worker, px=life)
            pipe.set(me, told, px=life)
            await pipe.execute()

    async def held(self, jobs: Iterable[str]) -> set[str]:
        """Those of the jobs of which nothing may be sent."""
        asked = sorted(jobs)
        async with _as_connection_errors():
            holds = await self._redis.mget([names.EPOCH, *map(names.hold_key, asked)])
        return {job for job, hold in zip(asked, holds[1:], strict=True) if hold is not None}

    async def hold(self, job: str) -> None:
        """No worker starts anything of the job until its coordinator has had the time to decide."""
        async with _as_connection_errors():
            key = names.hold_key(job)
            await self._redis.set(key, self._seal.sign(key, _STOPPED), nx=True, ex=HOLD_S)

    async def release(self, job: str, chunk: int) -> None:
        """The chunk is done with: its closing is on its way."""
        async with _as_connection_errors():
            await self._redis.set(names.claim_key(job, chunk), _DONE, ex=DONE_S)

    def bury(self, outboxes: Iterable[str]) -> None:
        """Workers whose names end with these are dead: what they had in flight is not any more.

        Else their places would be free when their leases have run out.
        """
        self._dead |= {name.encode() for name in outboxes}

    async def _free_places(self, key: str) -> None:
        if not self._dead:
            return
        workers = cast("list[bytes]", await self._redis.hkeys(key))
        if dead := [name for name in workers if name.rpartition(b":")[2] in self._dead]:
            await self._redis.hdel(key, *dead)

    async def leave(self) -> None:
        """This worker is gone, and others may have its calls in flight."""
        async with _as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(names.worker_key(self.worker))
            for key in self._slots:
                pipe.hdel(key, self.worker)
            await pipe.execute()

    # ---- the outbox's port --------------------------------------------------------------------

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        """Adds (job, delivery) entries to the streams of their jobs."""
        async with _as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job, data in entries:
                key = names.results_key(job)
                pipe.xadd(key, {"d": self._seal.sign(key, data)})
            await pipe.execute()

    async def acknowledged(self, outbox: str) -> list[int]:
        """Sequence numbers that the home has on disk, each told once."""
        key = names.acks_key(outbox)
        async with _as_connection_errors():
            found = cast("list[bytes] | None", await self._redis.lpop(key, 10_000)) or []
        numbers = [self._ours(key, signed) for signed in found]
        return [int(number) for number in numbers if number is not None]

    # ---- the pace's port ----------------------------------------------------------------------

    async def exchange(self, scope: str, ask: Ask) -> Share:
        """Tells what happened, gets this process's share."""
        keys = [names.pace_key(scope), names.slots_key(scope), names.minute_key(scope)]
        async with _as_connection_errors():
            if keys[1] not in self._slots:
                await self._free_places(keys[1])
                self._slots.add(keys[1])
            answer = await self._pace(keys=keys, args=[self.worker, LEASE_S, *vars(ask).values()])
        slots, requests, tokens, rub, pause_s, limit, down_s, probe = answer
        return Share(
            slots,
            requests,
            float(tokens),
            float(rub),
            float(pause_s),
            limit,
            float(down_s),
            probe=bool(probe),
        )

    async def lift(self, scope: str) -> None:
        """No worker waits any longer for what the endpoint asked for; one looks at once."""
        async with _as_connection_errors():
            await self._redis.hset(names.pace_key(scope), mapping={"pause": 0, "probe": 0})


@asynccontextmanager
async def _as_connection_errors() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise ConnectionError(type(error).__name__) from error
