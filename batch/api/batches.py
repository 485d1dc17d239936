"""Routes of batches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from shutil import rmtree
from urllib.parse import urlsplit

from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from batch import job_control
from batch.api.api_errors import conflict, invalid, no_batch, wrong_value
from batch.api.batch_options import Asked, pack, read_asked
from batch.api.batch_status import STATUSES, Standing
from batch.api.context import Desk, new_id
from batch.api.objects import batch_json, list_json
from batch.api.request_reading import (
    desk_of,
    json_body,
    lines_asked,
    tenant_of,
    told_so_far,
    whole_number,
)
from batch.notifications import delivery_log
from batch.removal import remove
from batch.reports import answered_lines
from batch.store import registry
from batch.store.registry import BatchRow
from batch.submission.submit import new_job_id
from jobs.errors import StorageUnavailable, UsageError
from jobs.job_commands import Change, Resume, Retry
from jobs.lifecycle import Objected
from jobs.notify import Notify

_MOST, _USUAL = 100, 20
_MOST_LINES = 1_000
_LONGEST_NAME = 255
_RETRIES_S = 3600.0
"""So long an SDK may try one call again: its timeout is ten minutes, and it tries three times."""

_UNHEARD_S = 24 * 3600.0


async def create(request: Request) -> Response:
    """POST /v1/batches: on disk when it is answered, and never made twice for one wish."""
    desk, tenant = desk_of(request), tenant_of(request)
    asked = read_asked(await json_body(request), request.headers)
    name = request.headers.get("idempotency-key")
    if name is not None and not 0 < len(name) <= _LONGEST_NAME:
        raise invalid("The Idempotency-Key must have 1 to 255 characters.")
    _check_wishes(desk, tenant, asked)
    retried = request.headers.get("x-stainless-retry-count", "0") not in ("", "0")
    row = await run_in_threadpool(_create, desk, tenant, asked, name, retried)
    desk.wake()
    standing = await run_in_threadpool(desk.stand, row)
    heard = not await request.is_disconnected()
    task = BackgroundTask(desk.registry.told, row.id) if heard else None
    return JSONResponse(batch_json(standing), background=task)


def _create(
    desk: Desk,
    tenant: str,
    asked: Asked,
    name: str | None,
    retried: bool,  # noqa: FBT001
) -> BatchRow:
    now = time.time()
    with desk.registry.transaction():
        known = _known(desk, tenant, asked, name, now, retried=retried)
        if known is None:
            known = _row(tenant, asked, name, now)
            desk.registry.add_batch(known)
    return known


def _known(
    desk: Desk, tenant: str, asked: Asked, name: str | None, now: float, *, retried: bool
) -> BatchRow | None:
    """The batch that this very request made before.

    So named; or asked for alike by an SDK that tries again, or by anybody who never had the reply.
    """
    if name is not None:
        found = desk.registry.named(tenant, name)
        if found is not None and found.digest != asked.digest:
            raise conflict("This Idempotency-Key was used for a batch with other parameters.")
        return found
    found = desk.registry.alike(tenant, asked.digest)
    if found is None or found.cancelling_at is not None:
        return None
    patience = _UNHEARD_S if not found.told else _RETRIES_S if retried else 0.0
    # Zero is never; a clock that was put back would make it so.
    return found if patience and now - found.created_at < patience else None


def _row(tenant: str, asked: Asked, name: str | None, now: float) -> BatchRow:
    return BatchRow(
        seq=0,
        id=new_id("batch_"),
        tenant=tenant,
        job=new_job_id(),
        input_file=asked.input_file_id,
        endpoint=asked.endpoint,
        completion_window=asked.completion_window,
        created_at=now,
        expires_at=now + asked.window_s,
        metadata=None if asked.metadata is None else json.dumps(asked.metadata, ensure_ascii=False),
        wishes=pack(asked.wishes),
        output_expires_s=asked.output_expires_s,
        idempotency=name,
        digest=asked.digest,
        told=0,
        state=registry.VALIDATING,
        tries=0,
        cancelling_at=None,
        ended_at=None,
        errors=None,
        output_file=None,
        error_file=None,
        facts=None,
        closed=0,
    )


def _check_wishes(desk: Desk, tenant: str, asked: Asked) -> None:
    """A tenant may not take more of the pace than its key has, nor have us call any host."""
    key, wishes = desk.registry.key(tenant), asked.wishes
    if key is not None and wishes.priority is not None and wishes.priority > key.priority:
        told = f"Invalid 'nightshift_priority': this key may ask for up to {key.priority:g}."
        raise invalid(told, "metadata.nightshift_priority", "invalid_value")
    if wishes.webhook is None:
        return
    try:
        Notify(url=wishes.webhook)
    except ValidationError as error:
        told = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise invalid(told, "metadata.nightshift_webhook", "invalid_value") from None
    if key is not None and _host(wishes.webhook) != _host(key.webhook or ""):
        told = "Invalid 'nightshift_webhook': it must be at the host of this key's own webhook."
        raise invalid(told, "metadata.nightshift_webhook", "invalid_value")


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _find(desk: Desk, tenant: str, batch_id: str) -> BatchRow:
    row = desk.registry.batch(batch_id)
    if row is None or row.tenant != tenant:
        raise no_batch(batch_id)
    return row


def page(request: Request) -> Response:
    """GET /v1/batches"""
    desk, tenant = desk_of(request), tenant_of(request)
    limit = whole_number(request, "limit", _USUAL, _MOST)
    after = request.query_params.get("after")
    place = None if after is None else _place(desk, tenant, after)
    status = request.query_params.get("status")
    if status is not None and status not in STATUSES:
        raise wrong_value("status", status, ", ".join(f"'{each}'" for each in STATUSES))
    found = list(islice(_of_status(desk, tenant, place, status), limit + 1))
    objects = [batch_json(standing) for standing in found[:limit]]
    return JSONResponse(list_json(objects, more=len(found) > limit))


def _of_status(
    desk: Desk, tenant: str, place: int | None, status: str | None
) -> Iterator[Standing]:
    """A tenant's batches from a place on, the newest first, read as they are taken."""
    while rows := desk.registry.batches(tenant, after=place, limit=_MOST + 1):
        for row in rows:
            standing = desk.stand(row)
            if status in (None, standing.status):
                yield standing
        place = rows[-1].seq


