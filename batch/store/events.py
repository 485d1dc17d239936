"""What happened to a job: an append-only list, written in the transaction in which it happened."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from batch.store import messages
from batch.store.incidents import Trouble
from jobs.job_options import Spec

_MOST = 10_000
"""Events of a job; of more, those in the middle are not kept: how it began still is."""

_QUIET_S = 600.0
"""Trouble that comes back after this is told of once more."""

_PRIVATE = frozenset({"key", "notify"})


class EventKind(StrEnum):
    """What happened."""

    SUBMITTED = "submitted"
    STATE = "state"
    CHANGED = "changed"
    RETRIED = "retried"
    PRICES = "prices"
    WORKER_LOST = "worker_lost"
    TROUBLE = "trouble"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of them; which fields are there depends on `kind`. Times in Unix seconds."""

    at: float
    kind: EventKind
    by_user: bool = False
    """Asked for in a terminal, on a page or by a program; else the coordinator found it."""
    state: str = ""
    reason: str = ""
    text: str = ""
    until: float | None = None
    changes: dict[str, tuple[str, str]] = {}
    """Of a job's settings: the value before and now, as text."""
    requests: int = 0
    code: str = ""
    data: str = ""
    """What `text` was made of; not stored with it."""

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the disk."""
        facts: dict[str, Any] = msgspec.to_builtins(self)
        facts.pop("data", None)
        return facts


def note(db: sqlite3.Connection, event: Event) -> None:
    """Adds an event; within a transaction."""
    facts = event.as_json()
    at, kind = facts.pop("at"), facts.pop("kind")
    (count,) = db.execute("SELECT count(*) FROM events").fetchone()
    if count >= _MOST:
        db.execute("DELETE FROM events WHERE id = (SELECT id FROM events LIMIT 1 OFFSET ?)", (10,))
    text = json.dumps(facts, ensure_ascii=False)
    db.execute("INSERT INTO events (at, kind, facts) VALUES (?, ?, ?)", (at, kind, text))


def note_changes(db: sqlite3.Connection, before: Spec, after: Spec, now: float) -> None:
    """Adds which settings of a job changed, if any did."""
    changes = dict(_differences(before.model_dump(mode="json"), after.model_dump(mode="json")))
    if changes:
        note(db, Event(now, EventKind.CHANGED, by_user=True, changes=changes))


def note_troubles(
    db: sqlite3.Connection, before: Sequence[Trouble], after: Sequence[Trouble]
) -> None:
    """Adds what troubles a job anew."""
    known = {each.code: each.at for each in before}
    for each in sorted(after, key=lambda trouble: trouble.at):
        if each.at - known.get(each.code, -_QUIET_S) >= _QUIET_S:
            note(db, Event(each.at, EventKind.TROUBLE, code=each.code))


def _differences(
    before: dict[str, Any], after: dict[str, Any], within: str = ""
) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, now in after.items():
        was = before.get(name)
        if name in _PRIVATE or was == now:
            continue
        if isinstance(now, dict) and isinstance(was, dict) and not within:
            yield from _differences(was, now, f"{name}.")
        else:
            yield within + name, (_text(was), _text(now))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def history(db: sqlite3.Connection) -> list[Event]:
    """All events of a job, oldest first, its submission among them."""
    return latest(db, -1)[::-1]


def _told(db: sqlite3.Connection, event: Event) -> Event:
    if not event.text:
        return event
    return msgspec.structs.replace(event, data=messages.read(db, event.text).data)


def latest(db: sqlite3.Connection, most: int) -> list[Event]:
    """The last so many events of a job, -1 for all, the newest first, and its submission."""
    events = "SELECT at, kind, facts FROM events ORDER BY id DESC LIMIT ?"
    found = [
        _told(db, msgspec.convert({**json.loads(facts), "at": at, "kind": kind}, Event))
        for at, kind, facts in db.execute(events, (most,)).fetchall()
    ]
    (created,) = db.execute("SELECT created_at FROM job").fetchone()
    # Of trouble it is known later than of a pause for it.
    found.sort(key=lambda event: event.at, reverse=True)
    return [*found, Event(created, EventKind.SUBMITTED, by_user=True)]
