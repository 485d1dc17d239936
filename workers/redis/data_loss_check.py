"""Whether Redis remembers what it was told: a coordinator vouches for it, under a nonce of ours."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

from redis.exceptions import ResponseError

from jobs import names
from workers.redis.connection import TIMEOUT_S, Connection, as_connection_errors, is_spoilt

_ASK = """
local nonces, voucher = unpack(KEYS)
redis.call('HSET', nonces, ARGV[1], ARGV[2])
redis.call('EXPIRE', nonces, ARGV[3])
local count = redis.call('HINCRBY', voucher, 'count', 1)
redis.call('EXPIRE', voucher, ARGV[3])
return {count, redis.call('HKEYS', voucher)}
"""

_VOUCHER_S = 24 * 3600


class Vouching:
    """What one worker asks coordinators to vouch under: a `nonce`, and a `count` of its askings.

    No memory that is older than the connection can hold either.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ask = connection.line.register_script(_ASK)
        connection.on_line = self.doubt
        self.doubt()

    def doubt(self) -> None:
        """A coordinator must vouch anew: no memory older than this can hold the new nonce."""
        self.nonce, self.count = secrets.token_hex(8), 0

    async def ask(self) -> set[bytes]:
        """Asks, and returns the fences that are vouched for by now; none if that is in doubt."""
        with suppress(ConnectionError):
            async with as_connection_errors():
                return await self._vouched_for()
        return set()

    async def _vouched_for(self) -> set[bytes]:
        nonce, count = self.nonce, self.count + 1
        keys = (names.NONCES, names.voucher_key(nonce))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                told = (self._connection.worker, nonce, _VOUCHER_S)
                counted, fences = await self._ask(keys, told)
        except ResponseError as error:
            if is_spoilt(error):
                # Under another nonce, then: that key is of no use any more.
                self.doubt()
            raise
        if self.nonce != nonce:
            # The connection was made on the way, and with it another nonce.
            return await self._vouched_for()
        if counted != count:
            self.doubt()
            return set()
        self.count = count
        return {*fences} - {b"count"}
