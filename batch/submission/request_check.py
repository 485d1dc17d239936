"""The requests of an input, checked one by one and put into the staged job."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from batch.endpoint_queries import lacks_responses
from batch.estimator.sample import Sampler
from batch.reading.reader import Defaults, read
from batch.store.home import Home
from batch.store.staged_job import Draft
from batch.submission.pricing import given_prices
from batch.submission.report import Report
from batch.tables.file_kinds import FileTable, open_table
from batch.tables.gold import read_gold
from batch.tables.response_format import is_checkable
from batch.tables.row_requests import Asker, fitted, requests_of
from jobs.errors import InvalidValue, StorageUnavailable
from jobs.job_options import Spec
from jobs.message import N_
from jobs.prices import PriceList
from jobs.request import Fault, Request
from jobs.request_kinds import CHAT, RESPONSES
from jobs.responses_as_chat import Untranslatable, to_chat

_TELL_EVERY = 20_000
_TOLD_ITS_FORM = (CHAT.url, RESPONSES.url)
"""Kinds whose requests may tell what an answer must be."""


Tell = Callable[[int], None]


@contextmanager
def staged(home: Home, job_id: str, spec: Spec) -> Iterator[Draft]:
    """A draft that leaves nothing behind unless it was published."""
    try:
        draft = Draft(home.jobs_folder, job_id, dedupe=spec.dedupe, reuse=spec.reuse)
        try:
            yield draft
        finally:
            draft.abandon()
    except (sqlite3.DatabaseError, OSError) as error:
        raise StorageUnavailable(
            N_("the job cannot be stored in {folder}: {why}", folder=home.folder, why=error),
            hint=N_("free up space, or set NIGHTSHIFT_HOME to another directory; nothing was sent"),
        ) from error


def fill(
    draft: Draft,
    spec: Spec,
    lines: Iterator[Request | Fault],
    tell: Tell,
    sampler: Sampler,
    *,
    capped: bool,
    asks: bool = True,
) -> Report:
    """Puts what can be sent into the draft, and reports the rest; `tell` hears of each 20,000.

    `capped`: requests without a bound are faults. `asks`: the endpoint may be asked.
    """
    report = Report(table=None if spec.task is None else spec.task.form)
    capped = capped or spec.budget.rub is not None or spec.budget.tokens is not None
    answered_for = spec.request_bound_rub is not None and spec.budget.tokens is None
    capped = capped and not answered_for
    ways = _Responses(spec, asks=asks)
    for count, item in enumerate(lines, start=1):
        if isinstance(item, Request) and capped and item.unbounded:
            item = _unbounded(item)
        if isinstance(item, Request) and item.kind == RESPONSES.url:
            item = ways.checked(item)
        if isinstance(item, Request):
            if spec.check and not is_checkable(item.body):
                report.unchecked += item.kind in _TOLD_ITS_FORM
                report.uncheckable += item.kind not in _TOLD_ITS_FORM
            if item.odd or item.unbounded:
                report.warn(item)
            sampler.see(draft.requests, item)
            draft.add(item)
        else:
            _refuse(draft, report, item, spec)
        if count % _TELL_EVERY == 0:
            tell(count)
    report.requests, report.responses_by = draft.requests, ways.by
    for fault in draft.drop_duplicates():
        _refuse(draft, report, fault, spec)
        report.requests -= 1
    report.models = draft.models()
    return report


def opened(
    draft: Draft, spec: Spec, source: Path | BinaryIO, known: PriceList | None
) -> tuple[Spec, Iterator[Request | Fault]]:
    """The requests of the input: its lines, or made of the rows of a table, whose form the spec
    tells then, and what the catalogue says of the model of them.
    """
    names = (spec.model_map, spec.override_model)
    defaults = Defaults(
        spec.model,
        spec.max_tokens,
        *names,
        drop_last_assistant=spec.drop_last_assistant,
        service_tier=spec.service_tier,
        max_tokens_field=spec.max_tokens_field,
        endpoint=spec.endpoint,
        whole=spec.origin is not None,
    )
    if spec.task is None:
        if spec.escalate is not None:
            draft.may_ask(spec.escalate)
        return spec, _checkable(spec, read(source, defaults))
    model = defaults.model_for(None)
    table = open_table(draft.keep_table(source), spec.source, spec.task.form)
    known = known or given_prices(spec)
    task = fitted(
        spec.task.model_copy(update={"form": table.form}),
        known.models.get(model or "") if known else None,
    )
    asker = Asker(task, model, spec.max_tokens, tier=spec.service_tier, limit=spec.max_tokens_field)
    if task.escalate is not None:
        draft.may_ask(task.escalate)
    lines = requests_of(asker, model or "", spec.max_tokens, table)
    return spec.model_copy(update={"task": task}), lines


def _checkable(spec: Spec, lines: Iterator[Request | Fault]) -> Iterator[Request | Fault]:
    """The same; where answers are to be checked, a schema that is none is a fault."""
    if not spec.check:
        return lines
    return (_with_its_schema(item) if isinstance(item, Request) else item for item in lines)


def _with_its_schema(request: Request) -> Request | Fault:
    try:
        is_checkable(request.body)
    except InvalidValue as error:
        return Fault(request.line, "input.schema", error.message, custom_id=request.custom_id)
    return request


def gold_of(draft: Draft, spec: Spec) -> dict[int, str]:
    """What is expected of some rows of a table, by their number."""
    task = spec.task
    if task is None or task.gold is None:
        return {}
    return read_gold(Path(task.gold), task, FileTable(draft.table, task.form, spec.source))


def _refuse(draft: Draft, report: Report, fault: Fault, spec: Spec) -> None:
    """Counts a fault; it is stored only where a job may come of it, whose errors it is among."""
    report.add(fault)
    if spec.skip_invalid:
        draft.refuse(fault)


class _Responses:
    """How requests for `/responses` are made; the endpoint is asked when the first one is read."""

    def __init__(self, spec: Spec, *, asks: bool) -> None:
        self.by = spec.responses_by
        self._base_url, self._asked = spec.base_url, not asks

    def checked(self, request: Request) -> Request | Fault:
        """The request, or why it cannot be made by chat if it must be."""
        if self.by == "auto" and not self._asked:
            self._asked = True
            self.by = "chat" if lacks_responses(self._base_url) else "auto"
        if self.by != "chat":
            return request
        try:
            to_chat(msgspec.json.decode(request.body))
        except Untranslatable as error:
            told = N_(
                "chat has no counterpart of {what}, and the endpoint is asked by chat for"
                " /responses; remove it, or set --responses-by native",
                what=error.what,
            )
            return Fault(request.line, "input.unsupported", told, custom_id=request.custom_id)
        return request


def _unbounded(request: Request) -> Fault:
    return Fault(
        request.line,
        "input.unbounded",
        N_(
            "the cost of {unbounded} has no upper bound, so no cap in roubles or tokens can"
            " be kept: remove the cap or this request, or set a bound: --request-bound-rub",
            unbounded=request.unbounded,
        ),
        custom_id=request.custom_id,
    )
