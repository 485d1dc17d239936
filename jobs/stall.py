"""Whether a job that should move stands still, since when and why: one rule for all who look.

Pure. Onlookers differ in what they see: the coordinator knows its workers, whoever looks from
outside knows when the coordinator was last heard. Each fills in of `Signs` what it knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from jobs.message import N_, NOTHING, Message
from jobs.pause_reasons import Ends, Pausing, Ruled, pausing
from jobs.states import ENDED, JobState

STALLED = "stalled"
"""How a job is shown that stands still."""

SILENT_S = 5.0
"""A coordinator that is well tells how a job stands twice a second."""

UNMANNED_S = 6.0
"""A worker that is well tells of itself every other second."""

_BETWEEN_CALLS_S = 10.0
"""Between the end of the slowest call and the moment at which it is known."""


class Stall(Ruled):
    """Why nothing moves, though nobody paused the job. `rule` has what it means and what helps."""

    @property
    def is_deaf(self) -> bool:
        """Whether nobody is there who would hear a command from a page."""
        return self not in {Stall.NO_WORKER, Stall.NO_PROGRESS}

    COPIED = (
        "copied",
        Pausing(
            N_(
                "its data directory was copied or restored since it was last used: newer answers"
                " are not in it, are bought again and count towards no cap"
            ),
            N_(
                "lower the budget by what is missing (if it was only moved, there is nothing to"
                " do), then:"
            ),
            "nightshift resume {job}",
        ),
    )
    NO_COORDINATOR = (
        "no_coordinator",
        Pausing(
            N_("no coordinator is at work on it"),
            N_("continue with:"),
            "nightshift resume {job}",
        ),
    )
    REDIS_AWAY = (
        "redis_away",
        Pausing(N_("Redis does not answer"), N_("see what is wrong with it:"), "nightshift doctor"),
    )
    JOB_UNUSABLE = (
        "job_unusable",
        Pausing(
            N_("its files cannot be used"),
            N_("make them readable and writable again, or restore them from a backup; then:"),
            "nightshift resume {job}",
        ),
    )
    COORDINATOR_SILENT = (
        "coordinator_silent",
        Pausing(
            N_("no update from the coordinator for a while"),
            N_("look at its log and restart it:"),
            "nightshift coordinator",
        ),
    )
    NO_WORKER = (
        "no_worker",
        Pausing(N_("no worker for it is online"), N_("start one:"), "nightshift worker"),
    )
    NO_PROGRESS = (
        "no_progress",
        Pausing(
            N_("no call has ended for longer than a call may take"),
            N_("look at the workers' logs and restart them:"),
            "nightshift worker",
        ),
    )


class Stalled(msgspec.Struct, frozen=True):
    """Since when (Unix seconds), and what exactly is wrong, in English, where more is known."""

    reason: Stall
    since: float
    text: str = ""
    data: str = ""

    @property
    def said(self) -> Message:
        """What is wrong, for whoever shows it."""
        return Message.read(self.text, self.data) if self.text else self.reason.rule.meaning

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {"reason": self.reason.value, "since": self.since, "text": str(self.said)}


@dataclass(frozen=True, kw_only=True)
class Signs:
    """Since when something is missing that a job needs, Unix seconds; None: it is there, or this
    onlooker cannot tell. `is_copied`: nor has a coordinator worked on this copy of the home yet.
    `still_since` is when a call of it last ended, `slowest_s` how long one may take; `text` is what
    is known of a Redis that is away or of files that cannot be used.
    """

    uncoordinated_since: float | None = None
    is_copied: bool = False
    redis_away_since: float | None = None
    unusable_since: float | None = None
    silent_since: float | None = None
    unmanned_since: float | None = None
    unmanned_s: float = UNMANNED_S
    still_since: float | None = None
    slowest_s: float = 0.0
    text: Message = NOTHING


_AHEAD_S = 5.0
"""A sign may be noted after `now` was: by a moment, or by a worker's clock by a little more."""


def stalled(state: str, reason: str, signs: Signs, now: float) -> Stalled | None:
    """Of a job in this state, paused for this reason: what keeps it from going on; the root of it
    where several things do.
    """
    if not goes_on(state, reason):
        return None
    found: list[tuple[Stall, float | None, float]] = [
        (Stall.COPIED, signs.uncoordinated_since if signs.is_copied else None, 0.0),
        (Stall.NO_COORDINATOR, signs.uncoordinated_since, 0.0),
        (Stall.REDIS_AWAY, signs.redis_away_since, 0.0),
        (Stall.JOB_UNUSABLE, signs.unusable_since, 0.0),
        (Stall.COORDINATOR_SILENT, signs.silent_since, SILENT_S),
    ]
    if state == JobState.IN_PROGRESS:
        slowest_s = signs.slowest_s + _BETWEEN_CALLS_S
        found += [
            (Stall.NO_WORKER, signs.unmanned_since, signs.unmanned_s),
            (Stall.NO_PROGRESS, signs.still_since, slowest_s),
        ]
    for stall, since, patience_s in found:
        # What lies far ahead was noted before the clock was set back.
        if since is not None and not -_AHEAD_S < now - since < patience_s:
            has_text = stall in (Stall.REDIS_AWAY, Stall.JOB_UNUSABLE)
            text = signs.text if has_text else NOTHING
            return Stalled(stall, min(since, now), str(text), text.data)
    return None


def goes_on(state: str, reason: str) -> bool:
    """Whether something should happen to a job without anybody's doing."""
    rests = state == JobState.PAUSED and pausing(reason).ends is Ends.BY_SOMEBODY
    return state not in ENDED and not rests
