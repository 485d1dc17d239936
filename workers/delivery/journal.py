"""Append-only records on a worker's disk, each with a checksum, in segments that can be forgotten.

A record is: length, CRC-32 of the data, CRC-32 of these two (4 bytes each), then the data, msgpack.
`write` puts it into the page cache, where it survives the death of the process; `begin_sync` makes
it survive the death of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from jobs.budget import Amount
from jobs.chunk import ReturnReason
from jobs.errors import AlreadyRunning, StorageUnavailable, UsageError
from jobs.gateways import ROUBLES, Tariff
from jobs.message import N_
from jobs.request_kinds import CHAT

SEGMENT_BYTES = 16 * 2**20
BALLAST_BYTES = 4 * 2**20
"""Room that is set aside for the answers of calls in flight, should the disk fill up."""

MAGIC = b"nightshift outbox 1\n"
_SIZE_AND_SUM = struct.Struct("<II")
_SUM = struct.Struct("<I")
_HEAD_BYTES = _SIZE_AND_SUM.size + _SUM.size
_PAGE = 2**16

log = logging.getLogger("nightshift.journal")


class Claimed(msgspec.Struct, frozen=True, tag="claimed", array_like=True):
    """The worker took a chunk; (ordinal, attempts, uncertain) of each of its requests, and how the
    endpoint tells what a call of it cost. Told again once it `began`: calls may leave.
    """

    job: str
    chunk: int
    requests: list[tuple[int, int, int]]
    tariff: Tariff = ROUBLES
    began: bool = False


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
    kind: str = CHAT.url


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
    calls: int = 0
    outbox: str = ""
    began: bool = True


Record = Claimed | Sent | Heard | Ended | Closed

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


class Journal:
    """The segments of one outbox, in a folder that this process alone holds.

    Everything but what `begin_sync` returns belongs to one thread. `StorageUnavailable` where the
    disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        self._fd = -1
        self._size = 0
        self._full: list[int] = []
        self._torn = self._new_file = False
        self.is_dirty = False
        """Whether `begin_sync` has anything to do."""
        self.is_full = False
        """Whether what is set aside for calls in flight had to be used: no call may leave."""
        with _as_ours(folder):
            with _gate(folder.parent):
                folder.mkdir(mode=0o700)
                self._lock = _lock(folder)
            _flush_folder(folder.parent)
            self._open_segment()
            self._ballast = _ballast(folder)

    @property
    def segment(self) -> int:
        """The number of the segment that is being written."""
        return self._number

    def write(self, record: Record) -> int:
        """Appends a record; returns the number of its segment.

        On a full disk there is room for all but `Sent`: a call that has left is to be kept.
        """
        data = _encoder.encode(record)
        head = _SIZE_AND_SUM.pack(len(data), zlib.crc32(data))
        frame = head + _SUM.pack(zlib.crc32(head)) + data
        try:  # bare, since entering `_as_ours` three times a call would cost as much as writing
            self._append(frame)
        except OSError:
            with _as_ours(self.folder):
                if isinstance(record, Sent) or not self._give_up_ballast():
                    raise
                self._append(frame)
        return self._number

    def look(self) -> None:
        """`StorageUnavailable` where nobody could read later what is written here.

        A folder that was deleted takes writes as before: its files live on without a name.
        """
        try:
            there = os.stat(self._name)  # noqa: PTH116  before each call: a `Path` costs as much
            kept = (there.st_dev, there.st_ino) == self._identity
        except OSError:
            kept = False
        if not kept:
            raise StorageUnavailable(
                N_(
                    "the outbox {folder} was deleted while the worker was running",
                    folder=self.folder,
                ),
                hint=N_("keep the worker's scratch directory, then restart the worker"),
            )

    def begin_sync(self) -> Callable[[], None]:
        """A function for any thread: once it has run, what was written before this call is on the
        disk. Writing goes on meanwhile.
        """
        with _as_ours(self.folder):
            # Descriptors of its own: the segment may be full and closed before it has run.
            fds = [*self._full, os.dup(self._fd)]
        new_file, self._new_file = self._new_file, False
        self._full = []
        self.is_dirty = False
        return functools.partial(_flush, self.folder, fds, new_file=new_file)

    def forget(self, segment: int) -> None:
        """Removes a segment of which every record is in the home. Not the one being written."""
        if segment != self._number:
            with _as_ours(self.folder):
                self._path(segment).unlink(missing_ok=True)

    def close(self, *, empty: bool) -> None:
        """Lets go. With `empty`, everything was acknowledged: nothing is left on the disk."""
        self._give_up_ballast()
        for fd in (*self._full, self._fd):
            os.close(fd)
        with _as_ours(self.folder):
            if empty:
                remove(self.folder)
        os.close(self._lock)

    def _append(self, frame: bytes) -> None:
        if self._size >= SEGMENT_BYTES or self._torn:
            self._open_segment()
        self.is_dirty = True
        try:
            _write_all(self._fd, frame)
        except OSError:
            self._cut_back()
            raise
        self._size += len(frame)

    def _give_up_ballast(self) -> bool:
        """Whether that made room."""
        if self._ballast < 0:
            return False
        os.close(self._ballast)
        self._ballast = -1
        self.is_full = True
        return True

    def _cut_back(self) -> None:
        """Half a record must not stand before whole ones; at a segment's end it may."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._torn = True

    def _open_segment(self) -> None:
        number, old = self._number + 1, self._fd
        path = self._path(number)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        try:
            _write_all(fd, MAGIC)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self._fd, self._number, self._size = fd, number, len(MAGIC)
        mine = os.fstat(fd)
        self._name, self._identity = str(path), (mine.st_dev, mine.st_ino)
        self._torn = False
        self._new_file = self.is_dirty = True
        if old >= 0:
            self._full.append(old)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.log"


def _ballast(folder: Path) -> int:
    """A file without a name that takes its room until it is closed."""
    path = folder / "ballast"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        path.unlink()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, BALLAST_BYTES)
        else:
            _write_all(fd, bytes(BALLAST_BYTES))
    except OSError:
        os.close(fd)
        raise
    return fd


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def leftovers(root: Path, mine: Path) -> list[tuple[Path, int]]:
    """Folders of outboxes whose process is gone, each with a lock that the caller must close."""
    found = []
    with _as_ours(root), _gate(root):
        for folder in sorted(path for path in root.iterdir() if path.is_dir() and path != mine):
            with contextlib.suppress(AlreadyRunning):
                found.append((folder, _lock(folder)))
    return found


def records(folder: Path) -> Iterator[Record]:
    """Everything that a leftover holds, in order.

    A torn last record is what a kill leaves and ends its segment; it is told in the log. Anything
    else that is wrong raises `StorageUnavailable` naming the place: it is never skipped in silence.
    `UsageError` for a journal of another version.
    """
    with _as_ours(folder):
        for path in sorted(folder.glob("*.log")):
            yield from _segment_records(path)


def remove(folder: Path) -> None:
    """Deletes an outbox whose records are all in the home; the caller holds its lock."""
    with _gate(folder.parent):
        for path in folder.glob("*.log"):
            path.unlink(missing_ok=True)
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()


def _segment_records(path: Path) -> Iterator[Record]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if not _is_ours(file, path):
            return
        while (offset := file.tell()) < size:
            data = _record_at(file, path, offset, size)
            if data is None:
                log.warning(
                    N_(
                        "{path}: dropped an incomplete last record at byte {offset}",
                        path=path,
                        offset=offset,
                    )
                )
                return
            try:
                yield _decoder.decode(data)
            except msgspec.MsgspecError as error:
                raise _damaged(path, offset) from error


def _is_ours(file: BinaryIO, path: Path) -> bool:
    """Whether records follow; a file torn within its first line has none."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC and not MAGIC.startswith(magic):
        raise UsageError(
            N_("{path} was written by another version of Nightshift", path=path),
            hint=N_("run that version"),
        )
    return magic == MAGIC


