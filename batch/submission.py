"""From an input file to a job in the home: all of it checked before anything is sent."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import BinaryIO, Literal

import msgspec
from ulid import ULID

from batch.endpoint_queries import check_reach, lacks_responses
from batch.estimator.character_counts import Shape, shape_of
from batch.estimator.climbs import climbs_of
from batch.estimator.estimate import Estimate, Size, estimate, guess
from batch.estimator.limits_check import Bounds, outlook, rouble_ways
from batch.estimator.sample import Sampler
from batch.money import currency
from batch.money.balance import read_balance
from batch.money.caps import Caps, read_caps
from batch.money.pricefile import read_price_file
from batch.money.prices import NO_CATALOGUE, read_prices
from batch.money.pricewatch import form_of
from batch.reading.fault_groups import Groups
from batch.reading.foreign_lines import command_line
from batch.reading.reader import Defaults, read
from batch.reports.output_files import check_free, check_writable
from batch.reports.reuse import reuse
from batch.reports.table import place_beside
from batch.store.home import Home
from batch.store.staged_job import Draft
from batch.store.units import Asked
from batch.tables.file_kinds import FileTable, open_table
from batch.tables.gold import read_gold
from batch.tables.judge import judge_of
from batch.tables.requests import Asker, fitted, requests_of
from batch.tables.response_format import is_checkable
from jobs.errors import (
    InvalidInput,
    InvalidValue,
    ServiceUnavailable,
    StorageUnavailable,
    UsageError,
)
from jobs.job_options import Spec
from jobs.kinds import RESPONSES
from jobs.message import N_, Message, joined
from jobs.modelname import nearest, take_apart
from jobs.money import times
from jobs.prices import FLEX, PRIORITY, PriceList, margin
from jobs.request import Fault, Form, Request
from jobs.responses_as_chat import Untranslatable, to_chat
from jobs.table_task import MOST_PACKED, TableForm
from jobs.window import parse_window

MOST_FAULTS = 1000
"""Faults that are listed one by one; more are only counted."""

_LOCAL_IMAGE = re.compile(rb'"image_url"\s*:\s*(?:\{[^{}]*?"url"\s*:\s*)?"(?!https?:|data:)[^"]')
"""The address of an image that is neither on the network nor the image itself."""

SAMPLED = 20
"""Rows on which `--pack auto` compares, unless a sample is asked for."""

_TELL_EVERY = 20_000

_ASKING = (
    *("source", "base_url", "gateway", "model", "model_map", "override_model", "max_tokens"),
    "drop_last_assistant",
    *("skip_invalid", "dedupe", "reuse", "check", "repairs", "escalate"),
    *("service_tier", "max_tokens_field", "endpoint"),
    *("max_attempts", "never_pay_twice", "idle_timeout_s", "total_timeout_s"),
)
"""Fields of a spec that decide what is asked, and how: a job keeps them for good."""


@dataclass
class Report:
    """What the check of an input found."""

    requests: int = 0
    invalid: int = 0
    faults: list[Fault] = field(default_factory=list)
    groups: Groups = field(default_factory=Groups)
    warnings: Groups = field(default_factory=Groups)
    models: list[str] = field(default_factory=list)
    estimate: Estimate = field(default_factory=Estimate)
    copies: int = 0
    reused: int = 0
    unchecked: int = 0
    """Requests that do not tell what their answer must be, where answers are checked."""
    window: str | None = None
    table: TableForm | None = None
    responses_by: Literal["auto", "chat", "native"] = "auto"
    notes: list[str] = field(default_factory=list)
    first: int = 0
    """So many requests go first, and then the job rests; 0: none."""
    unread: str = ""
    """Why the prices could not be read, if so."""
    spec: Spec | None = None
    """The spec as it was taken in: with its currency."""

    def add(self, fault: Fault) -> None:
        """Counts a fault, and keeps it if there is room."""
        self.invalid += 1
        self.groups.add(fault)
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)

    def warn(self, request: Request) -> None:
        """Keeps what is odd about a request that will be sent."""
        local = request.unbounded == "image_url" and _LOCAL_IMAGE.search(request.body)
        told = N_("an image is a local path, which the endpoint cannot read; use a data: URL")
        for text in (*request.odd, *((told,) if local else ())):
            self.warnings.add(Fault(request.line, "warning", text))

    @property
    def form(self) -> Form | None:
        """What the file holds in place of chat requests, where at least half of its lines do."""
        most = self.groups.most_common()
        if most is None or 2 * most.count < self.requests + self.invalid:
            return None
        return most.first.form


class Refused(InvalidInput):
    """The input has faults; `report` lists them."""

    def __init__(self, source: str, report: Report) -> None:
        form, rest = report.form, report.requests
        super().__init__(_refusal(source, report), hint=_ways(source, form, rest=rest))
        self.report = report


class UnknownModels(UsageError):
    """The endpoint lists none of `models`; what it does list is in `listed`."""

    def __init__(
        self, message: Message, hint: Message, models: list[str], listed: Collection[str]
    ) -> None:
        super().__init__(message, hint=hint)
        self.models = models
        self.listed = listed


def _refusal(source: str, report: Report) -> Message:
    if report.form is not None:
        told = N_("{source} holds {what}; nothing was sent", source=source, what=report.form.told)
    elif report.invalid == 1:
        told = N_("{source}: 1 line cannot be sent; nothing was sent", source=source)
    else:
        told = N_(
            "{source}: {invalid:,} lines cannot be sent; nothing was sent",
            source=source,
            invalid=report.invalid,
        )
    return told


def _ways(source: str, form: Form | None, *, rest: int) -> Message:
    """What helps, a line each; to leave faulty lines out only where that leaves something."""
    hint = N_("fix them, or skip them: --skip-invalid") if rest else N_("fix them")
    if form is None:
        return hint
    told = N_("or run only the other {rest:,} requests: --skip-invalid", rest=rest)
    ways = [form.hint, command_line(form, source), told if rest and not form.whole else ""]
    return joined(filter(None, ways), "\n")


Tell = Callable[[int], None]


def new_job_id() -> str:
    """An id that sorts after all earlier ones."""
    return f"job_{str(ULID()).lower()}"


def submit(
    home: Home,
    job_id: str,
    spec: Spec,
    source: Path | BinaryIO,
    tell: Tell = lambda _: None,
    *,
    sample: int = 0,
    shape: Callable[[bytes], Shape] = shape_of,
) -> Report:
    """Checks and stores a job. It exists, whole, when this returns, and not at all if it raises.

    `sample` requests, spread over the file, are to go first. `shape` tells the size of a body.

    Raises `Refused` with all faults of the input, `UsageError` where spec and input do not fit,
    `StorageUnavailable` where the home or the output folder cannot be written.
    """
    spec = currency.settled(spec)
    check_free(Path(spec.output_dir))
    _check_unclaimed(home, job_id, spec, source)
    check_writable(Path(spec.output_dir))
    with _draft(home, job_id, spec) as draft:
        caps, sampler, known = _caps(home, spec), Sampler(shape), _offered(spec)
        spec, lines = _opened(draft, spec, source, known)
        gold = _gold(draft, spec)
        report = _fill(draft, spec, lines, tell, sampler, capped=caps.any)
        check_any_left(spec, report)
        draft.keep_gold(gold)
        prices = _prices(spec, report, known, capped=caps.any)
        spec = currency.decided(spec, prices)
        spec = _with_known_models(spec, draft, prices)
        report.models = draft.models()
        spec = _in_cheap_hours(spec, draft.models(), prices)
        if not sample and spec.task is not None and spec.task.auto_pack:
            sample = SAMPLED
        _estimate(draft, report, sampler, prices, spec, home, sample)
        _look_ahead(draft, report, prices, spec, caps)
        found = {"input_digest": draft.digest, "responses_by": report.responses_by}
        spec = spec.model_copy(update=found)
        report.notes += _answered_before(home, spec)
        if (beside := place_beside(spec)) is not None and not _is_free(home, beside):
            spec = spec.model_copy(update={"beside": False})
            told = N_(
                "{path} exists already, so the answered table will be in {folder}",
                path=beside,
                folder=spec.output_dir,
            )
            report.notes.append(told)
        draft.keep_samples(sampler.packed())
        guessed = report.estimate.guess
        report.first = draft.publish(spec, prices, time.time(), guessed, sample=sample)
        report.window, report.spec = spec.window, spec
    return report


def validate(
    home: Home,
    spec: Spec,
    source: Path | BinaryIO,
    *,
    priced: bool = False,
    tell: Tell = lambda _: None,
    shape: Callable[[bytes], Shape] = shape_of,
) -> Report:
    """The same check; nothing stays. With `priced`, the catalogue is asked for an estimate."""
    spec = currency.settled(spec)
    with _draft(home, new_job_id(), spec) as draft:
        caps, sampler = _caps(home, spec), Sampler(shape)
        known = _offered(spec) if priced else None
        spec, lines = _opened(draft, spec, source, known)
        report = _fill(draft, spec, lines, tell, sampler, capped=caps.any, asks=priced)
        prices = _prices(spec, report, known, capped=False) if priced else _given(spec)
        report.spec = spec = currency.decided(spec, prices)
        if priced:
            spec = _with_known_models(spec, draft, prices)
        _estimate(draft, report, sampler, prices, spec, home)
        if priced and not is_refused(spec, report):
            _look_ahead(draft, report, prices, spec, caps)
    return report


def _caps(home: Home, spec: Spec) -> Caps:
    """The caps that hold for the job."""
    return read_caps(home.folder).seen_by(spec.origin.key if spec.origin else "")


def check_any_left(spec: Spec, report: Report) -> None:
    """Refuses faults that are not to be skipped, and a file of which nothing is left."""
    if not report.requests and not report.invalid:
        raise InvalidInput(
            N_(
                "{source} contains no requests: it is empty or has only blank lines",
                source=spec.source,
            ),
            hint=N_("use a file with one request per line (docs/input.md)"),
        )
    if is_refused(spec, report):
        raise Refused(spec.source, report)


def is_refused(spec: Spec, report: Report) -> bool:
    """Whether faults keep the input from being sent, or nothing of it would be left."""
    whole = report.form is not None and report.form.whole
    skips = spec.skip_invalid and report.requests and not whole
    return not report.requests or (report.invalid > 0 and not skips)


def _with_known_models(spec: Spec, draft: Draft, prices: PriceList | None) -> Spec:
    """Refuses models that the endpoint does not list; an alias is what it means now, for good."""
    if prices is None:
        return spec
    check_listed(spec, draft.models(), prices)
    meant = {name: prices.aliases[name] for name in draft.models() if name in prices.aliases}
    if not meant:
        return spec
    draft.rename(meant)
    return spec.model_copy(update={"model_map": {**spec.model_map, **meant}, "revised": True})


def check_listed(spec: Spec, models: Iterable[str], prices: PriceList) -> None:
    """`UsageError` for models that the catalogue lacks, if it could be read; tells near names.

    A price by hand, and a name that is mapped to itself, say that the name is right all the same.
    """
    known = {*prices.models, *prices.listed}
    lacking = [
        name
        for name in dict.fromkeys(models)
        if not known.intersection(take_apart(name).listed) and spec.model_map.get(name) != name
    ]
    if not prices.listed or not lacking:
        return
    ways = [way for name in lacking[:_MOST_NAMED] for way in _near(name, prices.listed)]
    told = N_("other names: --model-map OLD=NEW for each, --override-model NAME for all")
    raise UnknownModels(
        N_(
            "{endpoint} tells no price for {models}: it lists no such model",
            endpoint=spec.base_url,
            models=_some(lacking),
        ),
        joined([*ways, told], "\n"),
        lacking,
        prices.listed,
    )


_MOST_NAMED = 5


def _near(name: str, listed: Collection[str]) -> list[str]:
    """The nearest names, and what to type for the first of them."""
    found = nearest(name, listed)
    if not found:
        return []
    told = N_("near {name} it lists {found}", name=name, found=", ".join(found))
    return [told, f"--model-map {shlex.quote(f'{name}={found[0]}')}"]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _estimate(
    draft: Draft,
    report: Report,
    sampler: Sampler,
    prices: PriceList | None,
    spec: Spec,
    home: Home,
    sample: int = 0,
) -> None:
    report.reused = reuse(draft, home, spec)
    report.copies = draft.drop_copies()
    found = estimate(
        *(map(Size._make, draft.sizes()), prices, margin(spec.max_price_rise)),
        answered_for=spec.request_bound_rub,
        beyond=climbs_of(spec, sample).beyond,
    )
    if prices and spec.off_peak:
        models = {name: price.at_off_peak() for name, price in prices.models.items()}
        prices = msgspec.structs.replace(prices, models=models)
    found.guess = guess(found, sampler.samples.values(), prices, spec, home.folder)
    found.in_flex = _in_flex(found, sampler, prices, spec, home)
    report.estimate = found


def _look_ahead(
    draft: Draft, report: Report, prices: PriceList | None, spec: Spec, caps: Caps
) -> None:
    """Refuses what cannot send a single request, and notes what will likely not be enough."""

    def sizes() -> Iterator[Size]:
        return map(Size._make, draft.sizes())

    found, now = report.estimate, datetime.now().astimezone()
    _check_budget(spec, found, Bounds(spec, found, sizes, prices), caps, prices)
    report.notes = outlook(spec, found, sizes, prices, caps, now, _balance(spec, found))


def _balance(spec: Spec, found: Estimate) -> Decimal | None:
    """₽ on the account; not asked for where there is nothing to hold it against."""
    if found.guess.likely is None or not found.requests:
        return None
    balance = read_balance(spec.base_url)
    return None if balance is None else times(balance, spec.rate)


def _in_flex(
    found: Estimate, sampler: Sampler, prices: PriceList | None, spec: Spec, home: Home
) -> Decimal | None:
    """₽ that it would likely cost in the endpoint's cheaper lane; None where there is none."""
    if prices is None or spec.service_tier is not None or found.guess.likely is None:
        return None
    if not any(price.sells(FLEX) for price in prices.models.values()):
        return None
    models = {name: price.in_lane(FLEX) for name, price in prices.models.items()}
    cheaper = msgspec.structs.replace(prices, models=models)
    likely = guess(found, sampler.samples.values(), cheaper, spec, home.folder).likely
    return likely if likely is not None and likely < found.guess.likely else None


