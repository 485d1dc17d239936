"""What the Jobs page says: states, reasons, errors, figures, and what came of a click."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from batch import language
from batch.coordinator import flower_commands
from batch.flower.status_reader import Job
from batch.language import (
    _,
    capital,
    day,
    decimal,
    local,
    money,
    ngettext,
    number,
    size,
    zone_key,
    zone_name,
)
from batch.reports.page import visible
from batch.store.events import Event
from batch.watching import bottleneck_summary, event_text, latest_incidents, wait_reasons
from batch.watching.bottleneck_summary import BoundBy
from jobs.lifecycle import OBJECTIONS, SCHEDULED, shown
from jobs.money import ZERO, plain, rounded_up, subtract, total
from jobs.pause_reasons import PauseReason, pausing
from jobs.priority import NAMED
from jobs.stall import STALLED
from jobs.states import JobState

MOST_CODES = 20

__all__ = ["local", "money", "number", "plain", "size", "zone_key", "zone_name"]


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


def _answers() -> dict[str, str]:
    return {
        flower_commands.DONE: _("Done."),
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
        "nothing_failed": _("No request of this job has failed."),
        flower_commands.REST_FIRST: _("Requests of this job were never sent: resume it first."),
        "bad_value": _("A job cannot have this value; a budget cannot be less than what is spent."),
        "unchanged": _("Nothing was changed."),
        "unknown_file": _("This job has no such file here."),
        "no_file": _("The file cannot be read: it is gone, or no coordinator is there to send it."),
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
        return told.format(
            trouble=visible(_(job.said(job.stall.said))), moment=moment(job.stall.since)
        )
    if job.rests and job.reason:
        short, said = _(pausing(job.reason).meaning), visible(_(job.said(job.reason_text)))
        return f"{short}: {said}" if said and not pausing(job.reason).is_wanted else short
    if job.runs and job.wait:
        return visible(wait_reasons.told(job.wait, job.said(job.wait.said)))
    if job.reason_text:
        return visible(_(job.said(job.reason_text)))
    if job.runs and job.down:
        return _("the endpoint is down, retrying")
    if job.runs and job.workers == 0:
        return _("waiting for a worker")
    return ""


@dataclass(frozen=True)
class Button:
    """What can be clicked. `ask` is asked before, where `yes` is how its answer is called; `form`
    is the name of a form that is filled in before.
    """

    wish: str
    name: str
    look: str
    ask: str = ""
    yes: str = ""
    form: str = ""


def called(job: Job) -> str:
    """A job's name, within a sentence."""
    return visible(job.name) or job.job


def _is_possible(job: Job, wish: str) -> bool:
    """Whether a click would be heard, and carried out."""
    is_deaf = job.stall is not None and job.stall.reason.is_deaf
    return job.coordinated and not is_deaf and not job.objections.get(wish, "-")


def wishes(job: Job) -> list[Button]:
    """The buttons of a job in a list: what is possible. What else helps is told by `help_for`."""
    name, found = called(job), []
    if _is_possible(job, "pause"):
        found.append(Button("pause", _("Pause"), "btn-outline-secondary"))
    if _is_possible(job, "resume"):
        ask = _("Resume {job}? The remaining requests will be sent and paid for.").format(job=name)
        asked = job.ended or job.reason == PauseReason.SAMPLED
        look, yes = "btn-outline-primary", _("Resume the job")
        found.append(Button("resume", _("Resume"), look, ask if asked else "", yes))
    if job.reason == PauseReason.BUDGET_EXHAUSTED:
        found += _budget(job)
    if _is_possible(job, "cancel"):
        ask = _(
            "Cancel {job}? Calls in flight finish, answers received are kept, the rest is not sent."
        ).format(job=name)
        yes = _("Cancel the job")
        found.append(Button("cancel", _("Cancel"), "btn-outline-danger", ask, yes))
    return found


def more_wishes(job: Job) -> list[Button]:
    """The buttons of a job's own page."""
    found = wishes(job)
    if _is_possible(job, flower_commands.RETRY):
        name = _("Retry failed…")
        found.append(Button(flower_commands.RETRY, name, "btn-outline-primary", form="retry"))
    if job.budget_rub is not None and job.reason != PauseReason.BUDGET_EXHAUSTED:
        found += _budget(job)
    if _is_possible(job, flower_commands.CHANGE):
        name = _("Settings…")
        found.append(Button(flower_commands.CHANGE, name, "btn-outline-secondary", form="settings"))
    return found


