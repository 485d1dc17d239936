"""What stored texts were made of, by the text: to be said in the language of whoever looks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from jobs.message import Message, data_of


def keep(db: sqlite3.Connection, text: str) -> str:
    """The text as it is stored elsewhere, in English; what it was made of is kept here."""
    keep_all(db, [(str(text), data_of(text))])
    return str(text)


def keep_all(db: sqlite3.Connection, found: Iterable[tuple[str, str]]) -> None:
    """The same for texts and their data, as they came with a delivery."""
    ours = [(text, data) for text, data in found if data]
    if ours:
        db.executemany("INSERT OR IGNORE INTO messages VALUES (?, ?)", ours)


def read(db: sqlite3.Connection, text: str) -> Message:
    """A stored text with what it was made of."""
    found = db.execute("SELECT data FROM messages WHERE text = ?", (text,)).fetchone()
    return Message.read(text, found and found[0])
