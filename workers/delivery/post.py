"""A worker's side of Redis: chunks taken and kept, deliveries sent, signs of life, the shared pace.

Every command gives up within seconds, and a failure of any kind is a `ConnectionError`: callers
keep what they have and try again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from jobs import names
from jobs.chunk import Payload, Speed
from jobs.errors import BadMessage, UsageError
from jobs.heartbeat import WorkerStatus
from jobs.message import N_
from jobs.redis_url import parse_redis_url
from jobs.seal import Seal
from jobs.wire import Begin, Permit, pack_begin, unpack_payload, unpack_permit
from workers.pacing.leases import LEASE_S, SCRIPT, Lease, LeaseRequest, lease_of

TIMEOUT_S = 4.0
VOUCHING_S, _ASK_AGAIN_S = 3.0, 0.05
"""So long a chunk's message waits for somebody to vouch for its fence, who answers in 0.1 s."""

_ASK_PERMIT_AGAIN_S, LOOK_S, LOOK_LATER_S, _LOOK_SELDOM_S = 1.0, 0.01, 0.05, 0.1

CLAIM_S = 15.0
"""A claim that is not renewed for so long is void: its worker is dead or cut off."""

TAKEN_S = 86_400
"""So long it is known who took a chunk; the home forgets it when it closes the chunk."""

HOLD_S = 10
"""A coordinator has decided by then what becomes of a job that a worker stopped."""
_STOPPED = b"stopped"

_CLAIM = """
local payload, hold, taken, claim, fence, nonces, voucher = unpack(KEYS)
local me, taken_s, claim_ms, passed_over, count, nonce, named, attempt = unpack(ARGV)
local function text(key)
  local found = redis.pcall('GET', key)
  return type(found) == 'string' and found
end
if redis.call('EXISTS', fence) == 0 then
  return false
end
if (redis.call('HGET', voucher, 'count') or '0') ~= count then
  return 'older'
end
if redis.call('HEXISTS', voucher, named) == 0 then
  redis.call('HSET', nonces, me, nonce)
  redis.call('EXPIRE', nonces, taken_s)
  return 'unvouched'
end
local data, held = text(payload), text(hold)
local mine = me .. attempt
if not data or (text(taken) or mine) ~= mine or (text(claim) or me) ~= me then
  return false
end
if held and held ~= passed_over then
  return { held }
end
redis.call('SET', taken, mine, 'EX', taken_s)
redis.call('SET', claim, me, 'PX', claim_ms)
return { false, data }
"""
"""In one step, so that a chunk without a payload is one that nobody can take any more. A hold is
given back to be looked at; with one that is forged it is tried again, which is passed over then.
Whoever asks again since no reply came has the chunk already: that is the same `attempt`.
"""

_ASK = """
local nonces, voucher = unpack(KEYS)
redis.call('HSET', nonces, ARGV[1], ARGV[2])
redis.call('EXPIRE', nonces, ARGV[3])
local count = redis.call('HINCRBY', voucher, 'count', 1)
redis.call('EXPIRE', voucher, ARGV[3])
return {count, redis.call('HKEYS', voucher)}
"""

_UNCLAIM = """
for _, key in ipairs(KEYS) do
  local by = redis.call('GET', key)
  if by == ARGV[1] or by == ARGV[2] then
    redis.call('DEL', key)
  end
end
"""

_RENEW = """
local lost = {}
for place = 1, #KEYS, 2 do
  local claim, number = redis.call('GET', KEYS[place]), (place - 1) / 2
  local gone = ARGV[3] == '1' and redis.call('EXISTS', KEYS[place + 1]) == 0
  if claim == ARGV[4 + number] or (not claim and gone) then
    lost[#lost + 1] = number
  else
    redis.call('SET', KEYS[place], ARGV[1], 'PX', ARGV[2])
  end
end
return lost
"""
"""In one step with the look: a chunk that is given up has a claim that its coordinator signed, for
good; any other is not of our making. Where there is none it only ran out, or Redis has forgotten
it; where Redis has not, its payload is there.
"""

_VOUCHER_S = _PACE_S = 24 * 3600

Key = tuple[str, int]
"""(job, chunk)."""


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


