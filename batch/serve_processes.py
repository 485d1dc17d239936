"""`nightshift serve` as processes: the API here, beside it what a batch needs to be run.

    this process   the API; it starts the others, and starts them again
    intake         inputs become jobs
    coordinator    unless another one works on this home
    workers        as many as were asked for

All end with this process, however it ends, and lose nothing by that: the next one goes on.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from batch import embedded_redis
from batch.child_processes import environment, program
from batch.cli.terminal import say
from batch.credentials import secret_file
from batch.language import _
from batch.local_processes import DRAIN_S, Workers, stopped_by, worker_environment
from batch.settings import Settings
from batch.store.home import Home
from jobs.errors import NightshiftError, ServiceUnavailable, StorageUnavailable, UsageError
from jobs.job_options import Spec
from jobs.message import N_

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

log = logging.getLogger("nightshift.api")

_LOOK_S = 0.5
_CUT_S = 15.0
_END_S = 30.0
_GRACE_S = 10
_MOST_EXITS, _EXITS_S = 6, 60.0
"""A process that ended by itself so often in so long will not stay."""

_BACKLOG = 1024
_IDLE_S = 75


@dataclass(frozen=True)
class Listening:
    """Where the API is, and by which certificate it is known there."""

    address: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None


class Child:
    """A process of ours that is to be there; it ends when its standard input does."""

    def __init__(
        self, name: str, command: list[str], environ: dict[str, str], hello: bytes = b""
    ) -> None:
        self.name = name
        self._command, self._environ, self._hello = command, environ, hello
        self._exits: deque[float] = deque(maxlen=_MOST_EXITS)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def tend(self) -> None:
        """Starts it if it does not run; `ServiceUnavailable` where that is of no use."""
        if self.alive:
            return
        if self._process is not None and self._process.returncode >= 0:
            self._count_exit(time.monotonic())
        self._process = subprocess.Popen(
            self._command,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.write(self._hello)

    def _count_exit(self, now: float) -> None:
        """It ended by itself; one that was killed says nothing of the next."""
        self._exits.append(now)
        if len(self._exits) == _MOST_EXITS and now - self._exits[0] < _EXITS_S:
            raise ServiceUnavailable(
                N_("the {name} keeps exiting", name=self.name), hint=N_("see the reason above")
            )

    def write(self, data: bytes) -> None:
        """A word for it; lost if it is not there, for it looks by itself at its start."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError, ValueError):
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def end(self) -> None:
        """Asks it to end, and waits."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Team:
    """What works beside the API, seen to on a thread of its own."""

    def __init__(
        self, home: Home, settings: Settings, spec: Spec, workers: int, setting: msgspec.Struct
    ) -> None:
        self._home = home
        secret = secret_file(settings, home.folder)
        url = settings.redis_url or embedded_redis.address(home.folder)
        hello = msgspec.json.encode(setting) + b"\n"
        here = {"NIGHTSHIFT_HOME": str(home.folder)}
        tied = {**here, "NIGHTSHIFT_TIED": "1"}
        self._intake = Child(
            "intake", program("batch.api.job_creation"), environment("intake", here), hello
        )
        command = [*program("batch"), "coordinator"]
        self._coordinator = Child("coordinator", command, environment("coordinator", tied))
        environ = worker_environment(home, url, spec, secret)
        self._workers = Workers(workers, environ, say, patient=True) if workers else None
        self._coordinates = bool(workers)
        self.failure: NightshiftError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="team")

    def start(self, failed: Callable[[], None]) -> None:
        """Starts all; `failed` is called when one of them will not stay."""
        self._failed = failed
        self._thread.start()

    def wake(self) -> None:
        """There is a new batch."""
        self._intake.write(b"\n")

    def _run(self) -> None:
        pause, told = 0.0, ""
        while not self._over.wait(pause):
            pause = _LOOK_S
            try:
                self._tend()
            except (StorageUnavailable, OSError) as error:
                # A full disk may have room again; until then the API answers what it can.
                told, before = str(error), told
                if told != before:
                    log.warning("%s", told)
            except NightshiftError as error:
                self.failure = error
                self._failed()
                return

    def _tend(self) -> None:
        self._intake.tend()
        if self._coordinates and (self._coordinator.alive or not self._home.is_coordinated()):
            self._coordinator.tend()
        if self._workers is not None:
            self._workers.tend(self._finished)

    def _finished(self) -> int:
        return sum(store.job().finished for store in self._home.stores())

    def end(self, interrupted: Callable[[], int]) -> None:
        """Calls in flight end and come home; another Ctrl-C cuts them."""
        self._over.set()
        self._thread.join()
        self._intake.end()
        if self._workers is not None:
            self._drain(self._workers, interrupted)
        self._coordinator.end()

    def _drain(self, workers: Workers, interrupted: Callable[[], int]) -> None:
        heard = interrupted()
        workers.signal(signal.SIGTERM)
        deadline, told, cut = time.monotonic() + DRAIN_S, time.monotonic() + 1, False
        while workers.alive and time.monotonic() < deadline:
            if told and time.monotonic() > told:
                told = 0.0
                say(_("stopping; waiting for calls in flight (press Ctrl-C again to abort them)"))
            if interrupted() > heard and not cut:
                say(_("aborting calls in flight; they may still be billed"))
                workers.signal(signal.SIGQUIT)
                deadline, cut = time.monotonic() + _CUT_S, True
            time.sleep(0.05)
        workers.kill()


class _Interrupts:
    """Counts what would stop the server, and has it stop at the first."""

    def __init__(self) -> None:
        self.count = 0
        self.stop: Callable[[], None] = lambda: None

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.stop()


@contextmanager
def _bound(listening: Listening) -> Iterator[socket.socket]:
    """The socket, before anything else is started. `UsageError` if it cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in listening.address else socket.AF_INET
        found = socket.create_server(
            (listening.address, listening.port), family=family, backlog=_BACKLOG
        )
    except (OSError, OverflowError) as error:
        raise UsageError(
            N_(
                "cannot listen on {address}:{port}: {why}",
                address=listening.address,
                port=listening.port,
                why=error,
            ),
            hint=N_("choose another --port or --address"),
        ) from error
    with found:
        yield found


