"""The client against a server that does, byte by byte, what servers should not do.

The ids name the lines of the catalogue of faults (E10 to E43, S4, S5).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import gzip
import inspect
import json
import logging
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import httpx2
import pytest
import uvloop
from aiohttp import http_exceptions
from openai import AsyncOpenAI

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from workers.calling import transport
from workers.calling.endpoint import Broken, BrokenKind, Endpoint, Reply
from workers.calling.transport import TooLarge, diagnose

KEY = "sk-canary-key"
PROMPT = b'{"messages":[{"role":"user","content":"canary-prompt"}]}'
GENERATION = b"X-Generation-Id: gen-7\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n" + GENERATION
SHORT: dict[str, Any] = {"idle_timeout_s": 0.3, "total_timeout_s": 2.0}
TICK = 0.02
"""Seconds by which a loop's timer may be early."""

Issue = Callable[[int], tuple[str, str]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def full(body: bytes, head: bytes = HEAD) -> bytes:
    """A response with the length of its body."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return head + await reader.readexactly(int(length or 0))


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection by RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def says(*parts: bytes | float, end: str = "stay") -> Script:
    """Answers every request of a connection with these bytes; a number is a pause in seconds."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            for part in parts:
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                else:
                    await asyncio.sleep(part)
            if end == "rst":
                reset(writer)
            if end == "fin":
                writer.close()

    return script


@contextlib.asynccontextmanager
async def serving(
    script: Script, tls: ssl.SSLContext | None = None
) -> AsyncIterator[SimpleNamespace]:
    """A server of `script`; `heard` are the connections that it took."""
    heard = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield SimpleNamespace(port=port, heard=heard, url=f"http://127.0.0.1:{port}/api/v1")
    finally:
        server.close()
        for writer in heard:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def endpoint(url: str, **limits: Any) -> AsyncIterator[Endpoint]:
    """A client with short limits."""
    client = Endpoint(url, KEY, **SHORT | limits)
    try:
        yield client
    finally:
        await client.close()


def answer_of(script: Script, **limits: Any) -> Reply | Broken:
    """What one call of a server with this script comes to."""

    async def scenario() -> Reply | Broken:
        async with serving(script) as server, endpoint(server.url, **limits) as client:
            return await client.call(PROMPT)

    return uvloop.run(scenario())


# ── What goes out, what comes back ───────────────────────────────────────────────────────────────


def heard_by(call: Callable[[Endpoint], Awaitable[object]]) -> bytes:
    """The request that a call puts on the wire."""
    requests = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(full(b"{}"))

    async def scenario() -> None:
        async with serving(script) as server, endpoint(server.url) as client:
            await call(client)

    uvloop.run(scenario())
    return requests[0]


def headers_of(request: bytes) -> dict[str, str]:
    head = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}


def test_the_body_goes_out_byte_for_byte_with_the_sdks_authorization() -> None:
    request = heard_by(lambda client: client.call(PROMPT))

    assert request.startswith(b"POST /api/v1/chat/completions HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\n" + PROMPT)
    headers = headers_of(request)
    headers.pop("host")
    version = AsyncOpenAI(api_key="k")._version
    assert headers == {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(PROMPT)),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"Nightshift AsyncOpenAI/Python {version}",
    }


def test_the_short_way_sends_what_the_sdks_own_way_sends() -> None:
    async def own(client: Endpoint) -> None:
        sdk = client._sdk
        await sdk.post("chat/completions", cast_to=httpx2.Response, content=PROMPT)

    theirs, ours = headers_of(heard_by(own)), headers_of(heard_by(lambda c: c.call(PROMPT)))

    assert {name: theirs[name] for name in ours if name not in {"host", "accept-encoding"}} == {
        name: value for name, value in ours.items() if name not in {"host", "accept-encoding"}
    }


def test_s5_the_environment_adds_nothing_and_sends_nothing_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "http://other.example")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer other\nX-Extra: 1")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    headers = headers_of(heard_by(lambda client: client.call(PROMPT)))

    assert headers["authorization"] == f"Bearer {KEY}"
    assert "other" not in str(headers)
    assert "x-extra" not in headers


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda client: client.generation("gen-1/../?a=b"), b"generation?id=gen-1%2F..%2F%3Fa%3Db"),
        (lambda client: client.credits(), b"credits"),
        (lambda client: client.models(), b"models"),
    ],
)
def test_the_money_endpoints_are_asked_with_the_key(
    call: Callable[[Endpoint], Awaitable[object]], path: bytes
) -> None:
    request = heard_by(call)

    assert request.startswith(b"GET /api/v1/" + path + b" HTTP/1.1\r\n")
    assert headers_of(request)["authorization"] == f"Bearer {KEY}"


