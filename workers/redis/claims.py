"""Chunks are taken, kept and let go of: by one worker each, and only by whom Redis knows."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from jobs import names
from jobs.chunk import Payload
from jobs.errors import BadMessage
from jobs.wire import Begin, Permit, pack_begin, unpack_payload, unpack_permit
from workers.redis.connection import TIMEOUT_S, Connection, as_connection_errors
from workers.redis.data_loss_check import Vouching

VOUCHING_S, _ASK_AGAIN_S = 3.0, 0.05
"""So long a chunk's message waits for somebody to vouch for its fence, who answers in 0.1 s."""

_ASK_PERMIT_AGAIN_S, LOOK_S, LOOK_LATER_S, _LOOK_SELDOM_S = 1.0, 0.01, 0.05, 0.1

CLAIM_S = 15.0
"""A claim that is not renewed for so long is void: its worker is dead or cut off."""

TAKEN_S = 86_400
"""So long it is known who took a chunk; the home forgets it when it closes the chunk."""

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

_UNCLAIM = """
for _, key in ipairs(KEYS) do
  local by = redis.pcall('GET', key)
  if by == ARGV[1] or by == ARGV[2] then
    redis.call('DEL', key)
  end
end
"""

_RENEW = """
local lost = {}
for place = 1, #KEYS, 2 do
  local claim, number = redis.pcall('GET', KEYS[place]), (place - 1) / 2
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
it; where Redis has not, its payload is there. What is no text is nobody's, either.
"""

Key = tuple[str, int]
"""(job, chunk)."""


class Claims:
    """The chunks of one worker."""

    def __init__(self, connection: Connection, vouching: Vouching) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._worker = connection.worker
        self._ours = connection.ours
        self._seal = connection.seal
        self._vouching = vouching
        self._claim = connection.line.register_script(_CLAIM)
        self._unclaim = connection.line.register_script(_UNCLAIM)
        self._renew = connection.redis.register_script(_RENEW)

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
            self._connection.foreign += 1
            # The chunk itself was not taken: its coordinator lays it down again.
            async with as_connection_errors():
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
        nonce, count = self._vouching.nonce, self._vouching.count
        keys = (
            names.payload_key(job, chunk),
            names.hold_key(job),
            *taken,
            names.fence_key(fence),
            names.NONCES,
            names.voucher_key(nonce),
        )
        life = int(CLAIM_S * 1000)
        mine = (self._worker, TAKEN_S, life, passed_over, count, nonce, fence, attempt)
        async with as_connection_errors(), asyncio.timeout(TIMEOUT_S):
            found = await self._claim(keys, mine)
            if isinstance(found, list) and self._vouching.nonce != nonce:
                # The connection was made anew on the way, and may lead to an older memory.
                await self._unclaim(taken, (self._worker, self._worker + attempt))
                return b"unvouched"
        if found == b"older" and (nonce, count) == (self._vouching.nonce, self._vouching.count):
            self._vouching.doubt()
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
                async with as_connection_errors(), asyncio.timeout(TIMEOUT_S):
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

    async def renew(self, chunks: list[Key], *, whole: bool) -> set[Key]:
        """Renews these claims, but for those that are not this worker's any more.

        `whole`: Redis remembers all that it was told since the beat before.
        """
        names_of = (names.claim_key, names.payload_key)
        keys = [name(*key) for key in chunks for name in names_of]
        marks = [self._seal.sign(names.claim_key(*key), names.LOST) for key in chunks]
        lost = await self._renew(keys, (self._worker, int(CLAIM_S * 1000), int(whole), *marks))
        return {chunks[place] for place in lost}

    async def release(self, job: str, chunk: int) -> None:
        """The chunk is done with: its closing is on its way."""
        async with as_connection_errors():
            # Only its own: a mark that the chunk is lost, or another's claim, stays.
            await self._unclaim(keys=(names.claim_key(job, chunk),), args=(self._worker, ""))
