"""Opening a job's SQLite file, and the one way to change it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from batch.store import migrations
from jobs.errors import StorageUnavailable
from jobs.message import N_

_BUSY_S = 30.0
_BESIDE = "", "-wal", "-shm"


class _Connection(sqlite3.Connection):
    is_writing = False
    """Whether a `transaction` is open: one within it is a part of it."""


def create(path: Path) -> sqlite3.Connection:
    """A new job file with an empty schema, for its owner alone; it must not exist."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = _connect(path)
    migrations.migrate(connection)
    return connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """An existing job file; one of a former format is carried over to this one.

    Raises `StorageUnavailable` when it is absent, damaged or written by a version that is unknown.
    """
    with readable(path):
        if not path.exists():
            raise StorageUnavailable(N_("{path} is missing", path=path))
        if not path.stat().st_size:
            # SQLite would take it for a new file, and remove the log beside it.
            raise StorageUnavailable(N_("{path} is empty", path=path))
        connection = _connect(path, read_only=read_only)
        found = migrations.format_of(connection)
        if not migrations.is_known(found):
            connection.close()
            raise StorageUnavailable(
                N_(
                    "{path} was written by another version of Nightshift (format {found}, this one"
                    " knows {latest})",
                    path=path,
                    found=found,
                    latest=migrations.latest(),
                ),
                hint=N_("use the version that wrote it"),
            )
        if found != migrations.latest():
            with closing(_connect(path)) as writing:
                migrations.migrate(writing)
    return connection


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


class Standing:
    """Whether a file that is open is what others find at its path. What is cached of it, or stands
    in its log, hides from who has it open that it went away, was replaced, cut or overwritten.
    """

    def __init__(self, path: Path) -> None:
        """`path` is open, and was read."""
        self._path = path
        self._files, self._size = self._look()

    def check(self) -> None:
        """Raises `StorageUnavailable` where a next command could not go on from here."""
        with readable(self._path):
            files, size = self._look()
            if any(was not in (None, now) for was, now in zip(self._files, files, strict=True)):
                raise StorageUnavailable(
                    N_("{path} was moved, removed or replaced while in use", path=self._path)
                )
            if size < self._size:
                raise StorageUnavailable(N_("{path} was cut short", path=self._path))
            self._size = size
            with closing(connect(self._path, read_only=True)) as db:
                db.execute("SELECT * FROM job").fetchone()

    def _look(self) -> tuple[list[tuple[int, int] | None], int]:
        """Which file this and those beside it are, and the bytes of this one."""
        paths = [self._path.with_name(f"{self._path.name}{end}") for end in _BESIDE]
        found = [path.stat() if path.exists() else None for path in paths]
        size = found[0].st_size if found[0] else 0
        return [each and (each.st_dev, each.st_ino) for each in found], size


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What SQLite or the system says while a file is read becomes `StorageUnavailable`."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        raise StorageUnavailable(
            N_("{path} cannot be read: {why}", path=path, why=error)
        ) from error


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
        raise StorageUnavailable(
            N_("the job's file cannot be written: {why}", why=error)
        ) from error
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
