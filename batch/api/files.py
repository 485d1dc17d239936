"""Routes of files."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from batch.api.api_errors import ApiError, invalid, missing, no_file, wrong_value
from batch.api.batch_options import read_expiry
from batch.api.context import Desk, new_id
from batch.api.objects import file_json, list_json
from batch.api.request_reading import desk_of, lines_asked, tenant_of, told_so_far, whole_number
from batch.api.upload import PIECE, Upload
from batch.store.registry import FileRow

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_MOST = 10_000
_LOOKED_AT = 1024 * 1024
_BYTES = "application/octet-stream"
_OVERHEAD = 64 * 1024
"""Bytes of a form beside its file."""


async def upload(request: Request) -> Response:
    """POST /v1/files"""
    desk, tenant = desk_of(request), tenant_of(request)
    await _check_length(request, desk.settings.limit)
    with Upload(desk.files_folder, desk.settings.limit) as form:
        await form.receive(request.headers.get("content-type", ""), request.stream())
        if form.filename is None:
            raise missing("file")
        purpose = form.fields.get("purpose")
        if not purpose:
            raise missing("purpose")
        if purpose not in PURPOSES:
            raise wrong_value("purpose", purpose, ", ".join(f"'{each}'" for each in PURPOSES))
        expires = _expiry(form.fields)
        if purpose == "batch":
            _check_lines(await form.beginning(_LOOKED_AT))
        now, file_id = time.time(), new_id("file-")
        row = FileRow(
            seq=0,
            id=file_id,
            tenant=tenant,
            purpose=purpose,
            filename=form.filename,
            bytes=form.size,
            created_at=now,
            expires_at=None if expires is None else now + expires,
            batch=None,
        )
        await form.keep(desk.path(row))
    await run_in_threadpool(desk.registry.add_file, row)
    return JSONResponse(file_json(row))


async def _check_length(request: Request, limit: int) -> None:
    """Refuses what says itself that it is too large; a client that sends already is heard out."""
    told = request.headers.get("content-length", "")
    if not told.isdigit() or int(told) <= limit + _OVERHEAD:
        return
    if "100-continue" not in request.headers.get("expect", "").lower():
        await _hear_out(request.stream(), limit)
    raise ApiError(400, f"File is too large. The limit is {limit} bytes.")


async def _hear_out(body: AsyncIterator[bytes], most: int) -> None:
    """Clients that are cut off while they send see a broken connection, and not why."""
    left = most
    async for piece in body:
        left -= len(piece)
        if left < 0:
            return


def _expiry(fields: dict[str, str]) -> int | None:
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    number = int(seconds) if seconds and seconds.isascii() and seconds.isdigit() else seconds
    return read_expiry({"anchor": anchor, "seconds": number}, "expires_after")


def _check_lines(beginning: bytes) -> None:
    """The first line must be JSON; all others are looked at when a batch is made."""
    lines = beginning.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    whole = lines[:-1] if len(beginning) == _LOOKED_AT else lines
    first = next((line for line in whole if line.strip()), None)
    if first is None and whole is not lines:
        return
    if not _is_object(first or b""):
        raise invalid("Invalid file format for Batch API. Must be .jsonl")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def find(desk: Desk, tenant: str, file_id: str) -> FileRow:
    """A file of this tenant that is there."""
    row = desk.registry.file(file_id)
    if row is None or row.tenant != tenant:
        raise no_file(file_id)
    if row.expires_at is not None and row.expires_at <= time.time():
        desk.drop(row)
        raise no_file(file_id)
    return row


def page(request: Request) -> Response:
    """GET /v1/files"""
    desk, tenant, query = desk_of(request), tenant_of(request), request.query_params
    limit = whole_number(request, "limit", _MOST, _MOST)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise wrong_value("order", order, "'asc' and 'desc'")
    desk.sweep(time.time())
    rows = desk.registry.files(
        tenant,
        purpose=query.get("purpose"),
        after=_place(desk, tenant, query.get("after")),
        ascending=order == "asc",
        limit=limit + 1,
    )
    return JSONResponse(
        list_json(
            [file_json(desk.size(row)) for row in rows[:limit]],
            more=len(rows) > limit,
        )
    )


def _place(desk: Desk, tenant: str, after: str | None) -> int | None:
    if after is None:
        return None
    place = desk.registry.place("files", tenant, after)
    if place is None:
        raise invalid(f"No such File object: {after[:100]}", "after")
    return place


def retrieve(request: Request) -> Response:
    """GET /v1/files/{id}"""
    desk = desk_of(request)
    row = find(desk, tenant_of(request), request.path_params["id"])
    return JSONResponse(file_json(desk.size(row)))


def delete(request: Request) -> Response:
    """DELETE /v1/files/{id}"""
    desk = desk_of(request)
    row = find(desk, tenant_of(request), request.path_params["id"])
    desk.drop(row)
    return JSONResponse({"id": row.id, "object": "file", "deleted": True})


def content(request: Request) -> Response:
    """GET /v1/files/{id}/content"""
    desk = desk_of(request)
    row = find(desk, tenant_of(request), request.path_params["id"])
    path = desk.path(row)
    if not path.is_file():
        raise no_file(row.id)
    if row.batch is not None and request.query_params.keys() & {"offset", "limit"}:
        return _some_lines(path, *lines_asked(request))
    return FileResponse(path, media_type=_BYTES, filename=row.filename)


def _some_lines(path: Path, offset: int, limit: int) -> Response:
    """Lines of results, with the headers of `batches.output`."""
    with path.open("rb") as results:
        before = sum(1 for _ in islice(results, offset))
        start = results.tell()
        told = before + sum(1 for _ in islice(results, limit))
        stop, more = results.tell(), bool(results.read(1))
    return StreamingResponse(
        _pieces(path, start, stop), media_type=_BYTES, headers=told_so_far(told, more=more)
    )


def _pieces(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as content:
        content.seek(start)
        while piece := content.read(min(PIECE, stop - content.tell())):
            yield piece
