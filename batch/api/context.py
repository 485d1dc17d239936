"""What the routes share: the home, the registry, how batches stand, and how the server was set."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from batch import job_control
from batch.api.batch_status import Facts, Standing, Standings, packed
from batch.api.upload import sweep_drafts
from batch.store.events import history
from batch.store.home import Home
from batch.store.registry import JOB, BatchRow, FileRow, Registry
from jobs.errors import NightshiftError
from jobs.job_commands import Cancel
from jobs.lifecycle import Objected
from jobs.names import ERRORS, OUTPUT
from jobs.states import JobState

log = logging.getLogger("nightshift.api")

DEFAULT_LIMIT = 1024**3


@dataclass(frozen=True)
class Settings:
    """How the server was started; `limit`: bytes of an upload. `keyless`: this
    machine is served without a key.
    """

    base_url: str
    limit: int = DEFAULT_LIMIT
    keyless: bool = False


class Desk:
    """The home as the Batch API sees it."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        wake: Callable[[], None] = lambda: None,
        tell: Callable[[Standing], None] = lambda _: None,
        untell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`wake` has new batches validated; `tell` gets every batch once, when it is over, and
        `untell` its id when it goes on after all.
        """
        self.home, self.settings = home, settings
        self.registry = Registry(home.folder)
        self.standings = Standings(home)
        self.wake, self._tell, self._untell = wake, tell, untell
        self._closing = threading.Lock()
        for folder in (self.files_folder, self.batches_folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        sweep_drafts(self.files_folder)

    @property
    def files_folder(self) -> Path:
        """Where uploads are."""
        return self.home.folder / "files"

    @property
    def batches_folder(self) -> Path:
        """Where results are."""
        return self.home.folder / "batches"

    def path(self, row: FileRow) -> Path:
        """The content of a file; its name is made of ids of ours alone."""
        if row.batch is None:
            return self.files_folder / row.id
        kind = ERRORS if row.id.endswith(_ERRORS_END) else OUTPUT
        return self.batches_folder / row.batch / kind

    def size(self, row: FileRow) -> FileRow:
        """The row with the size that its content has now: late answers are written anew."""
        if row.batch is None:
            return row
        try:
            size = self.path(row).stat().st_size
        except OSError:
            return row
        return row if size == row.bytes else FileRow(**{**vars(row), "bytes": size})

    def drop(self, row: FileRow) -> bool:
        """A file and its content go; False if somebody else did it."""
        dropped = self.registry.drop_file(row.id)
        if dropped:
            self.path(row).unlink(missing_ok=True)
        return dropped

    def sweep(self, now: float) -> None:
        """Files whose time is over go."""
        for row in self.registry.expired_files(now):
            self.drop(row)

    # ---- batches ----------------------------------------------------------------------------

    def stand(self, row: BatchRow) -> Standing:
        """How a batch stands; when it is over its results are files before anybody hears of it."""
        standing = self.standings.of(row)
        if standing.ended == bool(row.closed):
            return standing
        standing = self.standings.fresh(row)
        if standing.ended == bool(row.closed):
            return standing
        if standing.ended:
            self._close(standing)
        else:
            # Somebody goes on with it: failed requests are tried again.
            self.reopen(row, standing.facts.deadline if standing.facts else None)
        return self.standings.of(self.registry.batch(row.id) or row)

    def reopen(self, row: BatchRow, expires_at: float | None) -> None:
        """It goes on after its end, and its next end is told like the first."""
        self._untell(row.id)
        self.registry.reopen(row.id, expires_at)

    def look(self) -> None:
        """Sees to the batches that are over and of which nobody asked, and to lost cancels."""
        for row in self.registry.open_batches():
            try:
                self.stand(row)
                if row.cancelling_at is not None:
                    self._press(row, row.cancelling_at)
            except (NightshiftError, OSError) as error:
                log.warning("%s: %s", row.id, getattr(error, "message", error))

    def cancel_job(self, batch_id: str) -> None:
        """Cancels the job of a batch if there is one: the row may have got it just now."""
        row = self.registry.batch(batch_id)
        if row is not None and row.state == JOB:
            # What ended meanwhile stays as it is.
            with suppress(Objected):
                job_control.command(self.home, row.job, Cancel())

    def _press(self, row: BatchRow, wanted_at: float) -> None:
        """A cancel that a crash kept from the job reaches it; one that was taken back is none."""
        if row.state != JOB or not (self.home.jobs_folder / row.job).exists():
            return
        with closing(self.home.open(row.job, read_only=True)) as store:
            # In this order: a cancel that comes between the two is not taken for a resume.
            events, job = history(store.db), store.job()
        if job.state not in (JobState.IN_PROGRESS, JobState.PAUSED):
            return
        if any(each.at >= wanted_at and each.state == JobState.CANCELLING for each in events):
            self.registry.reopen(row.id)
        else:
            self.cancel_job(row.id)

    def _close(self, standing: Standing) -> None:
        made = time.time()
        files: list[FileRow | None] = [None, None]
        if standing.facts is not None:
            files = [self._results(standing, standing.facts, kind, made) for kind in _KINDS]
        with self._closing:
            # First: who is told twice knows it again, who is never told waits.
            self._tell(standing)
            self.registry.close(standing.row.id, packed(standing.facts), *files)

    def _results(self, standing: Standing, facts: Facts, kind: str, made: float) -> FileRow | None:
        """A file of results, if there are any."""
        row, path = standing.row, Path(facts.output_dir) / kind
        try:
            size = path.stat().st_size
        except OSError:
            size = 0
        if not size:
            return None
        known = row.output_file if kind == OUTPUT else row.error_file
        end = _ERRORS_END if kind == ERRORS else _OUTPUT_END
        expires = None if row.output_expires_s is None else made + row.output_expires_s
        return FileRow(
            seq=0,
            id=known or new_id("file-", end),
            tenant=row.tenant,
            purpose="batch_output",
            filename=f"{row.id}_{'error' if kind == ERRORS else 'output'}.jsonl",
            bytes=size,
            created_at=made,
            expires_at=expires,
            batch=row.id,
        )


_KINDS = (OUTPUT, ERRORS)
_OUTPUT_END, _ERRORS_END = "o", "e"


def new_id(prefix: str, end: str = "") -> str:
    """A name that nobody guesses."""
    return f"{prefix}{secrets.token_hex(16)}{end}"
