"""What a resume sends again, and what that may cost: counted before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from batch.estimator.estimate import Size, estimate, likely_of
from batch.estimator.followup_bounds import climbs_of
from batch.money.cost_forecast import cost_of_all, cost_of_rest, shared_out
from batch.reports.cost_report import uncertain_json
from batch.store.jobstore import JobRow, JobStore
from batch.store.request_queue import Triple
from batch.store.resume_counts import Kind, alike_in, failed_by_code, opened
from batch.store.revision import UNREVISED, Revision
from jobs.budget import Amount
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.message import N_
from jobs.money import ZERO, add, plain, subtract
from jobs.prices import PriceList, margin
from jobs.undelivered import Leftovers

_ENDED = (Kind.FAILED, Kind.TRUNCATED)
_OPEN = (Kind.NEVER_SENT, Kind.CAME_BACK, Kind.UNCERTAIN, Kind.UNDER_WAY)
_TWICE = (Kind.UNCERTAIN, Kind.UNDER_WAY)


@dataclass(frozen=True)
class Group:
    """Requests that are sent for the same reason. ₽; None: no price, or nothing bounds it."""

    kind: Kind
    requests: int
    likely: Decimal | None
    highest: Decimal | None
    code: str = ""

    @property
    def twice(self) -> bool:
        """Whether an answer may be paid for that was paid for before."""
        return self.kind in _TWICE


@dataclass(frozen=True)
class Again:
    """All that a resume does, before it does it.

    `set_aside` ₽ are reserved for chunks that are out or lost. `left` is what stays of the caps
    for all that is sent, None in the parts without a cap. `answered` requests have their result at
    a worker, from where it comes first. Of a job that `runs` only what ended is sent again.
    """

    job: JobRow
    spec: Spec
    groups: list[Group]
    set_aside: Decimal
    left: Amount
    left_requests: int | None
    answered: int = 0
    runs: bool = False

    @property
    def total(self) -> Group:
        """All groups together."""
        everything = Group(Kind.NEVER_SENT, 0, ZERO, ZERO)
        for group in self.groups:
            everything = replace(
                everything,
                requests=everything.requests + group.requests,
                likely=_sum(everything.likely, group.likely),
                highest=_sum(everything.highest, group.highest),
            )
        return everything

    @property
    def twice(self) -> int:
        """Requests of which an answer may be paid for twice."""
        return sum(group.requests for group in self.groups if group.twice)

    def count(self, kind: Kind) -> int:
        """Requests that are sent for this reason."""
        return sum(group.requests for group in self.groups if group.kind is kind)

    def as_json(self) -> dict[str, Any]:
        """For `--json`; amounts are exact strings in ₽."""
        job, everything, budget = self.job, self.total, self.spec.budget
        return {
            "version": 1,
            "job": job.id,
            "state": job.state.value,
            "requests": job.requests,
            "completed": job.completed,
            "failed": job.failed,
            "send": [
                {
                    "group": group.kind.value,
                    **({"code": group.code} if group.code else {}),
                    **_figures(group),
                    "may_be_paid_twice": group.twice,
                }
                for group in self.groups
            ],
            "total": _figures(everything),
            "running": self.runs,
            "answered": self.answered,
            "forecast_rub": _plain(cost_of_all(job)),
            "spent_rub": plain(job.settled_rub),
            "uncertain": uncertain_json(job.unknown, job.unbounded, job.booked_rub),
            "set_aside_rub": plain(self.set_aside),
            "budget": {
                "rub": _plain(budget.rub),
                "tokens": budget.tokens,
                "requests": budget.requests,
            },
            "left": {
                "rub": _plain(self.left.rub),
                "tokens": self.left.tokens,
                "requests": self.left_requests,
            },
        }


def plan(
    store: JobStore,
    spec: Spec,
    codes: Iterable[str],
    told: PriceList | None,
    revision: Revision = UNREVISED,
    max_tokens: int | None = None,
    leftovers: Callable[[], Leftovers] | None = None,
) -> Again:
    """What going on with a job under this spec sends, and failures with one of these codes.

    With `max_tokens` also answers that were cut off at a lower limit. `leftovers`: what workers
    have of a job whose chunks may be with one; None for a job that runs, and goes on as it does.
    At the prices `told` just now, or the last known ones, and as a bound at whatever is dearer.
    """
    with store.snapshot():
        job = store.job()
        out = _handed_out(store, leftovers) if leftovers else _Out()
        chosen = [
            *((kind, json.dumps(out.by_kind[kind])) for kind in _OPEN if leftovers),
            *((Kind.FAILED, code) for code in codes),
            *([(Kind.TRUNCATED, str(max_tokens))] if max_tokens else []),
        ]
        prices = _prices(store, told)
        groups = [_group(store, kind, value, prices, spec, revision) for kind, value in chosen]
        groups = _foretold(groups, job)
        exposed = store.chunks.exposure()
    return Again(
        job,
        spec,
        [group for group in groups if group.requests],
        subtract(exposed.rub or ZERO, add(job.settled_rub, job.booked_rub)),
        _left(spec, exposed),
        _requests_left(spec, job, groups),
        out.answered,
        leftovers is None,
    )


class _Out:
    """What was handed out to workers: ordinals by why they are sent, and how many are answered."""

    def __init__(self) -> None:
        self.by_kind: dict[Kind, list[int]] = {kind: [] for kind in _OPEN}
        self.answered = 0

    def put(self, triples: Iterable[Triple], in_flight: Iterable[int]) -> None:
        """Requests of a chunk, some of which may be in flight."""
        flying = set(in_flight)
        for ordinal, attempts, uncertain in triples:
            waits = Kind.UNCERTAIN if uncertain else Kind.CAME_BACK if attempts else None
            kind = Kind.UNDER_WAY if ordinal in flying else waits or Kind.NEVER_SENT
            self.by_kind[kind].append(ordinal)


def _handed_out(store: JobStore, leftovers: Callable[[], Leftovers]) -> _Out:
    found, out = Leftovers([], [], []), _Out()
    chunks = [chunk for chunk in store.chunks.alive() if not chunk.lost]
    if any(not chunk.is_unspent for chunk in chunks):
        found = leftovers()
    known, answered = set(found.outboxes), set(found.answered)
    for chunk in chunks:
        triples = store.chunks.unfinished(chunk)
        if chunk.is_unspent:
            out.put(triples, ())
        elif (chunk.begun_by or "").split()[0] in known:
            out.answered += sum(triple[0] in answered for triple in triples)
            out.put((each for each in triples if each[0] not in answered), found.in_flight)
        else:
            spare = chunk.opened.tokens
            room = None if spare is None else max(spare - (chunk.spent.tokens or 0), 0)
            out.put(triples, opened(store.db, [each[0] for each in triples], room))
    return out


def retries(store: JobStore) -> list[Group]:
    """The failures of a job by code, each with what sending them again may cost."""
    with store.snapshot():
        spec, prices = store.job().spec, _prices(store)
        return [
            _group(store, Kind.FAILED, code, prices, spec, UNREVISED) for code in failures(store)
        ]


def _prices(store: JobStore, told: PriceList | None = None) -> PriceList | None:
    newest, accepted = told or store.prices(), store.accepted_prices()
    return newest.joined(accepted) if newest and accepted else newest


def failures(store: JobStore) -> dict[str, int]:
    """How many requests failed with each code."""
    return failed_by_code(store.db)


def codes_like(patterns: Iterable[str], there: dict[str, int]) -> tuple[str, ...]:
    """The codes among those `there` that fit a pattern such as `endpoint.5xx` or `system.*`.

    `UsageError` for a pattern that fits none: the user takes something for granted that is not so.
    """
    wanted = [part for text in patterns for part in text.replace(",", " ").split()]
    for pattern in wanted:
        if not any(fnmatchcase(code, pattern) for code in there):
            known = ", ".join(f"{code} ({count:,})" for code, count in there.items())
            raise UsageError(
                N_("no request failed with the code {pattern}", pattern=pattern),
                hint=N_("codes in this job: {known}", known=known)
                if known
                else N_("no request failed"),
            )
    return tuple(code for code in there if any(fnmatchcase(code, p) for p in wanted))


def _group(
    store: JobStore,
    kind: Kind,
    value: str,
    prices: PriceList | None,
    spec: Spec,
    revision: Revision,
) -> Group:
    limited = kind is Kind.TRUNCATED
    sizes = [
        revised(Size(alike, model, prompt, output, bool(bounded), pin), revision)
        for model, prompt, output, bounded, pin, alike in alike_in(store.db, kind, value)
    ]
    rise, beyond = margin(spec.max_price_rise), climbs_of(spec).beyond
    found = estimate(sizes, prices, rise, spec.request_bound_rub, beyond)
    return Group(
        kind,
        found.requests,
        # How long an answer is that was cut off, nobody knows.
        None if limited else likely_of(store, found, prices),
        found.highest,
        code=value if kind is Kind.FAILED else "",
    )


def revised(size: Size, revision: Revision) -> Size:
    """The same with another model, and a bound where it has none."""
    model = revision.model(size.model)
    longer = max(len(model) - len(size.model), 0)
    if size.output_bound is None:
        longer += revision.longer
    return size._replace(
        model=model,
        prompt_bound=size.prompt_bound + longer,
        output_bound=revision.bound(size.output_bound),
    )


def _foretold(groups: list[Group], job: JobRow) -> list[Group]:
    """What is left to send costs together what the forecast of the job leaves for it."""
    open_ones = [each for each in groups if each.kind not in _ENDED and each.requests]
    rest = cost_of_rest(job)
    if rest is None or not open_ones:
        return groups
    likely = [each.likely for each in open_ones if each.likely]
    by_price = len(likely) == len(open_ones)
    weights = likely if by_price else [Decimal(each.requests) for each in open_ones]
    parts = dict(zip(map(id, open_ones), shared_out(rest, weights), strict=True))
    return [replace(each, likely=parts.get(id(each), each.likely)) for each in groups]


def _left(spec: Spec, exposed: Amount) -> Amount:
    rub, tokens = spec.budget.rub, spec.budget.tokens
    return Amount(
        None if rub is None else max(subtract(rub, exposed.rub or ZERO), ZERO),
        None if tokens is None else max(tokens - (exposed.tokens or 0), 0),
    )


def _requests_left(spec: Spec, job: JobRow, groups: list[Group]) -> int | None:
    if spec.budget.requests is None:
        return None
    again = sum(group.requests for group in groups if group.kind in _ENDED)
    return max(spec.budget.requests - (job.finished - job.reused) + again, 0)


def _figures(group: Group) -> dict[str, Any]:
    return {
        "requests": group.requests,
        "likely_rub": _plain(group.likely),
        "at_most_rub": _plain(group.highest),
    }


def _sum(left: Decimal | None, right: Decimal | None) -> Decimal | None:
    return None if left is None or right is None else add(left, right)


def _plain(rub: Decimal | None) -> str | None:
    return None if rub is None else plain(rub)
