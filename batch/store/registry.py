"""What programs brought to `nightshift serve`: its API keys, files and batches.

Of a batch whose job exists only what the job does not know is here; how it stands, the job tells.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from jobs.errors import StorageUnavailable
from jobs.message import N_
from jobs.names import REGISTRY

VERSION = 1
_BUSY_S = 30.0
_NEWEST = "batches_gone"
"""What was added last: a file that has it has all."""

VALIDATING, JOB, FAILED, CANCELLED, EXPIRED = "validating", "job", "failed", "cancelled", "expired"
"""States of a batch in the registry."""


@dataclass(frozen=True)
class KeyRow:
    """An API key of the server; `digest` is its SHA-256 in hex."""

    name: str
    digest: str
    created_at: float
    revoked_at: float | None
    priority: float
    webhook: str | None
    webhook_secret: str | None


@dataclass(frozen=True)
class FileRow:
    """A file; `batch` is the one whose results it holds, if it was not uploaded."""

    seq: int
    id: str
    tenant: str
    purpose: str
    filename: str
    bytes: int
    created_at: float
    expires_at: float | None
    batch: str | None


@dataclass(frozen=True)
class BatchRow:
    """A batch as it was asked for, and what its job does not know."""

    seq: int
    id: str
    tenant: str
    job: str
    input_file: str
    endpoint: str
    completion_window: str
    created_at: float
    expires_at: float
    metadata: str | None
    wishes: str
    output_expires_s: int | None
    idempotency: str | None
    digest: str
    told: int
    state: str
    tries: int
    cancelling_at: float | None
    ended_at: float | None
    errors: str | None
    output_file: str | None
    error_file: str | None
    facts: str | None
    closed: int


_Row = TypeVar("_Row", KeyRow, FileRow, BatchRow)


def is_open(home: Path, batch_id: str) -> bool:
    """Whether no server has seen the end of a batch yet. `StorageUnavailable`"""
    if not (home / REGISTRY).exists():
        return False
    registry = Registry(home)
    try:
        row = registry.batch(batch_id)
    finally:
        registry.close_here()
    return row is not None and not row.closed


class Registry:
    """The registry of a home, made when absent. Every thread has a connection of its own."""

    def __init__(self, home: Path) -> None:
        self.path = home / REGISTRY
        self._local = threading.local()
        with self._usable():
            self._make()

    def _make(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        db = self._db
        db.execute("PRAGMA journal_mode = WAL")
        text = resources.files("batch.store").joinpath("registry.sql").read_text()
        # Two commands that start at once make it one after the other.
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute("ROLLBACK")
        if version == 0 or (version == VERSION and not self._has(_NEWEST)):
            db.executescript(f"BEGIN IMMEDIATE; {text} COMMIT;")
            version = VERSION
        if version != VERSION:
            raise StorageUnavailable(
                N_(
                    "{path} was written by another version of Nightshift (format {found}, this one"
                    " knows {latest})",
                    path=self.path,
                    found=version,
                    latest=VERSION,
                ),
                hint=N_("use the version that wrote it"),
            )

    def _has(self, name: str) -> bool:
        found = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))
        return found.fetchone() is not None

    @property
    def _db(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "db", None)
        if found is None:
            found = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            found.row_factory = sqlite3.Row
            found.execute("PRAGMA synchronous = FULL")
            self._local.db = found
        return found

    def close_here(self) -> None:
        """Ends the connection of this thread."""
        self._db.close()
        del self._local.db

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageUnavailable(
                N_("{path} cannot be used: {why}", path=self.path, why=error)
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; on disk when it ends."""
        db = self._db
        with self._usable():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _all(self, kind: type[_Row], query: str, *values: object) -> list[_Row]:
        with self._usable():
            return [kind(**dict(row)) for row in self._db.execute(query, values)]

    def _one(self, kind: type[_Row], query: str, *values: object) -> _Row | None:
        return next(iter(self._all(kind, query, *values)), None)

    def _do(self, query: str, *values: object) -> bool:
        """Whether it changed anything."""
        with self._usable():
            return self._db.execute(query, values).rowcount > 0

    def _insert(self, table: str, row: object) -> None:
        names = [each.name for each in fields(row) if each.name != "seq"]  # type: ignore[arg-type]
        places = ", ".join("?" * len(names))
        query = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})"  # noqa: S608  ours
        self._do(query, *(getattr(row, name) for name in names))

    # ---- keys -------------------------------------------------------------------------------

    def keys(self, *, revoked: bool = False) -> list[KeyRow]:
        """All keys that count, the oldest first; with `revoked` the others, too."""
        return self._all(
            KeyRow, "SELECT * FROM keys WHERE revoked_at IS NULL OR ? ORDER BY created_at", revoked
        )

    def key(self, name: str) -> KeyRow | None:
        """The key of this name, revoked or not."""
        return self._one(KeyRow, "SELECT * FROM keys WHERE name = ?", name)

    def add_key(self, row: KeyRow) -> bool:
        """Keeps a key; False if there is one of its name that counts."""
        with self.transaction():
            found = self.key(row.name)
            if found is not None and found.revoked_at is None:
                return False
            self._do("DELETE FROM keys WHERE name = ?", row.name)
            self._insert("keys", row)
        return True

    def revoke(self, name: str, now: float) -> bool:
        """From now on it opens nothing; False if no such key counts."""
        query = "UPDATE keys SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL"
        return self._do(query, now, name)

    # ---- files ------------------------------------------------------------------------------

    def add_file(self, row: FileRow) -> None:
        """Keeps a file whose content is on disk."""
        self._insert("files", row)

    def file(self, file_id: str) -> FileRow | None:
        """A file, whosever it is."""
        return self._one(FileRow, "SELECT * FROM files WHERE id = ?", file_id)

    def files(
        self, tenant: str, *, purpose: str | None, after: int | None, ascending: bool, limit: int
    ) -> list[FileRow]:
        """A page of a tenant's files; `after` is the `seq` of the last one before it."""
        beyond, order = (">", "ASC") if ascending else ("<", "DESC")
        return self._all(
            FileRow,
            "SELECT * FROM files WHERE tenant = ? AND (? IS NULL OR purpose = ?)"  # noqa: S608  ours
            f" AND (? IS NULL OR seq {beyond} ?) ORDER BY seq {order} LIMIT ?",
            *(tenant, purpose, purpose, after, after, limit),
        )

    def drop_file(self, file_id: str) -> bool:
        """Forgets a file; its content is the caller's."""
        return self._do("DELETE FROM files WHERE id = ?", file_id)

    def expired_files(self, now: float) -> list[FileRow]:
        """Files whose time is over."""
        return self._all(FileRow, "SELECT * FROM files WHERE expires_at <= ?", now)

    def place(self, kind: str, tenant: str, wanted: str) -> int | None:
        """Where one of a tenant's `files` or `batches` stands in lists, or stood before it was
        deleted: whoever deletes what it lists goes on after what is gone.
        """
        query = (
            f"SELECT seq FROM {kind} WHERE id = ?2 AND tenant = ?3 UNION ALL"  # noqa: S608  ours
            " SELECT seq FROM gone WHERE kind = ?1 AND id = ?2 AND tenant = ?3"
        )
        with self._usable():
            found = self._db.execute(query, (kind, wanted, tenant)).fetchone()
        return None if found is None else int(found[0])

    # ---- batches ----------------------------------------------------------------------------

    def add_batch(self, row: BatchRow) -> None:
        """Keeps a new batch, to be validated."""
        self._insert("batches", row)

    def batch(self, batch_id: str) -> BatchRow | None:
        """A batch, whosever it is."""
        return self._one(BatchRow, "SELECT * FROM batches WHERE id = ?", batch_id)

    def batches(self, tenant: str, *, after: int | None, limit: int) -> list[BatchRow]:
        """A page of a tenant's batches, the newest first."""
        return self._all(
            BatchRow,
            "SELECT * FROM batches WHERE tenant = ? AND (? IS NULL OR seq < ?)"
            " ORDER BY seq DESC LIMIT ?",
            *(tenant, after, after, limit),
        )

    def named(self, tenant: str, idempotency: str) -> BatchRow | None:
        """The batch that a tenant named so."""
        query = "SELECT * FROM batches WHERE tenant = ? AND idempotency = ?"
        return self._one(BatchRow, query, tenant, idempotency)

    def alike(self, tenant: str, digest: str) -> BatchRow | None:
        """The newest batch of a tenant that asked for exactly this."""
        query = "SELECT * FROM batches WHERE tenant = ? AND digest = ? ORDER BY seq DESC LIMIT 1"
        return self._one(BatchRow, query, tenant, digest)

    def open_batches(self) -> list[BatchRow]:
        """All whose end was not yet seen, the oldest first."""
        return self._all(BatchRow, "SELECT * FROM batches WHERE NOT closed ORDER BY seq")

    def to_validate(self) -> list[BatchRow]:
        """All whose input was not looked at yet, the oldest first."""
        query = "SELECT * FROM batches WHERE NOT closed AND state = ? ORDER BY tries, seq"
        return self._all(BatchRow, query, VALIDATING)

    def told(self, batch_id: str) -> None:
        """Whoever asked for it was there to hear of it."""
        self._do("UPDATE batches SET told = 1 WHERE id = ? AND NOT told", batch_id)

    def tried(self, batch_id: str) -> None:
        """Its validation begins once more."""
        self._do("UPDATE batches SET tries = tries + 1 WHERE id = ?", batch_id)

    def untried(self, batch_id: str) -> None:
        """It came to nothing, and that was not its input's fault."""
        self._do("UPDATE batches SET tries = tries - 1 WHERE id = ?", batch_id)

    def cancel(self, batch_id: str, now: float) -> None:
        """Somebody wants it cancelled."""
        query = "UPDATE batches SET cancelling_at = ? WHERE id = ? AND cancelling_at IS NULL"
        self._do(query, now, batch_id)

    def validated(self, batch_id: str) -> None:
        """Its job exists."""
        query = "UPDATE batches SET state = ? WHERE id = ? AND state = ?"
        self._do(query, JOB, batch_id, VALIDATING)

    def ended(
        self, batch_id: str, state: str, now: float, errors: Sequence[dict[str, Any]] = ()
    ) -> None:
        """It is over, and there never was a job."""
        text = json.dumps(list(errors), ensure_ascii=False) if errors else None
        self._do(
            "UPDATE batches SET state = ?, ended_at = ?, errors = ? WHERE id = ? AND state = ?",
            *(state, now, text, batch_id, VALIDATING),
        )

    def reopen(self, batch_id: str, expires_at: float | None = None) -> None:
        """It goes on after its end, or after it was cancelled; until then, if that is another."""
        self._do(
            "UPDATE batches SET closed = 0, cancelling_at = NULL,"
            " expires_at = coalesce(?, expires_at) WHERE id = ?",
            *(expires_at, batch_id),
        )

    def drop_batch(self, batch_id: str) -> bool:
        """Forgets a batch, and the files of its results; their content is the caller's.

        False if somebody else did it.
        """
        with self.transaction():
            self._do("DELETE FROM files WHERE batch = ?", batch_id)
            return self._do("DELETE FROM batches WHERE id = ?", batch_id)

    def close(
        self, batch_id: str, facts: str | None, output: FileRow | None, errors: FileRow | None
    ) -> bool:
        """Its end was seen, and these hold its results; False if that was known.

        `facts` is what its job said then, for the time when the job is removed.
        """
        with self.transaction():
            found = self.batch(batch_id)
            if found is None or found.closed:
                return False
            for row in (output, errors):
                if row is not None:
                    self._do("DELETE FROM files WHERE id = ?", row.id)
                    self._insert("files", row)
            self._do(
                "UPDATE batches SET closed = 1, facts = ?, output_file = ?, error_file = ?"
                " WHERE id = ?",
                *(facts, output.id if output else None, errors.id if errors else None, batch_id),
            )
        return True
