"""The check of an input, told: what was found in it, what will be sent, and what it will cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from batch.cli.estimate_text import guess_lines
from batch.cli.spec_builder import open_source
from batch.cli.terminal import Say, counting_lines, safe, say, say_faults
from batch.estimator.character_counts import shape_of
from batch.estimator.tokenizer_file import counted_by
from batch.language import _, money, ngettext, number, zoned
from batch.money.caps import NO_CAPS, NewCaps
from batch.money.currency import is_sure
from batch.store.home import Home
from batch.submission.report import Refused, Report
from batch.submission.submit import submit
from jobs.gateways import UNKNOWN, USD
from jobs.job_options import Spec
from jobs.table_task import TableForm


def check_in(
    home: Home,
    job_id: str,
    spec: Spec,
    source: Path,
    sample: int = 0,
    tokenizer: Path | None = None,
    new_caps: NewCaps = NO_CAPS,
) -> Report:
    """Submits, and tells what was found; faults are listed before the error."""
    shape = counted_by(tokenizer) if tokenizer else shape_of
    say(_("checking {file}").format(file=safe(spec.source)))
    try:
        with counting_lines() as tell:
            report = submit(
                *(home, job_id, spec, open_source(source), tell),
                sample=sample,
                shape=shape,
                new_caps=new_caps,
            )
    except Refused as refusal:
        say_refused(refusal.report)
        raise
    if report.invalid:
        say_faults(report.groups)
    say_faults(report.warnings)
    say(job_id)
    say(f"  {requests_line(report)}")
    for line in (
        *plan_lines(report, spec),
        *estimate_lines(report),
    ):
        say(f"  {line}")
    return report


def say_refused(report: Report, tell: Say = say) -> None:
    """The faults of an input, unless they are one and the same, which the error tells."""
    if report.form is None or len(report.groups.found) > 1:
        say_faults(report.groups, tell)


def plan_lines(report: Report, spec: Spec) -> Iterator[str]:
    """How a table was read, in which money the endpoint counts, what is not sent, and when the rest
    is.
    """
    if report.table is not None:
        yield table_line(report.table)
    if told := money_line(report.spec or spec):
        yield told
    if report.copies:
        told = ngettext(
            "{count} of them is a duplicate and will not be sent",
            "{count} of them are duplicates and will not be sent",
            report.copies,
        )
        yield told.format(count=number(report.copies))
    if report.reused:
        told = ngettext(
            "{count} of them was answered in an earlier job and will not be sent",
            "{count} of them were answered in earlier jobs and will not be sent",
            report.reused,
        )
        yield told.format(count=number(report.reused))
    if report.unchecked:
        told = ngettext(
            "{count} of them has no response_format or text.format, so its answer is not checked",
            "{count} of them have no response_format or text.format, so their answers are not"
            " checked",
            report.unchecked,
        )
        yield told.format(count=number(report.unchecked))
    if report.uncheckable:
        told = ngettext(
            "{count} of them is for /embeddings or /completions, which take no schema, so its"
            " answer is not checked",
            "{count} of them are for /embeddings or /completions, which take no schema, so their"
            " answers are not checked",
            report.uncheckable,
        )
        yield told.format(count=number(report.uncheckable))
    if spec.off_peak and report.window:
        yield _("sent during off-peak hours: {window}").format(window=report.window)
    if spec.deadline is not None:
        until = zoned(spec.deadline.timestamp())
        yield _("nothing new is sent after {moment}").format(moment=until)


def table_line(form: TableForm) -> str:
    """How a table was read."""
    count = len(form.columns)
    named = ", ".join(map(safe, form.columns[:6])) + (", …" if count > 6 else "")
    columns = ngettext("{count} column: {names}", "{count} columns: {names}", count)
    told = columns.format(count=number(count), names=named)
    if form.kind == "xlsx":
        return _("sheet {sheet}, {columns}").format(sheet=safe(form.sheet or ""), columns=told)
    if form.kind != "csv":
        return told
    delimiter = {"\t": "TAB"}.get(form.delimiter, form.delimiter)
    return _("CSV in {encoding}, cells divided by {delimiter} ({columns})").format(
        encoding=form.encoding, delimiter=delimiter, columns=told
    )


def estimate_lines(report: Report) -> Iterator[str]:
    """What it will cost, and what will likely not be enough."""
    found = report.estimate
    if report.unread:
        told = safe(_(report.unread))
        yield _("could not fetch prices: {trouble}").format(trouble=told)
    yield from guess_lines(
        found.guess, found.unpriced, unread=bool(report.unread), in_flex=found.in_flex
    )
    for note in report.notes:
        yield _("note: {note}").format(note=_(note))


def money_line(spec: Spec) -> str:
    """How the endpoint's figures are taken; empty for a known gateway that counts in roubles."""
    host = safe(urlsplit(spec.base_url).hostname or "")
    if is_sure(spec):
        return ""
    if spec.money == UNKNOWN:
        told = _(
            "the currency of {host} is unknown, so its prices and costs are ignored (set"
            " --currency RUB, or --usd-rate for dollars)"
        )
        return told.format(host=host)
    if spec.money == USD:
        told = _("prices and costs of {host} are in dollars, at {rub} per dollar")
        return told.format(host=host, rub=money(spec.rate))
    return _("prices and costs of {host} are read as roubles (for dollars: --usd-rate)").format(
        host=host
    )


def requests_line(report: Report) -> str:
    """How many requests, to which models."""
    if not report.models:
        return _("no requests")
    models = ", ".join(safe(model) for model in report.models[:3])
    beyond = len(report.models) - 3
    if beyond > 0:
        more = ngettext("and {count} more model", "and {count} more models", beyond)
        models = f"{models} {more.format(count=number(beyond))}"
    told = ngettext("{count} request to {models}", "{count} requests to {models}", report.requests)
    return told.format(count=number(report.requests), models=models)
