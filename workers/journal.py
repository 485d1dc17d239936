"""Append-only records on a worker's disk, each with a checksum, in segments that can be forgotten.

A record is: length (4 bytes), CRC-32 (4 bytes), msgpack. `write` puts it into the page cache, where
it survives the death of the process; `sync` makes it survive the death of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jobs.budget import Amount
from jobs.chunk import ReturnReason
from jobs.errors import AlreadyRunning, StorageUnavailable

SEGMENT_BYTES = 16 * 2**20
MAGIC = b"nightshift outbox 1\n"
_HEAD = struct.Struct("<II")
_LARGEST = 256 * 2**20


class Claimed(msgspec.Struct, frozen=True, tag="claimed", array_like=True):
    """The worker took a chunk; (ordinal, attempts, uncertain) of each of its requests."""

    job: str
    chunk: int
    requests: list[tuple[int, int, int]]


class Sent(msgspec.Struct, frozen=True, tag="sent", array_like=True):
    """A call is about to leave. It may be billed from now on, `bound` at most."""

    call: str
    job: str
    chunk: int
    ordinal: int
    attempt: int
    uncertain: int
    sent_at: float
    model: str
    bound: Amount


class Heard(msgspec.Struct, frozen=True, tag="heard", array_like=True):
    """The headers of a call came, and with them the id by which it can be looked up."""

    call: str
    generation_id: str


class Ended(msgspec.Struct, frozen=True, tag="ended", array_like=True):
    """A call ended: `answer` is the endpoint's reply, raw, or how it broke (msgpack)."""

    call: str
    answer: msgspec.Raw


class Closed(msgspec.Struct, frozen=True, tag="closed", array_like=True):
    """The worker is done with a chunk."""

    job: str
    chunk: int
    reason: ReturnReason
    returned: list[tuple[int, int, int]]
    refusals: dict[str, int]


Record = Claimed | Sent | Heard | Ended | Closed

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


class Journal:
    """The segments of one outbox, in a folder that this process alone holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _gate(folder.parent):
            folder.mkdir(mode=0o700)
            self._lock = _lock(folder)
        self._number = 0
        self._fd = -1
        self._size = 0
        self._dirty: set[int] = set()
        self._open_segment()

    @property
    def segment(self) -> int:
        """The number of the segment that is being written."""
        return self._number

    def write(self, record: Record) -> int:
        """Appends a record; returns the number of its segment. `StorageUnavailable` if refused."""
        data = _encoder.encode(record)
        if self._size >= SEGMENT_BYTES:
            self._open_segment()
        frame = _HEAD.pack(len(data), zlib.crc32(data)) + data
        try:
            written = os.write(self._fd, frame)
            while written < len(frame):
                written += os.write(self._fd, frame[written:])
        except OSError as error:
            raise StorageUnavailable(
                f"the outbox {self.folder} cannot be written: {error.strerror}",
                hint="make room, then start the worker again",
            ) from error
        self._size += len(frame)
        self._dirty.add(self._fd)
        return self._number

    def sync(self) -> None:
        """What was written before this call is on the disk when it returns."""
        dirty, self._dirty = self._dirty, set()
        for fd in dirty:
            os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
            if fd != self._fd:
                os.close(fd)

    @property
    def is_dirty(self) -> bool:
        """Whether `sync` has anything to do."""
        return bool(self._dirty)

    def forget(self, segment: int) -> None:
        """Removes a segment of which every record is in the home. Not the one being written."""
        if segment != self._number:
            self._path(segment).unlink(missing_ok=True)

    def close(self, *, empty: bool) -> None:
        """Lets go. With `empty`, everything was acknowledged: nothing is left on the disk."""
        self.sync()
        os.close(self._fd)
        if empty:
            remove(self.folder)
        os.close(self._lock)

    def _open_segment(self) -> None:
        old = self._fd
        self._number += 1
        self._fd = os.open(
            self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600
        )
        os.write(self._fd, MAGIC)
        self._size = len(MAGIC)
        self._dirty.add(self._fd)
        if old >= 0 and old not in self._dirty:
            os.close(old)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.log"


def leftovers(root: Path, mine: Path) -> list[tuple[Path, int]]:
    """Folders of outboxes whose process is gone, each with a lock that the caller must close."""
    found = []
    with _gate(root):
        for folder in sorted(path for path in root.iterdir() if path.is_dir() and path != mine):
            with contextlib.suppress(AlreadyRunning):
                found.append((folder, _lock(folder)))
    return found


def records(folder: Path) -> Iterator[Record]:
    """Everything that a leftover holds, in order.

    A torn last record is what a kill leaves and ends its segment. A wrong checksum before the end
    raises `StorageUnavailable` naming the place: it is never skipped in silence.
    """
    for path in sorted(folder.glob("*.log")):
        yield from _segment_records(path)


def remove(folder: Path) -> None:
    """Deletes an outbox whose records are all in the home; the caller holds its lock."""
    with _gate(folder.parent):
        _remove(folder)


def _remove(folder: Path) -> None:
    for path in folder.glob("*.log"):
        path.unlink(missing_ok=True)
    (folder / "lock").unlink(missing_ok=True)
    folder.rmdir()


def _segment_records(path: Path) -> Iterator[Record]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            if size < len(MAGIC):
                return
            raise StorageUnavailable(
                f"{path} is not an outbox that this version knows",
                hint="start the version of Nightshift that wrote it",
            )
        offset = len(MAGIC)
        while True:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            length, checksum = _HEAD.unpack(head)
            data = file.read(min(length, _LARGEST))
            end = offset + _HEAD.size + length
            if len(data) < length and end > size:
                return
            if zlib.crc32(data) != checksum:
                if end == size:
                    return
                raise StorageUnavailable(
                    f"{path} is damaged at byte {offset}",
                    hint="move the file away to go on without it",
                )
            yield _decoder.decode(data)
            offset = end


@contextlib.contextmanager
def _gate(root: Path) -> Iterator[None]:
    """Outboxes come, go and are looked for one at a time, so that none is seen half made."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (root / ".gate").open("ab") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


def _lock(folder: Path) -> int:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise AlreadyRunning(f"another worker uses {folder}") from error
    return fd
