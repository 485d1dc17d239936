"""TLS handshakes that stand still take no place of those that go on."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from batch.api.handshakes import Handshakes

MOST = 4


class Echo(asyncio.Protocol):
    """Says once more what it heard, and which word its server gave it."""

    def __init__(self, *, word: str) -> None:
        self._word = word

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        assert transport.get_extra_info("sslcontext")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._word.encode() + data)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("NOT RUN: needs openssl")
    pem = tmp_path / "pem"
    new = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=localhost"]
    alternative = ["-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", *new, *alternative, "-keyout", str(pem), "-out", f"{pem}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + Path(f"{pem}.crt").read_bytes())
    return pem


def test_silent_handshakes_give_way_and_a_client_gets_through(certificate: Path) -> None:
    asyncio.run(_served(certificate))


async def _served(certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    shaking = Handshakes(Echo, context, MOST)
    server = await asyncio.get_running_loop().create_server(
        lambda: shaking(word="heard "), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * MOST)]
    for reader, _ in silent[: 2 * MOST]:  # they gave way, the oldest first
        assert await gone(reader)
    trusting = ssl.create_default_context(cafile=str(certificate))
    for _ in range(2 * MOST):
        reader, writer = await asyncio.open_connection(
            "localhost", port, ssl=trusting, server_hostname="localhost"
        )
        writer.write(b"this")
        assert await reader.readexactly(10) == b"heard this"
        writer.close()
    nonsense, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 9)
    await gone(nonsense)
    assert len(shaking._waiting) < MOST
    server.close()
    for _, writer in silent:
        writer.close()


async def gone(reader: asyncio.StreamReader) -> bool:
    """Whether the server closed it; it may have told why."""
    with suppress(ConnectionError):
        await reader.read()
    return True
