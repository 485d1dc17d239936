"""A chat endpoint that costs next to nothing: one constant answer, written as soon as asked.

    python benchmarks/constant_endpoint.py [--delay SECONDS]

Prints `listening on URL`; URL/counts tells how many calls there were, over how many connections.
Not faithful to anything; for measuring clients only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

import uvloop

_BODY = (
    b'{"id":"gen-1","object":"chat.completion","created":1,"model":"minimax/minimax-m1",'
    b'"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant",'
    b'"content":"' + b"word " * 60 + b'"}}],"usage":{"prompt_tokens":200,'
    b'"completion_tokens":60,"total_tokens":260,"cost":0.0000522948192}}'
)
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Generation-Id: gen-1\r\n"
    b"Content-Length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)
_MODELS = b'{"data":[]}'


def _json(body: bytes) -> bytes:
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    return head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body


class Endpoint(asyncio.Protocol):
    """One connection: answers each request once its body is whole."""

    delay = 0.0
    calls = 0
    connections = 0
    """Those that sent a call."""

    def __init__(self) -> None:
        self._data = b""
        self._called = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport to write to."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers what is whole."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + 4 + length
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            if not head.startswith(b"post"):
                self._write(_json(self._counts() if b"/counts " in head else _MODELS))
                continue
            Endpoint.calls += 1
            if not self._called:
                self._called = True
                Endpoint.connections += 1
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self._write, _ANSWER)
            else:
                self._write(_ANSWER)

    def _counts(self) -> bytes:
        return json.dumps({"calls": self.calls, "connections": self.connections}).encode()

    def _write(self, answer: bytes) -> None:
        self._transport.write(answer)  # type: ignore[attr-defined]


async def _serve(delay: float) -> None:
    Endpoint.delay = delay
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Endpoint, "127.0.0.1", 0, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}/api/v1", flush=True)
    await server.serve_forever()


def main() -> int:
    """Serves until killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--delay", type=float, default=0.0)
    uvloop.run(_serve(parser.parse_args().delay))
    return 0


if __name__ == "__main__":
    sys.exit(main())
