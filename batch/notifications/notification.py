"""What is told of a job: how it stands, never what was asked or answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batch.language import _, capital, money, ngettext, number, zoned
from batch.store.failure_causes import Why
from batch.store.jobstore import JobRow
from batch.watching.latest_incidents import meaning
from jobs.lifecycle import needs_action, remedy
from jobs.message import Message
from jobs.money import plain
from jobs.pause_reasons import pausing
from jobs.stall import Stall, Stalled
from jobs.states import JobState

_ENDS = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)

TEST = "test"
"""The event of a word that only shows that words arrive."""

Word = dict[str, Any]
"""For programs: English, amounts as exact strings in ₽. It holds counts, and no text that came from
an endpoint or stood in an input.
"""


LASTS_S = 30.0
"""A standstill that ends sooner, such as a restart, wakes nobody."""


def occasion(job: JobRow, stall: Stalled | None = None, now: float = 0.0) -> str:
    """What there is to tell of a job as it stands: `completed`, `paused.key_rejected`,
    `stalled.no_worker`, or "".
    """
    if job.state in _ENDS:
        return job.state.value
    if stall is not None:
        return f"stalled.{stall.reason}" if now - stall.since >= LASTS_S else ""
    return f"paused.{job.reason}" if needs_action(job.state, job.reason) else ""


def word_of(job: JobRow, event: str, why: Why, stall: Stalled | None = None) -> Word:
    """The word for an occasion. Of failures their codes: an endpoint's words may quote a prompt."""
    budget, found = job.spec.budget.rub, remedy(job)
    command = stall.reason.rule.command.format(job=job.id) if stall else ""
    return {
        "version": 1,
        "event": event,
        "job": job.id,
        "name": "".join(each if each.isprintable() else "�" for each in job.spec.name[:200]),
        "state": job.state.value,
        "reason": job.reason,
        "stall": stall and {"reason": stall.reason.value, "since": stall.since},
        "remedy": command or (found.command if found else ""),
        "requests": job.requests,
        "completed": job.completed,
        "failed": job.failed,
        "left": job.left,
        "truncated": job.truncated,
        "failures": [
            {"code": each.code, "status": each.status, "requests": each.count, "lines": each.lines}
            for each in why.failures
        ],
        "flagged": why.as_json()["flagged"],
        "spent_rub": plain(job.settled_rub),
        "uncertain_rub": plain(job.booked_rub),
        "uncertain_calls": job.unknown,
        "budget_rub": None if budget is None else plain(budget),
        "spent": money(job.settled_rub),
        "passing": why.passing,
        "better_limit": why.better_limit,
        "way": str(found.words) if found and not stall else "",
        **_cause_of(job),
    }


def _cause_of(job: JobRow) -> dict[str, Any]:
    """What exactly a pause is about: in our own words, or of an endpoint's the code alone."""
    if job.state is not JobState.PAUSED:
        return {}
    if pausing(job.reason).quotes:
        return {"problem": job.troubles[0].code} if job.troubles else {}
    return {"said": [str(job.reason_text), job.reason_text.data]}


FOR_PEOPLE = ("spent", "passing", "better_limit", "way", "problem", "said")
"""What of a word is for its text alone."""


def title(word: Word) -> str:
    """One line for people."""
    if word["event"] == TEST:
        return _("Nightshift: test notification")
    name = word["name"]
    titles = {
        "completed": _("{name}: done"),
        "failed": _("{name}: refused"),
        "cancelled": _("{name}: cancelled"),
        "expired": _("{name}: deadline passed"),
    }
    if word.get("stall"):
        return _("{name}: stalled, needs action").format(name=name)
    return titles.get(word["event"], _("{name}: paused, needs action")).format(name=name)


def text(word: Word) -> str:
    """Some lines for people."""
    if word["event"] == TEST:
        return _("If you can read this, job notifications will arrive here.")
    answered = ngettext(
        "{done} of {count} request answered",
        "{done} of {count} requests answered",
        word["requests"],
    )
    lines = [answered.format(done=number(word["completed"]), count=number(word["requests"]))]
    if word["failed"]:
        lines.append(_("failed: {count}").format(count=number(word["failed"])))
    lines += [_cause(each) for each in word.get("failures", ())][:_MOST_CAUSES]
    if word.get("truncated"):
        lines.append(_("cut off at the token limit: {count}").format(count=word["truncated"]))
    lines.append(_cost(word))
    if stall := word.get("stall"):
        rule = Stall(stall["reason"]).rule
        since = zoned(stall["since"])
        why = _("{trouble}, since {moment}").format(trouble=_(rule.meaning), moment=since)
        lines.insert(0, capital(why))
        lines += [_(rule.cure), word["remedy"]]
    elif word["state"] == JobState.PAUSED:
        lines = [capital(_(pausing(word["reason"]).meaning)), *_exactly(word), *lines]
        lines += _way(word)
    elif word.get("remedy"):
        lines += _way(word)
    elif word["failed"] and word.get("passing", True):
        lines.append(f"nightshift resume {word['job']} --retry failed")
    elif word["failed"]:
        lines.append(f"nightshift failures {word['job']}")
    elif word.get("truncated"):
        limit = word["better_limit"]
        lines.append(f"nightshift resume {word['job']} --retry truncated --max-tokens {limit}")
    else:
        lines.append(word["job"])
    return "\n".join(lines)


def _exactly(word: Word) -> Iterator[str]:
    """What a pause is about, where more is known than its reason."""
    if problem := meaning(word.get("problem", "")):
        yield _("last problem: {what}").format(what=problem)
    said, data = word.get("said") or ("", "")
    if said:
        yield capital(_(Message.read(said, data)))


def _way(word: Word) -> list[str]:
    """What to do, and the command that goes on."""
    command = word.get("remedy") or f"nightshift resume {word['job']}"
    return [*filter(None, [_(word.get("way", ""))]), command]


_MOST_CAUSES = 5


def _cause(cause: dict[str, Any]) -> str:
    status = "" if cause["status"] is None else f" (HTTP {cause['status']})"
    lines = ", ".join(map(str, cause["lines"][:3]))
    told = _("{count} × {code}{status}, first in lines {lines}")
    return told.format(
        count=number(cause["requests"]), code=cause["code"], status=status, lines=lines
    )


def _cost(word: Word) -> str:
    calls = word.get("uncertain_calls", 0)
    if not calls:
        return _("cost {rub}").format(rub=word["spent"])
    told = ngettext(
        "cost at least {rub}, and {count} call of unknown cost",
        "cost at least {rub}, and {count} calls of unknown cost",
        calls,
    )
    return told.format(rub=word["spent"], count=number(calls))
