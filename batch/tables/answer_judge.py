"""Who judges the answers of a job: made of its spec, once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from batch.store.call_units import Judge
from batch.store.jobstore import JobStore
from batch.tables import response_format
from batch.tables.answer_validation import Verdict, check_of, text_of
from batch.tables.followup import Ladder
from batch.tables.reask import Judging, Rungs
from batch.tables.row_requests import Asker
from jobs.job_options import Spec
from jobs.table_task import Task


def judge_of(job_id: str, spec: Spec) -> Judge | None:
    """The judge of a job's answers; None where any answer will do."""
    task = spec.task
    if task is None:
        return _rungs(spec.repairs, spec.escalate) if spec.check else None
    return _ladder_of(job_id, spec, task) if task.checked else None


def verdict_of(spec: Spec) -> Judging:
    """What a job holds of a raw answer to a request that is asked alone."""
    task = spec.task
    if task is None and spec.check:
        return response_format.judged
    if task is None or not task.checked:
        return lambda _request, _answer: Verdict()
    check = check_of(task)
    return lambda _request, answer: check(text_of(answer))


Own = Callable[[int, tuple[int, ...], bytes], bytes]
"""What of a raw answer is a request's own, by its ordinal and those of all who had the call."""


def own_answers(store: JobStore) -> Own | None:
    """None where all of an answer is always its request's own."""
    job = store.job()
    task = job.spec.task
    if task is None or task.pack == 1:
        return None
    return _ladder_of(job.id, job.spec, task).own


@lru_cache(64)
def _rungs(repairs: int, escalate: str | None) -> Rungs:
    return Rungs(response_format.judged, repairs, escalate, response_format.is_russian)


def _ladder_of(job_id: str, spec: Spec, task: Task) -> Ladder:
    how = (spec.model, spec.max_tokens, spec.service_tier, spec.max_tokens_field)
    return _ladder(job_id, task, *how)


@lru_cache(64)
def _ladder(
    job_id: str,
    task: Task,
    model: str | None,
    max_tokens: int | None,
    tier: str | None,
    limit: str | None,
) -> Ladder:
    return Ladder(job_id, task, Asker(task, model, max_tokens, tier=tier, limit=limit))