def _in_cheap_hours(spec: Spec, models: list[str], prices: PriceList | None) -> Spec:
    """With `--off-peak`, the hours in which all the models cost less become the job's window."""
    if not spec.off_peak or not models:
        return spec
    known = prices.models if prices else {}
    tiers = [known[model].off_peak() if model in known else None for model in models]
    hours = {f"{tier.utc_start}-{tier.utc_end}@UTC" if tier else "" for tier in tiers}
    if len(hours) > 1 or "" in hours:
        without = ", ".join(model for model, tier in zip(models, tiers, strict=True) if not tier)
        raise UsageError(
            N_("no off-peak hours are known for {without}", without=without or "all these models"),
            hint=N_("remove --off-peak, or set the hours with --window"),
        )
    return spec.model_copy(update={"window": str(parse_window(hours.pop()))})


def _answered_before(home: Home, spec: Spec) -> list[str]:
    """What is to be said of an earlier job that asked the same; a program is told nothing."""
    if spec.origin is not None:
        return []
    for store in home.stores():
        job = store.job()
        if job.spec.input_digest == spec.input_digest and job.completed:
            text = N_(
                "the same input ran as {job}, with {completed:,} of {requests:,} answered; its"
                " results are in {output_dir}",
                job=job.id,
                completed=job.completed,
                requests=job.requests,
                output_dir=job.spec.output_dir,
            )
            return [text]
    return []


