"""The folder where jobs live: finding a job, and the lock of the one coordinator."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from batch.store.jobstore import JobStore
from jobs.errors import AlreadyRunning, NoSuchJob, StorageUnavailable
from jobs.ids import JOB_ID
from jobs.message import N_
from jobs.names import DATABASE, FENCE, HOME_ID, LOCK

log = logging.getLogger("nightshift.home")

_SHORTEST_END = 4
"""Characters by which a job can be named from the end of its id, where ids of one evening differ.
Flower shows six."""

_PROBES_S = 1.0
"""A lock that is held for longer than this is no other command's short look at it."""


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """What the system refuses in the home becomes `StorageUnavailable`."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(
            N_("the data directory {folder} cannot be used: {why}", folder=folder, why=error),
            hint=N_("set NIGHTSHIFT_HOME to a writable directory on a local disk"),
        ) from error


def _check_own(folder: Path) -> None:
    found = folder.stat()
    hint = N_("set NIGHTSHIFT_HOME to a directory of your own")
    if found.st_uid != os.geteuid():
        raise StorageUnavailable(
            N_("the data directory {folder} belongs to another user", folder=folder), hint=hint
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        raise StorageUnavailable(
            N_("the data directory {folder} is writable by others", folder=folder),
            hint=N_("chmod go-w {folder}", folder=folder),
        )


class _Placed(msgspec.Struct):
    """What `batch.coordinator.fence` keeps, as far as it is of use here."""

    place: str = ""


class Home:
    """A home on disk, made when absent: what is made is for its owner alone.

    A folder that was there keeps its mode. `StorageUnavailable` for one that is another user's, or
    in which others could put something in the place of what is ours.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.jobs_folder = self.folder / "jobs"
        with _usable(self.folder):
            for folder in (self.folder, self.jobs_folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _check_own(folder)

    def job_ids(self) -> list[str]:
        """All jobs, oldest first."""
        with _usable(self.folder):
            names = sorted(path.name for path in self.jobs_folder.iterdir())
        return [name for name in names if JOB_ID.fullmatch(name)]

    def find(self, named: str) -> str:
        """The id of the job that is meant, else `NoSuchJob`.

        `named` is an id, a beginning or an end of one, the job's name, or `latest`; what fits
        several jobs is refused.
        """
        ids = self.job_ids()
        if not named:
            raise NoSuchJob(N_("no job is given"), hint=N_("nightshift status lists all jobs"))
        if not ids:
            raise NoSuchJob(
                N_("there are no jobs in {folder}", folder=self.folder),
                hint=N_("nightshift run INPUT creates one"),
            )
        if named == "latest":
            return ids[-1]
        fitting = [job for job in ids if job.startswith((named, f"job_{named}"))]
        if len(named) >= _SHORTEST_END:
            fitting += [job for job in ids if job.endswith(named) and job not in fitting]
        fitting = fitting or self._called(named)
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise NoSuchJob(
                N_("no such job: {named!r}", named=named),
                hint=N_("nightshift status lists all jobs"),
            )
        raise NoSuchJob(
            N_(
                "{named!r} fits {count} jobs: {fitting}",
                named=named,
                count=len(fitting),
                fitting=", ".join(fitting[:5]),
            ),
            hint=N_("use a longer part of the id"),
        )

    def _called(self, name: str) -> list[str]:
        """Jobs of this name, oldest first."""
        return [row.id for store in self.stores() if (row := store.job()).spec.name == name]

    def open(self, job_id: str, *, read_only: bool = False) -> JobStore:
        """The job's store."""
        return JobStore(self.jobs_folder / job_id, read_only=read_only)

    def stores(self, *, newest_first: bool = False) -> Iterator[JobStore]:
        """All jobs that can be read, oldest first, one open at a time; of others the log tells."""
        ids = self.job_ids()
        for job_id in reversed(ids) if newest_first else ids:
            try:
                store = self.open(job_id, read_only=True)
            except StorageUnavailable as error:
                log.warning("%s", error.message)
                continue
            try:
                yield store
            finally:
                store.close()

    def touched(self, job_id: str) -> float:
        """When the job's file last changed: an ended job that somebody resumes changes. 0 where
        that cannot be seen.

        A look at it may make an empty log beside it, which is no change.
        """
        path = self.jobs_folder / job_id / DATABASE
        files = [path, path.with_name(f"{DATABASE}-wal")]
        with suppress(OSError):
            found = [file.stat() for file in files if file.exists()]
            return max((file.st_mtime for file in found if file.st_size), default=0.0)
        return 0.0

    def id(self) -> str:
        """What a copy of this home has in common with it; made when there is none."""
        path = self.folder / HOME_ID
        with _usable(self.folder):
            with suppress(FileExistsError):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(fd, "w") as file:
                    file.write(secrets.token_hex(8))
            return path.read_text(encoding="ascii", errors="replace")

    def place(self) -> str:
        """Where the disk has this home: no copy of it has the same, and another path makes none.

        By the inodes of several files, since a disk gives that of one that is gone to another.
        """
        paths = (self.folder, self.folder / HOME_ID, self.folder / FENCE)
        told = " ".join(str(path.stat().st_ino) for path in paths if path.exists())
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    def is_copied(self) -> bool:
        """Whether this is a copy of the home that its last coordinator worked on."""
        with suppress(OSError, msgspec.MsgspecError):
            kept = msgspec.json.decode((self.folder / FENCE).read_bytes(), type=_Placed)
            return kept.place not in ("", self.place())
        return False

    def lock(self, job_id: str = "") -> HomeLock:
        """Takes the coordinator's place, for all jobs or for one; or raises `AlreadyRunning`."""
        return HomeLock(self.folder / LOCK, job_id)

    def well_at(self) -> float:
        """When a coordinator of this home last was well, Unix seconds; 0 if none ever was."""
        with suppress(OSError):
            return (self.folder / LOCK).stat().st_mtime
        return 0.0

    def is_coordinated(self, job_id: str = "") -> bool:
        """Whether a coordinator works on this home now, and on this job if one is named."""
        path = self.folder / LOCK
        if not path.exists():
            return False
        with path.open("rb") as file:
            try:
                # Shared, so that two looks at a time do not take each other for a coordinator.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                only = file.read().decode("ascii", "replace")
                return only in ("", job_id) or not job_id
        return False


class HomeLock:
    """An flock: the kernel lets go of it whatever happens to the process.

    The file holds the one job that its owner works on, or nothing if it works on all.
    """

    def __init__(self, path: Path, job_id: str) -> None:
        with _usable(path.parent):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._path, self._file = path, os.fdopen(fd, "ab", buffering=0)
            self._wait_for(path.parent)
            self._file.truncate(0)
            self._file.write(job_id.encode())

    def _wait_for(self, home: Path) -> None:
        deadline = time.monotonic() + _PROBES_S
        while not self._is_taken():
            if time.monotonic() > deadline:
                self._file.close()
                raise AlreadyRunning(
                    N_("another nightshift process is running in {home}", home=home),
                    hint=N_("watch it with: nightshift status"),
                )
            time.sleep(0.02)

    def _is_taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def check(self) -> None:
        """Raises `StorageUnavailable` where a next command would not meet this lock: the home went
        away, or another stands in its place.
        """
        with _usable(self._path.parent), suppress(FileNotFoundError):
            if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                return
        raise StorageUnavailable(
            N_("the data directory {folder} was moved or replaced", folder=self._path.parent),
            hint=N_("put it back as it was, or start the command again"),
        )

    def is_well(self) -> None:
        """Notes for who looks from outside that its owner and Redis are well now.

        A moment of a file that stands already needs no room on a full disk.
        """
        with suppress(OSError):
            os.utime(self._file.fileno())

    def release(self) -> None:
        """Makes room for another."""
        self._file.close()
