"""The channels by which a notification reaches the user, each tried once per call. All block."""

from __future__ import annotations

from collections.abc import Mapping

from batch.notifications import mail, telegram, webhook
from batch.notifications.notification import Word
from jobs.notify import Notify


def ways_of(notify: Notify) -> dict[str, str]:
    """The ways that lead to the user, each with its address."""
    return {way: address for way, address in notify if address}


def send(way: str, address: str, word: Word, name: str, environ: Mapping[str, str]) -> None:
    """Sends a word on one way. `name` is the same for each try of the same word."""
    match way:
        case "url":
            webhook.send(address, word, name, environ)
        case "telegram":
            telegram.send(address, word, environ)
        case "mail":
            mail.send(address, word, name, environ)
