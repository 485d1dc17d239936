"""The life of a job: what a command comes to, what time does to a job, how it ends, what helps.

Pure: a job as it stands, and a command or a moment, in; a transition or an objection out. Whoever
shows a job, tells of it or changes it asks here. What a pause means stands in
`jobs.states.PauseReason`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from jobs.errors import UsageError
from jobs.job_commands import Cancel, Change, Command, Pause, Resume, Retry
from jobs.job_options import Spec
from jobs.message import N_, NOTHING, Message, joined
from jobs.pause_reasons import Ends, PauseReason, Pausing, pausing
from jobs.stall import STALLED, Stalled, goes_on
from jobs.states import ENDED, JobState
from jobs.window import Window, parse_window

_AT_WORK = frozenset({JobState.IN_PROGRESS, JobState.PAUSED})
SCHEDULED = "scheduled"
"""How a paused job is shown that goes on by itself."""


class Met(Protocol):
    """Trouble of a job."""

    @property
    def code(self) -> str:
        """What it is about: `endpoint.blocked`, …"""


class Job(Protocol):
    """What is asked of a job here."""

    @property
    def id(self) -> str:
        """Its name among all jobs."""

    @property
    def state(self) -> JobState:
        """Where it stands."""

    @property
    def reason(self) -> str:
        """A `PauseReason` while it is paused, else ""."""

    @property
    def options(self) -> str:
        """Those that its pause says the command must have that goes on with it; "": the rule's."""

    @property
    def troubles(self) -> Sequence[Met]:
        """What it met, the last first."""

    @property
    def goes_on_at(self) -> float | None:
        """When a pause ends by itself, Unix seconds."""

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
    text: Message = NOTHING
    goes_on_at: float | None = None
    lifts: bool = False


@dataclass(frozen=True)
class Objection:
    """Why a command is not carried out. `is_moot`: it is so already, or comes by itself."""

    code: str
    text: Message
    hint: Message = NOTHING
    is_moot: bool = False


class Objected(UsageError):
    """A command that a job as it stands does not allow."""

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.text, hint=objection.hint)
        self.objection = objection


class Remedy(NamedTuple):
    """What helps a job that is paused: words that lead to a command, and the command."""

    words: Message
    command: str


OBJECTIONS: Mapping[str, Objection] = {
    each.code: each
    for each in (
        Objection("ended", N_("the job has already finished")),
        Objection("ending", N_("the job is finishing; it can no longer be changed"), is_moot=True),
        Objection("paused_already", N_("the job is already paused"), is_moot=True),
        Objection("running", N_("the job is already running"), is_moot=True),
        Objection("nothing_left", N_("every request has a result; there is nothing left to send")),
        Objection("never_began", N_("the job was rejected and never started")),
    )
} | {
    reason.rule.bars: Objection(
        reason.rule.bars, reason.rule.meaning, is_moot=reason.rule.ends is Ends.BY_ITSELF
    )
    for reason in PauseReason
    if reason.rule.bars
}
"""By their codes; the last ones are those of a resume that would be followed by the same pause."""


# ---- what is shown ------------------------------------------------------------------------------


def shown(state: str, reason: str, stall: Stalled | None = None) -> str:
    """The state that people are told: of a paused job whether it is `SCHEDULED`, or finishing; of
    one that stands still that it is `STALLED`.
    """
    if stall is not None:
        return STALLED
    if state != JobState.PAUSED:
        return state
    stands = {Ends.BY_ITSELF: SCHEDULED, Ends.WITH_THE_JOB: JobState.FINALIZING.value}
    return stands.get(pausing(reason).ends, state)


def needs_action(state: str, reason: str, stall: Stalled | None = None) -> bool:
    """Whether somebody must act who may not know it."""
    rests = state == JobState.PAUSED and pausing(reason).needs_action
    return stall is not None or rests


def is_at_rest(job: Job) -> bool:
    """Whether nothing more happens to the job until somebody does something."""
    return not goes_on(job.state, job.reason)


def remedy(job: Job) -> Remedy | None:
    """What helps a job that is paused, or whose deadline came first; None for any other."""
    rule = _rule(job)
    return None if rule is None else _remedy(rule, job)


def why_left(job: Job) -> str:
    """Why requests have no result: a clause, "" where the state says it."""
    rule = _rule(job)
    return "" if rule is None else rule.meaning


def is_cut_short(job: Job) -> bool:
    """Whether its deadline came before its end."""
    expires = job.state is JobState.PAUSED and job.reason == PauseReason.DEADLINE
    return bool(job.left) and (expires or job.state is JobState.EXPIRED)


def _rule(job: Job) -> Pausing | None:
    if is_cut_short(job):
        return PauseReason.DEADLINE.rule
    return pausing(job.reason) if job.state is JobState.PAUSED else None


# ---- commands -----------------------------------------------------------------------------------


