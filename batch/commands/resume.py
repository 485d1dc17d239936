"""nightshift resume"""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
from pydantic import ValidationError

from batch import embedded_redis, job_control
from batch.cli.click_help import Command
from batch.cli.click_options import (
    CHANGEABLE,
    FIXED,
    absolute,
    is_given,
    resume_options,
    values,
)
from batch.cli.confirmation import ask, costs_nothing, question, send_question, table
from batch.cli.exit_summary import NO_MODEL
from batch.cli.lowered_limits import tell_what_may_come
from batch.cli.progress_text import cost_line, state_word
from batch.cli.shared_options import (
    WORKERS,
    display_options,
    insecure_option,
    job_argument,
    open_home,
    option,
    patience_option,
    plain_option,
)
from batch.cli.spec_builder import read_deadline
from batch.cli.terminal import safe, say, tell, tell_json, width
from batch.commands.run import follow
from batch.credentials import key_fingerprint
from batch.endpoint_queries import check_reach
from batch.foreground import settle_job
from batch.language import _, capital, ngettext, number
from batch.local_processes import crew, leftovers_of
from batch.money.catalogue_prices import read_prices
from batch.money.pricefile import read_price_file
from batch.money.pricewatch import asked_for, form_of, keep
from batch.resume_plan import Again, codes_like, failures, plan
from batch.settings import Settings, check_key, read_settings
from batch.store.failure_causes import TRUNCATED
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from batch.store.revision import Revision
from batch.submission.known_models import check_listed
from jobs import headers
from jobs.address import check_base_url
from jobs.errors import ServiceUnavailable, UsageError
from jobs.job_commands import Change, Resume, Retry
from jobs.job_options import Spec
from jobs.lifecycle import Objected, Objection, decide
from jobs.message import N_
from jobs.option_declaration import Declared, nested
from jobs.pause_reasons import PauseReason
from jobs.prices import PriceList
from jobs.signing import joined, key_of
from jobs.stall import Stall
from jobs.states import JobState
from jobs.window import parse_window

HELP = N_("""\
Continue JOB after Ctrl-C, a crash, a pause or a cancel, or retry what failed.

Answered requests are sent again only with --retry truncated. The plan is shown first: what is sent
and what it may cost. On a terminal you are asked before anything is retried or may be paid for
twice. If a coordinator serves the data directory, it continues the job; otherwise this command does
so in the foreground.
Budget, hours and limits stay as they were, unless an option here changes them; the environment does
not, and the input file is no longer needed. Continuing after a price rise accepts the current
prices. If the job is running, a lower limit applies to everything not sent yet, and the command
prints what calls in flight may still cost.

\b
  nightshift resume latest
  nightshift resume latest --dry-run
  nightshift resume latest --budget-rub 800
  nightshift resume latest --retry failed
  nightshift resume latest --retry endpoint.5xx,system.*
  nightshift resume latest --retry truncated --max-tokens 4000
""")

_OWN_WAY = {"model_map", "override_model", "base_url", "price_file", "window", "deadline"}
_AS_THEY_ARE = [each for each in CHANGEABLE if each.path[0] not in _OWN_WAY]
"""Options that say what their field becomes, by themselves."""


