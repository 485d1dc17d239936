"""What a command asks of a job: left for the coordinator, or done at once where none is at work."""

from __future__ import annotations

import time

from batch.home import Home
from batch.store.jobstore import JobStore
from batch.terminal import say
from jobs.errors import UsageError
from jobs.states import ENDED, JobState, PauseReason

_PATIENCE_S = 15.0


def wish(home: Home, job_id: str, wanted: str) -> JobState:
    """Has the job paused or cancelled; returns the state it came to."""
    store = home.open(job_id)
    try:
        state = store.job().state
        if state in ENDED:
            raise UsageError(f"{job_id} is {state} already")
        if not home.is_coordinated():
            return _at_once(store, wanted)
        store.want(wanted)
        return _wait(store)
    finally:
        store.close()


def _at_once(store: JobStore, wanted: str) -> JobState:
    if wanted == "pause":
        store.set_state(JobState.PAUSED, reason=PauseReason.USER, text="paused by the user")
    else:
        store.set_state(JobState.CANCELLING)
        if not store.open_chunks():
            store.set_state(JobState.CANCELLED, now=time.time())
    return store.job().state


def _wait(store: JobStore) -> JobState:
    deadline = time.monotonic() + _PATIENCE_S
    while store.job().wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    if store.job().wanted:
        say("the coordinator has not heard of it yet; it will")
    return store.job().state
