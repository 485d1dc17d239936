"""How a coordinator pauses a job."""

from __future__ import annotations

import logging
from datetime import datetime

from batch.store.jobstore import JobStore
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from jobs.states import JobState

log = logging.getLogger("nightshift.coordinator")


class Pauses:
    """Of one job."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._job = store.job().id

    def pause(
        self,
        reason: PauseReason,
        text: Message,
        *,
        goes_on_at: datetime | None = None,
        options: str = "",
        logged: str | None = None,
    ) -> None:
        """Pauses it, if it is in progress. `logged`: what the log says in place of the text."""
        paused = self._store.set_state(
            JobState.PAUSED,
            reason=reason,
            text=text,
            standing=JobState.IN_PROGRESS,
            goes_on_at=None if goes_on_at is None else goes_on_at.timestamp(),
            options=options,
        )
        if paused:
            log.info("%s paused: %s %s", self._job, reason, text if logged is None else logged)