@click.command("resume", cls=Command, help=HELP)
@job_argument
@plain_option(
    "--retry",
    multiple=True,
    metavar="failed|truncated|CODE",
    help=N_(
        "Retry failed requests (failed), those with this CODE (endpoint.5xx,system.*), or"
        " truncated answers (truncated, requires --max-tokens). An answer is kept until a better"
        " one arrives."
    ),
)
@plain_option("--retry-failed", is_flag=True, hidden=True)
@plain_option("--code", "codes", multiple=True, hidden=True)
@resume_options
@option(
    "--workers",
    **{**WORKERS, "help": N_("Worker processes to start if the job runs in this command.")},
)
@plain_option("--dry-run", is_flag=True, help=N_("Show the plan; change and send nothing."))
@plain_option("--json", "as_json", is_flag=True, help=N_("Print the plan as JSON."))
@option("-y", "--yes", is_flag=True, help=N_("Do not ask for confirmation before spending."))
@patience_option
@display_options
@insecure_option
def command(
    job: str,
    *,
    retry: tuple[str, ...],
    retry_failed: bool,
    codes: tuple[str, ...],
    header: tuple[str, ...],
    workers: int,
    dry_run: bool,
    as_json: bool,
    yes: bool,
    **changes: Any,
) -> int:
    """See HELP."""
    home, settings = open_home(), read_settings(os.environ)
    job_id = home.find(job)
    wanted = _wanted(retry, codes or (("*",) if retry_failed else ()))
    limit = changes["max_tokens"]
    changes |= {"max_tokens": None} if TRUNCATED in wanted else {}
    foreground = not home.is_coordinated(job_id)
    if foreground and not dry_run:
        _check_services(home, settings)
    with closing(home.open(job_id, read_only=dry_run)) as store:
        row = store.job()
        _check_fixed(row.spec, changes)
        _check_headers(row.spec, header, needed=foreground and not dry_run)
        change = _change(row.spec, changes, header)
        spec = change.applied(row.spec)
        _check_moved(row.spec, spec)
        _check_allowed(row, spec)
        runs = row.state is JobState.IN_PROGRESS and not foreground
        _check_budget(row, None if runs else changes["budget_rub"])
        revision = _revision(changes)
        retried = _retried(store, wanted, limit, revision)
        if row.ended and not row.left and not retried:
            code = _nothing_left(row, tried=bool(wanted))
            if not dry_run and store.uncertain.calls():
                _settle(home, settings, store, foreground=foreground)
            return code
        given = _prices_given(store, spec, changes["price_file"])
        told = given or (None if runs and not revision else _prices_told(store, spec, revision))
        _check_models(store, spec, told, revision)
        at_hand = None if runs else partial(leftovers_of, home, job_id)
        found = plan(store, spec, retried.codes, told, revision, retried.max_tokens, at_hand)
        sends = bool(retried) or not runs
        _show(found, sends=sends, as_json=as_json, dry_run=dry_run)
        if dry_run:
            return 0
        if sends and not yes:
            if sys.stdin.isatty():
                _agree(home, found)
            elif not costs_nothing(spec):
                raise UsageError(
                    N_("cannot ask whether to spend money: stdin is not a terminal"),
                    hint=N_("pass --yes"),
                )
        accepted = given is not None or row.reason == PauseReason.PRICE_RISE
        _apply(home, row, change, retried, _Beside(revision, told, accepted=accepted))
        if runs and spec != row.spec:
            tell_what_may_come(store)
    if not foreground:
        say(
            _("the job keeps running; follow it with:")
            if runs
            else _("the coordinator continues the job; follow it with:")
        )
        say(f"  nightshift watch {job_id}")
        return 0
    with crew(home, settings, spec, workers) as its:
        return follow(its, job_id)


class _Retried(NamedTuple):
    """What is sent again though it ended: failures with these codes, and with `max_tokens` the
    answers that were cut off below.
    """

    codes: tuple[str, ...]
    max_tokens: int | None

    def __bool__(self) -> bool:
        return bool(self.codes or self.max_tokens)


def _wanted(retry: tuple[str, ...], codes: tuple[str, ...]) -> list[str]:
    """Patterns of the codes to try again, and `truncated` for answers that were cut off."""
    named = [part for text in (*retry, *codes) for part in text.replace(",", " ").split()]
    return ["*" if part == "failed" else part for part in named]


def _retried(
    store: JobStore, wanted: list[str], max_tokens: int | None, revision: Revision
) -> _Retried:
    """Failures that are tried again: with another model also those that had none."""
    patterns, there = [part for part in wanted if part != TRUNCATED], failures(store)
    mended = {NO_MODEL} if revision.models or revision.override else set()
    codes = codes_like(patterns, there) if there else ()
    codes = tuple(dict.fromkeys((*codes, *(there.keys() & mended))))
    return _Retried(codes, _limit(store, max_tokens) if TRUNCATED in wanted else None)


def _limit(store: JobStore, max_tokens: int | None) -> int:
    """The limit under which cut answers are bought again, if it lets any of them be longer."""
    why = store.why()
    if not why.truncated:
        raise UsageError(N_("no answer of this job was truncated"))
    if max_tokens is None:
        raise UsageError(
            N_("truncated answers would be truncated again"),
            hint=N_(
                "set a higher limit: --retry truncated --max-tokens {better_limit}",
                better_limit=why.better_limit,
            ),
        )
    if not store.failures.truncated_below(max_tokens):
        raise UsageError(
            N_(
                "the truncated answers already had {max_tokens:,} tokens or more",
                max_tokens=max_tokens,
            ),
            hint=N_(
                "set a higher limit: --retry truncated --max-tokens {better_limit}",
                better_limit=why.better_limit,
            ),
        )
    return max_tokens


