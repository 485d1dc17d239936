"""The folder where jobs live: finding a job, and the lock of the one coordinator."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from batch.store.jobstore import JobStore
from jobs.errors import AlreadyRunning, NoSuchJob, StorageUnavailable
from jobs.ids import JOB_ID
from jobs.names import DATABASE, LOCK


class Home:
    """A home on disk, made when absent: the folder for its owner alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.jobs_folder = self.folder / "jobs"
        try:
            self.jobs_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise StorageUnavailable(
                f"the home {self.folder} cannot be used: {error.strerror}",
                hint="set NIGHTSHIFT_HOME to a folder that you may write",
            ) from error

    def job_ids(self) -> list[str]:
        """All jobs, oldest first."""
        names = sorted(path.name for path in self.jobs_folder.iterdir())
        return [name for name in names if JOB_ID.fullmatch(name)]

    def find(self, named: str) -> str:
        """The id that an id, a unique beginning of one, or `latest` means; else `NoSuchJob`."""
        ids = self.job_ids()
        if not ids:
            raise NoSuchJob(
                f"there are no jobs in {self.folder}", hint="nightshift run INPUT makes one"
            )
        if named == "latest":
            return ids[-1]
        fitting = [job for job in ids if job.startswith((named, f"job_{named}"))]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise NoSuchJob(f"no job is called {named!r}", hint="nightshift status lists all jobs")
        raise NoSuchJob(
            f"{named!r} fits {len(fitting)} jobs: {', '.join(fitting[:5])}",
            hint="give more of the id",
        )

    def open(self, job_id: str, *, read_only: bool = False) -> JobStore:
        """The job's store."""
        return JobStore(self.jobs_folder / job_id, read_only=read_only)

    def stores(self) -> Iterator[JobStore]:
        """All jobs, oldest first, one open at a time."""
        for job_id in self.job_ids():
            if (self.jobs_folder / job_id / DATABASE).exists():
                store = self.open(job_id, read_only=True)
                try:
                    yield store
                finally:
                    store.close()

    def touched(self, job_id: str) -> float:
        """When the job's file last changed: an ended job that somebody resumes changes."""
        path = self.jobs_folder / job_id / DATABASE
        files = [path, path.with_name(f"{DATABASE}-wal")]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    def lock(self) -> HomeLock:
        """Takes the coordinator's place, or raises `AlreadyRunning`."""
        return HomeLock(self.folder / LOCK)

    def is_coordinated(self) -> bool:
        """Whether a coordinator works on this home now."""
        try:
            HomeLock(self.folder / LOCK).release()
        except AlreadyRunning:
            return True
        return False


class HomeLock:
    """An flock: the kernel lets go of it whatever happens to the process."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise AlreadyRunning(
                f"another nightshift is at work in {path.parent}",
                hint="watch it with: nightshift status",
            ) from error

    def release(self) -> None:
        """Makes room for another."""
        self._file.close()
