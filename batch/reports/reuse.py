"""Answers that earlier jobs of a home got to what a new one asks: they are not bought again.

Alike is what asks the same model of the same endpoint the same in all members of its body. An
answer counts if nothing is odd about it, the model itself gave it, and it is valid by the rules of
the new job; one out of a pack only where the new job packs, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

from batch.reading.rewriting import in_line
from batch.reports.rows import Row, rows
from batch.store.call_units import REPAIRED
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from batch.store.staged_job import Draft, Given
from batch.tables.answer_judge import verdict_of
from batch.tables.answer_validation import Verdict
from jobs.job_options import Spec
from jobs.result import ResultState


def reuse(draft: Draft, home: Home, spec: Spec) -> int:
    """Gives the requests of a draft what earlier jobs were answered; returns how many."""
    if not spec.reuse:
        return 0
    draft.look_for_answers()
    for store in home.stores(newest_first=True):
        if not draft.unanswered:
            break
        job = store.job()
        if job.spec.base_url == spec.base_url and job.completed and _may_share(job.spec, spec):
            with store.snapshot():
                _take_over(store, job, draft, spec)
    return draft.reused


def _may_share(earlier: Spec, spec: Spec) -> bool:
    return _may_see(earlier, spec) and (_packs(spec) or not _packs(earlier))


def _may_see(earlier: Spec, spec: Spec) -> bool:
    """A client of the Batch API sees nothing of others."""
    mine = spec.origin
    return mine is None or (earlier.origin is not None and earlier.origin.key == mine.key)


def _packs(spec: Spec) -> bool:
    return spec.task is not None and (spec.task.pack > 1 or spec.task.auto_pack)


def _take_over(store: JobStore, job: JobRow, draft: Draft, spec: Spec) -> None:
    """From one job; where none of its requests is asked again, its answers are not looked at."""
    sent = _bodies(store, job)
    kind = store.queue.kind
    if not any(draft.asking(sent(n, model), model, kind(n)) for n, model in store.queue.answered()):
        return
    others, now, check = set(store.units.escalated()), time.time(), verdict_of(spec)
    for row in rows(store, finished=True):
        if not _is_sound(row) or row.line in others:
            continue
        body = sent(row.ordinal, row.model)
        asking = draft.asking(body, row.model, kind(row.ordinal))
        verdict = check(body, row.body) if asking else Verdict()
        for ordinal in asking if not verdict.problem else ():
            draft.give(_given(ordinal, row, job.id, now, repaired=verdict.repaired))


def _bodies(store: JobStore, job: JobRow) -> Callable[[int, str], bytes]:
    """A request's body as it was sent, by its ordinal and model."""
    if not job.spec.revised:
        return lambda ordinal, _: store.queue.body(ordinal)
    bounds, field = store.queue.output_bound, job.spec.max_tokens_field
    return lambda n, model: in_line(
        store.queue.body(n), model, bounds(n), field, store.queue.kind(n)
    )


def _is_sound(row: Row) -> bool:
    answered = row.state is ResultState.COMPLETED and row.copy_of is None
    return answered and set(row.flags) <= {REPAIRED}


def _given(ordinal: int, row: Row, job: str, now: float, *, repaired: bool) -> Given:
    return Given(
        ordinal,
        row.body,
        job,
        _cost(row),
        now,
        row.status,
        row.request_id,
        REPAIRED if repaired else "",
    )


def _cost(row: Row) -> Decimal | None:
    """What an answer had cost where it was bought; None where nobody knows."""
    if row.reused_from is not None:
        return row.saved
    return None if row.unknown else row.cost
