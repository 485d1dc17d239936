"""report.html: one self-contained page, to be opened in the morning, mailed and printed.

Its words and its looks stand in page.html, in English and Russian; here they meet the figures.
"""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from unicodedata import category
from zoneinfo import ZoneInfo

from batch import language
from batch.money.cost_forecast import cost_of_all
from batch.money.savings import reused_of
from batch.money.uncertain_cost_texts import paid, uncertain
from batch.reports.aggregates import (
    Survey,
    Tally,
    empty_survey,
    faults_of,
    model_lines,
    span_of,
)
from batch.reports.command import command_of
from batch.reports.cost_report import Cost, copies_of, lines_of
from batch.reports.request_text import answer_of
from batch.reports.rows import rows, rows_of
from batch.store import timeline, wait_times
from batch.store.answer_checks import how_checked
from batch.store.events import history
from batch.store.failure_causes import LASTING, MEANINGS, MOST_LISTED
from batch.store.jobstore import JobRow, JobStore
from batch.tables.pack_sizes import packs_of
from batch.tables.score import gold_of, review_of
from batch.watching.event_text import told
from jobs.bottleneck import Bound
from jobs.job_options import Spec
from jobs.lifecycle import SCHEDULED, is_cut_short, remedy, shown, why_left
from jobs.message import N_
from jobs.pause_reasons import pausing
from jobs.states import ENDED, JobState
from jobs.window import parse_window

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_LONGEST_TEXT = 240
"""Characters of a text from outside; with the numbers below it keeps the page under a megabyte."""

_LONGEST_SAMPLE = 600
"""Characters of a sample."""

_CODE = re.compile(r"[\w.-]+", re.ASCII)
"""An error's code that may stand in a command as it is."""

_MOST_EVENTS = 40
"""Of a job's history, the newest."""

_AT_THE_END = frozenset({JobState.FINALIZING, JobState.CANCELLING, *ENDED})

_STATES = {
    JobState.VALIDATING.value: N_("Validating"),
    JobState.IN_PROGRESS.value: N_("In progress"),
    JobState.PAUSED.value: N_("Paused"),
    SCHEDULED: N_("Scheduled"),
    JobState.FINALIZING.value: N_("Finishing"),
    JobState.COMPLETED.value: N_("Completed"),
    JobState.CANCELLING.value: N_("Cancelling"),
    JobState.CANCELLED.value: N_("Cancelled"),
    JobState.FAILED.value: N_("Refused"),
    JobState.EXPIRED.value: N_("Expired"),
}

_SHOWN_STATE = {
    JobState.FINALIZING: JobState.COMPLETED.value,
    JobState.CANCELLING: JobState.CANCELLED.value,
}


def write_page(
    store: JobStore, file: IO[bytes], seen: Survey | None = None, cost: Cost | None = None
) -> None:
    """Writes the page, in UTF-8; `seen` and `cost` if all rows and calls were gone through before.

    Times are shown in the zone of the job's window, else in the local one.
    """
    with store.snapshot():
        job = store.job()
        if seen is None or cost is None:
            seen = empty_survey(store, job, clock_of(job.spec))
            cost = Cost(prices=store.all_prices())
            for row in rows(store, bodies=False, count=Tally(cost, seen.load)):
                seen.add(row)
        with language.in_zone(_zone(job.spec)):
            page = _template(language.code()).render(_figures(store, job, seen, cost))
    file.write(page.encode())


def prepare() -> None:
    """Makes the first page sooner: its template takes longer to compile than to fill in."""
    _template(language.code())


def clock_of(spec: Spec) -> Callable[[float], datetime]:
    """Makes times of Unix seconds, in the zone of the job's window, else in the local one."""
    zone = _zone(spec)
    return lambda seconds: datetime.fromtimestamp(seconds, UTC).astimezone(zone)


def _zone(spec: Spec) -> ZoneInfo | None:
    return None if spec.window is None else ZoneInfo(parse_window(spec.window).zone)