def test_a_body_of_megabytes_goes_out_whole() -> None:
    body = b'"' + b"x" * 5_000_000 + b'"'

    assert heard_by(lambda client: client.call(body)).endswith(b"\r\n\r\n" + body)


def test_the_answer_keeps_its_bytes_and_the_headers_that_are_used() -> None:
    head = HEAD + b"RETRY-AFTER: 7\r\nX-RateLimit-Limit: 9\r\nX-Long: 1\r\nDate: now\r\n"
    reply = answer_of(says(full(b'{"a": 1}\n ', head + "X-Request-Id: ж\r\n".encode())))

    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (200, b'{"a": 1}\n ')
    assert reply.headers == {
        "retry-after": "7",
        "x-ratelimit-limit": "9",
        "date": "now",
        "x-generation-id": "gen-7",
    }
    assert reply.latency_s > 0


@pytest.mark.parametrize("status", [201, 400, 401, 402, 404, 429, 500, 503, 529])
def test_any_status_is_an_answer(status: int) -> None:
    reply = answer_of(says(full(b"{}", b"HTTP/1.1 %d X\r\n" % status)))

    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (status, b"{}")


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-generation-id": "gen-1"}, b'{"id":"gen-2"}', "gen-1"),
        ({}, b'{"id": "gen-2"}', "gen-2"),
        ({}, b'{"id": "chatcmpl-2"}', ""),
    ],
)
def test_the_generation_id_comes_from_the_header_else_from_the_body(
    headers: dict[str, str], body: bytes, expected: str
) -> None:
    assert Reply(200, headers, body, 1.0).generation_id == expected


# ── Slow answers ─────────────────────────────────────────────────────────────────────────────────


def test_keep_alive_spaces_are_not_part_of_the_answer_and_hold_off_the_idle_limit() -> None:
    spaces: list[bytes | float] = [b" ", 0.2] * 4
    head = HEAD + b"Content-Length: 12\r\n\r\n"
    reply = answer_of(says(head, *spaces, b"\r\n\t", b'{" ', b'"}'), idle_timeout_s=0.3)

    assert isinstance(reply, Reply)
    assert reply.body == b'{" "}'
    assert reply.latency_s > 0.6