class Post:
    """One worker process at one Redis."""

    def __init__(self, redis_url: str, worker: str, seal: Seal) -> None:
        self.worker = worker
        self.foreign = 0
        """What was dropped as not of our making."""
        self._seal = seal
        self._doubt()
        self._renewed = ""
        """The nonce of the last beat."""
        try:
            self._redis = _client(redis_url)
            # Chunks are taken over one connection, and where that leads elsewhere, it is told.
            self._line = _client(
                redis_url, single_connection_client=True, redis_connect_func=self._connected
            )
        except ValueError as error:
            # Its text may quote the address, and with it the password.
            raise UsageError(
                N_("the Redis address is invalid"),
                hint=N_("set NIGHTSHIFT_REDIS_URL, for example redis://localhost:6379/0"),
            ) from error
        self._claim = self._line.register_script(_CLAIM)
        self._ask = self._line.register_script(_ASK)
        self._unclaim = self._line.register_script(_UNCLAIM)
        self._renew = self._redis.register_script(_RENEW)
        self._pace = self._redis.register_script(SCRIPT)
        self._slots: set[str] = set()
        self._dead: set[bytes] = set()

    async def check(self) -> None:
        """`UsageError` if Redis does not let us in; that it is not there yet is no error."""
        try:
            await self._redis.ping()
        except (AuthenticationError, AuthorizationError) as error:
            raise UsageError(
                N_("Redis rejected the password"), hint=N_("check NIGHTSHIFT_REDIS_URL")
            ) from error
        except (RedisError, OSError, TimeoutError):
            return

    async def close(self) -> None:
        """Drops the connections."""
        await self._line.aclose()
        await self._redis.aclose()

    def _ours(self, place: str, signed: bytes | None) -> bytes | None:
        """What was signed for that place; None where it is not there, or is somebody else's."""
        data = self._seal.opened(place, signed)
        self.foreign += data is None and signed is not None
        return data

    # ---- whether Redis remembers what it was told ---------------------------------------------

    def _doubt(self) -> None:
        """A coordinator must vouch anew: no memory older than this can hold the new nonce."""
        self._nonce, self._count = secrets.token_hex(8), 0

    async def _connected(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        self._doubt()

    async def _ask_to_vouch(self) -> set[bytes]:
        """Asks, and returns the fences that are vouched for by now; none if that is in doubt."""
        with suppress(ConnectionError):
            async with _as_connection_errors():
                return await self._vouched_for()
        return set()

    async def _vouched_for(self) -> set[bytes]:
        nonce, count = self._nonce, self._count + 1
        keys = (names.NONCES, names.voucher_key(nonce))
        async with asyncio.timeout(TIMEOUT_S):
            counted, fences = await self._ask(keys, (self.worker, nonce, _VOUCHER_S))
        if self._nonce != nonce:
            # The connection was made on the way, and with it another nonce.
            return await self._vouched_for()
        if counted != count:
            self._doubt()
            return set()
        self._count = count
        return {*fences} - {b"count"}

    # ---- chunks -----------------------------------------------------------------------------

    async def claim(self, job: str, chunk: int, fence: str) -> Payload | None:
        """The payload, if this worker is the first to take the chunk.

        None for a message that came twice or too late, while the job is held, and where nobody
        vouches for the `fence` within a few seconds: the coordinator takes back or feeds again what
        nobody took. Raises `BadMessage` for a foreign payload.
        """
        data = await self._take(job, chunk, fence)
        if data is None:
            return None
        try:
            payload = unpack_payload(self._seal.verify(names.payload_key(job, chunk), data))
        except BadMessage:
            self.foreign += 1
            # The chunk itself was not taken: its coordinator lays it down again.
            async with _as_connection_errors():
                await self._redis.delete(names.taken_key(job, chunk), names.claim_key(job, chunk))
            raise
        same = (payload.job, payload.chunk) == (job, chunk)
        return payload if same else None

    async def _take(self, job: str, chunk: int, fence: str) -> bytes | None:
        """Its payload, once the fence is vouched for; None where it is not to be had."""
        deadline, passed_over = time.monotonic() + VOUCHING_S, b""
        attempt = " " + secrets.token_hex(8)
        while True:
            late = time.monotonic() > deadline
            try:
                found = await self._take_once(job, chunk, fence, passed_over, attempt)
            except ConnectionError:
                # It may have broken long ago, with nobody to notice.
                if late:
                    raise
                found = b"unconnected"
            if isinstance(found, list) and found[0] is not None:
                if passed_over or self._ours(names.hold_key(job), found[0]) is not None:
                    return None
                passed_over = found[0]
            elif late or not isinstance(found, bytes):
                return found[1] if isinstance(found, list) else None
            else:
                await asyncio.sleep(_ASK_AGAIN_S)

    async def _take_once(
        self, job: str, chunk: int, fence: str, passed_over: bytes, attempt: str
    ) -> bytes | list[bytes | None] | None:
        """What `_CLAIM` gives back."""
        # A claim dies with its worker, but the chunk is not free then: answers of it may lie in
        # that worker's journal. Its rest comes in a chunk of another number.
        taken = [names.taken_key(job, chunk), names.claim_key(job, chunk)]
        nonce, count = self._nonce, self._count
        keys = (
            names.payload_key(job, chunk),
            names.hold_key(job),
            *taken,
            names.fence_key(fence),
            names.NONCES,
            names.voucher_key(nonce),
        )
        life = int(CLAIM_S * 1000)
        mine = (self.worker, TAKEN_S, life, passed_over, count, nonce, fence, attempt)
        async with _as_connection_errors(), asyncio.timeout(TIMEOUT_S):
            found = await self._claim(keys, mine)
            if isinstance(found, list) and self._nonce != nonce:
                # The connection was made anew on the way, and may lead to an older memory.
                await self._unclaim(taken, (self.worker, self.worker + attempt))
                return b"unvouched"
        if found == b"older" and (nonce, count) == (self._nonce, self._count):
            self._doubt()
        return cast("bytes | list[bytes | None] | None", found)

    async def ask(
        self,
        job: str,
        ask: Begin,
        given_up: Callable[[], bool] = lambda: False,
        look_s: float = LOOK_S,
    ) -> bool | None:
        """Whether calls of a chunk that was claimed may cost so much: its coordinator says so, and
        to this worker alone, once it has that on disk. Whatever else stands in Redis proves
        nothing. None where it said nothing until it is `given_up`. First looks for the answer after
        `look_s`.
        """
        ask_at, wait = 0.0, look_s
        while not given_up():
            with suppress(ConnectionError):
                async with _as_connection_errors(), asyncio.timeout(TIMEOUT_S):
                    if time.monotonic() >= ask_at:
                        await self._ask_for(job, ask)
                        ask_at = time.monotonic() + _ASK_PERMIT_AGAIN_S
                        await asyncio.sleep(wait)
                    permit = await self._permit(job, ask.chunk)
                    if permit and (permit.attempt != ask.attempt or permit.covers(ask)):
                        return permit.attempt == ask.attempt
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LOOK_SELDOM_S)
        return None

    async def _permit(self, job: str, chunk: int) -> Permit | None:
        place = names.permit_key(job, chunk)
        told = self._ours(place, cast("bytes | None", await self._redis.get(place)))
        with suppress(BadMessage):
            return None if told is None else unpack_permit(told)
        return None

    async def _ask_for(self, job: str, ask: Begin) -> None:
        signed = self._seal.sign(names.ask_place(job), pack_begin(ask))
        key = names.results_key(job)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(key, {"a": signed})
            pipe.expire(key, names.LONGEST_LIFE_S)
            await pipe.execute()

    async def beat(self, chunks: list[Key], presence: WorkerStatus) -> Beat:
        """Renews the claims and the worker's sign of life."""
        jobs, life = sorted({job for job, _ in chunks}), int(CLAIM_S * 1000)
        me = names.worker_key(self.worker)
        async with _as_connection_errors():
            seconds, _ = await self._redis.time()
        # By one clock for all: what is put back later is old, and counts for nothing.
        presence = msgspec.structs.replace(presence, at=float(seconds))
        told_of_me = self._seal.sign(me, msgspec.json.encode(presence))
        async with _as_connection_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.set(me, told_of_me, px=life)
            pipe.mget([names.NONCES, *(names.hold_key(job) for job in jobs)])
            pipe.mget([names.NONCES, *(names.progress_key(job) for job in jobs)])
            _, (_, *holds), (_, *told) = await pipe.execute()
        fences = await self._ask_to_vouch()
        async with _as_connection_errors():
            lost = await self._lost(chunks, whole=bool(fences) and self._renewed == self._nonce)
        self._renewed = self._nonce
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

    async def _lost(self, chunks: list[Key], *, whole: bool) -> set[Key]:
        """Renews these claims, but for those that are not this worker's any more.

        `whole`: Redis remembers all that it was told since the beat before.
        """
        names_of = (names.claim_key, names.payload_key)
        keys = [name(*key) for key in chunks for name in names_of]
        marks = [self._seal.sign(names.claim_key(*key), names.LOST) for key in chunks]
        lost = await self._renew(keys, (self.worker, int(CLAIM_S * 1000), int(whole), *marks))
        return {chunks[place] for place in lost}

    def _published(self, told: Iterable[tuple[str, bytes | None]]) -> dict[str, Published]:
        """What of it makes sense."""
        found = {}
        for job, signed in told:
            known = self._ours(names.progress_key(job), signed)
            with suppress(msgspec.DecodeError):
                found[job] = msgspec.json.decode(known or b"", type=Published)
        return {job: each for job, each in found.items() if each.pace.is_sound}

    async def held(self, jobs: Iterable[str]) -> set[str]:
        """Those of the jobs of which nothing may be sent."""
        asked = sorted(jobs)
        async with _as_connection_errors():
            holds = await self._redis.mget([names.NONCES, *map(names.hold_key, asked)])
        return {job for job, hold in zip(asked, holds[1:], strict=True) if hold is not None}

    async def hold(self, job: str) -> None:
        """No worker starts anything of the job until its coordinator has had the time to decide."""
        async with _as_connection_errors():
            key = names.hold_key(job)
            await self._redis.set(key, self._seal.sign(key, _STOPPED), nx=True, ex=HOLD_S)

    async def release(self, job: str, chunk: int) -> None:
        """The chunk is done with: its closing is on its way."""
        async with _as_connection_errors():
            # Only its own: a mark that the chunk is lost, or another's claim, stays.
            await self._unclaim(keys=(names.claim_key(job, chunk),), args=(self.worker, ""))

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
            pipe.delete(names.worker_key(self.worker), names.voucher_key(self._nonce))
            pipe.hdel(names.NONCES, self.worker)
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
                pipe.expire(key, names.LONGEST_LIFE_S)
            await pipe.execute()

    async def acknowledged(self, outbox: str) -> list[int]:
        """Sequence numbers that the home has on disk, each told once."""
        key = names.acks_key(outbox)
        async with _as_connection_errors():
            found = cast("list[bytes] | None", await self._redis.lpop(key, 10_000)) or []
        numbers = [self._ours(key, signed) for signed in found]
        return [int(number) for number in numbers if number is not None]

    # ---- the pace's port ----------------------------------------------------------------------

    async def exchange(self, scope: str, ask: LeaseRequest) -> Lease:
        """Tells what happened, gets this process's share."""
        keys = [names.pace_key(scope), names.slots_key(scope), names.minute_key(scope)]
        async with _as_connection_errors():
            if keys[1] not in self._slots:
                await self._free_places(keys[1])
                self._slots.add(keys[1])
            try:
                asked = [self.worker, LEASE_S, *vars(ask).values()]
                return lease_of(await self._pace(keys=keys, args=asked))
            except (ResponseError, BadMessage) as error:
                if not _is_spoilt(error):
                    raise
        # Somebody else wrote there: the pace is found anew.
        self.foreign += 1
        async with _as_connection_errors():
            await self._redis.delete(*keys)
        raise ConnectionError("invalid state of the shared limiter")

    async def lift(self, scope: str) -> None:
        """No worker waits any longer for what the endpoint asked for; one looks at once."""
        async with _as_connection_errors():
            key = names.pace_key(scope)
            await self._redis.hset(key, mapping={"pause": 0, "probe": 0})
            await self._redis.expire(key, _PACE_S)


def _client(redis_url: str, **how: Any) -> Redis:
    return Redis.from_url(
        parse_redis_url(redis_url).redis_py(),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        **how,
    )


def _is_spoilt(error: Exception) -> bool:
    """Whether the script met what it had not written itself; a server's refusal is none."""
    of_script = ("WRONGTYPE", "user_script:", "ERR user_script:", "Error running script")
    return isinstance(error, BadMessage) or str(error).startswith(of_script)


@asynccontextmanager
async def _as_connection_errors() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise ConnectionError(type(error).__name__) from error
