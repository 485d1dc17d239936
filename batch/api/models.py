"""/v1/models: what the endpoint lists, passed on."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from batch.api.api_errors import ApiError
from batch.api.request_reading import desk_of
from batch.endpoint_queries import Page, asking
from jobs.address import join
from jobs.errors import ServiceUnavailable

_KEPT_S = 60.0
_OK = 200
_kept: dict[str, tuple[float, Page]] = {}


def page(request: Request) -> Response:
    """All of them, as they come."""
    return Response(_catalogue(desk_of(request).settings.base_url), media_type="application/json")


def retrieve(request: Request) -> Response:
    """One of them."""
    wanted = request.path_params["id"]
    try:
        listed: Any = msgspec.json.decode(_catalogue(desk_of(request).settings.base_url))["data"]
        found = next((each for each in listed if each["id"] == wanted), None)
    except (msgspec.DecodeError, KeyError, TypeError):
        found = None
    if found is None:
        told = f"The model '{wanted[:100]}' does not exist"
        raise ApiError(404, told, param="model", code="model_not_found")
    return JSONResponse(found)


def _catalogue(base_url: str) -> bytes:
    at, kept = _kept.get(base_url, (0.0, None))
    if kept is not None and time.monotonic() - at < _KEPT_S:
        return kept.body
    try:
        told = asking(base_url, lambda ask: ask(join(base_url, "models"), b""))
    except ServiceUnavailable:
        told = Page(0, b"")
    if told.status != _OK:
        raise ApiError(502, "The endpoint's list of models cannot be read.", kind="server_error")
    _kept[base_url] = (time.monotonic(), told)
    return told.body