def test_e13_a_slow_body_that_ends_in_time_is_an_answer() -> None:
    pieces: list[bytes | float] = [
        piece for byte in b'{"a":1}' for piece in (b"1\r\n%c\r\n" % byte, 0.05)
    ]
    reply = answer_of(says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n"))

    assert isinstance(reply, Reply)
    assert reply.body == b'{"a":1}'


FOREVER: list[bytes | float] = [b" ", 0.05] * 1000
SILENT = [
    pytest.param((60.0,), 0.3, False, id="E10 idle"),
    pytest.param((HEAD + b"Content-Length: 9\r\n\r\n", 60.0), 0.3, True, id="E11"),
    pytest.param((HEAD + b"Content-Length: 9999\r\n\r\n", *FOREVER), 0.7, True, id="E12"),
]


@pytest.mark.parametrize(("parts", "limit", "known"), SILENT)
def test_silence_and_endless_space_end_at_their_limits(
    parts: tuple[bytes | float, ...], limit: float, known: bool
) -> None:
    broken = answer_of(says(*parts), idle_timeout_s=0.3, total_timeout_s=0.7)

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.TIMEOUT
    assert limit - TICK <= broken.latency_s < limit + 1
    assert (broken.status, broken.generation_id) == ((200, "gen-7") if known else (None, ""))


def test_a_call_may_have_limits_of_its_own() -> None:
    async def scenario() -> tuple[Reply | Broken, ...]:
        patient = {"idle_timeout_s": 30.0, "total_timeout_s": 60.0}
        async with serving(says(60.0)) as server, endpoint(server.url, **patient) as client:
            return (
                await client.call(PROMPT, idle_timeout_s=0.1),
                await client.call(PROMPT, idle_timeout_s=9, total_timeout_s=0.15),
            )

    idle, total = uvloop.run(scenario())

    assert 0.1 - TICK <= idle.latency_s < 9
    assert 0.15 - TICK <= total.latency_s < 9


@pytest.mark.parametrize("limit", ["idle_timeout_s", "total_timeout_s"])
@pytest.mark.parametrize("cut", [0, 30, 65])
def test_p13_an_answer_that_came_while_the_process_slept_is_taken_though_its_time_is_over(
    limit: str, cut: int
) -> None:
    """The timers are due before the loop has read what lies in its sockets."""
    answer = full(b'{"a": 1}')
    asked, asleep, sent, over = (threading.Event() for _ in range(4))
    left, right = socket.socketpair()

    def sleep() -> None:
        left.recv(1)
        asleep.set()
        sent.wait(9)
        time.sleep(1.6)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(9999)
            connection.sendall(answer[:cut])
            asked.set()
            asleep.wait(9)
            connection.sendall(answer[cut:])
            sent.set()
            over.wait(9)

    async def scenario() -> Reply | Broken:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with endpoint(url, **{"idle_timeout_s": 9.0, limit: 1.5}) as one:
            call = asyncio.create_task(one.call(PROMPT))
            await asyncio.to_thread(asked.wait, 9)
            # As at SIGCONT, timers are looked at before sockets after what happens here.
            asyncio.get_running_loop().add_reader(left, sleep)
            right.send(b"!")
            return await call

    with left, right, socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        reply = uvloop.run(scenario())
        over.set()
        server.join()

    assert isinstance(reply, Reply)
    assert reply.body == b'{"a": 1}'


def test_a_cancelled_call_raises_and_drops_its_connection() -> None:
    async def scenario() -> None:
        gone = asyncio.Event()

        async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await read_request(reader)
            await reader.read()
            gone.set()

        async with serving(script) as server, endpoint(server.url, idle_timeout_s=9) as client:
            call = asyncio.create_task(client.call(PROMPT))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(gone.wait(), 1)

    uvloop.run(scenario())


def test_e11_the_headers_are_told_before_the_body_and_whether_or_not_it_comes() -> None:
    heard: list[dict[str, str]] = []

    async def scenario() -> Reply | Broken:
        silent = says(HEAD + b"Content-Length: 9\r\n\r\n", 60.0)
        async with serving(silent) as server, endpoint(server.url) as client:
            return await client.call(PROMPT, on_headers=heard.append)

    assert isinstance(uvloop.run(scenario()), Broken)
    assert heard == [{"x-generation-id": "gen-7"}]


def test_a_listener_that_fails_breaks_the_call_and_drops_its_connection() -> None:
    def fail(_: dict[str, str]) -> None:
        raise ZeroDivisionError

    async def scenario() -> tuple[Reply | Broken, Reply | Broken, int]:
        slowly = says(HEAD + b"Content-Length: 2\r\n\r\n", 0.05, b"{}")
        async with serving(slowly) as server, endpoint(server.url) as client:
            first = await client.call(PROMPT, on_headers=fail)
            return first, await client.call(PROMPT), len(server.heard)

    first, second, connections = uvloop.run(scenario())

    assert isinstance(first, Broken)
    assert isinstance(second, Reply)
    assert (first.kind, connections) == (BrokenKind.UNEXPECTED, 2)


# ── Broken connections ───────────────────────────────────────────────────────────────────────────

LENGTH_9 = HEAD + b"Content-Length: 9\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CUTS = [
    pytest.param((), "rst", False, id="E15 RST before any byte"),
    pytest.param((), "fin", False, id="E15 FIN before any byte"),
    pytest.param((b"HTTP/1.1 200",), "fin", False, id="cut in the status line"),
    pytest.param((LENGTH_9, b"{", 0.05), "rst", True, id="E16 RST in the body"),
    pytest.param((LENGTH_9, b"{", 0.05), "fin", True, id="E16 FIN in the body, E17 too long"),
    pytest.param((CHUNKED + b"5\r\n{}", 0.05), "fin", True, id="E16 cut in a chunk"),
    pytest.param((CHUNKED + b"2\r\n{}\r\n", 0.05), "fin", True, id="E16 no last chunk"),
    pytest.param((CHUNKED, 0.05, b"zz\r\n{}\r\n"), "stay", True, id="E16 a chunk of no size"),
    pytest.param((b"<html>hello",), "fin", False, id="E42 HTTP/0.9"),
    pytest.param((b"SSH-2.0-OpenSSH_9.6\r\n",), "stay", False, id="another protocol"),
    pytest.param(
        (HEAD + b"X-Long: " + b"x" * 200_000 + b"\r\n\r\n",), "stay", False, id="E42 200 KB header"
    ),
    pytest.param(
        (HEAD + b"X-A: b\r\n" * 25_000 + b"\r\n",), "stay", False, id="E42 200 KB of headers"
    ),
    pytest.param(
        (HEAD + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",), "stay", False, id="2 lengths"
    ),
]


@pytest.mark.parametrize(("parts", "end", "known"), CUTS)
def test_what_ends_early_or_speaks_nonsense_is_cut(
    parts: tuple[bytes | float, ...], end: str, known: bool
) -> None:
    broken = answer_of(says(*parts, end=end))

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.CUT
    assert (broken.status, broken.generation_id) == ((200, "gen-7") if known else (None, ""))


def test_e42_early_hints_are_passed_over() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    assert isinstance(answer_of(says(hints, 0.05, hints + full(b"{}"))), Reply)


def test_e15_a_reset_on_a_reused_connection_is_cut_and_not_repeated() -> None:
    requests = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(full(b"{}"))
        requests.append(await read_request(reader))
        reset(writer)

    async def scenario() -> list[Reply | Broken]:
        async with serving(script) as server, endpoint(server.url) as client:
            return [await client.call(PROMPT) for _ in range(2)]

    first, second = uvloop.run(scenario())

    assert isinstance(first, Reply)
    assert isinstance(second, Broken)
    assert (second.kind, len(requests)) == (BrokenKind.CUT, 2)


def test_an_idle_connection_that_ends_when_it_is_used_again_was_never_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "_IDLE_S", 0.0)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(full(b"{}"))
        await read_request(reader)
        writer.close()

    async def scenario() -> list[Reply | Broken]:
        async with serving(script) as server, endpoint(server.url) as client:
            return [await client.call(PROMPT) for _ in range(3)]

    first, second, third = uvloop.run(scenario())

    assert isinstance(first, Reply)
    assert isinstance(second, Broken)
    assert second.kind is BrokenKind.STALE
    assert isinstance(third, Reply)


