"""The snapshot of a job's input: request bodies, compressed in blocks that can be read alone."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from jobs.errors import BadMessage, StorageUnavailable
from jobs.message import N_
from jobs.wire import pack_bodies, unpack_bodies

BLOCK_BYTES = 128 * 1024
"""Uncompressed bytes of a block: enough to compress well, few enough to read for one body."""

_CACHED_BLOCKS = 16


class BlockWriter:
    """Appends bodies; `finish` makes them durable. Ordinals count from 0 in the order written."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
        self._bodies: list[bytes] = []
        self._size = 0
        self._first = 0
        self._offset = 0

    def append(self, body: bytes) -> tuple[int, int, int] | None:
        """Takes a body; when that filled a block, (first ordinal, offset, length) of the block."""
        self._bodies.append(body)
        self._size += len(body)
        return self.flush() if self._size >= BLOCK_BYTES else None

    def flush(self) -> tuple[int, int, int] | None:
        """Writes what waits as a block, if anything does."""
        if not self._bodies:
            return None
        data = pack_bodies(self._bodies)
        self._file.write(data)
        place = (self._first, self._offset, len(data))
        self._first += len(self._bodies)
        self._offset += len(data)
        self._bodies, self._size = [], 0
        return place

    def finish(self) -> None:
        """Everything is on disk when this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Closes the file without a promise."""
        self._file.close()


class BlockReader:
    """Reads bodies by ordinal, a few blocks kept unpacked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._cache: OrderedDict[int, list[bytes]] = OrderedDict()

    def block(self, first: int, offset: int, length: int) -> list[bytes]:
        """The bodies of the block that starts with ordinal `first`.

        Raises `StorageUnavailable` with the place when they are not what was written.
        """
        if first in self._cache:
            self._cache.move_to_end(first)
            return self._cache[first]
        bodies = self._read(offset, length)
        self._cache[first] = bodies
        if len(self._cache) > _CACHED_BLOCKS:
            self._cache.popitem(last=False)
        return bodies

    def _read(self, offset: int, length: int) -> list[bytes]:
        try:
            return unpack_bodies(self._bytes(offset, length))
        except OSError as error:
            raise StorageUnavailable(
                N_("{path} cannot be read: {why}", path=self._path, why=error)
            ) from error
        except BadMessage as error:
            raise StorageUnavailable(
                N_("{path} is damaged at byte {offset}", path=self._path, offset=offset),
                hint=N_("submit the input again; what was answered: nightshift results JOB"),
            ) from error

    def _bytes(self, offset: int, length: int) -> bytes:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDONLY)
        data = os.pread(self._fd, length, offset)
        if len(data) < length:
            raise BadMessage(N_("the snapshot ends too early"))
        return data

    def close(self) -> None:
        """Lets go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
