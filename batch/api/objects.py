"""The API's objects as JSON; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from batch.api.batch_options import unpack
from batch.api.batch_status import Facts, Standing
from batch.store.registry import FileRow
from jobs.money import plain
from jobs.states import JobState

Json = dict[str, Any]


def file_json(row: FileRow) -> Json:
    """A file. It is `processed` from the start: nothing is done with it before a batch wants it."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created_at),
        "expires_at": _moment(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
    }


def list_json(objects: Sequence[Json], *, more: bool) -> Json:
    """A page of a list."""
    ids = [each["id"] for each in objects]
    return {
        "object": "list",
        "data": list(objects),
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": more,
    }


def batch_json(standing: Standing) -> Json:
    """A batch, with every key of the API present."""
    row, facts, status = standing.row, standing.facts, standing.status
    errors = None if row.errors is None else {"object": "list", "data": json.loads(row.errors)}
    over = standing.ended
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "model": facts and facts.model,
        "errors": errors,
        "input_file_id": row.input_file,
        "completion_window": row.completion_window,
        "status": status,
        "output_file_id": row.output_file if over else None,
        "error_file_id": row.error_file if over else None,
        "created_at": int(row.created_at),
        "expires_at": int(row.expires_at),
        **_moments(standing, status),
        "request_counts": _counts(facts),
        "metadata": {} if row.metadata is None else json.loads(row.metadata),
        "usage": _usage(facts.tokens if facts else {}),
        "nightshift": _own(standing),
    }


def _moment(at: float | None) -> int | None:
    return None if at is None else int(at)


def _moments(standing: Standing, status: str) -> Json:
    row, facts = standing.row, standing.facts
    ended = facts.ended_at if facts else row.ended_at
    finalizing = None
    if facts is not None and status in ("finalizing", "completed"):
        finalizing = ended or facts.changed_at
    cancelling = row.cancelling_at
    if status in ("cancelling", "cancelled") and cancelling is None and facts is not None:
        cancelling = ended or facts.changed_at
    return {
        "in_progress_at": _moment(facts.created_at if facts else None),
        "finalizing_at": _moment(finalizing),
        "completed_at": _moment(ended if status == "completed" else None),
        "failed_at": _moment(ended if status == "failed" else None),
        "expired_at": _moment(ended if status == "expired" else None),
        "cancelling_at": _moment(cancelling),
        "cancelled_at": _moment(ended if status == "cancelled" else None),
    }


def _counts(facts: Facts | None) -> Json:
    """Requests that were not run are neither completed nor failed, as at OpenAI."""
    if facts is None:
        return {"total": 0, "completed": 0, "failed": 0}
    return {"total": facts.requests, "completed": facts.completed, "failed": facts.failed}


def _usage(tokens: dict[str, int]) -> Json:
    given, made = tokens.get("prompt", 0), tokens.get("completion", 0)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": tokens.get("cached", 0)},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": tokens.get("reasoning", 0)},
        "total_tokens": given + made,
    }


def _own(standing: Standing) -> Json:
    """What OpenAI's API has no place for: money, and the job."""
    facts = standing.facts
    if facts is None:
        return _own_without_job(standing)
    paused = facts.state is JobState.PAUSED
    source = "upper_bound" if facts.unknown else "endpoint" if facts.cost else "none"
    return {
        "job": standing.row.job,
        "state": facts.state.value,
        "paused_by": facts.reason if paused else None,
        "cost_rub": plain(facts.cost),
        "cost_source": source,
        "uncertain_rub": plain(facts.uncertain),
        "budget_rub": None if facts.budget is None else plain(facts.budget),
        "forecast": None if facts.forecast is None else {"cost_rub": plain(facts.forecast)},
    }


def _own_without_job(standing: Standing) -> Json:
    """The same keys before there is a job, and where there never was one."""
    budget = unpack(standing.row.wishes).budget_rub
    return {
        "job": None,
        "state": standing.status,
        "paused_by": None,
        "cost_rub": "0",
        "cost_source": "none",
        "uncertain_rub": "0",
        "budget_rub": None if budget is None else plain(budget),
        "forecast": None,
    }