NUMBERED = [
    pytest.param(lambda n: full(b"%d" % n) + full(b"stale"), 0.0, id="E36 at once"),
    pytest.param(lambda n: full(b"%d" % n) + b"garbage", 0.0, id="E17 too short"),
    pytest.param(lambda n: full(b"%d" % n), 0.05, id="E36 later"),
]


@pytest.mark.parametrize(("reply", "later"), NUMBERED)
def test_no_request_gets_what_was_sent_for_another(
    reply: Callable[[int], bytes], later: float
) -> None:
    count = iter(range(9))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            writer.write(reply(next(count)))
            if later:
                await asyncio.sleep(later)
                writer.write(full(b"stale"))

    async def scenario() -> tuple[list[Reply | Broken], int]:
        async with serving(script) as server, endpoint(server.url) as client:
            answers = []
            for _ in range(3):
                answers.append(await client.call(PROMPT))
                await asyncio.sleep(later * 3)
            return answers, len(server.heard)

    answers, connections = uvloop.run(scenario())

    assert connections == 3
    for place, answer in enumerate(answers):
        assert isinstance(answer, Broken) or answer.body == b"%d" % place


def test_connections_are_kept_and_shared() -> None:
    async def scenario() -> tuple[list[Reply | Broken], int]:
        slowly = says(0.05, full(b"{}"))
        async with serving(slowly) as server, endpoint(server.url, max_connections=5) as client:
            answers = [
                answer
                for _ in range(3)
                for answer in await asyncio.gather(*(client.call(PROMPT) for _ in range(5)))
            ]
            return answers, len(server.heard)

    answers, connections = uvloop.run(scenario())

    assert all(isinstance(answer, Reply) for answer in answers)
    assert (len(answers), connections) == (15, 5)


