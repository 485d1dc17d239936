"""Servers that words reach: of HTTP and of SMTP, on loopback. They keep what they are told."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Post:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        told: dict[str, Any] = json.loads(self.body)
        return told


@dataclass
class Hook:
    """An HTTP server; it answers with `answers`, one after the other, and with 200 after them."""

    port: int = 0
    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def hook(*answers: int) -> Iterator[Hook]:
    """An HTTP server."""
    one = Hook(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            one.posts.append(Post(self.path, dict(self.headers), body))
            code = one.answers.pop(0) if one.answers else 200
            self.send_response(code)
            if code == 302:
                self.send_header("Location", f"{one.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one.port = server.server_address[1]
        yield from _served(server, one)


@dataclass
class MailBox:
    """An SMTP server, without TLS."""

    port: int = 0
    lines: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    refuses: bool = False


@contextmanager
def mail_box() -> Iterator[MailBox]:
    """An SMTP server."""
    one = MailBox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            while line := self.rfile.readline().decode().strip():
                one.lines.append(line)
                verb = line.split(maxsplit=1)[0].upper()
                if verb == "EHLO":
                    self._say("250-here\r\n250 AUTH PLAIN LOGIN")
                elif verb == "DATA":
                    self._say("354 go on")
                    one.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                    self._say("250 taken")
                elif verb == "RCPT" and one.refuses:
                    self._say("550 nobody")
                elif verb == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("235 ok" if verb == "AUTH" else "250 ok")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        one.port = server.server_address[1]
        yield from _served(server, one)


def _served(server: socketserver.BaseServer, one: T) -> Iterator[T]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield one
    finally:
        server.shutdown()
        thread.join()