def _check_unclaimed(home: Home, job_id: str, spec: Spec, source: Path | BinaryIO) -> None:
    """Refuses a folder that waits for the results of a job that is not over.

    Who starts the same again after a stop means to go on, and would pay for all of it twice; who
    changed something since is told what, for it is not in that job.
    """
    if job_id in spec.output_dir or spec.origin is not None:
        return
    for store in home.stores():
        job = store.job()
        if job.spec.output_dir != spec.output_dir or job.ended:
            continue
        other = ", ".join(
            field for field in _ASKING if getattr(job.spec, field) != getattr(spec, field)
        )
        hint = N_(
            "continue it: nightshift resume {job}; or choose another --output-dir", job=job.id
        )
        if other:
            raise UsageError(
                N_(
                    "{output_dir} waits for the results of {job}, of which {finished:,} of"
                    " {requests:,} are done; it was submitted with another {other}",
                    output_dir=spec.output_dir,
                    job=job.id,
                    finished=job.finished,
                    requests=job.requests,
                    other=other,
                ),
                hint=hint,
            )
        if isinstance(source, Path) and source.stat().st_mtime > job.created_at:
            raise UsageError(
                N_(
                    "{output_dir} waits for the results of {job}, of which {finished:,} of"
                    " {requests:,} are done; it was submitted before {source} was changed",
                    output_dir=spec.output_dir,
                    job=job.id,
                    finished=job.finished,
                    requests=job.requests,
                    source=source,
                ),
                hint=hint,
            )
        raise UsageError(
            N_(
                "{output_dir} waits for the results of {job}, of which {finished:,} of"
                " {requests:,} are done",
                output_dir=spec.output_dir,
                job=job.id,
                finished=job.finished,
                requests=job.requests,
            ),
            hint=hint,
        )


