"""HTTP servers of tests' own, on loopback: what to answer is theirs, the rest stands here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Quiet(BaseHTTPRequestHandler):
    """Answers GET and POST alike, by `answer`, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Reads what came, and replies."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """The library's name."""
        self.answer()

    def do_POST(self) -> None:
        """The library's name."""
        self.answer()

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    @property
    def body(self) -> bytes:
        """What came with the request; to be read once."""
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        """The whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(handler: type[Quiet]) -> Iterator[int]:
    """Serves until left; gives the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def dripping(head: bytes) -> Iterator[int]:
    """Answers one request with this, and then a byte now and then, until left; gives the port."""
    done = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(head)
            while not done.wait(0.05):
                connection.sendall(b"z")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()
