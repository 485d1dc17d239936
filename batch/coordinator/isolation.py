"""Jobs that cannot be worked on are let be for a while, and say why; the others go on."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from batch.coordinator.coordinator_heartbeat import Ailment
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.watching.latest_incidents import DISK, FAULT, Troubles
from jobs.errors import NightshiftError, ServiceUnavailable, StorageUnavailable, UsageError
from jobs.message import N_, NOTHING, Message
from jobs.states import ENDED

TROUBLE_S = 30.0
"""How long a job whose files are not usable is let be."""

log = logging.getLogger("nightshift.coordinator")


class Isolation:
    """Keeps the trouble of one job from the others; that of `only`, the one job of a foreground
    run, ends the command. `ailing` are those let be, and `drop` stops the work on one of them.
    """

    def __init__(
        self, home: Home, only: str | None, ailing: dict[str, Ailment], drop: Callable[[str], None]
    ) -> None:
        self._home = home
        self._only = only
        self._ailing = ailing
        self._drop = drop
        self._until: dict[str, float] = {}
        self._of_all = NOTHING
        self.troubles: dict[str, Troubles] = defaultdict(Troubles)
        """What troubled each job of late."""

    @contextmanager
    def apart(self, job_id: str) -> Iterator[None]:
        """What goes wrong in it concerns this job alone."""
        try:
            yield
        except (ServiceUnavailable, UsageError):
            raise
        except Exception as error:
            if self._only == job_id:
                self._tell(job_id, _sentence(error))
                raise _as_ours(error) from error
            self._let_be(job_id, error)

    def let_all_be(self, job_ids: Sequence[str], error: Exception) -> None:
        """None of them can be worked on: the home itself cannot be used."""
        text = _sentence(error)
        if text != self._of_all:
            self._of_all = text
            log.error(N_("{text}; no job goes on until then", text=text))
            log.debug("", exc_info=error)
        for job_id in job_ids:
            self._ailing.setdefault(job_id, Ailment(str(text), time.time(), text.data))
            self._let_be(job_id, error)

    def lets_be(self, job_id: str) -> bool:
        """Whether it is not its time yet to be tried again."""
        return self._until.get(job_id, 0.0) > time.monotonic()

    def forgive(self, job_id: str) -> bool:
        """It is well again; whether it was let be before."""
        return self._until.pop(job_id, None) is not None

    def recovered(self, job_id: str, store: JobStore) -> None:
        """A job could be worked on: nothing ails it any more."""
        if self.forgive(job_id):
            self._ailing.pop(job_id, None)
            if store.job().state not in ENDED:
                store.tell(NOTHING)

    def _let_be(self, job_id: str, error: Exception) -> None:
        self._until[job_id] = time.monotonic() + TROUBLE_S
        text = _sentence(error)
        self.troubles[job_id].meet(DISK if _is_of_disk(error) else FAULT, time.time())
        before = self._ailing.get(job_id)
        if before is None or before.text != text:
            log.error(N_("{job}: {text}; the other jobs go on", job=job_id, text=text))
            log.debug("", exc_info=error)
            since = before.since if before else time.time()
            self._ailing[job_id] = Ailment(str(text), since, text.data)
        self._tell(job_id, text)
        self._drop(job_id)

    def _tell(self, job_id: str, text: Message) -> None:
        """The job says what is wrong with it, if that much can be written."""
        with suppress(Exception), closing(self._home.open(job_id)) as store:
            store.tell(text)


def _sentence(error: Exception) -> Message:
    """What is wrong, for the user; of a fault of our own the kind: its text may hold a prompt."""
    if isinstance(error, NightshiftError):
        return error.message
    if _is_of_disk(error):
        return N_("the job's files cannot be used: {why}", why=error)
    return N_("internal error ({kind})", kind=type(error).__name__)


def _is_of_disk(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error | OSError | StorageUnavailable)


def _as_ours(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error | OSError):
        return StorageUnavailable(
            _sentence(error), hint=N_("fix the problem, then: nightshift resume JOB")
        )
    return error