def _place(desk: Desk, tenant: str, after: str) -> int:
    place = desk.registry.place("batches", tenant, after)
    if place is None:
        raise invalid(f"No batch found with id '{after[:100]}'.", "after")
    return place


def retrieve(request: Request) -> Response:
    """GET /v1/batches/{id}"""
    desk = desk_of(request)
    row = _find(desk, tenant_of(request), request.path_params["id"])
    return JSONResponse(batch_json(desk.stand(row)))


def cancel(request: Request) -> Response:
    """POST /v1/batches/{id}/cancel"""
    desk = desk_of(request)
    standing = desk.stand(_find(desk, tenant_of(request), request.path_params["id"]))
    row = standing.row
    if standing.status in ("completed", "failed", "expired"):
        raise conflict(f"Cannot cancel a batch with status '{standing.status}'.")
    if standing.status != "cancelled":
        desk.registry.cancel(row.id, time.time())
        # Also when it is "cancelling": the call that this one repeats may not have come so far.
        desk.cancel_job(row.id)
        desk.wake()
        row = desk.registry.batch(row.id) or row
    return JSONResponse(batch_json(desk.stand(row)))


def output(request: Request) -> Response:
    """GET /v1/batches/{id}/output: answers as they come, `limit` lines from line `offset` on,
    or fewer where they are long.

    Two headers as at Doubleword: `X-Last-Line`, the next `offset`, and `X-Incomplete`, whether more
    may come. The output file of OpenAI's API is there at the end.
    """
    desk = desk_of(request)
    offset, limit = lines_asked(request, _MOST_LINES)
    # In this order: what is answered between the two looks is asked for once more, not missed.
    standing = desk.stand(_find(desk, tenant_of(request), request.path_params["id"]))
    job, lines = standing.row.job, []
    if (desk.home.jobs_folder / job).exists():
        with closing(desk.home.open(job, read_only=True)) as store:
            lines = answered_lines(store, offset, limit)
    elif standing.ended and standing.facts is not None:
        raise conflict("The job of this batch was removed; its output file may still be there.")
    facts = standing.facts
    told = offset + len(lines)
    more = not standing.ended or bool(lines and facts is not None and told < facts.completed)
    headers = told_so_far(told, more=more)
    return Response(b"".join(lines), media_type="application/jsonl", headers=headers)


def retry(request: Request) -> Response:
    """POST /v1/batches/{id}/retry: what failed or was not run is asked (again)."""
    desk = desk_of(request)
    standing = desk.stand(_find(desk, tenant_of(request), request.path_params["id"]))
    row = standing.row
    if not standing.ended or standing.facts is None:
        raise conflict(f"Cannot retry a batch with status '{standing.status}'.")
    if not (desk.home.jobs_folder / row.job).exists():
        raise conflict("Cannot retry this batch: its job was removed.")
    with closing(desk.home.open(row.job, read_only=True)) as store:
        codes = tuple(each.code for each in store.why().failures)
        left = store.job().left
    if not codes and not left:
        raise conflict("Cannot retry this batch: every request was answered.")
    expires = time.time() + (row.expires_at - row.created_at)
    until = Change(fields={"deadline": datetime.fromtimestamp(expires, UTC)})
    again = [Retry(codes)] if codes else []
    try:
        job_control.command(desk.home, row.job, until, *again, Resume(mended=True))
    except Objected as error:
        raise conflict(f"Cannot retry this batch: {error.message}.") from None
    desk.reopen(row, expires)
    return JSONResponse(batch_json(desk.stand(desk.registry.batch(row.id) or row)))


def delete(request: Request) -> Response:
    """DELETE /v1/batches/{id}: it, its results and its job go; what it spent goes on to count."""
    desk = desk_of(request)
    standing = desk.stand(_find(desk, tenant_of(request), request.path_params["id"]))
    row = standing.row
    if not standing.ended:
        raise conflict(f"Cannot delete a batch with status '{standing.status}'.")
    if delivery_log.read(desk.batches_folder / row.id).waits:
        raise conflict("Cannot delete this batch: its webhook is not delivered yet.")
    _remove_job(desk, row.job)
    if not desk.registry.drop_batch(row.id):
        raise no_batch(row.id)
    rmtree(desk.batches_folder / row.id, ignore_errors=True)
    return JSONResponse({"id": row.id, "object": "batch", "deleted": True})


def _remove_job(desk: Desk, job: str) -> None:
    folder = desk.home.jobs_folder / job
    try:
        if folder.exists():
            remove(desk.home, job)
    except UsageError as error:
        raise conflict(f"Cannot delete this batch: {error.message}.") from None
    except (StorageUnavailable, FileNotFoundError):
        # Unless somebody else removed it at the same time.
        if folder.exists():
            raise
