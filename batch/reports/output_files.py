"""Output files: whole or absent. Written beside their place, synced, renamed."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from batch.store.staged_job import sync_folder
from jobs.errors import StorageUnavailable, UsageError
from jobs.message import N_
from jobs.names import COST, ERRORS, OUTPUT, REPORT

NAMES = (OUTPUT, ERRORS, COST, REPORT)

_DRAFT = re.compile(r"\.nightshift-[0-9a-f]{8}\.part")


class Piece(msgspec.Struct, frozen=True):
    """Bytes of a file of `size` bytes in all; `mark` differs once another file has its name."""

    size: int
    mark: str
    data: bytes


def check_free(folder: Path) -> None:
    """Raises `UsageError` when results of something else would be overwritten or misled."""
    with _seen(folder):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UsageError(
                N_("{folder} is not a directory", folder=folder),
                hint=N_("choose another with --output-dir"),
            )
        for name in NAMES:
            if os.path.lexists(folder / name):
                raise UsageError(
                    N_("{path} already exists", path=folder / name),
                    hint=N_("choose another with --output-dir"),
                )


def check_writable(folder: Path) -> None:
    """Raises `StorageUnavailable` when the results could not be written, before anything is paid;
    `UsageError` when no folder can be called so.

    Nothing is made: the nearest folder that there is answers for those to come.
    """
    there = folder
    with _seen(folder):
        while not there.exists() and there != there.parent:
            there = there.parent
        longest = os.pathconf(there, "PC_NAME_MAX")
    if any(len(os.fsencode(part)) > longest for part in folder.parts):
        raise UsageError(
            N_("{folder} cannot be created: the name is too long", folder=folder),
            hint=N_("choose another with --output-dir"),
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageUnavailable(
            N_("{there} is not writable, so the results cannot be written there", there=there),
            hint=N_("choose another with --output-dir"),
        )


@contextmanager
def _seen(folder: Path) -> Iterator[None]:
    """A name that is too long, or leads through what may not be entered, is told in a sentence."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            N_("{folder} cannot be created: {why}", folder=folder, why=error),
            hint=N_("choose another with --output-dir"),
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it takes its name only when all of it is on the disk.

    Raises `StorageUnavailable` with the system's word when that fails; what stood there stays.
    """
    try:
        _make_folder(path.parent)
        with _opened(path.parent) as folder:
            _clear(folder)
            # What a killed writer of 0.2.0 left.
            _remove(f".{path.name}.part", folder)
            draft, descriptor = _begun(folder)
            try:
                with os.fdopen(descriptor, "wb", buffering=256 * 1024) as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    _remove(draft, folder)
                raise
            os.fsync(folder)
    except OSError as error:
        raise StorageUnavailable(
            N_("{path} cannot be written: {why}", path=path, why=error),
            hint=N_("the answers are safe in the data directory: nightshift results JOB -o DIR"),
        ) from error


def sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Bytes of those of these files that stand in the folder; no link is followed."""
    found = {}
    for name in names:
        with suppress(OSError):
            found[name] = piece(folder, name, 0, 0).size
    return found


def piece(folder: Path, name: str, offset: int, most: int) -> Piece:
    """Up to `most` bytes of a file from `offset` on. No link is followed, neither in the place of
    the file nor of the folder; `OSError` for one, and for what is no file.
    """
    # A pipe in its place is opened without waiting for its other end.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with _opened(folder) as handle, os.fdopen(os.open(name, flags, dir_fd=handle), "rb") as file:
        told = os.fstat(file.fileno())
        if not stat.S_ISREG(told.st_mode):
            raise OSError(f"{name} is not a file")
        file.seek(offset)
        return Piece(told.st_size, f"{told.st_ino}.{told.st_mtime_ns}", file.read(most))


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A handle on the folder, not on what a link in its place leads to: all goes through it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


def _begun(folder: int) -> tuple[str, int]:
    """A draft of its own, as another may be writing the same file; locked against `_clear`."""
    while True:
        draft = f".nightshift-{secrets.token_hex(4)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(draft, flags, 0o600, dir_fd=folder)
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if draft in os.listdir(folder):
            return draft, descriptor
        # Another writer removed it before it had its lock.
        os.close(descriptor)


def _clear(folder: int) -> None:
    """Removes what killed writers left; whoever still writes holds a lock."""
    for name in filter(_DRAFT.fullmatch, os.listdir(folder)):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with suppress(OSError), os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(name, folder)


def _remove(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _make_folder(folder: Path) -> None:
    """For the owner alone, like the files in it; its name is on the disk when this returns."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
