"""nightshift show"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import click

from batch.cli.click_help import Command
from batch.cli.shared_options import COUNT, complete_job, open_home, plain_option
from batch.cli.terminal import fitted, safe, say, tell, tell_json
from batch.language import _, decimal, exact, ngettext, number, zoned
from batch.reports.output_lines import line_of
from batch.reports.request_text import answer_of, prompt_of, rest_of
from batch.reports.rows import Row, row_of
from batch.store import messages, request_search
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.store.request_search import CallFacts, Notable
from jobs.errors import NoSuchJob, UsageError
from jobs.message import N_
from jobs.request_kinds import KINDS
from jobs.result import ResultState

HELP = N_("""\
Show one request of JOB: prompt, answer, calls and cost. Or list those worth a look,
or browse all of them on a page that this machine alone can open.

ROW is a custom_id or an input line (for a table: its row number). Without ROW the first failed
request is shown. Nothing is sent.

\b
  nightshift show latest 17
  nightshift show latest --failed
  nightshift show latest --costliest --limit 5
  nightshift show latest r-17 --json | jq .response
  nightshift show latest --open
""")

_LISTED = 20
_BEGINNING = 60


@click.command("show", cls=Command, help=HELP)
@click.argument("job", metavar="[JOB]", default="latest", shell_complete=complete_job)
@click.argument("row", metavar="[ROW]", required=False)
@plain_option("--failed", "kind", flag_value=Notable.FAILED.value, help=N_("List failed requests."))
@plain_option(
    "--truncated", "kind", flag_value=Notable.TRUNCATED.value, help=N_("List truncated answers.")
)
@plain_option(
    "--flagged", "kind", flag_value=Notable.FLAGGED.value, help=N_("List answers with a flag.")
)
@plain_option("--slowest", "kind", flag_value=Notable.SLOWEST.value, help=N_("List the slowest."))
@plain_option(
    "--costliest", "kind", flag_value=Notable.COSTLIEST.value, help=N_("List the most expensive.")
)
@plain_option("--limit", **COUNT, default=_LISTED, show_default=True, help=N_("List at most N."))
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON, one line per request."))
@plain_option("--open", "opened", is_flag=True, help=N_("Browse all requests on a local page."))
def command(
    job: str, row: str | None, kind: str | None, limit: int, *, as_json: bool, opened: bool
) -> int:
    """See HELP."""
    home = open_home()
    job_id = _find(home, job, row)
    if opened:
        from batch.viewing.server import serve  # loads the server

        serve(home, job_id, row, kind, browse=sys.stdout.isatty())
        return 0
    with closing(home.open(job_id, read_only=True)) as store:
        if kind is not None:
            _list(store, request_search.notable(store.db, Notable(kind), limit), as_json=as_json)
            return 0
        ordinal = (
            request_search.first(store.db) if row is None else request_search.find(store.db, row)
        )
        if ordinal is None:
            raise UsageError(
                N_("{job} has no request {row!r}", job=job_id, row=row)
                if row
                else N_("{job} has no requests", job=job_id),
                hint=N_("nightshift show {job} --failed lists those that failed", job=job_id),
            )
        if as_json:
            tell_json(_for_programs(store, ordinal))
        else:
            _show(store, ordinal)
    return 0


def _for_programs(store: JobStore, ordinal: int) -> dict[str, Any]:
    row = row_of(store, ordinal)
    body, _limit = store.queue.original(ordinal)
    ended: dict[str, Any] = {} if row.state is None else json.loads(line_of(row, store.job().id))
    return {
        "version": 1,
        "custom_id": row.custom_id,
        "line": row.line,
        "state": "pending" if row.state is None else row.state.value,
        "body": json.loads(body),
        "response": ended.get("response"),
        "error": ended.get("error"),
        "nightshift": ended.get("nightshift"),
        "calls": [call._asdict() for call in request_search.calls_of(store.db, ordinal)],
    }


def _find(home: Home, job: str, row: str | None) -> str:
    """The job's id. A row alone is told how to name it."""
    try:
        return home.find(job)
    except NoSuchJob as error:
        if row is None and home.job_ids():
            way = N_("for that request of the latest job: nightshift show latest {row}", row=job)
            raise NoSuchJob(error.message, hint=way) from None
        raise


