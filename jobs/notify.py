"""Who hears of a job's end and of its trouble."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, field_validator

from jobs.errors import InvalidValue
from jobs.message import N_
from jobs.option_declaration import NOTIFICATIONS, Option

_HERE = frozenset({"127.0.0.1", "localhost", "::1"})
_PLAIN = re.compile(r"https?://[\x21-\x5b\x5d-\x7e]+", re.IGNORECASE)
_CHAT = re.compile(r"-?[0-9]{1,20}|@[A-Za-z0-9_]{1,64}")
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")


class Notify(BaseModel):
    """Addresses; None: not told in this way. Secrets are none of these: the coordinator's
    environment has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[
        str | None,
        Option(
            "--notify-url",
            "URL",
            help=N_("Webhook to notify on completion and problems.  [https; signed, see docs]"),
            section=NOTIFICATIONS,
        ),
    ] = None
    telegram: Annotated[
        str | None,
        Option(
            "--notify-telegram", "CHAT", help=N_("Telegram chat to notify."), section=NOTIFICATIONS
        ),
    ] = None
    mail: Annotated[
        str | None,
        Option(
            "--notify-mail", "ADDRESS", help=N_("Email address to notify."), section=NOTIFICATIONS
        ),
    ] = None

    @field_validator("url")
    @classmethod
    def _safe_url(cls, value: str | None) -> str | None:
        # It is not shown: a webhook's path is often its password.
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            sound = bool(_PLAIN.fullmatch(value) and parts.hostname and parts.port != 0)
        except ValueError:
            sound = False
        if not sound or "@" in parts.netloc:
            raise InvalidValue(N_("a webhook's address is one such as https://example.org/hook"))
        if parts.scheme.lower() == "http" and parts.hostname not in _HERE:
            raise InvalidValue(N_("a webhook must be https, or on this machine"))
        return value

    @field_validator("telegram")
    @classmethod
    def _one_chat(cls, value: str | None) -> str | None:
        if value is not None and not _CHAT.fullmatch(value):
            raise InvalidValue(N_("a chat of Telegram is a number, or the @name of a channel"))
        return value

    @field_validator("mail")
    @classmethod
    def _one_mailbox(cls, value: str | None) -> str | None:
        if value is not None and not _MAILBOX.fullmatch(value):
            raise InvalidValue(N_("an address for mail is one such as me@example.org"))
        return value
