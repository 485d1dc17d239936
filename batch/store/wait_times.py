"""For how long requests that were ready waited, and for what, as it is kept with a job."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

MINUTE_S = 60


def add(db: sqlite3.Connection, at: float, seconds: Mapping[str, float]) -> None:
    """Adds seconds by cause to the minute of a moment (Unix seconds); within a transaction."""
    db.executemany(
        "INSERT INTO waits VALUES (?, ?, ?)"
        " ON CONFLICT (minute, cause) DO UPDATE SET seconds = seconds + excluded.seconds",
        [(int(at // MINUTE_S), cause, spent) for cause, spent in seconds.items()],
    )


def waited(db: sqlite3.Connection) -> Iterator[tuple[float, str, float]]:
    """(the beginning of a minute, Unix seconds; cause; seconds), in order."""
    for minute, cause, seconds in db.execute("SELECT * FROM waits ORDER BY minute, cause"):
        yield float(minute * MINUTE_S), cause, seconds


def waited_in_all(db: sqlite3.Connection) -> dict[str, float]:
    """Seconds by cause, the most first."""
    query = "SELECT cause, sum(seconds) FROM waits GROUP BY cause ORDER BY 2 DESC"
    return dict(db.execute(query))
