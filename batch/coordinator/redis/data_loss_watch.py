"""Whether Redis still holds all that it was told."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import cast

from batch.coordinator.redis.redis_client import while_running
from batch.coordinator.redis.signed import SignedRedis
from jobs import names

_FENCE_S = 7 * 24 * 3600

_VOUCHER_S = 24 * 3600

_LONGEST_NUMBER = 19
"""Digits of a chunk's number; of thousands Python makes none."""

_VOUCH = """
local fence, nonces = unpack(KEYS)
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local count, known = tonumber(ARGV[2]), tonumber(redis.call('GET', fence) or '') or -1
if server ~= ARGV[3] or (known ~= count and known ~= count - 1) then
  return {0, server, known}
end
redis.call('SET', fence, count, 'EX', ARGV[4])
local asked = redis.call('HGETALL', nonces)
for i = 1, #asked, 2 do
  if redis.call('EXISTS', ARGV[6] .. asked[i]) == 1 then
    redis.pcall('HSET', ARGV[7] .. asked[i + 1], ARGV[1], 1)
    redis.call('EXPIRE', ARGV[7] .. asked[i + 1], ARGV[5])
  else
    redis.call('HDEL', nonces, asked[i])
  end
end
return {1, server, known}
"""

_VOUCH_TYPES = (b"string", b"hash")
"""Counts on and vouches in one step, by the server that holds the memory which is vouched for."""


@dataclass(frozen=True)
class Memory:
    """What Redis said of its memory: whether it is `whole`, and of which `server`, "" where INFO is
    forbidden; and the `count` that stands there, or -1.
    """

    whole: bool
    server: str
    count: int


class MemoryWatch:
    """Of one server."""

    def __init__(self, at: SignedRedis) -> None:
        self._at = at
        self._vouch = at.redis.register_script(_VOUCH)

    @property
    def connections(self) -> int:
        """How often a connection was made."""
        return self._at.connections

    def vouch(self, fence: str, count: int, server: str) -> Memory:
        """Vouches for Redis's memory to all workers that ask, if it is what it was.

        That is if the last count under this `fence` was `count` or the one before, and the server's
        run id still is `server`.
        """
        keys = (names.fence_key(fence), names.NONCES)
        prefixes = (names.worker_key(""), names.voucher_key(""))
        told = (fence, count, server, _FENCE_S, _VOUCHER_S, *prefixes)
        whole, found, known = cast(
            tuple[int, bytes, int],
            self._at.typed(
                dict(zip(keys, _VOUCH_TYPES, strict=True)), lambda: self._vouch(keys, told)
            ),
        )
        return Memory(bool(whole), found.decode(), known)

    def begin_fence(self, fence: str, old: str) -> None:
        """From now on this one counts. What was clicked before is forgotten: it may be done."""
        with while_running(), self._at.redis.pipeline(transaction=True) as pipe:
            pipe.delete(names.fence_key(old), names.WISHES)
            pipe.set(names.fence_key(fence), 0, ex=_FENCE_S)
            pipe.execute()

    def laid_down(self) -> dict[str, set[int]]:
        """The chunks of each job whose payloads stand here."""
        with while_running():
            keys = list(self._at.redis.scan_iter(names.payload_key("*", "*"), count=1000))
        found: dict[str, set[int]] = defaultdict(set)
        for *_, job, chunk in (key.decode(errors="replace").split(":") for key in keys):
            if chunk.isascii() and chunk.isdecimal() and len(chunk) <= _LONGEST_NUMBER:
                found[job].add(int(chunk))
        return found