def serve(
    listening: Listening,
    make: Callable[[Callable[[], None], ExitStack], ASGIApp],
    team: Team,
) -> None:
    """Serves until a signal says so, or until what works beside it will not stay.

    `make` gets what wakes the intake, and where its own endings go.
    """
    interrupts = _Interrupts()
    with stopped_by(interrupts.hear), _bound(listening) as bound, ExitStack() as stack:
        app = make(team.wake, stack)
        server = _server(app, listening)
        interrupts.stop = lambda: setattr(server, "should_exit", True)
        if interrupts.count:
            interrupts.stop()  # it was told while it was loading
        stack.callback(team.end, lambda: interrupts.count)
        team.start(interrupts.stop)
        scheme = "https" if listening.tls_cert else "http"
        host = f"[{listening.address}]" if ":" in listening.address else listening.address
        url = f"{scheme}://{host}:{bound.getsockname()[1]}/v1"
        say(_("Batch API at {url}; press Ctrl-C to stop").format(url=url))
        server.run(sockets=[bound])
    if team.failure is not None:
        raise team.failure


def _server(app: ASGIApp, listening: Listening) -> uvicorn.Server:
    import uvicorn

    from batch.api.handshakes import Handshakes
    from batch.api.protocol import Protocol, most_at_once

    class Server(uvicorn.Server):
        """Signals are ours to hear: what works beside it ends after it."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    try:
        config = uvicorn.Config(
            app,
            http=Protocol,
            # uvloop begins no TLS on a connection that it has accepted without.
            loop="asyncio" if listening.tls_cert else "auto",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=most_at_once(),
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=listening.tls_cert,
            ssl_keyfile=listening.tls_key,
        )
        config.load()
        if config.ssl is not None:
            most = most_at_once() // 4
            config.http_protocol_class = Handshakes(Protocol, config.ssl, most)  # type: ignore[assignment]
            config.ssl = None
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            N_(
                "the certificate {tls_cert} cannot be used: {why}",
                tls_cert=str(listening.tls_cert),
                why=error,
            ),
            hint=N_("give a certificate and its key as PEM: --tls-cert and --tls-key"),
        ) from error
    return Server(config)
