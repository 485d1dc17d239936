"""Notifications as messages of a Telegram bot."""

from __future__ import annotations

import json
from collections.abc import Mapping

from batch.notifications.http_post import Undelivered, post, secret
from batch.notifications.notification import Word, text, title
from jobs.message import N_

TOKEN = "NIGHTSHIFT_TELEGRAM_TOKEN"  # noqa: S105  the name of a variable
URL = "NIGHTSHIFT_TELEGRAM_URL"

_TELEGRAM = "https://api.telegram.org"


def send(chat: str, word: Word, environ: Mapping[str, str]) -> None:
    """A word to a chat."""
    token = secret(environ, TOKEN)
    if not token:
        raise Undelivered(N_("{variable} is not set", variable=TOKEN))
    base = environ.get(URL, "").strip().rstrip("/") or _TELEGRAM
    told = {"chat_id": chat, "text": f"{title(word)}\n{text(word)}"}
    post(f"{base}/bot{token}/sendMessage", json.dumps(told).encode(), {}, "Telegram")
