"""Flower as a part of this program: to look at jobs, workers and chunks, here, with a password.

Flower's own command is not used: it leaves pages open, binds to every interface, takes its password
from the command line and runs a `flowerconfig.py` that lies in the working folder. Here every
request passes one door, and what tasks tell of themselves is masked before it is kept.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import signal
import sys
import time
from base64 import b64encode
from typing import Any

from celery import Celery
from celery.app.control import Control
from flower.app import Flower, rewrite_handler
from flower.options import options
from flower.urls import settings as flower_settings
from kombu import Queue  # type: ignore[attr-defined]  # half typed
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.netutil import bind_sockets
from tornado.web import ErrorHandler, stream_request_body

from batch.flower.masking import MaskedEvents
from batch.flower.page_handlers import ROUTES, prepare
from batch.flower.request_guard import LIMITS, Doorstep, Guesses, SafeHeaders
from batch.flower.status_reader import Desk
from batch.language import _
from batch.store.home import Home
from jobs.celery_settings import celery_settings
from jobs.errors import ServiceUnavailable, UsageError
from jobs.message import N_
from jobs.remote_control import LOOKS, signed
from jobs.signing import Seal, Target

USER = "nightshift"
PASSWORD_VARIABLE = "NIGHTSHIFT_FLOWER_PASSWORD"  # noqa: S105 - a name, no password
DEFAULT_PORT = 5555

LEAST_PASSWORD = 12

MOST_TASKS = 20_000
"""Chunks kept in memory, at about 4 kB each."""

FORGET_WORKERS_S = 24 * 3600
"""A worker that has been silent for so long is no longer listed; each start is a new worker."""

SWEEP_S = 5.0
"""How often chunks are looked for whose job is over."""

_INSPECTED = ("stats", "active_queues", "registered", "active", "revoked", "conf")
"""What workers are asked. Not `reserved` and `scheduled`: those answer with the raw arguments."""


def serve(
    redis_url: str,
    target: Target,
    seal: Seal,
    *,
    password: str | None = None,
    port: int = DEFAULT_PORT,
    address: str = "127.0.0.1",
    url_prefix: str = "",
    read_only: bool = True,
    look_only: bool = False,
    downloads: bool = True,
    home: Home | None = None,
) -> int:
    """Runs Flower until SIGTERM or SIGINT; returns the exit code.

    `read_only` is of Flower's own pages, `look_only` of the Jobs page. `downloads`: files of jobs
    can be had there; those of the jobs of `home`, if it is given, are read in it.
    `target` tells whose queue is shown before any worker has come. Without a password one is made
    up and told once, on standard error. Port 0 means any free one. Raises `UsageError` if it cannot
    listen there or the password cannot be typed into a browser.
    """
    chosen = password or secrets.token_urlsafe(16)
    configure(chosen, port=port, address=address, url_prefix=url_prefix, read_only=read_only)
    dashboard = Dashboard(
        celery_app(redis_url, seal, target),
        chosen,
        Desk(redis_url, seal, home),
        look_only=look_only,
        downloads=downloads,
    )
    where = _listen(dashboard)
    _announce(where, None if password else chosen)
    _run(dashboard)
    return 0


def configure(password: str, *, port: int, address: str, url_prefix: str, read_only: bool) -> None:
    """Sets Flower's options, global to the process; the environment has no say in them."""
    values = {
        "port": port,
        "address": address,
        "url_prefix": url_prefix.strip("/") or None,
        "basic_auth": [_credentials(password)],
        "read_only": read_only,
        "persistent": False,
        "max_tasks": MOST_TASKS,
        "purge_offline_workers": FORGET_WORKERS_S,
        # Our workers send their events unasked.
        "enable_events": False,
        "tasks_columns": "uuid,args,state,result,worker,runtime,received",
    }
    for name, value in values.items():
        setattr(options, name, value)
    # A line for each request, and four whenever no worker is there; and one every two seconds for
    # each open page while Redis is away.
    for quiet in ("tornado.access", "flower.inspector"):
        logging.getLogger(quiet).setLevel(logging.CRITICAL)


class _Control(Control):  # type: ignore[misc]  # Celery has no types
    """Signs what it orders, since workers heed nothing else."""

    seal: Seal

    def broadcast(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        destination: list[str] | None = None,
        **how: Any,
    ) -> Any:
        if command not in LOOKS:
            arguments = signed(self.seal, command, arguments or {}, destination)
        return super().broadcast(command, arguments, destination, **how)


def celery_app(redis_url: str, seal: Seal, target: Target) -> Celery:
    """The Celery app through which Flower looks; no worker of ours ever sees it."""
    queue = seal.queue(target)
    app = Celery("nightshift", set_as_current=False, control=_Control)
    app.control.seal = seal
    app.conf.update(celery_settings(redis_url))
    app.conf.update(task_default_queue=queue, task_queues=[Queue(queue)])  # type: ignore[no-untyped-call]
    return app