def _list(store: JobStore, ordinals: list[int], *, as_json: bool) -> None:
    if not ordinals:
        say(_("no such requests"))
    for ordinal in ordinals:
        if as_json:
            tell_json(_for_programs(store, ordinal))
            continue
        row = row_of(store, ordinal)
        what = row.code or ",".join(row.flags) or _state(row)
        words = _(messages.read(store.db, row.message)) or answer_of(row)
        facts = f"{number(row.line):>8}  {fitted(safe(row.custom_id), 24):<24}  {safe(what)}"
        cost = _("{rub} ₽").format(rub=exact(row.cost))
        time = _("{seconds} s").format(seconds=decimal(row.latency_s, 1))
        tell(f"{facts}  {cost}  {time}  {fitted(safe(' '.join(words.split())), _BEGINNING)}")


def _show(store: JobStore, ordinal: int) -> None:
    row, job = row_of(store, ordinal), store.job()
    body, limit = store.queue.original(ordinal)
    tell(
        _("line {line} of {job}, custom_id {custom_id}").format(
            line=number(row.line), job=job.id, custom_id=safe(row.custom_id)
        )
    )
    request = json.loads(body)
    for who, said in prompt_of(request):
        _block(safe(who), said)
    rest = rest_of(request)
    rest |= {} if limit is None else {KINDS[store.queue.kind(ordinal)].bounds[0]: limit}
    tell(f"  {safe(json.dumps(rest, ensure_ascii=False))}")
    tell("")
    tell(f"{_state(row)}{_why(row, messages.read(store.db, row.message))}")
    if text := answer_of(row):
        _block(_("answer"), text)
    if row.flags:
        tell(_("flags: {flags}").format(flags=safe(", ".join(row.flags))))
    if row.copy_of is not None:
        tell(_("answered as a copy of {custom_id}").format(custom_id=safe(row.copy_of)))
    if row.reused_from is not None:
        tell(_("answered in {job}").format(job=row.reused_from))
    _tell_calls(row, request_search.calls_of(store.db, ordinal))
    for told, kind in _next_kinds():
        line = request_search.next_line(store.db, kind, ordinal)
        if line is not None:
            say(told.format(line=number(line)) + f"  nightshift show {job.id} {line}")


def _next_kinds() -> list[tuple[str, Notable]]:
    return [
        (_("next failed: line {line}"), Notable.FAILED),
        (_("next truncated: line {line}"), Notable.TRUNCATED),
    ]


def _tell_calls(row: Row, calls: list[CallFacts]) -> None:
    told = ngettext("cost {rub} ₽, {count} attempt", "cost {rub} ₽, {count} attempts", row.attempts)
    tell(told.format(rub=exact(row.cost), count=number(row.attempts)))
    for call in calls:
        tell("  " + ", ".join(_facts(call)))


def _facts(call: CallFacts) -> Iterator[str]:
    yield zoned(call.sent_at)
    yield _("{seconds} s").format(seconds=decimal(call.latency_s, 1))
    if call.code or call.status:
        yield " ".join(filter(None, (f"HTTP {call.status}" if call.status else "", call.code)))
    if call.cost is not None:
        yield _("{rub} ₽").format(rub=exact(Decimal(call.cost)))
    else:
        bound = "?" if call.bound is None else exact(Decimal(call.bound))
        yield _("cost unknown, at most {rub} ₽").format(rub=bound)
    if call.prompt is not None:
        yield _("{prompt} + {completion} tokens").format(
            prompt=number(call.prompt), completion=number(call.completion or 0)
        )
    if call.provider:
        yield safe(call.provider)
    if call.generation_id:
        yield safe(call.generation_id)


def _state(row: Row) -> str:
    return {
        None: _("not answered yet"),
        ResultState.COMPLETED: _("answered"),
        ResultState.FAILED: _("failed"),
    }[row.state]


def _why(row: Row, message: str) -> str:
    if row.state is not ResultState.FAILED:
        return ""
    status = f" (HTTP {row.status})" if row.status else ""
    return f": {safe(row.code)}{status}: {safe(_(message))}"


def _block(title: str, text: str) -> None:
    tell(f"  {title}:")
    for line in text.splitlines() or [""]:
        tell(f"    {safe(line)}", 4)
