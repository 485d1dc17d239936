"""Opening a job's SQLite file, and the one way to change it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from jobs.errors import StorageUnavailable

VERSION = 1
_BUSY_S = 30.0
_CACHE_KIB = 8 * 1024


def create(path: Path) -> sqlite3.Connection:
    """A new job file with an empty schema; it must not exist."""
    connection = _connect(path)
    connection.executescript(resources.files("batch.store").joinpath("schema.sql").read_text())
    return connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """An existing job file.

    Raises `StorageUnavailable` when it is absent, damaged or written by another version.
    """
    if not path.exists():
        raise StorageUnavailable(f"{path} is missing")
    try:
        connection = _connect(path, read_only=read_only)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StorageUnavailable(f"{path} cannot be read: {error}") from error
    if version != VERSION:
        raise StorageUnavailable(
            f"{path} was written by another version of Nightshift (format {version}, "
            f"this one knows {VERSION})",
            hint="use the version that wrote it",
        )
    return connection


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit survives a power cut, which NORMAL does not promise in WAL mode.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = FILE")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of it or nothing; on disk when this ends. `StorageUnavailable` when the disk says no."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        _roll_back(connection)
        raise StorageUnavailable(f"the job's file cannot be written: {error}") from error
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
