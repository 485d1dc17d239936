"""The pages: filters, a list of requests, one request."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from batch import language
from batch.language import _
from batch.reports.page import visible
from batch.reports.request_text import answer_of, prompt_of, rest_of
from batch.reports.rows import Row, row_of
from batch.store import messages, request_search
from batch.store.jobstore import JobStore
from batch.store.request_search import Notable
from jobs.errors import NightshiftError
from jobs.request_kinds import KINDS

PAGE_SIZE = 50
_MOST_SHOWN = 200_000
"""Characters of one text."""

_BEGINNING = 120
_LARGEST = 2**62


@dataclass(frozen=True)
class View:
    """What is looked at: a kind of requests, a part of their ids, and from where on."""

    kind: str = ""
    text: str = ""
    start: int = 0

    @classmethod
    def read(cls, query: Mapping[str, str]) -> View:
        """As an address has it; what makes no sense is left out."""
        kind, start = query.get("kind", ""), query.get("start", "")
        known = kind if kind in set(Notable) else ""
        place = int(start) if start.isascii() and start.isdigit() and len(start) < 19 else 0
        return cls(known, query.get("q", "")[:200], place)

    @property
    def notable(self) -> Notable | None:
        """The kind; None: all."""
        return Notable(self.kind) if self.kind else None

    @property
    def is_ranked(self) -> bool:
        """Whether `start` is a place, and not an ordinal."""
        return self.notable in {Notable.SLOWEST, Notable.COSTLIEST}

    def query(self, **changes: Any) -> str:
        """The end of an address that leads to this, or to what is different."""
        there = replace(self, **changes)
        parts = {"kind": there.kind, "q": there.text, "start": str(there.start)}
        return "?" + urlencode({name: value for name, value in parts.items() if value})


def kinds() -> list[tuple[str, str]]:
    """The filters, and what they are called."""
    return [
        ("", _("All")),
        (Notable.FAILED.value, _("Failed")),
        (Notable.TRUNCATED.value, _("Cut off")),
        (Notable.FLAGGED.value, _("Flagged")),
        (Notable.SLOWEST.value, _("Slowest")),
        (Notable.COSTLIEST.value, _("Most expensive")),
    ]


def listing(store: JobStore, view: View) -> str:
    """A page of requests."""
    with store.snapshot():
        found = request_search.page(store.db, view.notable, view.text, view.start, PAGE_SIZE)
        rows = [row_of(store, ordinal) for ordinal in found.ordinals]
        # The place of each, from which a row leads to its neighbours.
        places = [
            view.start + place if view.is_ranked else row.ordinal for place, row in enumerate(rows)
        ]
        told = [
            (row, place, _beginning(store, row)) for row, place in zip(rows, places, strict=True)
        ]
        return _render("listing.html", job=store.job(), view=view, page=found, rows=told)


def row(store: JobStore, ordinal: int, view: View) -> str | None:
    """One request; None where there is none."""
    with store.snapshot():
        if not 0 <= ordinal < store.job().requests:
            return None
        found = row_of(store, ordinal)
        body, limit = store.queue.original(ordinal)
        request = json.loads(body)
        rest = rest_of(request)
        before, after = _neighbours(store, view, ordinal)
        return _render(
            "row.html",
            job=store.job(),
            view=view,
            row=found,
            why=messages.read(store.db, found.message),
            prompt=list(prompt_of(request)),
            rest=json.dumps(rest, ensure_ascii=False),
            limit=limit,
            bound=KINDS[store.queue.kind(ordinal)].bounds[0],
            answer=answer_of(found),
            calls=request_search.calls_of(store.db, ordinal),
            before=before,
            after=after,
        )


def _neighbours(
    store: JobStore, view: View, ordinal: int
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(ordinal, place) of the requests before and after this one, as they are filtered."""
    here = view.start if view.is_ranked else ordinal
    page = request_search.page(store.db, view.notable, view.text, here, 2)
    later = [each for each in page.ordinals if each != ordinal]
    after = (later[0], here + 1 if view.is_ranked else later[0]) if later else None
    if not view.is_ranked:
        back = request_search.before(store.db, view.notable, view.text, ordinal)
        return (None if back is None else (back, back)), after
    if not here:
        return None, after
    back_page = request_search.page(store.db, view.notable, view.text, here - 1, 1)
    return (back_page.ordinals[0], here - 1) if back_page.ordinals else None, after


def trouble(error: NightshiftError) -> str:
    """A sentence in place of a page."""
    return _render("trouble.html", error=error)


def style_hash() -> str:
    """By which a browser knows our looks."""
    style = _environment(language.code()).get_template("style.css").render()
    return f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"


def _beginning(store: JobStore, found: Row) -> str:
    words = _(messages.read(store.db, found.message)) or answer_of(found)
    return " ".join(words[: 4 * _BEGINNING].split())[:_BEGINNING]


def _shown(text: str) -> str:
    """A text from outside in lines: without what would control or reorder."""
    cut = text[:_MOST_SHOWN]
    lines = "\n".join(_line(line) for line in cut.split("\n"))
    return lines if len(text) <= _MOST_SHOWN else lines + "\n…"


def _line(line: str) -> str:
    return line if line.isprintable() else "".join(map(visible, line))


def _moment(seconds: float) -> str:
    return language.moment(language.local(seconds))


def _render(name: str, **what: Any) -> str:
    template = _environment(language.code()).get_template(name)
    return template.render(kinds=kinds(), zone=language.zone_name(), **what)


@cache
def _environment(lang: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("batch.viewing", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(_=_, ngettext=language.ngettext, lang=lang)
    environment.filters.update(
        said=_,
        decimal=language.decimal,
        exact=language.exact,
        moment=_moment,
        number=language.number,
        seen=visible,
        shown=_shown,
    )
    return environment
