"""What the check of an input found, and the refusal of an input with faults."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from batch.estimator.estimate import Estimate
from batch.reading.fault_groups import Groups
from batch.reading.foreign_lines import command_line
from jobs.errors import InvalidInput
from jobs.job_options import Spec
from jobs.message import N_, Message, joined
from jobs.request import Fault, Form, Request
from jobs.table_task import TableForm

MOST_FAULTS = 1000
"""Faults that are listed one by one; more are only counted."""


_LOCAL_IMAGE = re.compile(rb'"image_url"\s*:\s*(?:\{[^{}]*?"url"\s*:\s*)?"(?!https?:|data:)[^"]')
"""The address of an image that is neither on the network nor the image itself."""


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
    uncheckable: int = 0
    """Those of a kind that cannot tell it."""
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