def test_after_closing_a_call_is_broken_and_raises_nothing() -> None:
    async def scenario() -> Reply | Broken:
        async with serving(says(full(b"{}"))) as server:
            client = Endpoint(server.url, KEY)
            await client.call(PROMPT)
            await client.close()
            await client.close()
            return await client.call(PROMPT)

    assert isinstance(uvloop.run(scenario()), Broken)


# ── Nothing was sent ─────────────────────────────────────────────────────────────────────────────


def call_of(url: str, **limits: Any) -> Reply | Broken:
    async def scenario() -> Reply | Broken:
        async with endpoint(url, **limits) as client:
            return await client.call(PROMPT)

    return uvloop.run(scenario())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_e14_a_refused_connection_is_unreachable() -> None:
    broken = call_of(f"http://127.0.0.1:{free_port()}/v1")

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.UNREACHABLE
    assert "refused" in broken.detail


def test_e14_a_name_that_does_not_resolve_is_unreachable() -> None:
    broken = call_of("https://nightshift.invalid/v1", total_timeout_s=20)

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.UNREACHABLE


@pytest.mark.parametrize("greeting", [b"no TLS here\r\n", b""])
def test_e14_a_failed_handshake_is_unreachable(greeting: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(greeting)

    async def scenario() -> Reply | Broken:
        async with (
            serving(script) as server,
            endpoint(f"https://127.0.0.1:{server.port}/v1") as client,
        ):
            return await client.call(PROMPT)

    broken = uvloop.run(scenario())

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.UNREACHABLE


def test_no_free_connection_in_time_is_unreachable() -> None:
    async def scenario() -> list[Reply | Broken]:
        limits = {"max_connections": 1, "connect_timeout_s": 0.1}
        slowly = says(0.25, full(b"{}"))
        async with serving(slowly) as server, endpoint(server.url, **limits) as client:
            return list(await asyncio.gather(*(client.call(PROMPT) for _ in range(2))))

    first, second = uvloop.run(scenario())

    assert isinstance(first, Reply)
    assert isinstance(second, Broken)
    assert second.kind is BrokenKind.UNREACHABLE


def test_p17_a_machine_without_descriptors_says_so() -> None:
    async def scenario() -> Reply | Broken:
        async with serving(says(full(b"{}"))) as server, endpoint(server.url) as client:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                return await client.call(PROMPT)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    broken = uvloop.run(scenario())

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.EXHAUSTED


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Issue:
    """Signs certificates for `localhost` that are good for so many days."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command")
    folder = tmp_path_factory.mktemp("tls")

    def make(days: int) -> tuple[str, str]:
        pem, key = str(folder / f"{days}.pem"), str(folder / f"{days}.key")
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-days", "9"]
        again = ["x509", "-in", pem, "-signkey", key, "-days", str(days)]
        for command in ([*new, *subject], again):
            subprocess.run(["openssl", *command, "-out", pem], check=True, capture_output=True)
        return pem, key

    return make


@pytest.mark.parametrize(
    ("host", "days", "trusted", "reason"),
    [
        pytest.param("localhost", 9, True, None, id="a good one"),
        pytest.param("localhost", 9, False, "self-signed", id="E43 unknown issuer"),
        pytest.param("127.0.0.1", 9, True, "mismatch", id="E43 another host's"),
        pytest.param("localhost", 0, True, "expired", id="E43 expired"),
    ],
)
def test_only_the_endpoints_own_certificate_is_spoken_to(
    certificate: Issue, host: str, days: int, trusted: bool, reason: str | None
) -> None:
    heard = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await read_request(reader))
        writer.write(full(b"{}"))

    async def scenario() -> Reply | Broken:
        pem, key = certificate(days)
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(pem, key)
        tls = ssl.create_default_context(cafile=pem if trusted else None)
        await asyncio.sleep(0 if days else 1.1)
        async with (
            serving(script, theirs) as server,
            endpoint(f"https://{host}:{server.port}/v1", tls=tls) as client,
        ):
            return await client.call(PROMPT)

    answer = uvloop.run(scenario())

    if reason is None:
        assert isinstance(answer, Reply)
    else:
        assert isinstance(answer, Broken)
        assert answer.kind is BrokenKind.CERTIFICATE
        assert reason in answer.detail
        assert heard == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_e29_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    async def scenario() -> tuple[Reply | Broken, int]:
        async with serving(says(full(b"{}"))) as other:
            place = f"HTTP/1.1 {status} X\r\nLocation: {other.url}\r\n".encode()
            async with serving(says(full(b"", place))) as server, endpoint(server.url) as client:
                return await client.call(PROMPT), len(other.heard)

    reply, heard = uvloop.run(scenario())

    assert isinstance(reply, Reply)
    assert (reply.status, heard) == (status, 0)
    assert reply.headers["location"].startswith("http://127.0.0.1")


@pytest.mark.parametrize("url", ["http://example.com/v1", "ftp://localhost", "", "https://a:b@c.d"])
def test_s4_an_address_that_would_show_the_key_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"not an address|unencrypted|only a host"):
        Endpoint(url, KEY)


# ── Large and packed answers ─────────────────────────────────────────────────────────────────────

MOST = 2**20
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}


def packed(name: str, body: bytes) -> Script:
    return says(full(PACKERS[name](body), HEAD + f"Content-Encoding: {name}\r\n".encode()))


@pytest.mark.parametrize("name", PACKERS)
def test_an_answer_that_was_packed_unasked_is_unpacked(name: str) -> None:
    reply = answer_of(packed(name, b"  " + b'{"a":1}' * 9_000), max_answer_bytes=MOST)

    assert isinstance(reply, Reply)
    assert reply.body == b'{"a":1}' * 9_000


@pytest.mark.parametrize("name", [*PACKERS, "br"])
def test_an_answer_that_only_claims_to_be_packed_is_read(name: str) -> None:
    claims = HEAD + f"Content-Encoding: {name}\r\n".encode()
    reply = answer_of(says(full(b'{"a":1}', claims)))

    assert isinstance(reply, Reply)
    assert reply.body == b'{"a":1}'


def test_deflate_without_its_wrapping_is_read() -> None:
    raw = zlib.compress(b'{"a":1}' * 9_000, wbits=-zlib.MAX_WBITS)
    reply = answer_of(says(full(raw, HEAD + b"Content-Encoding: deflate\r\n")))

    assert isinstance(reply, Reply)
    assert reply.body == b'{"a":1}' * 9_000


def test_an_answer_packed_in_an_unknown_way_is_kept_as_it_is() -> None:
    reply = answer_of(says(full(b"\x0b\x02", HEAD + b"Content-Encoding: br\r\n")))

    assert isinstance(reply, Reply)
    assert reply.body == b"\x0b\x02"


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("spoil", [lambda data: data[:-5], lambda data: b"no" + data])
def test_a_spoiled_packed_answer_is_cut(name: str, spoil: Callable[[bytes], bytes]) -> None:
    body = spoil(PACKERS[name](b'{"a":1}' * 100))
    broken = answer_of(says(full(body, HEAD + f"Content-Encoding: {name}\r\n".encode())))

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.CUT


@pytest.mark.parametrize("name", PACKERS)
def test_e39_what_stands_behind_a_packed_answer_is_not_even_read(name: str) -> None:
    head = HEAD + f"Content-Encoding: {name}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = PACKERS[name](b'{"a":1}')
    tail = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    first = b"%x\r\n%b\r\n" % (len(body), body)
    reply = answer_of(says(head, first, 0.05, *[tail] * 3200), max_answer_bytes=MOST)

    assert isinstance(reply, Reply)
    assert reply.body == b'{"a":1}'


def test_e39_a_packed_answer_that_unpacks_to_nothing_is_left_at_the_limit() -> None:
    head = HEAD + b"Content-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n"
    # Stored blocks of no bytes, without end.
    empty = b"c350\r\n" + b"\x00\x00\x00\xff\xff" * 10_000 + b"\r\n"
    broken = answer_of(says(head, b"2\r\n\x78\x9c\r\n", *[empty] * 40), max_answer_bytes=MOST)

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.TOO_LARGE


@pytest.mark.parametrize("name", PACKERS)
def test_e39_a_bomb_is_left_at_the_limit_with_little_memory(name: str) -> None:
    bomb = packed(name, bytes(200 * MOST))
    tracemalloc.start()
    try:
        broken = answer_of(bomb, max_answer_bytes=MOST)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert isinstance(broken, Broken)
    assert (broken.kind, broken.generation_id) == (BrokenKind.TOO_LARGE, "gen-7")
    assert peak < 8 * MOST


@pytest.mark.parametrize("filler", [b"x", b" "])
def test_e39_an_endless_answer_is_left_at_the_limit(filler: bytes) -> None:
    chunk = b"10000\r\n" + filler * 0x10000 + b"\r\n"
    broken = answer_of(says(CHUNKED, *[chunk] * 1000), max_answer_bytes=MOST)

    assert isinstance(broken, Broken)
    assert broken.kind is BrokenKind.TOO_LARGE


def test_an_answer_of_just_the_limit_is_kept() -> None:
    reply = answer_of(says(full(b"x" * MOST)), max_answer_bytes=MOST)

    assert isinstance(reply, Reply)
    assert len(reply.body) == MOST


# ── The map of foreign exceptions ────────────────────────────────────────────────────────────────


def errors_of(*modules: object) -> list[type[Exception]]:
    return [
        item
        for module in modules
        for item in vars(module).values()
        if inspect.isclass(item) and issubclass(item, Exception) and not issubclass(item, Warning)
    ]


NOT_OF_A_CALL = {
    # Raised by websockets, cookies, and a response that was never read or made of wrong arguments.
    aiohttp.WSMessageTypeError,
    aiohttp.WebSocketError,
    httpx2.CookieConflict,
}
FOREIGN = [
    error
    for error in errors_of(aiohttp, aiohttp.client_exceptions, http_exceptions, httpx2, ssl)
    if error not in NOT_OF_A_CALL and error.__name__ != "EofStream"
]
OURS = [each for each in OSError.__subclasses__() if not issubclass(each, ValueError)]
"""Not those of libraries that other tests have loaded meanwhile."""
SYSTEM = [TimeoutError, *OURS, *ConnectionError.__subclasses__(), EOFError]


@pytest.mark.parametrize("error", [*dict.fromkeys(FOREIGN + SYSTEM), TooLarge])
def test_every_foreign_exception_has_a_meaning(error: type[Exception]) -> None:
    kind, detail = diagnose(error.__new__(error))

    assert kind is not BrokenKind.UNEXPECTED
    assert error.__name__ in detail


def test_an_exception_nobody_knows_counts_as_perhaps_billed() -> None:
    kind, detail = diagnose(ZeroDivisionError("secret"))

    assert kind is BrokenKind.UNEXPECTED
    assert "ZeroDivisionError" in detail
    assert "secret" not in detail


def test_what_failed_while_connecting_was_not_sent() -> None:
    cause = OSError(errno.ECONNREFUSED, "refused")
    connecting = [
        aiohttp.ClientConnectorError,
        aiohttp.ClientConnectorDNSError,
        aiohttp.ClientConnectorSSLError,
        aiohttp.ClientSSLError,
    ]

    kinds = {diagnose(error(cast("Any", None), cause))[0] for error in connecting}

    assert kinds == {BrokenKind.UNREACHABLE}
    assert diagnose(aiohttp.ConnectionTimeoutError())[0] is BrokenKind.UNREACHABLE
    assert diagnose(aiohttp.SocketTimeoutError())[0] is BrokenKind.TIMEOUT


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────

ECHO = HEAD + b"X: " + PROMPT + KEY.encode()


@pytest.mark.parametrize(
    "script",
    [
        says(60.0),
        says(ECHO + b"\x00\r\n\r\n"),
        says(PROMPT + KEY.encode() + b"\r\n\r\n"),
        says(CHUNKED + PROMPT + KEY.encode() + b"\r\n"),
        says(end="rst"),
        says(LENGTH_9, b"{", 0.05, end="rst"),
        says(full(b"{}") + PROMPT + KEY.encode()),
    ],
)
def test_neither_key_nor_prompt_is_in_what_a_broken_call_says_or_logs(
    script: Script, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    broken = answer_of(script)
    gc.collect()

    told = f"{broken!r} {caplog.text} {capfd.readouterr()}"
    assert isinstance(broken, Broken)
    assert KEY not in told
    assert "canary-prompt" not in told
    assert "never retrieved" not in told


def test_the_client_does_not_show_its_key() -> None:
    client = Endpoint("https://example.com/v1", KEY)

    assert KEY not in repr(client) + repr(client._sdk) + repr(
        client._moulds["/v1/chat/completions"].headers
    )
    assert json.dumps(KEY) not in repr(vars(client))
