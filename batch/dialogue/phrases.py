"""How a job stands, in words: one line of it, its state, what it spent, what troubled it last."""

from __future__ import annotations

import time
from datetime import datetime

from batch.dialogue.terminal import duration, safe
from batch.language import _, again, decimal, moment, money, ngettext, number
from batch.watching.progress import Progress
from batch.watching.trouble import told
from jobs.states import JobState

STOPPING = "stopping"
"""Shown in place of the state while a command that was interrupted lets its calls end."""


def sentence(progress: Progress, columns: int | None = None) -> str:
    """One moment of a job in one line; what matters least is left out where room is short."""
    parts = [(rank, text) for rank, text in _parts(progress) if text]
    while columns and len(parts) > 1 and len(_joined(parts)) > columns:
        parts.remove(max(parts))
    return _joined(parts)


def _joined(parts: list[tuple[int, str]]) -> str:
    return " · ".join(text for _, text in parts)


def _parts(progress: Progress) -> list[tuple[int, str]]:
    """(rank, text), as they stand in the line; the highest rank goes first."""
    left = progress.left_s
    moving = progress.state in (JobState.IN_PROGRESS, STOPPING)
    soon = left if left and left >= 1 and moving and not progress.down else None
    rate = decimal(progress.rate, 1) if progress.rate and moving else ""
    return [
        (0, f"{number(progress.finished)}/{number(progress.requests)}"),
        (1, note(progress)),
        (2, failed(progress.failed) if progress.failed else ""),
        (6, _("{rate}/s").format(rate=rate) if rate else ""),
        (4, _("{time} left").format(time=duration(soon)) if soon else ""),
        (4, _done_at(progress)),
        (3, _spent(progress)),
        (5, _("up to {rub} more").format(rub=money(progress.booked)) if progress.booked else ""),
        (5, _in_flight(progress.in_flight) if progress.in_flight and moving else ""),
        (7, _in_all(progress)),
        (8, _refusals(progress.refusals) if progress.refusals else ""),
    ]


def failed(count: int) -> str:
    """`3 failed`."""
    return ngettext("{count} failed", "{count} failed", count).format(count=number(count))


def _in_flight(count: int) -> str:
    return ngettext("{count} in flight", "{count} in flight", count).format(count=number(count))


def _refusals(count: int) -> str:
    return ngettext("{count} refusal", "{count} refusals", count).format(count=number(count))


_SOON_S = 600.0
"""What ends sooner is told by its length alone."""


def _done_at(progress: Progress) -> str:
    """By the clock, when the job will be done."""
    if progress.done_at is None or progress.down:
        return ""
    when = datetime.fromtimestamp(progress.done_at).astimezone()
    if progress.late:
        return _("not before the deadline; it would be {moment}").format(moment=moment(when))
    left = progress.done_at - time.time()
    if left < _SOON_S:
        return ""
    if left < _DAY_S:
        return _("done about {clock}").format(clock=f"{when:%H:%M}")
    return _("done about {clock}").format(clock=moment(when))


_DAY_S = 20 * 3600.0


def _in_all(progress: Progress) -> str:
    if progress.forecast is None or progress.state not in _GOING:
        return ""
    return _("likely {rub} in all").format(rub=money(progress.forecast))


_GOING = (JobState.IN_PROGRESS, JobState.PAUSED)


def state_word(state: str) -> str:
    """A job's state in the reader's language."""
    return {
        "validating": _("validating"),
        "in_progress": _("in_progress"),
        "paused": _("paused"),
        "finalizing": _("finalizing"),
        "completed": _("completed"),
        "cancelling": _("cancelling"),
        "cancelled": _("cancelled"),
        "failed": _("refused"),
        "expired": _("expired"),
        STOPPING: _("stopping"),
    }.get(state, state)


def reason_word(reason: str) -> str:
    """Why a job is paused, in the reader's language."""
    return {
        "budget_exhausted": _("budget_exhausted"),
        "insufficient_balance": _("insufficient_balance"),
        "key_rejected": _("key_rejected"),
        "endpoint_down": _("endpoint_down"),
        "window_closed": _("window_closed"),
        "price_rise": _("price_rise"),
        "sampled": _("sampled"),
        "deadline": _("deadline"),
        "misconfigured": _("misconfigured"),
        "user": _("user"),
    }.get(reason, reason)


def note(progress: Progress) -> str:
    """Why nothing moves, if nothing does."""
    if progress.state == JobState.PAUSED:
        return safe(again(progress.reason_text))
    if progress.state != JobState.IN_PROGRESS:
        return ""
    if progress.workers == 0:
        return _("waiting for a worker")
    if progress.down:
        return _("endpoint down, trying again")
    if progress.booked and progress.finished == progress.requests:
        return _("asking what the last calls cost")
    return ""


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
    if progress.booked:
        more = _("up to {rub} more uncertain").format(rub=money(progress.booked))
        text += f" ({more})"
    return text
