"""What a command asks of a job: left for the coordinator, or done at once where none is at work."""

from __future__ import annotations

import time

from batch.coordinator import outputs
from batch.dialogue.terminal import say
from batch.language import _
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from jobs.errors import AlreadyRunning, UsageError
from jobs.states import ENDED, JobState, PauseReason

_PATIENCE_S = 15.0
_ALREADY = {"pause": (JobState.PAUSED, JobState.CANCELLING), "cancel": (JobState.CANCELLING,)}


def wish(home: Home, job_id: str, wanted: str) -> JobRow:
    """Has the job paused or cancelled; returns what it came to."""
    store = home.open(job_id)
    try:
        state = store.job().state
        if state in ENDED:
            raise UsageError(f"{job_id} is {state} already")
        if state not in _ALREADY[wanted]:
            try:
                # Held, so that no coordinator that comes meanwhile does the same at the same time.
                lock = home.lock(job_id)
            except AlreadyRunning:
                store.want(wanted)
                _wait(store)
            else:
                try:
                    _at_once(store, wanted)
                finally:
                    lock.release()
        return store.job()
    finally:
        store.close()


def _at_once(store: JobStore, wanted: str) -> None:
    if wanted == "pause":
        store.set_state(JobState.PAUSED, reason=PauseReason.USER, text="paused by the user")
        return
    store.set_state(JobState.CANCELLING)
    if not any(not chunk.lost for chunk in store.chunks.alive()):
        outputs.write(store)
        store.set_state(JobState.CANCELLED, now=time.time())


def _wait(store: JobStore) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while store.job().wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    if store.job().wanted:
        say(_("the coordinator has not picked it up yet, but will"))
