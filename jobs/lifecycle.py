"""The life of a job: what a pause means, what a command comes to, what time does to a job.

Pure: a job as it stands, a command or a moment in, a transition or an objection out. Whoever shows
a job, tells of it or changes it asks here. A new reason for a pause is a member of
`jobs.states.PauseReason` and its rule in `PAUSES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from jobs.commands import Cancel, Change, Command, Pause, Resume, Retry
from jobs.errors import UsageError
from jobs.spec import Spec
from jobs.states import ENDED, JobState, PauseReason
from jobs.window import parse_window


class Job(Protocol):
    """What is asked of a job here."""

    @property
    def state(self) -> JobState:
        """Where it stands."""

    @property
    def reason(self) -> str:
        """A `PauseReason` while it is paused, else ""."""

    @property
    def spec(self) -> Spec:
        """What is asked of it."""

    @property
    def left(self) -> int:
        """Requests without a result."""


@dataclass(frozen=True)
class Transition:
    """Where a job goes: its state; of a pause why, in a sentence, and until when, Unix seconds.

    `lifts`: what waits is tried at once.
    """

    state: JobState
    reason: PauseReason | None = None
    text: str = ""
    goes_on_at: float | None = None
    lifts: bool = False


@dataclass(frozen=True)
class Objection:
    """Why a command is not carried out. `is_moot`: it is so already, or comes by itself."""

    code: str
    text: str
    hint: str = ""
    is_moot: bool = False


class Objected(UsageError):
    """A command that a job as it stands does not allow."""

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.text, hint=objection.hint)
        self.objection = objection


OBJECTIONS: Mapping[str, Objection] = {
    each.code: each
    for each in (
        Objection("ended", "the job has already finished"),
        Objection("ending", "the job is finishing; it can no longer be changed", is_moot=True),
        Objection("paused_already", "the job is already paused", is_moot=True),
        Objection("running", "the job is already running", is_moot=True),
        Objection("nothing_left", "every request has a result; there is nothing left to send"),
        Objection("never_began", "the job was rejected and never started"),
        Objection("needs_budget", "the budget is used up"),
        Objection("needs_prices", "prices have risen"),
        Objection("needs_hours", "the job resumes by itself when its window opens", is_moot=True),
        Objection(
            "needs_deadline",
            "the deadline of the job has passed",
            hint='set a new one with --deadline 07:00, or remove it with --deadline ""',
        ),
    )
}

_WOULD_REST_AGAIN = {
    PauseReason.BUDGET_EXHAUSTED: "needs_budget",
    PauseReason.PRICE_RISE: "needs_prices",
}


def decide(
    job: Job, command: Command, now: datetime, *, waits: bool | None = None
) -> Transition | Objection:
    """What a command comes to at `now`. `waits`: whether something holds the calls of a job in
    progress up, such as a rate limit; None where nobody knows.
    """
    code = _objection(job, command, now, waits=waits)
    if code:
        return OBJECTIONS[code]
    match command:
        case Pause():
            return Transition(JobState.PAUSED, PauseReason.USER, command.text)
        case Cancel():
            return Transition(JobState.CANCELLING)
        case Resume():
            return Transition(JobState.IN_PROGRESS, lifts=True)
        case Retry() if job.state in ENDED:
            return Transition(JobState.IN_PROGRESS)
    return Transition(job.state)


def _objection(job: Job, command: Command, now: datetime, *, waits: bool | None) -> str:
    match command:
        case Pause():
            return _not_paused(job)
        case Cancel():
            return _not_cancelled(job)
        case Resume():
            return _not_resumed(job, command, now, waits=waits)
        case Retry() | Change():
            return "never_began" if job.state is JobState.FAILED else ""


def _not_paused(job: Job) -> str:
    if job.state is JobState.PAUSED and job.reason not in _PASSING:
        return "paused_already"
    return _not_cancelled(job)


def _not_cancelled(job: Job) -> str:
    if job.state in ENDED:
        return "ended"
    return "" if job.state in (JobState.IN_PROGRESS, JobState.PAUSED) else "ending"


def _not_resumed(job: Job, command: Resume, now: datetime, *, waits: bool | None) -> str:
    deadline = job.spec.deadline
    if job.state is JobState.FAILED:
        return "never_began"
    if deadline is not None and deadline <= now and job.left:
        return "needs_deadline"
    match job.state:
        case JobState.PAUSED if job.reason == PauseReason.WINDOW_CLOSED:
            return "" if _is_open(job.spec, now) else "needs_hours"
        case JobState.PAUSED if not command.mended and job.reason:
            return _WOULD_REST_AGAIN.get(PauseReason(job.reason), "")
        case JobState.IN_PROGRESS:
            return "running" if waits is False else ""
        case JobState.FINALIZING:
            return "ending"
        case state if state in ENDED and not job.left:
            return "nothing_left"
    return ""


_PASSING = frozenset({PauseReason.WINDOW_CLOSED})


def _is_open(spec: Spec, now: datetime) -> bool:
    return spec.window is None or parse_window(spec.window).contains(now.astimezone(UTC))
