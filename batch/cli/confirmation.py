"""Before anything is spent: a yes; before a resume, a table of what it sends again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from batch import job_control
from batch.cli.terminal import folded, say, width
from batch.language import _, money, ngettext, number
from batch.money.cost_forecast import cost_of_all
from batch.money.uncertain_cost_texts import uncertain
from batch.store.home import Home
from batch.store.resume_counts import Kind
from jobs.address import LOOPBACK
from jobs.job_commands import Pause
from jobs.job_options import Spec
from jobs.message import N_
from jobs.states import JobState

if TYPE_CHECKING:  # all that counts a resume; `run` loads this before its worker starts
    from batch.resume_plan import Again, Group


def ask(home: Home, job_id: str, question: str) -> None:
    """Goes on only after a yes.

    Without it the job rests, so that no coordinator that comes later sends it either.
    """
    try:
        room = width(sys.stderr) - len(" [y/N]: ")
        click.confirm(folded(question, room), abort=True, err=True)
    except click.Abort:
        _let_rest(home, job_id)
        say(_("nothing was sent; the job is saved:"))
        say(f"  nightshift resume {job_id}")
        raise


def send_question(requests: int, spec: Spec) -> str:
    """Whether to send so many."""
    question = ngettext(
        "Send {count} request to {url}?", "Send {count} requests to {url}?", requests
    )
    return question.format(count=number(requests), url=spec.base_url)


def costs_nothing(spec: Spec) -> bool:
    """A machine of one's own costs nothing."""
    return urlsplit(spec.base_url).hostname in LOOPBACK


def _let_rest(home: Home, job_id: str) -> None:
    with closing(home.open(job_id, read_only=True)) as store:
        runs = store.job().state is JobState.IN_PROGRESS
    if runs:
        job_control.command(home, job_id, Pause(N_("waiting for confirmation")))


def table(again: Again, columns: int) -> Iterator[str]:
    """The lines to show: where the job stands, groups and sums, what is spent and what stays."""
    job = again.job
    head = _("{job}: {done} of {requests} done, {count} to send")
    if again.runs:
        head = _("{job} is running: {done} of {requests} done, {count} to retry")
    yield head.format(
        job=job.id,
        done=number(job.finished),
        requests=number(job.requests),
        count=number(again.total.requests),
    )
    yield from _aligned(again, columns)
    if again.answered:
        told = ngettext(
            "{count} more is answered; its result is still with a worker and comes first",
            "{count} more are answered; their results are still with a worker and come first",
            again.answered,
        )
        yield "  " + told.format(count=number(again.answered))
    yield from _spent(again)
    yield from _left(again)


def question(again: Again) -> str:
    """What must be agreed to first; empty where nothing is paid for twice or tried again."""
    twice, failed, cut = again.twice, again.count(Kind.FAILED), again.count(Kind.TRUNCATED)
    parts = (
        (
            twice,
            ngettext(
                "{count} request may be paid for twice",
                "{count} requests may be paid for twice",
                twice,
            ),
        ),
        (
            failed,
            ngettext("retrying {count} failed request", "retrying {count} failed requests", failed),
        ),
        (
            cut,
            ngettext(
                "retrying {count} truncated answer", "retrying {count} truncated answers", cut
            ),
        ),
    )
    told = ", ".join(words.format(count=number(count)) for count, words in parts if count)
    return _("{what}. Continue?").format(what=told) if told else ""


def _aligned(again: Again, columns: int) -> Iterator[str]:
    """A table; where it is too wide what is sent stands in several lines."""
    rows = [(_name(group), *_figures(group)) for group in again.groups]
    if not rows:
        return
    if len(rows) > 1:
        rows.append((_("total"), *_figures(again.total)))
    rows.insert(0, (_("to send"), _("requests"), _("estimate"), _("at most")))
    first, *others = (max(len(row[place]) for row in rows) for place in range(4))
    first = min(first, max(columns - sum(others) - 2 * len(rows[0]), _NARROWEST))
    for what, *figures in rows:
        start, *more = folded(what, first, 0).split("\n")
        aligned = [text.rjust(width) for text, width in zip(figures, others, strict=True)]
        yield "  " + "  ".join([start.ljust(first), *aligned])
        yield from (f"  {line}" for line in more)


_NARROWEST = 16


def _name(group: Group) -> str:
    words = {
        Kind.NEVER_SENT: _("never sent"),
        Kind.CAME_BACK: _("returned unfinished"),
        Kind.UNCERTAIN: _("sent before, unconfirmed: may be paid for twice"),
        Kind.UNDER_WAY: _("in flight when the job stopped: unanswered ones may be paid for twice"),
        Kind.FAILED: _("failed with {code}").format(code=group.code),
        Kind.TRUNCATED: _("truncated, retried with a higher limit"),
    }
    return words[group.kind]


def _figures(group: Group) -> tuple[str, str, str]:
    return (number(group.requests), _show(group.likely), _show(group.highest))


def _spent(again: Again) -> Iterator[str]:
    job = again.job
    yield "  " + _("spent so far: {rub}").format(rub=money(job.settled_rub))
    if more := uncertain(job.unknown, job.unbounded, job.booked_rub):
        yield f"  {more}"
    forecast = cost_of_all(job)
    if forecast is not None:
        yield "  " + _("projected total {rub}").format(rub=money(forecast))
    if again.set_aside:
        told = _("reserved for calls in flight: {rub}")
        yield "  " + told.format(rub=money(again.set_aside))


def _left(again: Again) -> Iterator[str]:
    budget, left, likely = again.spec.budget, again.left, again.total.likely
    if budget.rub is not None and left.rub is not None:
        told = _("budget left: {left} of {budget}")
        yield "  " + told.format(budget=money(budget.rub), left=money(left.rub))
        if likely is not None and likely > left.rub:
            yield "  " + _("less than the estimate; the job pauses when nothing more fits")
    if budget.tokens is not None and left.tokens is not None:
        told = _("token budget left: {left} of {budget}")
        yield "  " + told.format(budget=number(budget.tokens), left=number(left.tokens))
    if budget.requests is not None and again.left_requests is not None:
        told = _("request budget left: {left} of {budget}")
        yield "  " + told.format(budget=number(budget.requests), left=number(again.left_requests))


def _show(rub: Decimal | None) -> str:
    return "?" if rub is None else money(rub)
