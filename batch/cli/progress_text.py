"""How a job stands, in words: one line of it, its state, what it spent, what troubled it last."""

from __future__ import annotations

import time

from batch.cli.terminal import cells, duration, safe
from batch.language import _, clock, decimal, exact, minute, money, ngettext, number, zoned
from batch.money.uncertain_cost_texts import uncertain
from batch.store.chunks import Lost
from batch.store.jobstore import JobRow
from batch.watching import bottleneck_summary, wait_reasons
from batch.watching import staleness as attentions
from batch.watching.latest_incidents import told
from batch.watching.progress import Progress
from jobs.lifecycle import SCHEDULED, shown
from jobs.pause_reasons import pausing
from jobs.stall import STALLED
from jobs.states import JobState

STOPPING = "stopping"
"""Shown in place of the state while workers that end let their calls end."""


def sentence(progress: Progress) -> str:
    """One moment of a job in one line."""
    return _BETWEEN.join(_parts(progress))


def lines(progress: Progress, columns: int, first: int) -> list[str]:
    """The same in lines of so many columns, of which the first one has fewer."""
    start, *rest = _parts(progress)
    found, room = [start], first
    for part in rest:
        joined = f"{found[-1]}{_BETWEEN}{part}"
        if cells(joined) <= room:
            found[-1] = joined
        else:
            found.append(part)
            room = columns
    return found


_BETWEEN = " · "


def _parts(progress: Progress) -> list[str]:
    left = progress.left_s
    moving = progress.state in _MOVING
    soon = left if left and left >= 1 and is_moving(progress) else None
    rate = decimal(progress.rate, 1) if progress.rate and moving else ""
    # Workers tell of it every other second: of the last answers it comes too late.
    flies = moving and progress.attention is None and progress.finished < progress.requests
    flying = progress.in_flight if flies else 0
    parts = [
        f"{number(progress.finished)}/{number(progress.requests)}",
        note(progress),
        failed(progress.failed) if progress.failed else "",
        _cut_off(progress.truncated) if progress.truncated else "",
        _("{rate}/s").format(rate=rate) if rate else "",
        _("{time} left").format(time=duration(soon)) if soon else "",
        _done_at(progress),
        _spent(progress),
        uncertain(progress.unknown, progress.unbounded, progress.booked),
        _in_flight(flying) if flying else "",
        in_all(progress),
        _refusals(progress.refusals) if progress.refusals else "",
    ]
    return [part for part in parts if part]


def is_moving(progress: Progress) -> bool:
    """Whether there is a time left to tell of."""
    moves = progress.state in _MOVING and not progress.down
    return moves and progress.stall is None


_MOVING = (JobState.IN_PROGRESS, JobState.CANCELLING)


def failed(count: int) -> str:
    """`3 failed`."""
    return ngettext("{count} failed", "{count} failed", count).format(count=number(count))


def _cut_off(count: int) -> str:
    return ngettext("{count} cut off", "{count} cut off", count).format(count=number(count))


def _in_flight(count: int) -> str:
    return ngettext("{count} in flight", "{count} in flight", count).format(count=number(count))


def _refusals(count: int) -> str:
    return ngettext("{count} retried call", "{count} retried calls", count).format(
        count=number(count)
    )


_SOON_S = 600.0
"""What ends sooner is told by its length alone."""


def _done_at(progress: Progress) -> str:
    """By the clock, when the job will be done."""
    if progress.done_at is None or progress.down:
        return ""
    if progress.late:
        told = _("will miss the deadline; expected {moment}")
        return told.format(moment=zoned(progress.done_at))
    if progress.done_at - time.time() < _SOON_S:
        return ""
    return _("done at about {clock}").format(clock=minute(progress.done_at))


def in_all(progress: Progress) -> str:
    """What all of the job will have cost, as far as that can be told."""
    if progress.forecast is None or progress.state not in _GOING or progress.stopping:
        return ""
    return _("projected total {rub}").format(rub=money(progress.forecast))


_GOING = (JobState.IN_PROGRESS, JobState.PAUSED)


