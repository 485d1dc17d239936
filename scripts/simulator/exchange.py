"""A call on the wire: the head at once, white space while the model works, then the body."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from .call_record import Call
from .refusals import Reply

# How often a fault that only waits looks whether the client is still there, in seconds.
GLANCE = 0.02


class ClientGoneError(ConnectionError):
    """The client has closed the connection."""


class Spent(web.StreamResponse):
    """Tells the HTTP library that the answer was written by hand; `stay` keeps the connection."""

    def __init__(self, *, stay: bool = False) -> None:
        super().__init__()
        self._stay = stay

    @property
    def keep_alive(self) -> bool:
        """Whether the connection is to be kept."""
        return self._stay

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing: the head is out."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the body is out."""


class Exchange:
    """What is to be sent for a call, and the means to send it well or badly.

    `finish` ends the model's work: it charges the call and gives the body. `seconds` is how long
    the work takes, `keepalive` how often a space is sent meanwhile.
    """

    def __init__(
        self,
        call: Call,
        reply: Reply,
        *,
        finish: Callable[[], bytes] | None = None,
        seconds: float = 0.0,
        keepalive: float = 5.0,
        abortable: bool = False,
    ) -> None:
        self.call = call
        self.status = reply.status
        self.headers: dict[str, str] = {"Content-Type": reply.content_type, **reply.headers}
        self._request = call.request
        self._finish = finish or (lambda: reply.body)
        self._seconds = seconds
        self._keepalive = keepalive
        self._abortable = abortable
        self._body: bytes | None = None

    @property
    def gone(self) -> bool:
        """Whether the client has closed the connection."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def finish(self) -> bytes:
        """The body; the first call of this ends the model's work and charges for it."""
        if self._body is None:
            self._body = self._finish()
        return self._body

    async def play(self) -> web.StreamResponse:
        """The whole exchange as it should be."""
        if self.status != HTTPStatus.OK or self._seconds == 0:
            await self.work()
            return await self._play_whole()
        response = await self.open()
        await self.work(response)
        await self.write(response, self.finish())
        return await self.end(response)

    async def open(self, more: Mapping[str, str] | None = None) -> web.StreamResponse:
        """Send the head, chunked: the status stands before the outcome is known."""
        self.call.status = self.status
        response = web.StreamResponse(status=self.status, headers={**self.headers, **(more or {})})
        response.enable_chunked_encoding()
        await response.prepare(self._request)
        self.call.delivery = "cut"
        return response

    async def work(self, response: web.StreamResponse | None = None) -> None:
        """Wait for the model; `response` gets a space now and then.

        A client that goes does not stop the work, unless the call was opened as abortable.
        """
        left = self._seconds
        while left > 0:
            pause = min(left, self._keepalive)
            await self._rest(pause)
            left -= pause
            if left > 0 and response is not None and not self.gone:
                with contextlib.suppress(ConnectionError):
                    await response.write(b" ")

    async def write(self, response: web.StreamResponse, data: bytes) -> None:
        """Send a part of the body."""
        if self.gone:
            raise ClientGoneError
        await response.write(data)
        self.call.note_sent(data)

    async def end(self, response: web.StreamResponse) -> web.StreamResponse:
        """The body is complete."""
        await response.write_eof()
        self.call.delivery = "full"
        return response

    async def until_gone(self, seconds: float = 0.0) -> None:
        """Wait until the client goes, for `seconds` at most (0: without end)."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while not self.gone:
            if seconds and clock() >= end:
                return
            await asyncio.sleep(GLANCE)

    def write_raw(self, data: bytes) -> None:
        """Put bytes on the connection behind the HTTP library's back."""
        if self.gone or self._request.transport is None:
            raise ClientGoneError
        self._request.transport.write(data)

    def write_raw_head(self, length: int) -> None:
        """A head by hand, with a Content-Length of our choice."""
        self.call.status = self.status
        self.call.delivery = "cut"
        self.write_raw(self.raw_head(length))

    def raw_head(self, length: int) -> bytes:
        """The bytes of such a head."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {length}", "", ""]
        return "\r\n".join(lines).encode()

    def write_raw_body(self, data: bytes) -> None:
        """A part of the body behind the HTTP library's back."""
        self.write_raw(data)
        self.call.note_sent(data)

    def hang_up(self) -> Spent:
        """Close in order (FIN), after what was written."""
        if self._request.transport is not None:
            self._request.transport.close()
        return Spent()

    def stay(self) -> Spent:
        """Leave the connection open for the next request."""
        return Spent(stay=True)

    def reset(self) -> Spent:
        """Close with an RST."""
        transport = self._request.transport
        if transport is not None:
            connection = transport.get_extra_info("socket")
            # Lingering for zero seconds makes the system reset instead of finish.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        return Spent()

    async def _play_whole(self) -> web.StreamResponse:
        if self.gone:
            raise ClientGoneError
        body = self.finish()
        self.call.status = self.status
        response = web.Response(status=self.status, headers=self.headers, body=body)
        if self.status == HTTPStatus.OK:
            response.enable_chunked_encoding()
        await response.prepare(self._request)
        await response.write_eof()
        self.call.note_sent(body)
        self.call.delivery = "full"
        return response

    async def _rest(self, seconds: float) -> None:
        if not self._abortable:
            await asyncio.sleep(seconds)
            return
        await self.until_gone(seconds)
        if self.gone:
            raise ClientGoneError
