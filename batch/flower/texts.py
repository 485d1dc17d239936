"""What the Jobs page says: states, reasons, errors, figures, and what came of a click."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

from batch import language
from batch.coordinator import clicks
from batch.flower.status_reader import Job
from batch.language import _, again, capital, day, decimal, money, ngettext, number
from batch.reports.page import visible
from batch.watching import bounds, trouble, waiting
from jobs.lifecycle import OBJECTIONS, SCHEDULED, shown
from jobs.stall import STALLED
from jobs.states import JobState, PauseReason, pausing

MOST_CODES = 20

__all__ = ["money", "number"]


@cache
def _states() -> dict[str, str]:
    return {
        JobState.VALIDATING: _("Validating"),
        JobState.IN_PROGRESS: _("Running"),
        JobState.PAUSED: _("Paused"),
        SCHEDULED: _("Scheduled"),
        STALLED: _("Stalled"),
        JobState.FINALIZING: _("Finishing"),
        JobState.COMPLETED: _("Completed"),
        JobState.CANCELLING: _("Cancelling"),
        JobState.CANCELLED: _("Cancelled"),
        JobState.FAILED: _("Refused"),
        JobState.EXPIRED: _("Expired"),
    }


@cache
def _answers() -> dict[str, str]:
    return {
        clicks.DONE: _("Done."),
        "trouble": _("The job's files cannot be used; the coordinator's log tells more."),
        "nobody": _(
            "No coordinator works on this job now. Start one where the job's home is:"
            " nightshift coordinator"
        ),
        "silent": _("The coordinator did not respond; the action was withdrawn."),
        "slow": _("The coordinator has received the request but has not completed it yet."),
        "looking": _("This page is read-only."),
        "away": _("Redis does not answer."),
        "no_job": _("There is no such job."),
        "unknown": _("That cannot be done to a job."),
    }


# ---- a job --------------------------------------------------------------------------------------


def state(job: Job) -> str:
    """`Running`, `Paused`, `Scheduled`, …"""
    stands = shown(job.state, job.reason, job.stall)
    return _states().get(stands, stands)


def kind(name: str) -> str:
    """How a list of jobs is called."""
    titles = {
        "all": _("All"),
        "running": _("Running"),
        "paused": _("Paused"),
        "ended": _("Finished"),
    }
    return titles[name]


def reason(job: Job) -> str:
    """Why a job rests, or what troubles it; of one that stands still also since when."""
    if job.stall:
        told = _("{trouble}, since {moment}")
        return told.format(trouble=visible(again(job.stall.said)), moment=moment(job.stall.since))
    if job.rests and job.reason:
        short, said = _(pausing(job.reason).meaning), visible(again(job.reason_text))
        return f"{short}: {said}" if said and not pausing(job.reason).is_wanted else short
    if job.runs and job.wait:
        return visible(waiting.told(job.wait))
    if job.reason_text:
        return visible(again(job.reason_text))
    if job.runs and job.down:
        return _("the endpoint is down, retrying")
    if job.runs and job.workers == 0:
        return _("waiting for a worker")
    return ""


@dataclass(frozen=True)
class Button:
    """What can be clicked; `ask` is asked before."""

    wish: str
    name: str
    look: str
    ask: str = ""


def wishes(job: Job) -> list[Button]:
    """The buttons of a job: what is possible. What else helps is told by `help_for`."""
    if job.stall and job.stall.reason.is_deaf:
        return []
    cannot = job.objections
    found = []
    if not cannot.get("pause", "-"):
        found.append(Button("pause", _("Pause"), "btn-outline-secondary"))
    if not cannot.get("resume", "-"):
        ask = _("Resume this job? The remaining requests will be sent and paid for.")
        asked = job.ended or job.reason == PauseReason.SAMPLED
        button = Button("resume", _("Resume"), "btn-outline-primary", ask if asked else "")
        found.append(button)
    if not cannot.get("cancel", "-"):
        ask = _(
            "Cancel this job? Calls in flight finish, answers received are kept, the"
            " rest is not sent."
        )
        found.append(Button("cancel", _("Cancel"), "btn-outline-danger", ask))
    return found


def help_for(job: Job) -> tuple[str, str] | None:
    """What must be done by hand, if a button does not do: words, and a command."""
    if job.stall:
        return _(job.stall.reason.rule.cure), job.remedy
    is_barred = bool(job.objections.get("resume"))
    if not job.rests or not job.remedy or not (job.needs_action or is_barred):
        return None
    return _(pausing(job.reason).cure), job.remedy


def facts(job: Job) -> list[tuple[str, str]]:
    """(what, figure): what does not change often, and what is seldom there."""
    limits = [
        _("{n} requests/min").format(n=number(job.rpm)) if job.rpm else "",
        _("{n} tokens/min").format(n=number(job.tpm)) if job.tpm else "",
        _("{n} concurrent calls").format(n=number(job.max_in_flight)) if job.max_in_flight else "",
    ]
    late = job.runs and job.lag_s >= 5
    forecast = None if job.ended else job.forecast_rub
    told = [
        (_("Submitted"), full(job.created_at)),
        (_("Batch"), visible(", ".join(filter(None, (job.origin or {}).values())))),
        (_("Started"), full(job.started_at) if job.started_at else ""),
        (_("Finished"), full(job.ended_at) if job.ended_at else ""),
        (_("Bound by"), capital(bounds.told(job.bound, job.job)) if job.bound else ""),
        (_("Tokens"), number(job.tokens)),
        (_("Paid calls"), number(job.calls)),
        (_("Retried calls"), number(job.refusals)),
        (_("Last problem"), _trouble(job)),
        (_("Lines skipped"), number(job.invalid) if job.invalid else ""),
        (_("Estimate"), "" if job.likely_rub is None else money(job.likely_rub)),
        (_("Forecast"), "" if forecast is None else money(forecast)),
        (_("Limits"), ", ".join(filter(None, limits))),
        (_("Hours"), visible(job.window or "")),
        (_("Deadline"), full(job.deadline) if job.deadline else ""),
        (_("Oldest undelivered result"), duration(job.lag_s) if late else ""),
    ]
    return [(name, text) for name, text in told if text]


def _trouble(job: Job) -> str:
    last = job.trouble
    if last is None:
        return ""
    now = time.time()
    return trouble.told(last, now, duration(now - last.at))


# ---- parts of sentences -------------------------------------------------------------------------


def of(whole: object) -> str:
    """Behind a part."""
    return _("of {n}").format(n=whole)


def failed(count: int) -> str:
    """So many requests."""
    return _("{n} failed").format(n=number(count))


def still(count: int) -> str:
    """Requests without a result."""
    return _("{n} left").format(n=number(count))


def workers(count: int) -> str:
    """So many of them."""
    told = ngettext("{n} worker", "{n} workers", count).format(n=number(count))
    return told.replace(" ", "\N{NO-BREAK SPACE}")


def refusals(count: int) -> str:
    """So many of them."""
    return ngettext("{n} retried call", "{n} retried calls", count).format(n=number(count))


def limit(count: int) -> str:
    """What the endpoint bears."""
    return _("limit found: {n}").format(n=number(count))


def uncertain(rub: Decimal) -> str:
    """What may have been spent beside."""
    return _("up to {n} unconfirmed").format(n=money(rub))


def needy(count: int) -> str:
    """Jobs that somebody must look after."""
    return ngettext("{n} needs action", "{n} need action", count).format(n=number(count))


def paused(count: int) -> str:
    """So many jobs."""
    return _("{n} paused").format(n=number(count)) if count else _("none paused")


def end(job: Job) -> str:
    """When it will be done, as far as can be told."""
    done = job.done_at or (job.at + job.left_s if job.left_s else None)
    if done is None:
        return ""
    late = _("after the deadline")
    return f"≈ {moment(done)}" + (f", {late}" if job.late else "")


def left(seconds: float) -> str:
    """Until the end."""
    return _("{n} left").format(n=duration(seconds))


def taken(seconds: float) -> str:
    """From its beginning to its end."""
    return _("took {n}").format(n=duration(seconds))


def code(name: str) -> str:
    """What an error is about."""
    return trouble.meaning(name)


def most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent first."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MOST_CODES]


def answer(code: str, job: Job | None = None) -> str:
    """What came of a click, and what helps where it could not be done."""
    if code not in OBJECTIONS:
        return _answers().get(code, _answers()["unknown"])
    told = capital(_(OBJECTIONS[code].text))
    found = help_for(job) if job else None
    return " ".join((told, *found)) if found else told


def rate(per_second: float) -> str:
    """Requests per second, or per minute where there are few; empty where there are none."""
    if per_second >= 1:
        return _("{n}/s").format(n=decimal(per_second, 1))
    return _("{n}/min").format(n=decimal(per_second * 60, 1)) if per_second > 0 else ""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`; it is not broken."""
    return _length(max(round(seconds), 0)).replace(" ", "\N{NO-BREAK SPACE}")


def _length(whole: int) -> str:
    if whole < 60:
        return _("{seconds} s").format(seconds=whole)
    if whole < 3600:
        return _("{minutes} min").format(minutes=whole // 60)
    if whole < 24 * 3600:
        return _("{hours} h {minutes} min").format(hours=whole // 3600, minutes=whole % 3600 // 60)
    return _("{days} d {hours} h").format(days=whole // 86400, hours=whole % 86400 // 3600)


def moment(seconds: float) -> str:
    """A moment in this machine's zone, as short as it can be understood."""
    age = abs(time.time() - seconds)
    if age < 12 * 3600:
        return f"{local(seconds):%H:%M}"
    return language.moment(local(seconds)) if age < 200 * 86400 else day(local(seconds))


def full(seconds: float) -> str:
    """A moment, whole."""
    return f"{day(local(seconds))} {local(seconds):%H:%M:%S}"


def local(seconds: float) -> datetime:
    """A moment in this machine's zone."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), 4e9), UTC).astimezone()