def _check_services(home: Home, settings: Settings) -> None:
    """What the foreground will need, before anything is changed."""
    if home.is_coordinated():
        raise UsageError(
            N_("another nightshift process is running another job in {folder}", folder=home.folder),
            hint=N_("wait for it to finish (nightshift status)"),
        )
    check_key(settings)
    if settings.redis_url is not None:
        embedded_redis.check(settings.redis_url)
    if home.is_copied():
        say(capital(_(Stall.COPIED.rule.meaning)))


def _nothing_left(row: JobRow, *, tried: bool) -> int:
    told = _("{job} is {state}; there is nothing left to send")
    say(told.format(job=row.id, state=state_word(row.state)))
    if row.failed:
        say("  " + _("--retry failed retries failed requests"))
    elif tried:
        say("  " + _("no request failed"))
    return 1 if row.failed or row.invalid else 0


def _settle(home: Home, settings: Settings, store: JobStore, *, foreground: bool) -> None:
    """What is left to do of a job that is over: to ask what calls of unknown outcome cost."""
    if not foreground:
        say(_("the coordinator is looking up the cost of unconfirmed calls"))
        return
    count = len(store.uncertain.calls())
    told = ngettext(
        "looking up the cost of {count} unconfirmed call",
        "looking up the cost of {count} unconfirmed calls",
        count,
    )
    say(told.format(count=number(count)))
    job = store.job()
    with crew(home, settings, job.spec, 1) as its:
        settle_job(its, job)
    job, left = store.job(), len(store.uncertain.calls())
    known = _("{known} confirmed; {cost}")
    say("  " + known.format(known=number(count - left), cost=cost_line(job)))


def _show(found: Again, *, sends: bool, as_json: bool, dry_run: bool) -> None:
    """On standard output what was asked for, on standard error what is good to know: not where a
    running job is given other limits, of which nothing is sent again.
    """
    if as_json:
        tell_json({**found.as_json(), "dry_run": dry_run}, indent=2)
        return
    show, stream = (tell, sys.stdout) if dry_run else (say, sys.stderr)
    for line in table(found, width(stream)) if sends or dry_run else ():
        show(line)


def _agree(home: Home, found: Again) -> None:
    """Also a job that was never begun needs a yes, where it costs something."""
    asked = question(found)
    if not asked and found.job.started_at is None and not costs_nothing(found.spec):
        asked = send_question(found.total.requests, found.spec)
    if asked:
        ask(home, found.job.id, asked)


def _prices_given(store: JobStore, spec: Spec, path: Path | None) -> PriceList | None:
    """Prices in a file, for those of the job's models that are in it."""
    if path is None:
        return None
    given = read_price_file(path, spec.usd_rate, now=time.time())
    known = store.prices()
    return given if known is None else known.kept_up(given)


def _prices_told(store: JobStore, spec: Spec, revision: Revision) -> PriceList | None:
    """What is asked now. Who goes on after a rise agrees to it, so then it must be known."""
    models = [revision.model(name) for name in asked_for(store)]
    if not models:
        return None
    try:
        return read_prices(spec.base_url, models, now=time.time(), form=form_of(spec))
    except ServiceUnavailable as error:
        if store.job().reason == PauseReason.PRICE_RISE:
            raise
        trouble = safe(_(error.message))
        say("  " + _("{trouble}; using the last known prices").format(trouble=trouble))
        return None


class _Beside(NamedTuple):
    """What changes with the job: its requests, and the prices that are known."""

    revision: Revision
    prices: PriceList | None
    accepted: bool

    def put(self, store: JobStore) -> None:
        if self.revision:
            store.revise(self.revision)
        if self.prices is not None:
            keep(store, self.prices, accepted=self.accepted)


def _apply(home: Home, row: JobRow, change: Change, retried: _Retried, beside: _Beside) -> None:
    """All of it or nothing. What the endpoint asked to wait for is not waited for any longer."""
    retry = [Retry(retried.codes, retried.max_tokens)] if retried else []
    job_control.command(home, row.id, change, *retry, Resume(mended=True), also=beside.put)


def _check_models(store: JobStore, spec: Spec, told: PriceList | None, revision: Revision) -> None:
    """Refuses new names that the endpoint does not list."""
    if told is not None and revision:
        models = (*store.queue.models_left(), *revision.models)
        check_listed(spec, map(revision.model, models), told)