def decide(
    job: Job, command: Command, now: datetime, *, waits: bool | None = None
) -> Transition | Objection:
    """What a command comes to at `now`. `waits`: whether something holds the calls of a job in
    progress up, such as a rate limit; None where nobody knows.
    """
    code = _objection(job, command, now, waits=waits)
    if code:
        return _objecting(code, job)
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


def _objecting(code: str, job: Job) -> Objection:
    """The objection, with the way out where a pause has one."""
    found = OBJECTIONS[code]
    rule = next((reason.rule for reason in PauseReason if reason.rule.bars == code), None)
    hint = joined(_remedy(rule, job), "\n  ") if rule else NOTHING
    return Objection(found.code, found.text, hint, found.is_moot)


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
    """A scheduled job is paused too: it is not to go on by itself."""
    ends = pausing(job.reason).ends if job.state is JobState.PAUSED else Ends.BY_ITSELF
    stands = {Ends.BY_SOMEBODY: "paused_already", Ends.WITH_THE_JOB: "ending"}
    return stands.get(ends) or _not_cancelled(job)


def _not_cancelled(job: Job) -> str:
    if job.state in ENDED:
        return "ended"
    return "" if job.state in _AT_WORK else "ending"


def _not_resumed(job: Job, command: Resume, now: datetime, *, waits: bool | None) -> str:
    if job.state is JobState.FAILED:
        return "never_began"
    if job.left and _is_over(job.spec, now):
        return PauseReason.DEADLINE.rule.bars
    match job.state:
        case JobState.PAUSED:
            return _barred(job, command, now)
        case JobState.IN_PROGRESS:
            return "running" if waits is False else ""
        case JobState.FINALIZING:
            return "ending"
    return "nothing_left" if job.state in ENDED and not job.left else ""


def _barred(job: Job, command: Resume, now: datetime) -> str:
    match job.reason:
        case PauseReason.WINDOW_CLOSED if _is_open(job.spec, now):
            return ""
        case PauseReason.DEADLINE:
            return ""  # it has another one by now
    rule = pausing(job.reason)
    is_seen_to = command.mended and rule.ends is not Ends.BY_ITSELF
    return "" if is_seen_to else rule.bars


def _remedy(rule: Pausing, job: Job) -> Remedy:
    is_its_own = job.state is JobState.PAUSED and pausing(job.reason) is rule
    rule = next((rule.cures[met.code] for met in job.troubles if met.code in rule.cures), rule)
    options = (job.options if is_its_own else "") or rule.options
    return Remedy(rule.cure, rule.command.format(job=job.id, options=options))


# ---- time, and the end --------------------------------------------------------------------------


def due(job: Job, now: datetime, *, caps_changed: bool = False) -> Transition | None:
    """What the hour does to a job, or that somebody changed the caps that it waits for."""
    if job.state not in _AT_WORK:
        return None
    if job.left and _is_over(job.spec, now) and job.reason != PauseReason.DEADLINE:
        text = N_("the deadline has passed; waiting for calls in flight")
        return Transition(JobState.PAUSED, PauseReason.DEADLINE, text)
    if job.state is JobState.IN_PROGRESS:
        return None if _is_open(job.spec, now) else _until_hours(job.spec, now)
    goes_on = job.goes_on_at is not None and job.goes_on_at <= now.timestamp()
    match job.reason:
        case PauseReason.WINDOW_CLOSED:
            goes_on = _is_open(job.spec, now)
        case PauseReason.CAP_REACHED:
            goes_on |= caps_changed
    return Transition(JobState.IN_PROGRESS) if goes_on else None


def ending(job: Job, *, is_out: bool, is_settled: bool) -> JobState | None:
    """What follows when calls have ended. `is_out`: something is with a worker or on its way to
    one; `is_settled`: nothing is, nor is any cost waited for.
    """
    match job.state:
        case JobState.IN_PROGRESS if not job.left and is_settled:
            return JobState.FINALIZING
        case JobState.FINALIZING:
            # A retry may have come while the files were written.
            return JobState.IN_PROGRESS if job.left else JobState.COMPLETED
        case JobState.CANCELLING if not is_out:
            return JobState.CANCELLED
        case JobState.PAUSED if job.reason == PauseReason.DEADLINE and not is_out:
            return JobState.EXPIRED if job.left else JobState.IN_PROGRESS
    return None


def _until_hours(spec: Spec, now: datetime) -> Transition | None:
    window = _window(spec)
    if window is None:
        return None
    opening = window.next_opening(now)
    text = N_("resumes at {opening}", opening=opening)
    at = opening.timestamp()
    return Transition(JobState.PAUSED, PauseReason.WINDOW_CLOSED, text, at)


def _is_over(spec: Spec, now: datetime) -> bool:
    return spec.deadline is not None and spec.deadline <= now


def _is_open(spec: Spec, now: datetime) -> bool:
    window = _window(spec)
    return window is None or window.contains(now)


def _window(spec: Spec) -> Window | None:
    return None if spec.window is None else parse_window(spec.window)
