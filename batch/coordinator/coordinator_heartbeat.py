"""A coordinator's sign of life, as it goes through Redis."""

from __future__ import annotations

import hashlib
import os
import socket

import msgspec

from batch.store.home import Home
from jobs.message import Message


class Ailment(msgspec.Struct, frozen=True):
    """What is wrong with a job that cannot be worked on, `since` when (Unix seconds)."""

    text: str
    since: float
    data: str = ""

    @property
    def told(self) -> Message:
        """The sentence, for whoever shows it."""
        return Message.read(self.text, self.data)


class Sign(msgspec.Struct, frozen=True):
    """The one job that it works on, or "" for all; what ails jobs, by their ids; and the endpoint
    whose catalogue it has a key or headers for, "" for none.
    """

    only: str = ""
    ailing: dict[str, Ailment] = {}
    catalog: str = ""


def board_name(home: Home) -> str:
    """What a home is called on Redis. A folder's name may hold bytes that are no text."""
    name = os.fsencode(f"{socket.gethostname()}:{home.folder}")
    return hashlib.sha256(name).hexdigest()[:12]