def _revision(changes: dict[str, Any]) -> Revision:
    return Revision(changes["model_map"], changes["override_model"], changes["max_tokens"])


def _opened_by(spec: Spec, given: tuple[str, ...]) -> dict[str, Any]:
    """The job goes on with the key and the headers that are set here, if any are."""
    key = joined(key_fingerprint(os.environ), spec.key)
    if key_of(key) != key_of(spec.key) != "":
        say(
            "  "
            + _("continuing with the API key that is set now; it differs from the previous one")
        )
    return {"key": key, "headers": headers.names(given) or spec.headers}


def _check_allowed(row: JobRow, spec: Spec) -> None:
    """Whether the job could go on with this spec, if something were left to send."""
    job = replace(row, spec=spec, completed=0, failed=0)
    found = decide(job, Resume(mended=True), datetime.now(UTC))
    if isinstance(found, Objection) and not found.is_moot:
        raise Objected(found)


def _check_headers(spec: Spec, given: tuple[str, ...], *, needed: bool) -> None:
    """A job keeps only the names of its headers."""
    missing = sorted(set(spec.headers) - set(headers.names(given)))
    if missing and needed:
        again_each = " ".join(f"--header {name}=…" for name in missing)
        raise UsageError(
            N_(
                "the job was submitted with headers whose values are not stored: {missing}",
                missing=", ".join(missing),
            ),
            hint=N_("pass them again: {options}", options=again_each),
        )


def _check_moved(old: Spec, new: Spec) -> None:
    """Refuses an address where costs would be read otherwise, or where no API is."""
    if new.base_url == old.base_url:
        return
    if new.seller != old.seller:
        raise UsageError(
            N_(
                "--base-url: {now} reports costs in another way than {before}",
                now=new.base_url,
                before=old.base_url,
            ),
            hint=N_("submit a new job for it"),
        )
    check_reach(new.base_url)


def _check_budget(row: JobRow, cap: Decimal | None) -> None:
    if cap is not None and cap < row.settled_rub:
        raise UsageError(
            N_("{spent} already spent", spent=row.settled_rub), hint=N_("set a higher budget")
        )


def _check_fixed(spec: Spec, changes: dict[str, Any]) -> None:
    """What makes another job of it is refused; saying again what it is already is not."""
    for each in FIXED:
        if is_given(changes[each.name]) and not _is_so(spec, each, changes[each.name]):
            flag, stands = each.option.flag, each.of(spec)
            raise UsageError(
                N_("{flag} of a submitted job cannot be changed", flag=flag)
                if stands is None
                else N_(
                    "{flag} of a submitted job cannot be changed: {stands}",
                    flag=flag,
                    stands=safe(str(stands)),
                ),
                hint=N_(
                    "only limits, budget, hours, models and the address can be changed; for"
                    " anything else submit a new job"
                ),
            )


def _is_so(spec: Spec, option: Declared, given: Any) -> bool:
    """Whether the job has this already."""
    if option.of(spec) is None:
        return False
    found = within = spec.model_dump()
    for name in option.path[:-1]:
        within = within[name]
    within[option.path[-1]] = option.option.value if given is True else absolute(given)
    try:
        return Spec.model_validate(found) == spec
    except ValidationError:
        return False


def _address(text: str, spec: Spec) -> str:
    try:
        return check_base_url(text, insecure=spec.insecure_http)
    except ValueError as error:
        raise UsageError(N_("--base-url: {why}", why=error)) from None


def _change(spec: Spec, changes: dict[str, Any], header: tuple[str, ...]) -> Change:
    found = nested(values(changes, _AS_THEY_ARE))
    limits, budget = found.pop("limits", {}), found.pop("budget", {})
    fields = found | _opened_by(spec, header)
    if changes["base_url"] is not None:
        fields["base_url"] = _address(changes["base_url"], spec)
    revision = _revision(changes)
    if revision:
        models = {**spec.model_map, **revision.models}
        override = revision.override or spec.override_model
        fields |= {"revised": True, "model_map": models, "override_model": override}
    if changes["window"] is not None:
        try:
            fields["window"] = str(parse_window(changes["window"])) if changes["window"] else None
        except ValueError as error:
            raise UsageError(N_("--window: {why}", why=error)) from None
    if changes["deadline"] is not None:
        window, given = fields.get("window", spec.window), changes["deadline"]
        fields["deadline"] = read_deadline(given, window) if given else None
    return Change(limits, budget, fields)
