"""Notifications by mail, over SMTP with TLS."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import unquote, urlsplit

from batch.notifications import http_post
from batch.notifications.http_post import Undelivered, secret
from batch.notifications.notification import Word, text, title
from jobs.errors import InvalidValue
from jobs.message import N_

SMTP_URL = "NIGHTSHIFT_SMTP_URL"
SMTP_PASSWORD = "NIGHTSHIFT_SMTP_PASSWORD"  # noqa: S105  the name of a variable
SMTP_FROM = "NIGHTSHIFT_SMTP_FROM"


def send(address: str, word: Word, name: str, environ: Mapping[str, str]) -> None:
    """A word to an address; `name` makes the message's id."""
    where = environ.get(SMTP_URL, "").strip()
    if not where:
        raise Undelivered(N_("{variable} is not set", variable=SMTP_URL))
    user = unquote(urlsplit(where).username or "")
    sender = environ.get(SMTP_FROM, "").strip() or (user if "@" in user else address)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, address, " ".join(title(word).split())
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(name, "nightshift.invalid")
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text(word) + "\n")
    try:
        with _mail_server(where, user, secret(environ, SMTP_PASSWORD)) as server:
            server.send_message(mail)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise Undelivered(
            N_("the mail server rejected it ({kind})", kind=type(error).__name__)
        ) from None


@contextmanager
def _mail_server(where: str, user: str, password: str) -> Iterator[smtplib.SMTP]:
    parts = urlsplit(where)
    host, tls = parts.hostname or "", ssl.create_default_context()
    if parts.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, parts.port or 465, timeout=http_post.PATIENCE_S, context=tls
        )
    elif parts.scheme == "smtp":
        server = smtplib.SMTP(host, parts.port or 587, timeout=http_post.PATIENCE_S)
    else:
        raise InvalidValue(N_("{variable} begins with smtps:// or smtp://", variable=SMTP_URL))
    with server:
        if parts.scheme == "smtp" and host not in http_post.HERE:
            # Never in the clear over a network; raises where the server does not offer it.
            server.starttls(context=tls)
        if user and password:
            server.login(user, password)
        yield server
