"""What somebody clicked in Flower: a command by its name, and the code of what came of it.

`batch.flower.page_texts` has a sentence for each code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from batch.coordinator.redis.flower_inbox import Wish
from batch.store.jobstore import JobRow, JobStore
from batch.store.resume_counts import failed_by_code
from jobs.errors import UsageError
from jobs.job_commands import NAMED, Change, Command, Resume, Retry
from jobs.lifecycle import Objected, Objection, decide
from jobs.money import parse_amount
from jobs.pause_reasons import PauseReason
from jobs.priority import parse_share
from jobs.states import JobState

DONE = "done"
RETRY, CHANGE = "retry", "change"
REST_FIRST = "rest_first"
PLAN, READ = "plan", "read"
"""Questions: what retries would cost, and a piece of a file."""

BUDGET, PRIORITY, IN_FLIGHT, WINDOW = "budget_rub", "priority", "max_in_flight", "window"
"""Settings of a job that can be changed by a click."""


def heed(store: JobStore, wish: Wish, *, waits: bool = False) -> str:
    """Carries it out; returns `DONE`, or why not. `waits`: something holds the job's calls up."""
    job = store.job()
    code = objections(job, waits=waits).get(wish.wish, "unknown")
    if wish.wish not in NAMED and code:
        return code
    try:
        commands = _commands(store, job, wish)
        moot = store.heed(*commands, now=datetime.now(UTC), waits=waits)
    except Objected as error:
        return error.objection.code
    except (UsageError, ValueError):
        return "bad_value"
    # A job that was given a budget may have gone on by itself.
    return moot[0].code if moot and wish.wish in NAMED else DONE


def objections(job: JobRow, *, waits: bool = False) -> dict[str, str]:
    """By command the code of why it would not be carried out as things stand; "": it would."""
    found = {name: _objection(job, command, waits=waits) for name, command in NAMED.items()}
    found[RETRY] = _retry_objection(job)
    found[CHANGE] = "ended" if job.ended else _objection(job, Change(), waits=waits)
    return found


def _retry_objection(job: JobRow) -> str:
    """A retry brings a job that is over back, and its deadline would end it again."""
    if not job.failed:
        return "nothing_failed"
    if job.state is JobState.CANCELLING:
        return "ending"
    with_more = replace(job, completed=0, failed=0)
    bars = PauseReason.DEADLINE.rule.bars
    if _objection(with_more, Resume(mended=True), waits=False) == bars:
        return bars
    # It would bring back what was never sent, too, and nobody was told what that costs.
    return REST_FIRST if job.ended and job.left else ""


def _objection(job: JobRow, command: Command, *, waits: bool) -> str:
    found = decide(job, command, datetime.now(UTC), waits=waits)
    return found.code if isinstance(found, Objection) else ""


def _commands(store: JobStore, job: JobRow, wish: Wish) -> tuple[Command, ...]:
    if wish.wish == RETRY:
        return (Retry(wish.codes or tuple(failed_by_code(store.db))),)
    if wish.wish != CHANGE:
        return (NAMED[wish.wish],)
    change = change_of(wish.figures)
    rub = change.budget.get("rub")
    if rub is not None and rub < job.settled_rub:
        raise ValueError(rub)
    waited_for = job.state is JobState.PAUSED and job.reason == PauseReason.BUDGET_EXHAUSTED
    return (change, Resume(mended=True)) if rub is not None and waited_for else (change,)


def change_of(figures: Mapping[str, str]) -> Change:
    """Settings as text, made a command; `ValueError` for one that no job can have."""
    found = {name: _READ[name](text.strip()) for name, text in figures.items() if name in _READ}
    return Change(
        limits={IN_FLIGHT: found[IN_FLIGHT]} if IN_FLIGHT in found else {},
        budget={"rub": found[BUDGET]} if BUDGET in found else {},
        fields={name: found[name] for name in (PRIORITY, WINDOW) if name in found},
    )


_READ: Mapping[str, Any] = {
    BUDGET: parse_amount,
    PRIORITY: parse_share,
    IN_FLIGHT: lambda text: int(text) if text else None,
    WINDOW: lambda text: text or None,
}
