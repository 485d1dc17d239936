"""The road under the SDK: aiohttp, as a transport of the SDK's own HTTP client.

The SDK takes any `httpx2.AsyncClient`; this one goes straight to aiohttp, whose connections cost a
fraction of the default's CPU. It leaves out what a chat call never needs and what could do harm:
redirects (a prompt would go to another host), cookies, netrc, proxies of the environment.

Foreign exceptions get their meaning in one place, `diagnose`:

    nothing was sent            UNREACHABLE, EXHAUSTED (this machine's limits), CERTIFICATE
    nothing was read            STALE
    it may have been billed     CUT, TIMEOUT, TOO_LARGE, UNEXPECTED
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import sys
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from enum import StrEnum
from functools import lru_cache, partial
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, cast

import aiohttp
import httpx2
from aiohttp import ClientTimeout, StreamReader, http_exceptions
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from yarl import URL

from jobs.errors import InvalidValue
from jobs.message import N_

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class BrokenKind(StrEnum):
    """Why no whole answer came."""

    UNREACHABLE = "unreachable"
    """Nothing was sent: no name, no connection, no TLS."""
    EXHAUSTED = "exhausted"
    """Nothing was sent: this machine is out of descriptors, ports or memory."""
    STALE = "stale"
    """The endpoint had closed the idle connection before it read the request on it."""
    CERTIFICATE = "certificate"
    """Nothing was sent: the endpoint is not who it should be."""
    CUT = "cut"
    """The connection ended or spoke nonsense after the request may have been sent."""
    TIMEOUT = "timeout"
    """Silence for too long, or the whole call took too long."""
    TOO_LARGE = "too_large"
    """The answer outgrew the limit and was left."""
    UNEXPECTED = "unexpected"
    """Something this program does not know."""


class Stale(Exception):
    """An idle connection ended as soon as it was used again, before a byte of an answer."""


class TooLarge(Exception):
    """The answer is larger than agreed."""


_KINDS: dict[type[BaseException], BrokenKind] = {
    Stale: BrokenKind.STALE,
    TooLarge: BrokenKind.TOO_LARGE,
    # Connecting.
    aiohttp.ClientConnectorError: BrokenKind.UNREACHABLE,
    aiohttp.ClientConnectorCertificateError: BrokenKind.CERTIFICATE,
    aiohttp.ServerFingerprintMismatch: BrokenKind.CERTIFICATE,
    aiohttp.ConnectionTimeoutError: BrokenKind.UNREACHABLE,
    aiohttp.InvalidURL: BrokenKind.UNREACHABLE,
    aiohttp.NonHttpUrlClientError: BrokenKind.UNREACHABLE,
    # Talking.
    aiohttp.ServerTimeoutError: BrokenKind.TIMEOUT,
    TimeoutError: BrokenKind.TIMEOUT,
    aiohttp.ClientError: BrokenKind.CUT,
    http_exceptions.HttpProcessingError: BrokenKind.CUT,
    ssl.SSLError: BrokenKind.CUT,
    OSError: BrokenKind.CUT,
    EOFError: BrokenKind.CUT,
    zlib.error: BrokenKind.CUT,
    zstd.ZstdError: BrokenKind.CUT,
    # What the SDK's HTTP client itself raises; ours never connects through it.
    httpx2.TimeoutException: BrokenKind.TIMEOUT,
    httpx2.HTTPError: BrokenKind.CUT,
    httpx2.StreamError: BrokenKind.CUT,
    httpx2.InvalidURL: BrokenKind.UNREACHABLE,
}
_SENTENCES = {
    BrokenKind.UNREACHABLE: "the endpoint is unreachable",
    BrokenKind.EXHAUSTED: "this machine can open no more connections",
    BrokenKind.STALE: "the endpoint had closed an idle connection",
    BrokenKind.CERTIFICATE: "the endpoint's certificate is not to be trusted",
    BrokenKind.CUT: "the connection broke or spoke nonsense",
    BrokenKind.TIMEOUT: "no whole answer in time",
    BrokenKind.TOO_LARGE: "the response exceeds 16 MiB",
    BrokenKind.UNEXPECTED: "the client met something unknown",
}
_HINTS, _SWITCHING, _ANSWERS = 100, 101, 200
_SPACE = b" \t\r\n"
_LAST_LOOK_S = 0.2
_IDLE_S, _AT_ONCE_S = 1.0, 1.0
"""A connection that was idle for so long and ends so soon was closed before it was used again: who
reads a request works on it for longer, and who closes does so after an idle time."""
_EXHAUSTED = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)


def diagnose(error: Exception) -> tuple[BrokenKind, str]:
    """What an exception of the road means, and a sentence without anything that was sent."""
    kind = next(
        (_KINDS[cls] for cls in type(error).__mro__ if cls in _KINDS), BrokenKind.UNEXPECTED
    )
    if kind is BrokenKind.UNREACHABLE and getattr(error, "errno", None) in _EXHAUSTED:
        kind = BrokenKind.EXHAUSTED
    return kind, f"{_SENTENCES[kind]} ({_cause(error)})"


def _cause(error: Exception) -> str:
    """The class and the system's word for it: texts of exceptions may quote headers and bodies."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    reason = _reason(inner)
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _reason(cause: object) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return str(getattr(cause, "verify_message", ""))
    if isinstance(cause, ssl.SSLError):
        return str(getattr(cause, "reason", None) or "")
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    # Of a name that does not resolve.
    return str(getattr(cause, "strerror", None) or "")


