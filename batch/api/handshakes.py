"""TLS handshakes of `nightshift serve`: counted before uvicorn, whose own it learns of when done.

A stranger who opens connections and says nothing would else take all descriptors of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ssl import SSLContext

HANDSHAKE_S = 10.0
"""How long one may take."""


class Handshakes:
    """Makes the protocols of a server that listens without TLS, and has it begin within them.

    Where `most` are under way, the one that began first gives way to the next.
    """

    def __init__(
        self, make: Callable[..., asyncio.Protocol], context: SSLContext, most: int
    ) -> None:
        self.make, self.context, self._most = make, context, most
        self._waiting: dict[Handshake, asyncio.Transport] = {}

    def __call__(self, **settings: object) -> Handshake:
        """The protocol of a connection; `settings` are those of what follows the handshake."""
        return Handshake(self, settings)

    def begun(self, one: Handshake, transport: asyncio.Transport) -> None:
        """One is under way."""
        if len(self._waiting) >= self._most:
            self._waiting.pop(next(iter(self._waiting))).abort()
        self._waiting[one] = transport

    def over(self, one: Handshake) -> None:
        """It is done, or will never be."""
        self._waiting.pop(one, None)


class Handshake(asyncio.Protocol):
    """A connection until TLS is agreed upon; what it said at once after that is handed on."""

    _task: asyncio.Task[None]

    def __init__(self, all_: Handshakes, settings: dict[str, object]) -> None:
        self._all, self._settings = all_, settings
        self._heard: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        transport.pause_reading()  # what comes now is TLS's
        self._all.begun(self, transport)
        self._task = asyncio.get_running_loop().create_task(self._shake(transport))

    def data_received(self, data: bytes) -> None:
        """What a client said before this was told that the handshake is done."""
        self._heard.append(data)

    async def _shake(self, plain: asyncio.Transport) -> None:
        try:
            agreed = await asyncio.get_running_loop().start_tls(
                *(plain, self, self._all.context),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except OSError:  # ssl.SSLError is one
            plain.abort()
            return
        finally:
            self._all.over(self)
        if agreed is not None and not agreed.is_closing():
            self._hand_over(agreed)

    def _hand_over(self, agreed: asyncio.Transport) -> None:
        after = self._all.make(**self._settings)
        agreed.set_protocol(after)
        after.connection_made(agreed)
        for data in self._heard:
            after.data_received(data)
