"""Opening a job's SQLite file, and the one way to change it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

from jobs.errors import StorageUnavailable

VERSION = 7
_UPGRADES = {4: "upgrade-5.sql", 5: "upgrade-6.sql", 6: "upgrade-7.sql"}
"""By the version that is there, what makes the next one of it."""

_BUSY_S = 30.0


class _Connection(sqlite3.Connection):
    is_writing = False
    """Whether a `transaction` is open: one within it is a part of it."""


def create(path: Path) -> sqlite3.Connection:
    """A new job file with an empty schema, for its owner alone; it must not exist."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = _connect(path)
    _execute(connection, "schema.sql", *_UPGRADES.values())
    return connection


def _execute(connection: sqlite3.Connection, *names: str) -> None:
    """All of these files in one transaction."""
    texts = (resources.files("batch.store").joinpath(name).read_text() for name in names)
    connection.executescript(f"BEGIN IMMEDIATE; {' '.join(texts)} COMMIT;")


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """An existing job file; one of a former version is brought up to this one.

    Raises `StorageUnavailable` when it is absent, damaged or written by another version.
    """
    if not path.exists():
        raise StorageUnavailable(f"{path} is missing")
    with readable(path):
        connection = _connect(path, read_only=read_only)
        version = _version(connection)
        if version in _UPGRADES:
            _upgrade(path)
            version = _version(connection)
    if version != VERSION:
        connection.close()
        raise StorageUnavailable(
            f"{path} was written by another version of Nightshift (format {version}, "
            f"this one knows {VERSION})",
            hint="use the version that wrote it",
        )
    return connection


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _upgrade(path: Path) -> None:
    """Two that come at a time do it one after the other: the second finds it done."""
    connection = _connect(path)
    try:
        while (version := _version(connection)) in _UPGRADES:
            try:
                _execute(connection, _UPGRADES[version])
            except sqlite3.OperationalError:
                _roll_back(connection)
                if _version(connection) == version:
                    raise
    finally:
        connection.close()


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    connection.row_factory = sqlite3.Row
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit survives a power cut, which NORMAL does not promise in WAL mode.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = FILE")
    return connection


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What SQLite says while a file is read becomes `StorageUnavailable`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StorageUnavailable(f"{path} cannot be read: {error}") from error


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read within stands as it stood at the first read, whoever writes meanwhile."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        _roll_back(connection)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of it or nothing; on disk when this ends, or when the one does that it is a part of.

    `StorageUnavailable` when the disk says no.
    """
    if isinstance(connection, _Connection) and connection.is_writing:
        yield connection
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        _mark(connection, is_writing=True)
        yield connection
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        _roll_back(connection)
        raise StorageUnavailable(f"the job's file cannot be written: {error}") from error
    except BaseException:
        _roll_back(connection)
        raise
    finally:
        _mark(connection, is_writing=False)


def _mark(connection: sqlite3.Connection, *, is_writing: bool) -> None:
    if isinstance(connection, _Connection):
        connection.is_writing = is_writing


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        # A file that cannot be read cannot be rolled back either; closing it does that.
        with suppress(sqlite3.DatabaseError):
            connection.execute("ROLLBACK")