class within:  # noqa: N801  read as `asyncio.timeout` is
    """As `asyncio.timeout`, but the loop has read all that has come before it gives up.

    In a process that slept (SIGSTOP, a machine that was paused), timers are due before a loop looks
    into its sockets; an answer that came meanwhile is paid for.
    """

    # A class, since entering a generator twice a call would cost as much as the timer.
    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._limit.__aenter__()
        self._due = self._loop.call_later(self._total_s, self._look_once_more)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._due.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _look_once_more(self) -> None:
        self._limit.reschedule(self._loop.time() + _LAST_LOOK_S)


class _Handler(ResponseHandler):
    """Looks once more before silence has lasted too long: see `within`. `freed_at`: when it was
    last left to others, monotonic seconds.
    """

    freed_at = float("inf")

    def _on_read_timeout(self) -> None:
        self._read_timeout_handle = self._loop.call_later(_LAST_LOOK_S, super()._on_read_timeout)


class Connector(aiohttp.TCPConnector):
    """A pool that drops connections on which something came that nobody asked for.

    aiohttp hands out an idle connection although a second response to an earlier request waits
    in it; the next request would get that one as its answer.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(_Handler, loop=self._loop))

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        """A connection with nothing left over on it."""
        while True:
            connection = await super().connect(*args, **kwargs)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class Body(httpx2.AsyncByteStream):
    """The bytes of an answer as they come; reading to the end frees the connection.

    When a chunk has no sane size, aiohttp closes the connection and leaves its reader waiting;
    so the end of the connection is watched here while a body is awaited.
    """

    def __init__(self, connection: Connection, content: StreamReader) -> None:
        self._connection: Connection | None = connection
        self._content = content
        self._end: asyncio.Future[None] | None = None
        content.on_eof(self._free)

    def __aiter__(self) -> AsyncIterator[bytes]:
        # A body that came together with its headers has left the connection already.
        connection = self._connection
        if connection is not None and connection.protocol is not None:
            self._end = connection.protocol.closed
        if self._end is not None:
            # Once for each connection, however many answers it brings.
            self._end.remove_done_callback(_look)
            self._end.add_done_callback(_look)
            self._end.add_done_callback(self._fail)
        return self._content.iter_any()

    async def aclose(self) -> None:
        """Drops the connection, unless all was read and nothing came after it."""
        if self._end is not None:
            self._end.remove_done_callback(self._fail)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here: reading it waits for nothing any more."""
        return self._content.is_eof() and self._content.exception() is None

    def _free(self) -> None:
        """The whole answer is here: the connection is for the next call."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.transport is None or connection.transport.get_write_buffer_size():
            # Answered before it heard the whole question.
            connection.close()
        else:
            cast("_Handler", connection.protocol).freed_at = monotonic()
            connection.release()

    def _fail(self, _: asyncio.Future[None]) -> None:
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError())


def _look(end: asyncio.Future[None]) -> None:
    """Takes note of how a connection ended, else asyncio logs that nobody did."""
    if not end.cancelled():
        end.exception()


class Transport(httpx2.AsyncBaseTransport):
    """Carries one request over aiohttp: headers first, the body as a stream, nothing decoded.

    Of aiohttp it takes the connections and the parser. Its `ClientSession.request` would cost twice
    the CPU of all the rest, to build anew for each call a request that differs in its body alone.
    Timeouts are read where httpx keeps them, in `request.extensions["timeout"]` (seconds).
    """

    def __init__(self, *, max_connections: int, tls: ssl.SSLContext) -> None:
        self._max_connections = max_connections
        self._tls = tls
        self._connector: Connector | None = None
        self._place = lru_cache(maxsize=16)(_place)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends the request; raises what aiohttp raises."""
        timeout = _timeout(**request.extensions["timeout"])
        connection = await self._connect(str(request.url), timeout)
        try:
            message, content = await _talk(connection, request, timeout.sock_read)
        except BaseException:
            connection.close()
            raise
        return httpx2.Response(
            message.code,
            headers=message.raw_headers,
            stream=Body(connection, content),
            request=request,
        )

    async def aclose(self) -> None:
        """Closes every connection."""
        if self._connector is not None:
            await self._connector.close()

    async def _connect(self, url: str, patience: ClientTimeout) -> Connection:
        # A connector belongs to the loop it is born in, so it is made at the first call.
        if self._connector is None:
            self._connector = Connector(limit=self._max_connections, ssl=self._tls)
        try:
            return await self._connector.connect(self._place(url), [], patience)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error


