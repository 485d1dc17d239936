"""The ASGI application: who may ask what, how much, and what a refusal looks like.

Starlette because files must be taken in and given out as bytes, which frameworks that model bodies
stand in the way of; uvicorn because it is its usual server.
"""

from __future__ import annotations

import logging
import secrets
import traceback

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batch.api import batches, files, models
from batch.api.api_errors import ApiError
from batch.api.context import Desk
from batch.api.tenants import Limiter, tenant_of
from jobs.errors import NightshiftError

log = logging.getLogger("nightshift.api")

_ALIAS = "/openai/v1"
_HEALTH = "/health"
_HERE = frozenset({"127.0.0.1", "localhost", "[::1]"})
_READS, _WRITES, _STRANGERS = 120_000, 1_200, 600
"""Requests per minute: of a key that read, that change something; of an address without a key."""


def make_app(desk: Desk) -> ASGIApp:
    """The whole API over a home."""
    routes = [
        Route("/v1/files", files.upload, methods=["POST"]),
        Route("/v1/files", files.page, methods=["GET"]),
        Route("/v1/files/{id}", files.retrieve, methods=["GET"]),
        Route("/v1/files/{id}", files.delete, methods=["DELETE"]),
        Route("/v1/files/{id}/content", files.content, methods=["GET"]),
        Route("/v1/batches", batches.create, methods=["POST"]),
        Route("/v1/batches", batches.page, methods=["GET"]),
        Route("/v1/batches/{id}", batches.retrieve, methods=["GET"]),
        Route("/v1/batches/{id}", batches.delete, methods=["DELETE"]),
        Route("/v1/batches/{id}/output", batches.output, methods=["GET"]),
        Route("/v1/batches/{id}/cancel", batches.cancel, methods=["POST"]),
        Route("/v1/batches/{id}/retry", batches.retry, methods=["POST"]),
        Route("/v1/models", models.page, methods=["GET"]),
        Route("/v1/models/{id:path}", models.retrieve, methods=["GET"]),
        Route(_HEALTH, _health, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(NightshiftError, _unusable)
    app.state.desk = desk
    return _Door(app, desk)


class _Door:
    """What every request passes: its name, the alias, its key, its limits; and every fault."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app, self._desk = app, desk
        self._reads, self._writes = Limiter(_READS), Limiter(_WRITES)
        self._strangers = Limiter(_STRANGERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = f"req_{secrets.token_hex(12)}"
        begun = False

        async def named(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        try:
            path: str = scope["path"]
            if path.startswith(_ALIAS):
                scope["path"] = path.removeprefix("/openai")
            await self._let_in(scope)
            await self._app(scope, receive, named)
        except ApiError as error:
            await _response(error)(scope, receive, named)
        except Exception as error:
            _log_fault(name, error)
            if not begun:
                fault = ApiError(500, f"Internal error ({name}).", kind="server_error")
                await _response(fault)(scope, receive, named)

    async def _let_in(self, scope: Scope) -> None:
        if scope["path"] == _HEALTH:
            return
        headers = Headers(scope=scope)
        try:
            tenant = await run_in_threadpool(self._tenant, headers.get("authorization", ""))
        except ApiError:
            self._strangers.take((scope.get("client") or ("",))[0])
            raise
        if not tenant:
            self._check_host(headers.get("host", ""))
        reads = scope["method"] in ("GET", "HEAD")
        (self._reads if reads else self._writes).take(tenant)
        scope.setdefault("state", {})["tenant"] = tenant

    def _tenant(self, authorization: str) -> str:
        keyless = self._desk.settings.keyless
        return tenant_of(self._desk.registry, authorization, keyless=keyless)

    def _check_host(self, host: str) -> None:
        """Without keys only this machine is served, under no name that a stranger can give it."""
        bare = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if bare.lower() not in _HERE:
            raise ApiError(403, "This server has no API keys and answers its own machine alone.")


def _log_fault(name: str, error: Exception) -> None:
    """Where it went wrong; the texts of exceptions may quote prompts."""
    where = "; ".join(
        f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)[-6:]
    )
    log.error("%s: internal error (%s) at %s", name, type(error).__qualname__, where)


def _response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, error.status, headers=error.headers)


def _refuse(_: Request, error: Exception) -> Response:
    return _response(error) if isinstance(error, ApiError) else Response(status_code=500)


def _not_there(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = f"{request.method} {request.url.path[:200]}"
    told = f"Not allowed ({what})" if status == 405 else f"Invalid URL ({what})"
    headers = dict(getattr(error, "headers", None) or {})
    return _response(ApiError(status, told, headers=headers))


def _unusable(_: Request, error: Exception) -> Response:
    """The home's disk, or the endpoint: it may pass, so SDKs may try again."""
    log.warning("%s", getattr(error, "message", type(error).__name__))
    return _response(ApiError(503, "The server cannot do this now.", kind="server_error"))


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})