class Dashboard(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower with the Jobs page, all of it behind one door."""

    def __init__(
        self,
        app: Celery,
        password: str,
        desk: Desk,
        *,
        look_only: bool = False,
        downloads: bool = True,
    ) -> None:
        loop = IOLoop.current()
        prefix = options.url_prefix
        super().__init__(
            capp=app,
            options=options,
            io_loop=loop,
            events=_events(app, loop),
            template_loader=prepare(),
            **_settings(prefix),
        )
        self.desk = desk
        self.look_only = look_only
        self.downloads = downloads
        routes = [rewrite_handler(route, prefix) if prefix else route for route in ROUTES]
        self.add_handlers(".*", routes)
        self.inspector.inspect_methods = _INSPECTED
        self.add_transform(SafeHeaders)
        self._guesses = Guesses()
        self._ticket = b"Basic " + b64encode(_credentials(password).encode())

    def start_http_server(self) -> int:
        """Listens, within limits; returns the port."""
        sockets = bind_sockets(options.port, address=options.address)
        self._doorstep = Doorstep(self, **LIMITS)
        self._doorstep.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate:
        """The handler of a request that carries the password; 401 for every other.

        Flower checks the password page by page, and leaves out `/metrics` (names of workers and
        tasks, how many and how fast), `/healthcheck`, `/logout`, static files and unknown pages.
        """
        given = request.headers.get("Authorization", "").encode()
        if hmac.compare_digest(given, self._ticket):
            self._doorstep.admit(request.connection.stream)  # type: ignore[union-attr]
            return super().find_handler(request, **kwargs)  # type: ignore[no-any-return]
        wait = self._guesses.wrong(request.remote_ip or "?") if given else 0.0
        return self.get_handler_delegate(request, Denied, {"wait": wait})  # type: ignore[no-any-return]

    async def end_chunks(self) -> None:
        """Chunks of jobs that are over are not shown as running any more."""
        try:
            jobs = await self.desk.jobs()
        except ServiceUnavailable:
            return
        now = time.time()
        self.events.end_chunks({job.job for job in jobs if now - (job.ended_at or now) > SWEEP_S})


@stream_request_body
class Denied(ErrorHandler):
    """Asks for the password, whatever the method; what is sent meanwhile is not looked at."""

    def initialize(self, wait: float) -> None:
        """Always 401, after so many seconds."""
        super().initialize(401)
        self._wait = wait

    async def prepare(self) -> None:  # type: ignore[override]  # Tornado waits for it
        """Whoever guesses waits."""
        await asyncio.sleep(self._wait)
        super().prepare()

    def data_received(self, chunk: bytes) -> None:
        """Nothing is done with a body."""

    def set_default_headers(self) -> None:
        """Lets a browser ask its user."""
        self.set_header("WWW-Authenticate", 'Basic realm="nightshift", charset="UTF-8"')


def _events(app: Celery, loop: IOLoop) -> MaskedEvents:
    return MaskedEvents(
        app,
        loop,
        persistent=False,
        enable_events=options.enable_events,
        max_workers_in_memory=options.max_workers,
        max_tasks_in_memory=options.max_tasks,
    )


def _settings(url_prefix: str | None) -> dict[str, Any]:
    own: dict[str, Any] = {
        "cookie_secret": secrets.token_urlsafe(32),
        "debug": False,
        # A look at a page is mostly the same words again and again, and it comes every two seconds.
        "compress_response": True,
    }
    if url_prefix:
        own |= {
            name: f"/{url_prefix}{flower_settings[name]}"
            for name in ("login_url", "static_url_prefix")
        }
    return {**flower_settings, **own}


def _credentials(password: str) -> str:
    if len(password) < LEAST_PASSWORD:
        raise UsageError(
            N_("the password for Flower is shorter than {least} characters", least=LEAST_PASSWORD),
            hint=N_("make one: openssl rand -hex 16"),
        )
    if not (password.isascii() and password.isprintable()):
        raise UsageError(
            N_("the password for Flower has characters that not every browser can send"),
            hint=N_(
                "set {variable} to letters, digits and signs of ASCII", variable=PASSWORD_VARIABLE
            ),
        )
    return f"{USER}:{password}"


def _listen(dashboard: Dashboard) -> str:
    try:
        port = dashboard.start_http_server()
    except OSError as error:
        raise UsageError(
            N_(
                "Flower cannot listen on {address}:{port}: {why}",
                address=options.address,
                port=options.port,
                why=error,
            ),
            hint=N_("choose another port with --port"),
        ) from error
    prefix = f"{options.url_prefix}/" if options.url_prefix else ""
    return f"http://{options.address}:{port}/{prefix}"


def _announce(where: str, made_up: str | None) -> None:
    told = _("Flower is at {where} for the user {user}")
    print(told.format(where=where, user=USER), file=sys.stderr)
    if made_up:
        told = _("password for this run: {password}").format(password=made_up)
        print(f"  {told}", file=sys.stderr)
        told = _("set {variable} to choose your own").format(variable=PASSWORD_VARIABLE)
        print(f"  {told}", file=sys.stderr)
    sys.stderr.flush()


def _run(dashboard: Dashboard) -> None:
    loop = asyncio.get_event_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            loop.add_signal_handler(number, dashboard.stop)
    PeriodicCallback(dashboard.end_chunks, SWEEP_S * 1000).start()
    dashboard.start()