def _is_free(home: Home, place: Path) -> bool:
    """Whether no file stands there, and no job is to write one."""
    if os.path.lexists(place):
        return False
    waiting = (store.job() for store in home.stores())
    return all(job.ended or place_beside(job.spec) != place for job in waiting)


@contextmanager
def _draft(home: Home, job_id: str, spec: Spec) -> Iterator[Draft]:
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


def _fill(
    draft: Draft,
    spec: Spec,
    lines: Iterator[Request | Fault],
    tell: Tell,
    sampler: Sampler,
    *,
    capped: bool,
    asks: bool = True,
) -> Report:
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
            report.unchecked += spec.check and not is_checkable(item.body)
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


def _opened(
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
    known = known or _given(spec)
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


def _offered(spec: Spec) -> PriceList | None:
    """What the catalogue says of the model that a table's rows ask, where that decides how they are
    asked; None where it can't be read: they are asked as of any model.
    """
    task, model = spec.task, spec.override_model or spec.model
    if task is None or not task.checked or model is None or _given(spec) is not None:
        return None
    names = [spec.model_map.get(model, model), *filter(None, [task.escalate])]
    try:
        return read_prices(
            spec.base_url,
            names,
            now=time.time(),
            form=form_of(spec)._replace(numbers_only=spec.currency is None),
        )
    except ServiceUnavailable:
        return None


def _gold(draft: Draft, spec: Spec) -> dict[int, str]:
    """What is expected of some rows of a table, by their number."""
    task = spec.task
    if task is None or task.gold is None:
        return {}
    return read_gold(Path(task.gold), task, FileTable(draft.table, task.form, spec.source))


@dataclass(frozen=True)
class Shown:
    """A request as it would be sent, and the lines or rows that it is for."""

    name: str
    prompt_bound: int
    body: bytes


@dataclass(frozen=True)
class Preview:
    """Some requests of an input; the spec tells the form of a table."""

    spec: Spec
    shown: list[Shown]


OTHERS = 3
"""Requests that are shown besides the first and the longest."""


def preview(home: Home, spec: Spec, source: Path | BinaryIO) -> Preview:
    """The first request, the longest, and some others; of packs what the first rows make.

    Raises `InvalidInput` where nothing could be sent, with the first fault.
    """
    with _draft(home, new_job_id(), spec) as draft:
        spec, lines = _opened(draft, spec, source, _offered(spec))
        first: list[Request] = []
        longest: Request | None = None
        others, dice, fault = list[Request](), Random(0), None  # noqa: S311  no secret
        for count, item in enumerate(each for each in lines):
            if isinstance(item, Fault):
                fault = fault or item
                continue
            if len(first) < MOST_PACKED:
                first.append(item)
            longest = item if longest is None or len(item.body) > len(longest.body) else longest
            if len(others) < OTHERS:
                others.append(item)
            elif (place := dice.randrange(count + 1)) < OTHERS:
                others[place] = item
    if longest is None:
        raise InvalidInput(
            N_(
                "{source} holds nothing that could be sent; the first fault: {fault}",
                source=spec.source,
                fault=fault.message,
            )
            if fault
            else N_("{source} holds nothing that could be sent", source=spec.source)
        )
    return Preview(spec, list(_shown(spec, first, longest, others)))


def _shown(
    spec: Spec, first: list[Request], longest: Request, others: list[Request]
) -> Iterator[Shown]:
    judge = judge_of("preview", spec)
    if judge is not None and spec.task is not None and spec.task.pack > 1:
        rows = [Asked(place, each.body) for place, each in enumerate(first[: spec.task.pack])]
        for unit in judge.units(rows):
            names = ", ".join(first[member].custom_id for member in unit.members)
            yield Shown(names, unit.prompt_bound, unit.body)
        return
    for each in dict.fromkeys((first[0], longest, *others)):
        yield Shown(each.custom_id, each.prompt_bound, each.body)


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


def _prices(
    spec: Spec, report: Report, known: PriceList | None, *, capped: bool
) -> PriceList | None:
    """What the models cost, unless that is `known`; where it can't be read, `report` says why."""
    given, models = _given(spec), report.models
    if not models:
        return None
    if known is not None and NO_CATALOGUE not in known.source:
        return known
    asked = [model for model in models if given is None or model not in given.models]
    if given is not None and not asked:
        return given
    try:
        form = form_of(spec)._replace(numbers_only=spec.currency is None)
        told = read_prices(spec.base_url, asked, now=time.time(), form=form)
    except ServiceUnavailable as error:
        report.unread = error.message
        # Without prices a job can run, only without a cap in roubles.
        if (capped or spec.budget.rub is not None) and spec.request_bound_rub is None:
            raise
        return given
    if NO_CATALOGUE in told.source:
        check_reach(spec.base_url)
    return told if given is None else given.kept_up(told)


def _given(spec: Spec) -> PriceList | None:
    if spec.price_file is None:
        return None
    return read_price_file(Path(spec.price_file), spec.usd_rate, now=time.time())


def _without(lane: str, prices: PriceList | None) -> list[str]:
    """The models that are not sold in a lane."""
    models = prices.models if prices else {}
    return sorted(name for name, price in models.items() if not price.sells(lane))


def _check_budget(
    spec: Spec, found: Estimate, bounds: Bounds, caps: Caps, prices: PriceList | None
) -> None:
    in_roubles = spec.budget.rub is not None or caps.any
    if in_roubles:
        currency.check_cap(spec)
    answered_for = spec.request_bound_rub is not None
    if in_roubles and found.unpriced and not answered_for:
        raise UsageError(
            N_(
                "{base_url} tells no price for {unpriced}, so no cap in roubles can be kept",
                base_url=spec.base_url,
                unpriced=", ".join(found.unpriced),
            ),
            hint=N_("check the model name, set its price (--price-file), or remove the cap"),
        )
    lacking = [] if spec.lane != PRIORITY else _without(PRIORITY, prices)
    if in_roubles and lacking and not answered_for:
        raise UsageError(
            N_(
                "{base_url} lists no price of {lacking} in the priority tier, so no cap in"
                " roubles can be kept",
                base_url=spec.base_url,
                lacking=", ".join(lacking),
            ),
            hint=N_("remove --service-tier or the cap, or set a bound: --request-bound-rub"),
        )
    unbounded = found.unbounded and not (answered_for and spec.budget.tokens is None)
    if unbounded and (in_roubles or spec.budget.tokens is not None):
        raise UsageError(
            N_("some requests do not set max_tokens, so no cap in roubles or tokens can be kept"),
            hint=_bounding(spec, found, bounds),
        )


def _bounding(spec: Spec, found: Estimate, bounds: Bounds) -> Message:
    """How the answers can be bounded so that all requests fit the budget."""
    if not spec.budget.rub:
        return N_("set --max-tokens")
    return rouble_ways(found, bounds, spec.budget.rub)
