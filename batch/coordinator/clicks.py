"""What somebody clicked in Flower: the name of a command, and the code of what came of it.

`batch.flower.texts` has a sentence for each code.
"""

from __future__ import annotations

from datetime import UTC, datetime

from batch.store.jobstore import JobRow, JobStore
from jobs.commands import NAMED, Command
from jobs.lifecycle import Objected, Objection, decide

DONE = "done"


def heed(store: JobStore, name: str, *, waits: bool = False) -> str:
    """Carries it out; returns `DONE`, or why not. `waits`: something holds the job's calls up."""
    if name not in NAMED:
        return "unknown"
    try:
        moot = store.heed(NAMED[name], now=datetime.now(UTC), waits=waits)
    except Objected as error:
        return error.objection.code
    return moot[0].code if moot else DONE


def objection(job: JobRow, command: Command, *, waits: bool = False) -> str:
    """The code of why it would not be carried out as the job stands; empty if it would."""
    found = decide(job, command, datetime.now(UTC), waits=waits)
    return found.code if isinstance(found, Objection) else ""