def _figures(store: JobStore, job: JobRow, seen: Survey, cost: Cost) -> dict[str, Any]:
    started, last = span_of(store, job)
    models = model_lines(seen.models, cost)
    return {
        "job": job,
        "spec": job.spec,
        "state": _stands(job),
        "why_left": language._(why_left(job)),
        "remedy": remedy(job),
        "seen": seen,
        "forecast": cost_of_all(job),
        "why": store.why(),
        "flag_words": {flag: language._(told) for flag, told in MEANINGS.items()},
        "started": started,
        "last": last,
        "seconds": last - started,
        "cost": cost,
        "stack": seen.spending.stack(),
        "models": models[:MOST_LISTED],
        "models_left_out": len(models[MOST_LISTED:]),
        "faults": faults_of(store),
        "refusals": Counter(store.refusals()).most_common(MOST_LISTED),
        "lost": store.chunks.lost(),
        "waits": _waits(store),
        "events": _past(store),
        "most_events": _MOST_EVENTS,
        "version": version("nightshift"),
        "host": socket.gethostname(),
        "command_line": command_of(job.spec),
        "samples": _samples(store) if job.spec.report_samples else [],
        "copies": copies_of(store),
        "reused": reused_of(store),
        "packs": packs_of(store),
        "gold": gold_of(store),
        "review": review_of(store),
        "checked": how_checked(store),
        "unlisted": [(each, lines_of(store, each.ordinals)) for each in cost.unlisted],
    }


class _Sample(NamedTuple):
    """A request that was answered, with the beginning of the answer; prompts stay in the home."""

    line: int
    custom_id: str
    answer: str


def _samples(store: JobStore) -> list[_Sample]:
    """Of the answers the first, the one in the middle, and the last."""
    return [
        _Sample(row.line, row.custom_id, answer_of(row))
        for row in rows_of(store, timeline.some_completed(store.db))
    ]


def _said(text: str, longest: int = _LONGEST_SAMPLE) -> Markup:
    """The beginning of a text of several lines."""
    from markupsafe import Markup, escape

    lines = "\n".join(map(visible, text[:longest].split("\n")))
    return Markup(escape(lines if len(text) <= longest else lines + "…"))  # noqa: S704


def _waits(store: JobStore) -> list[tuple[str, float, float]]:
    """(what requests that were ready waited for, seconds, percent of all that they waited)."""
    found = wait_times.waited_in_all(store.db)
    whole = sum(found.values())
    known = {each.value: each.rule.meaning for each in Bound}
    return [
        (language._(known.get(cause, cause)), seconds, 100 * seconds / whole)
        for cause, seconds in found.items()
        if seconds >= 1
    ]


def _past(store: JobStore) -> list[tuple[float, str]]:
    """(when, what happened) but for the end, as part of which the page is written."""
    events = history(store.db)
    while events and events[-1].state in _AT_THE_END:
        events.pop()
    return [(event.at, ", ".join(told(event, _standing))) for event in events]


def _standing(state: str, reason: str) -> str:
    word = language._(_STATES.get(shown(state, reason), state))
    return f"{word} ({language._(pausing(reason).meaning)})" if reason else word


def _stands(job: JobRow) -> str:
    """The page is written just before the job ends, and may be written again after: alike."""
    if is_cut_short(job):
        return JobState.EXPIRED.value
    return _SHOWN_STATE.get(job.state) or shown(job.state, job.reason)


@cache
def _template(lang: str) -> Template:
    """The page in the language of this process, `lang`, and the zone that holds."""
    # Here, so that commands which write no page start without it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("batch.reports", "."),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        told=language._,
        capital=language.capital,
        clock=language.local,
        count=language.number,
        decimal=language.decimal,
        exact=language.exact,
        rub=language.money,
        paid=paid,
        said=_said,
        sha256=_sha256,
    )
    environment.tests["contains"] = lambda kinds, kind: kind in kinds
    environment.tests["lasting"] = LASTING.__contains__
    environment.tests["code"] = lambda text: bool(_CODE.fullmatch(text))
    environment.globals.update(
        uncertain=uncertain, _=language._, ngettext=language.ngettext, lang=lang
    )
    return environment.get_template("page.html")


def _finalize(value: object) -> object:
    """Every text of the page passes here; what the template made of such texts is let through."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else visible(value)


def visible(text: str) -> str:
    r"""A text from outside on one line, no longer than agreed.

    Characters that control, reorder or cannot be seen are shown as `\x1b`, `\u202e` and the like.
    """
    cut = text[:_LONGEST_TEXT] + "…" if len(text) > _LONGEST_TEXT else text
    if cut.isprintable():
        return cut
    return "".join(_shown(character) for character in cut)


def _shown(character: str) -> str:
    if character.isprintable() or category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


def _sha256(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
