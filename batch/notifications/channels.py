"""The ways on which a word reaches the user, each tried once per call. All of them block.

Each raises `Undelivered` with a sentence that may be shown: no address, no secret, no answer in it.
"""

from __future__ import annotations

import base64
import hmac
import json
import smtplib
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import unquote, urlsplit

from batch.notifications.message import FOR_PEOPLE, Word, text, title
from jobs.errors import InvalidValue, UsageError
from jobs.message import N_
from jobs.notify import Notify
from jobs.secret import secret as own_secret

SECRET = "NIGHTSHIFT_NOTIFY_SECRET"  # noqa: S105  names of variables
TELEGRAM_TOKEN = "NIGHTSHIFT_TELEGRAM_TOKEN"  # noqa: S105
TELEGRAM_URL = "NIGHTSHIFT_TELEGRAM_URL"
SMTP_URL = "NIGHTSHIFT_SMTP_URL"
SMTP_PASSWORD = "NIGHTSHIFT_SMTP_PASSWORD"  # noqa: S105
SMTP_FROM = "NIGHTSHIFT_SMTP_FROM"

PATIENCE_S = 10.0
"""Of a whole delivery by HTTP, and of each step of one by mail."""

_FINE, _ELSEWHERE = 200, 300

_TELEGRAM = "https://api.telegram.org"
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


class Undelivered(Exception):
    """A word did not arrive; the text says why, and may be shown."""


def ways_of(notify: Notify) -> dict[str, str]:
    """The ways that lead to the user, each with its address."""
    return {way: address for way, address in notify if address}


def send(way: str, address: str, word: Word, name: str, environ: Mapping[str, str]) -> None:
    """Sends a word on one way. `name` is the same for each try of the same word."""
    match way:
        case "url":
            _to_webhook(address, word, name, environ)
        case "telegram":
            _to_telegram(address, word, environ)
        case "mail":
            _by_mail(address, word, name, environ)


def secret(environ: Mapping[str, str], variable: str) -> str:
    """A secret from its variable, or from the file that `<variable>_FILE` names; "" if unset."""
    try:
        return own_secret(environ, variable)
    except UsageError as error:
        raise Undelivered(error.message) from None


def signature(key: str, moment: str, body: bytes) -> str:
    """`sha256=` and the HMAC of `<moment>.<body>`, in hex: what a receiver compares with."""
    return "sha256=" + hmac.new(key.encode(), moment.encode() + b"." + body, "sha256").hexdigest()


def _to_webhook(url: str, word: Word, name: str, environ: Mapping[str, str]) -> None:
    body = json.dumps({key: each for key, each in word.items() if key not in FOR_PEOPLE}).encode()
    moment = str(int(time.time()))
    headers = {"X-Nightshift-Delivery": name, "X-Nightshift-Timestamp": moment}
    key = secret(environ, SECRET)
    if key:
        headers["X-Nightshift-Signature"] = signature(key, moment, body)
    _post(url, body, headers, N_("the webhook"))


def to_standard_webhook(url: str, word: Word, name: str, key: str) -> None:
    """An event in the form of Standard Webhooks, as OpenAI sends it: its type and what it is about.

    `key` is `whsec_` and base64. The receiver knows a word that comes twice again by its name.
    """
    event = {"id": f"evt_{name}", "object": "event", **word}
    body, moment = json.dumps(event, separators=(",", ":")).encode(), str(int(time.time()))
    headers = {"webhook-id": f"evt_{name}", "webhook-timestamp": moment}
    if key:
        headers["webhook-signature"] = standard_signature(key, f"evt_{name}", moment, body)
    _post(url, body, headers, N_("the webhook"))


def standard_signature(key: str, name: str, moment: str, body: bytes) -> str:
    """`v1,` and the HMAC of `<name>.<moment>.<body>`, in base64."""
    try:
        raw = base64.b64decode(key.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise Undelivered(N_("the webhook's secret is not whsec_ and base64")) from None
    told = hmac.new(raw, f"{name}.{moment}.".encode() + body, "sha256").digest()
    return "v1," + base64.b64encode(told).decode()


def _to_telegram(chat: str, word: Word, environ: Mapping[str, str]) -> None:
    token = secret(environ, TELEGRAM_TOKEN)
    if not token:
        raise Undelivered(N_("{variable} is not set", variable=TELEGRAM_TOKEN))
    base = environ.get(TELEGRAM_URL, "").strip().rstrip("/") or _TELEGRAM
    told = {"chat_id": chat, "text": f"{title(word)}\n{text(word)}"}
    _post(f"{base}/bot{token}/sendMessage", json.dumps(told).encode(), {}, "Telegram")


def _post(url: str, body: bytes, headers: dict[str, str], whom: str) -> None:
    import asyncio

    import httpx2

    every = {"Content-Type": "application/json", "User-Agent": "nightshift", **headers}
    try:
        status = asyncio.run(_status(url, body, every))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        # ValueError also for what no header or address may hold.
        raise Undelivered(
            N_("{whom} does not answer ({kind})", whom=whom, kind=type(error).__name__)
        ) from None
    if not _FINE <= status < _ELSEWHERE:
        raise Undelivered(N_("{whom} answers HTTP {status}", whom=whom, status=status))


async def _status(url: str, body: bytes, headers: dict[str, str]) -> int:
    """What a POST is answered with. No redirect is followed: the signed word is for this address.

    The time is for all of it, however steadily a head drips; the body is not read.
    """
    import asyncio

    import httpx2

    here = urlsplit(url).hostname in _HERE
    async with (
        asyncio.timeout(PATIENCE_S),
        httpx2.AsyncClient(trust_env=not here, follow_redirects=False, timeout=None) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        return answer.status_code


def _by_mail(address: str, word: Word, name: str, environ: Mapping[str, str]) -> None:
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
            host, parts.port or 465, timeout=PATIENCE_S, context=tls
        )
    elif parts.scheme == "smtp":
        server = smtplib.SMTP(host, parts.port or 587, timeout=PATIENCE_S)
    else:
        raise InvalidValue(N_("{variable} begins with smtps:// or smtp://", variable=SMTP_URL))
    with server:
        if parts.scheme == "smtp" and host not in _HERE:
            # Never in the clear over a network; raises where the server does not offer it.
            server.starttls(context=tls)
        if user and password:
            server.login(user, password)
        yield server