def _record_at(file: BinaryIO, path: Path, offset: int, size: int) -> bytes | None:
    """A record's data; None if it is torn."""
    head = file.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return None
    length, checksum = _SIZE_AND_SUM.unpack_from(head)
    if zlib.crc32(head[: _SIZE_AND_SUM.size]) != _SUM.unpack_from(head, _SIZE_AND_SUM.size)[0]:
        if _is_blank(head, file):
            return None
        raise _damaged(path, offset)
    data = file.read(length)
    end = offset + _HEAD_BYTES + length
    if len(data) == length and zlib.crc32(data) == checksum:
        return data
    if end < size:
        raise _damaged(path, offset)
    return None


def _is_blank(head: bytes, file: BinaryIO) -> bool:
    """Nothing but zeros: a file that grew just before the power went, but got no data."""
    pages = iter(lambda: file.read(_PAGE), b"")
    return not head.strip(b"\0") and not any(page.strip(b"\0") for page in pages)


def _damaged(path: Path, offset: int) -> StorageUnavailable:
    return StorageUnavailable(
        N_("{path} is damaged at byte {offset}", path=path, offset=offset),
        hint=N_("to continue without it, move the file away"),
    )


def _flush(folder: Path, fds: list[int], *, new_file: bool) -> None:
    with _as_ours(folder):
        try:
            for fd in fds:
                os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
        finally:
            for fd in fds:
                os.close(fd)
        if new_file:
            _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    """A file is only safe once its name is."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _as_ours(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(
            N_("the outbox {folder} cannot be used: {why}", folder=folder, why=error),
            hint=N_("free up space or repair the disk, then restart the worker"),
        ) from error


@contextlib.contextmanager
def _gate(root: Path) -> Iterator[None]:
    """Outboxes come, go and are looked for one at a time, so that none is seen half made."""
    _make(root)
    fd = os.open(root / ".gate", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make(folder: Path) -> None:
    """For the owner alone, and so are the folders on the way that are not there yet."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _lock(folder: Path) -> int:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise AlreadyRunning(N_("{folder} is in use by another worker", folder=folder)) from error
    return fd