def state_word(state: str) -> str:
    """A job's state in the reader's language."""
    return {
        "validating": _("validating"),
        "in_progress": _("in_progress"),
        "paused": _("paused"),
        SCHEDULED: _("scheduled"),
        STALLED: _("stalled"),
        "finalizing": _("finalizing"),
        "completed": _("completed"),
        "cancelling": _("cancelling"),
        "cancelled": _("cancelled"),
        "failed": _("refused"),
        "expired": _("expired"),
        STOPPING: _("stopping"),
    }.get(state, state)


def shown_state(progress: Progress) -> str:
    """How a job stands, in one word."""
    word = shown(progress.state, progress.reason, progress.stall)
    return state_word(STOPPING if progress.stopping and not progress.stall else word)


def standing_of(progress: Progress) -> str:
    """How a job stands, and why; of one that stands still, that it does."""
    if stall := progress.stall:
        return f"{state_word(STALLED)} ({_(stall.reason.rule.meaning)})"
    if progress.stopping:
        return state_word(STOPPING)
    return standing(progress.state, progress.reason)


def standing(state: str, reason: str) -> str:
    """`paused (the budget is used up)`: how a job stands, and why, as people are told."""
    word = state_word(shown(state, reason))
    return f"{word} ({_(pausing(reason).meaning)})" if reason else word


def note(progress: Progress) -> str:
    """Why nothing moves, if nothing does."""
    if progress.stall:
        return stall_line(progress)
    if progress.state == JobState.PAUSED:
        return safe(_(progress.reason_text))
    if progress.state != JobState.IN_PROGRESS or progress.stopping:
        return ""
    if progress.workers == 0:
        return _("waiting for a worker")
    if progress.wait:
        return safe(wait_reasons.told(progress.wait, progress.wait.told))
    if progress.down:
        return _("endpoint down, retrying")
    if progress.booked and progress.finished == progress.requests:
        return _("looking up the cost of the last calls")
    return ""


def stall_line(progress: Progress) -> str:
    """What keeps a job from going on, since when, and how old what is shown of it is; or ""."""
    stall, found, now = progress.stall, progress.attention, time.time()
    if stall is None:
        return ""
    if found is not None:
        return safe(attentions.told(found, duration(found.age_s(now))))
    told = _("{trouble}, since {moment}")
    return safe(told.format(trouble=_(stall.said), moment=clock(stall.since)))


def bound_line(progress: Progress) -> str:
    """What its requests wait for most, and what would help; "" where nothing holds them up."""
    return bottleneck_summary.told(progress.bound, progress.job) if progress.bound else ""


def way_out(progress: Progress) -> str:
    """What helps a job that stands still, and the command."""
    if progress.stall is None:
        return ""
    return f"{_(progress.stall.reason.rule.cure)} {progress.remedy}"


def _spent(progress: Progress) -> str:
    spent = money(progress.spent)
    if progress.budget is None:
        return spent
    return _("{spent} of {budget}").format(spent=spent, budget=money(progress.budget))


def last_trouble(progress: Progress) -> str:
    """What went wrong last, how often and how long ago; "" if nothing is known to have."""
    trouble = progress.trouble
    if trouble is None:
        return ""
    now = time.time()
    return told(trouble, now, duration(max(now - trouble.at, 0.0)))


def spending(progress: Progress) -> str:
    """Spent, of how much, and how much more it may be."""
    text = _spent(progress)
    more = uncertain(progress.unknown, progress.unbounded, progress.booked)
    return f"{text} ({more})" if more else text


def cost_line(job: JobRow) -> str:
    """What a job cost: exactly only where the endpoint told the cost of every call."""
    rub, more = money(job.settled_rub), uncertain(job.unknown, job.unbounded, job.booked_rub)
    if more:
        return _("cost at least {rub}; {more}").format(rub=rub, more=more)
    return _("cost {rub} (exactly {exact} ₽)").format(rub=rub, exact=exact(job.settled_rub))


def lost_line(lost: Lost) -> str:
    """What workers that fell silent may have spent beside; "" if there are none."""
    if not lost.chunks or lost.rub == 0:
        return ""
    if lost.rub is None:
        return _("lost workers may have spent more")
    return _("lost workers may have spent {rub} more").format(rub=money(lost.rub))
