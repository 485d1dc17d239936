"""Servers that words reach: of HTTP and of SMTP, on loopback. They keep what they are told."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from scripts.torturing.installation import free_port
from tests.loopback import Quiet, serving


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

    class Handler(Quiet):
        def answer(self) -> None:
            one.posts.append(Post(self.path, dict(self.headers), self.body))
            code = one.answers.pop(0) if one.answers else 200
            elsewhere = {"Location": f"{one.url}/elsewhere"} if code == 302 else {}
            self.reply(code, headers=elsewhere)

    with serving(Handler) as one.port:
        yield one


@dataclass
class MailBox:
    """An SMTP server that keeps mails, who they are for, and logins: (behind TLS, user, password).

    `refuses`: every address.
    """

    port: int = 0
    mails: list[bytes] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    logins: list[tuple[bool, str, str]] = field(default_factory=list)
    refuses: bool = False

    async def handle_RCPT(  # noqa: N802  the library's name
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if self.refuses:
            return "550 nobody"
        self.recipients.append(address)
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(envelope.original_content or b"")
        return "250 taken"

    def let_in(
        self, _server: SMTP, session: Session, _envelope: Envelope, _way: str, data: Any
    ) -> AuthResult:
        self.logins.append((session.ssl is not None, data.login.decode(), data.password.decode()))
        return AuthResult(success=True)


@contextmanager
def mail_box(tls: ssl.SSLContext | None = None) -> Iterator[MailBox]:
    """An SMTP server; with `tls` it takes nothing before STARTTLS."""
    one = MailBox(free_port())
    server = Controller(
        one,
        hostname="127.0.0.1",
        port=one.port,
        tls_context=tls,
        require_starttls=tls is not None,
        authenticator=one.let_in,
        auth_require_tls=tls is not None,
    )
    server.start()
    try:
        yield one
    finally:
        server.stop()