def _budget(job: Job) -> list[Button]:
    button = Button(
        flower_commands.CHANGE, _("Raise budget…"), "btn-outline-primary", form="budget"
    )
    return [button] if _is_possible(job, flower_commands.CHANGE) else []


def enough(job: Job) -> Decimal | None:
    """₽ that would do for all of the job, as far as can be told."""
    named = _BUDGET_OPTION.search(job.remedy)
    if named is not None:
        return Decimal(named[1])
    if job.budget_rub is None and job.forecast_rub is None:
        return None
    return max(rounded_up(job.forecast_rub or ZERO), job.budget_rub or ZERO)


_BUDGET_OPTION = re.compile(r"--budget-rub (\d+(?:\.\d+)?)(?!\S)")


def commands(job: Job) -> list[tuple[str, str]]:
    """(what it does, a command): what can be done about the job in a terminal."""
    found = []
    if not job.ended:
        found.append((_("Follow it"), f"nightshift watch {job.job}"))
    if job.failed:
        found.append((_("Why requests failed"), f"nightshift failures {job.job}"))
    if job.objections.get("retry", "-") in ("", flower_commands.REST_FIRST):
        found.append((_("Retry what failed"), f"nightshift resume {job.job} --retry failed"))
    if job.bound and (command := job.bound.command(job.job)):
        found.append((_("Make it faster"), command))
    rub, cap = enough(job), job.budget_rub
    if not job.objections.get("change", "-") and cap is not None and rub and rub > cap:
        command = f"nightshift resume {job.job} --budget-rub {plain(rub)}"
        found.append((_("Set a budget that is expected to do"), command))
    found.append((_("What it cost"), f"nightshift cost {job.job}"))
    found.append((_("What happened"), f"nightshift history {job.job}"))
    return found


def short(job: str) -> str:
    """The end of a job's id, by which commands know it too, unless another ends alike."""
    return job[-6:]


def help_for(job: Job) -> tuple[str, str] | None:
    """What must be done by hand, if a button does not do: words, and a command."""
    if job.stall:
        return _(job.stall.reason.rule.cure), job.remedy
    is_barred = bool(job.objections.get("resume"))
    if not job.rests or not job.remedy or not (job.needs_action or is_barred):
        return None
    return _(pausing(job.reason).cure), job.remedy


def event(one: Event) -> str:
    """What happened."""
    return visible(capital(", ".join(event_text.told(one, _standing))))


def _standing(state: str, reason: str) -> str:
    word = _states().get(shown(state, reason), state)
    return f"{word} ({_(pausing(reason).meaning)})" if reason else word


def zone() -> str:
    """Whose times are shown."""
    return _("times in {zone}").format(zone=zone_name())


def span(days: str) -> str:
    """Within so many days, "" for ever."""
    return {
        "": _("Submitted at any time"),
        "1": _("Last 24 hours"),
        "7": _("Last 7 days"),
        "30": _("Last 30 days"),
    }[days]


def sort(key: str) -> str:
    """What a list is sorted by."""
    return {
        "": _("Unfinished first, then newest"),
        "name": _("By name"),
        "state": _("By state"),
        "progress": _("By progress"),
        "pace": _("By pace"),
        "money": _("By money spent"),
        "calls": _("By calls in flight"),
        "failed": _("By failed requests"),
        "created": _("By time of submission"),
    }[key]


def priorities(stands: str) -> list[str]:
    """Those that can be chosen: the words, and the figure that stands."""
    return [*NAMED] if stands in NAMED else [*NAMED, stands]


def priority(word: str) -> str:
    """A word for a share of the pace."""
    return {"high": _("high"), "normal": _("normal"), "low": _("low")}.get(word, word)


def amount(rub: Decimal | None) -> str:
    """₽, or that nobody knows."""
    return _("unknown") if rub is None else money(rub)


def left_of_budget(job: Job) -> Decimal:
    """₽ that are neither spent nor perhaps spent."""
    used = total([job.spent_rub, job.uncertain_rub])
    return max(subtract(job.budget_rub or ZERO, used), ZERO)


