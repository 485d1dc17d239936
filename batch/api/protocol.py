"""uvicorn's HTTP with two bounds that it lacks: how long the head of a request may take, and whose
connection gives way when there is no place for another.

Also for `show --open`.
"""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 30.0
"""Bodies have a bound of their own, and idle connections uvicorn's."""


_MOST_AT_ONCE = 2000


def most_at_once() -> int:
    """Connections that a server may have: half of the descriptors are for files."""
    return min(_MOST_AT_ONCE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class Protocol(H11Protocol):
    """Closes connections whose next head does not come to its end: sent byte by byte, they would
    last for ever, and take the places of others.

    Nor do many of them, or many that rest: where uvicorn would have no place left (its
    `limit_concurrency`), the one that has been silent for longest goes.
    """

    _timer: asyncio.TimerHandle | None = None
    heard_at = 0.0
    """When its client last sent something."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self.heard_at = self.loop.time()
        if self.limit_concurrency and len(self.connections) >= self.limit_concurrency:
            self._make_room()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """A part of a request, or several of them."""
        self.heard_at = self.loop.time()
        super().data_received(data)
        if not self.awaits_head:
            self._rest()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._rest()
        super().connection_lost(exc)

    @property
    def awaits_head(self) -> bool:
        """Whether an answer has ended, or none has begun."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_idle(self) -> bool:
        """Whether nobody is being answered, nor reads the end of an answer."""
        return self.awaits_head and not self.transport.get_write_buffer_size()

    def _make_room(self) -> None:
        """Nobody who is being answered is cut off."""
        others = (each for each in self.connections if isinstance(each, Protocol))
        idle = [each for each in others if each is not self and each.is_idle]
        if idle:
            silent = min(idle, key=lambda each: each.heard_at)
            silent.transport.abort()
            # Not later: this one is to be counted without it.
            self.connections.discard(silent)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
