"""Output files: whole or absent. Written beside their place, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from batch.store.draft import sync_folder
from jobs.errors import StorageUnavailable, UsageError
from jobs.names import COST, ERRORS, OUTPUT, REPORT

NAMES = (OUTPUT, ERRORS, COST, REPORT)


def check_free(folder: Path) -> None:
    """Raises `UsageError` when results of something else would be overwritten or misled."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is not a folder", hint="choose another with --output-dir")
    for name in NAMES:
        if os.path.lexists(folder / name):
            raise UsageError(
                f"{folder / name} exists already", hint="choose another folder with --output-dir"
            )


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it takes its name only when all of it is on the disk.

    Raises `StorageUnavailable` with the system's word when that fails; what stood there stays.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(draft, flags, 0o600), "wb", buffering=256 * 1024) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageUnavailable(
            f"{path} cannot be written: {error.strerror}",
            hint="the answers are safe in the home: nightshift results JOB -o DIR",
        ) from error