class HttpClient(httpx2.AsyncClient):
    """The SDK's HTTP client without the stations that a call does not stop at."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport=transport, trust_env=False, follow_redirects=False)
        self._road = transport

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **_: Any
    ) -> httpx2.Response:
        """Straight to the transport: no auth flow, redirects, cookies or hooks."""
        response = await self._road.handle_async_request(request)
        if not stream:
            await response.aread()
        return response


def _place(url: str) -> aiohttp.ClientRequest:
    """Where to connect to, as a connector wants to be told; nothing of it is ever sent."""
    return aiohttp.ClientRequest("GET", URL(url, encoded=True))


@lru_cache(maxsize=64)
def _timeout(connect: float, read: float, **_: float) -> ClientTimeout:
    return ClientTimeout(connect=connect, sock_read=read)


async def _talk(
    connection: Connection, request: httpx2.Request, idle_s: float | None
) -> tuple[RawResponseMessage, StreamReader]:
    """Sends a request, and returns when the headers of its answer are there."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or transport.is_closing():
        raise Stale
    protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=idle_s)
    transport.write(_bytes(request))
    if protocol.writing_paused:
        await protocol._drain_helper()  # noqa: SLF001  as aiohttp's own writer does
    protocol.start_timeout()
    begun, freed_at = monotonic(), cast("_Handler", protocol).freed_at
    while True:
        try:
            message, content = await protocol.read()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if begun - freed_at >= _IDLE_S and monotonic() - begun < _AT_ONCE_S:
                raise Stale from error
            raise
        # Past hints that precede it (103).
        if not _HINTS <= message.code < _ANSWERS or message.code == _SWITCHING:
            return message, content


def _bytes(request: httpx2.Request) -> bytes:
    url, body = request.url, request.read()
    head = _head(request.method, url.raw_path, url.netloc, tuple(request.headers.raw))
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"".join((head, length, b"\r\n", body))


@lru_cache(maxsize=16)
def _head(method: str, path: bytes, host: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """All of a request that comes before its length."""
    lines = [b"%s %s HTTP/1.1" % (method.encode(), path), b"Host: %s" % host]
    lines += [b"%s: %s" % header for header in headers]
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise InvalidValue(N_("a header with a line break in it"))
    return b"".join(line + b"\r\n" for line in lines)


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_GZIP = b"\x1f\x8b"
_PLAIN = b'{[<"' + _SPACE
_ENOUGH = 4
"""Bytes that tell how a body is packed, whatever its headers claim."""


def _unpacker(encoding: str, head: bytes) -> _Unpacker | None:
    """For an endpoint that compresses though it was asked not to, or says so and does not; None: as
    it is.
    """
    if encoding not in {"gzip", "x-gzip", "deflate", "zstd"} or head[:1] in _PLAIN:
        return None
    if encoding == "zstd":
        return zstd.ZstdDecompressor()
    is_zlib = len(head) > 1 and head[0] & 15 == zlib.DEFLATED and not int.from_bytes(head[:2]) % 31
    wrapped = head.startswith(_GZIP) or is_zlib
    return zlib.decompressobj(zlib.MAX_WBITS | 32 if wrapped else -zlib.MAX_WBITS)


async def read_body(response: httpx2.Response, encoding: str, most: int) -> bytes:
    """The body, unpacked, without white space in front; `TooLarge` above `most` bytes."""
    # Not `aiter_raw`, which costs more than it adds.
    stream = cast("AsyncIterable[bytes]", response.stream)
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return await _collect(stream, most, None)
    head, rest = await _begun(stream)
    return await _collect(rest, most, _unpacker(encoding, head))


async def _begun(stream: AsyncIterable[bytes]) -> tuple[bytes, AsyncIterable[bytes]]:
    """The first bytes, and all of the stream."""
    pieces, head = aiter(stream), b""
    while len(head) < _ENOUGH and (piece := await anext(pieces, b"")):
        head += piece

    async def all_of_it() -> AsyncIterator[bytes]:
        yield head
        async for piece in pieces:
            yield piece

    return head, all_of_it()


async def _collect(stream: AsyncIterable[bytes], most: int, unpacker: _Unpacker | None) -> bytes:
    """Ends with the compressed stream: what stands behind it is nobody's, and not even read."""
    parts: list[bytes] = []
    size = wire = 0
    async for piece in stream:
        part = unpacker.decompress(piece, most - size + 1) if unpacker else piece
        size += len(part)
        # A stream may be long that unpacks to nothing.
        wire += len(piece)
        if max(size, wire) > most:
            raise TooLarge
        if parts or (part := part.lstrip(_SPACE)):
            parts.append(part)
        if unpacker and unpacker.eof:
            break
    if unpacker and not unpacker.eof:
        raise EOFError
    return b"".join(parts)
