"""The server of the page: on loopback, behind a token in its address, gone with the command.

    /TOKEN/            requests, filtered, a page of them at a time
    /TOKEN/row/N       one: prompt, answer, calls, cost

It reads the job's file alone, and each time anew, so that a job that runs is shown as it stands.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import socket
import sys
import time
import webbrowser
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from batch.api.protocol import Protocol, most_at_once
from batch.cli.terminal import say
from batch.language import _
from batch.store import request_search
from batch.store.database import readable
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.viewing import request_pages
from batch.viewing.request_pages import View
from jobs.errors import NightshiftError, UsageError
from jobs.message import N_

IDLE_S = 30 * 60.0
"""Nobody asked for so long: the server ends."""

_MOST_DIGITS = 19

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src {style}; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Viewer:
    """Answers for one job."""

    def __init__(self, home: Home, job_id: str) -> None:
        self._home = home
        self._job_id = job_id
        self.token = secrets.token_urlsafe(24)
        self.asked_at = time.monotonic()

    def app(self) -> Starlette:
        """As the server wants it."""
        routes = [
            Route("/{token}/", self._answering(self._listing)),
            # As text: of too many digits no number is made, and that before the token was seen.
            Route("/{token}/row/{ordinal}", self._answering(self._row)),
        ]
        return Starlette(routes=routes)

    def _answering(
        self, make: Callable[[Request, View], str]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self._check(request)
            self.asked_at = time.monotonic()
            view = View.read(request.query_params)
            try:
                page = await asyncio.to_thread(make, request, view)
            except NightshiftError as error:
                return _page(request_pages.trouble(error), 503)
            return _page(page)

        return answer

    def _check(self, request: Request) -> None:
        """A page of elsewhere knows no token; one that made its own name lead here, neither."""
        given = str(request.path_params["token"]).encode("utf-8", "replace")
        if not hmac.compare_digest(given, self.token.encode()):
            raise HTTPException(404)

    @contextmanager
    def _store(self) -> Iterator[JobStore]:
        """The job as it stands; `StorageUnavailable` where it cannot be read."""
        with (
            readable(self._home.jobs_folder / self._job_id),
            closing(self._home.open(self._job_id, read_only=True)) as store,
        ):
            yield store

    def _listing(self, _request: Request, view: View) -> str:
        with self._store() as store:
            return request_pages.listing(store, view)

    def _row(self, request: Request, view: View) -> str:
        told = str(request.path_params["ordinal"])
        if not (told.isascii() and told.isdecimal() and len(told) < _MOST_DIGITS):
            raise HTTPException(404)
        with self._store() as store:
            page = request_pages.row(store, int(told), view)
        if page is None:
            raise HTTPException(404)
        return page


def _page(text: str, status: int = 200) -> Response:
    style = request_pages.style_hash()
    headers = {name: value.format(style=style) for name, value in _HEADERS.items()}
    return HTMLResponse(text, status, headers)


def serve(home: Home, job_id: str, row: str | None, kind: str | None, *, browse: bool) -> None:
    """Serves until Ctrl-C, or until nobody asked for half an hour. `row`: opens that request."""
    viewer = Viewer(home, job_id)
    path = f"?kind={kind}" if kind else ""
    if row is not None:
        with closing(home.open(job_id, read_only=True)) as store:
            ordinal = request_search.find(store.db, row)
        if ordinal is None:
            raise UsageError(N_("{job} has no request {row!r}", job=job_id, row=row))
        path = f"row/{ordinal}"
    config = uvicorn.Config(
        viewer.app(),
        host="127.0.0.1",
        port=0,
        http=Protocol,
        limit_concurrency=most_at_once(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(uvicorn.Server(config), viewer, path, browse=browse))


async def _run(server: uvicorn.Server, viewer: Viewer, path: str, *, browse: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/{viewer.token}/{path}"
        say(_("requests are shown at {url}").format(url=url))
        say(_("only this machine can open it; press Ctrl-C to close it"))
        if browse and _has_screen():
            webbrowser.open(url)
        _end_when_idle(server, viewer)
        await server.serve(sockets=[bound])


def _end_when_idle(server: uvicorn.Server, viewer: Viewer) -> None:
    left = viewer.asked_at + IDLE_S - time.monotonic()
    if left > 0:
        asyncio.get_running_loop().call_later(left, _end_when_idle, server, viewer)
        return
    say(_("nobody looked for a while; the page is closed"))
    server.should_exit = True


def _has_screen() -> bool:
    """Else a browser of text might take the terminal."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
