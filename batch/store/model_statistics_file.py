"""The home's file of lessons: what answers taught, per endpoint, model and job."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from jobs.names import LESSONS

_BUSY_S = 5.0
Unusable = (sqlite3.Error, OSError)
"""What is raised where the file is of no use."""


def remember(
    folder: Path, base_url: str, job: str, lessons: Mapping[str, bytes], most: int
) -> None:
    """Stores a job's lessons by model in place of what was stored of it; of each model those of
    the latest `most` jobs are kept.
    """
    with _opened(folder) as db:
        for model, lesson in lessons.items():
            key = (base_url, model)
            db.execute("INSERT OR REPLACE INTO lessons VALUES (?, ?, ?, ?)", (*key, job, lesson))
            db.execute(
                "DELETE FROM lessons WHERE base_url = ? AND model = ? AND job NOT IN (SELECT job"
                " FROM lessons WHERE base_url = ? AND model = ? ORDER BY job DESC LIMIT ?)",
                (*key, *key, most),
            )


def recall(folder: Path, base_url: str, model: str, but: str, most: int) -> list[bytes]:
    """What earlier jobs taught about a model, the latest first; without the job `but`."""
    with _opened(folder) as db:
        rows = db.execute(
            "SELECT lesson FROM lessons WHERE base_url = ? AND model = ? AND job <> ?"
            " ORDER BY job DESC LIMIT ?",
            (base_url, model, but, most),
        )
        return [row[0] for row in rows]


@contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The file, made where it is missing."""
    path = folder / LESSONS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, timeout=_BUSY_S)) as db, db:
        db.execute(
            "CREATE TABLE IF NOT EXISTS lessons (base_url TEXT, model TEXT, job TEXT,"
            " lesson BLOB NOT NULL, PRIMARY KEY (base_url, model, job))"
        )
        yield db