def budget_hint(job: Job) -> str:
    """What is spent, and what is expected."""
    told = [_("spent: {rub}").format(rub=money(job.spent_rub))]
    if job.forecast_rub is not None:
        told.append(_("projected total {rub}").format(rub=money(job.forecast_rub)))
    return capital("; ".join(told))


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
        (_("Bound by"), _bound(job.bound) if job.bound else ""),
        (_("Tokens"), number(job.tokens)),
        (_("Paid calls"), number(job.calls)),
        (_("Retried calls"), number(job.refusals)),
        (_("Last problem"), _trouble(job)),
        (_("Lines skipped"), number(job.invalid) if job.invalid else ""),
        # Of two figures for what it will have cost nobody knows which to believe.
        (_("Estimate"), "" if job.likely_rub is None or forecast else money(job.likely_rub)),
        (_("Projected total"), "" if forecast is None else money(forecast)),
        (_("Limits"), ", ".join(filter(None, limits))),
        (_("Hours"), visible(job.window or "")),
        (_("Deadline"), full(job.deadline) if job.deadline else ""),
        (_("Oldest undelivered result"), duration(job.lag_s) if late else ""),
    ]
    return [(name, text) for name, text in told if text]


def _bound(bound: BoundBy) -> str:
    """What it is; the command that helps is among the others."""
    cure = "" if bound.cause.rule.command else _(bound.cure)
    return "; ".join(filter(None, (bottleneck_summary.seen(bound), cure)))


def _trouble(job: Job) -> str:
    last = job.trouble
    if last is None:
        return ""
    now = time.time()
    return latest_incidents.told(last, now, duration(now - last.at))


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


def most_listed(count: int) -> str:
    """That there may be more."""
    told = _("Only {n} jobs are listed: unfinished ones, then the newest. The others:")
    return told.format(n=number(count))


def end(job: Job) -> str:
    """When it will be done, as far as can be told."""
    done = job.done_at or (job.at + job.left_s if job.left_s else None)
    if done is None:
        return ""
    late = _("after the deadline")
    return f"≈\N{NO-BREAK SPACE}{moment(done)}" + (f", {late}" if job.late else "")


def left(seconds: float) -> str:
    """Until the end."""
    return _("{n} left").format(n=duration(seconds))


def taken(seconds: float) -> str:
    """From its beginning to its end."""
    return _("took {n}").format(n=duration(seconds))


def code(name: str) -> str:
    """What an error is about."""
    return latest_incidents.meaning(name)


def most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent first."""
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MOST_CODES]


def answer(code: str, job: Job | None = None, wish: str = "") -> str:
    """What came of a click, and what helps where it could not be done."""
    if code == flower_commands.DONE and job is not None:
        return _done(job, wish)
    if code not in OBJECTIONS:
        return _answers().get(code, _answers()["unknown"])
    told = capital(_(OBJECTIONS[code].text))
    found = help_for(job) if job else None
    return " ".join((told, *found)) if found else told


def _done(job: Job, wish: str) -> str:
    """What happens now."""
    if job.in_flight and wish in _ENDING:
        return _ending(wish, job.in_flight).format(n=number(job.in_flight))
    waits = {
        "resume": job.workers == 0,
        flower_commands.RETRY: job.rests,
        flower_commands.CHANGE: job.reason == PauseReason.BUDGET_EXHAUSTED,
    }
    found = (_later() if waits.get(wish) else _now()).get(wish)
    return found or _answers()[flower_commands.DONE]


_ENDING = ("pause", "cancel")


def _ending(wish: str, count: int) -> str:
    if wish == "pause":
        return ngettext(
            "Pausing: {n} call is finishing.", "Pausing: {n} calls are finishing.", count
        )
    return ngettext(
        "Cancelling: {n} call is finishing.", "Cancelling: {n} calls are finishing.", count
    )


def _now() -> dict[str, str]:
    return {
        "pause": _("Paused: nothing is in flight."),
        "cancel": _("Cancelled: nothing is in flight."),
        "resume": _("Resumed: the remaining requests are being sent."),
        flower_commands.RETRY: _("The failed requests are being sent again."),
        flower_commands.CHANGE: _("Saved; it applies to everything not sent yet."),
    }


def _later() -> dict[str, str]:
    return {
        "resume": _("Resumed; no worker is online, so nothing is sent yet."),
        flower_commands.RETRY: _("The failed requests will be sent again once the job is resumed."),
        flower_commands.CHANGE: _("Saved; a job that waited for its budget continues."),
    }


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
    """A moment, as short as it can be understood."""
    age = abs(time.time() - seconds)
    if age < 12 * 3600:
        return f"{local(seconds):%H:%M}"
    return language.moment(local(seconds)) if age < 200 * 86400 else day(local(seconds))


def full(seconds: float) -> str:
    """A moment, whole."""
    return f"{day(local(seconds))} {local(seconds):%H:%M:%S}"
