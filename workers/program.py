"""One worker process, until it is told to stop."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import celery.apps.worker
from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.worker.control import Panel
from kombu import Queue  # type: ignore[attr-defined]  # half typed

from jobs.celery_settings import celery_settings, forget_celerys
from jobs.errors import BadMessage, NightshiftError
from jobs.logs import RELAYED, as_relayed, log_to_stderr
from jobs.message import N_, Message
from jobs.remote_control import LOOKS, Listener
from jobs.secret import no_core_dumps
from workers import broker
from workers.pool import TaskPool
from workers.tasks import register
from workers.worker_service import Service
from workers.worker_settings import WorkerSettings, worker_settings

log = logging.getLogger("nightshift.worker")


def make_app(settings: WorkerSettings) -> Celery:
    """The Celery app of this process; it takes only chunks for its endpoint and key."""
    app = Celery("nightshift")
    app.conf.update(celery_settings(settings.redis_url))
    queue = settings.seal.queue(settings.target)
    app.conf.update(
        worker_pool="workers.pool:TaskPool",
        worker_concurrency=settings.chunks,
        task_default_queue=queue,
        task_queues=[Queue(queue)],  # type: ignore[no-untyped-call]
        task_create_missing_queues=False,
    )
    return app


def node_name(worker: str) -> str:
    """What Celery calls this process: Flower and remote control take two of one name for one.

    Containers may share a host's name, and each has a process 1; a worker's own name has a random
    part.
    """
    host, _, rest = worker.rpartition(":")[0].rpartition(":")
    return f"worker-{rest}-{worker.rpartition(':')[2]}@{host}"


def _guard(listener: Listener) -> None:
    """Commands that do anything are heeded only if they are signed."""

    def guarded(command: str, handle: Callable[..., Any]) -> Callable[..., Any]:
        def heed(state: Any, **told: Any) -> Any:
            try:
                return handle(state, **listener.arguments(command, told))
            except BadMessage as error:
                log.warning(N_("dropped a remote command: {why}", why=error.message))
                return {"error": error.message}

        return heed

    Panel.data = {
        command: handle if command in LOOKS else guarded(command, handle)
        for command, handle in Panel.data.items()
    }


def _end_with_parent() -> None:
    """Where the command that started us holds our standard input, its death ends us too."""
    if os.environ.pop("NIGHTSHIFT_TIED", ""):
        threading.Thread(target=_wait_for_parent, daemon=True, name="parent").start()


def _wait_for_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if not TaskPool.stopping:
        os.kill(os.getpid(), signal.SIGTERM)


def _silence_advice(**_: object) -> None:
    """What Celery says at each lost connection is about a setting that we set outright.

    Not before it has set its log up: that asks for every such word anew.
    """
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)


def _calm_the_collector() -> None:
    """What was imported lives for ever; a call leaves few cycles, so the young are seen seldom.

    Takes about a tenth off the CPU of a call: by default the collector runs at every third one.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def main() -> int:
    """Runs the worker; returns the exit code."""
    faulthandler.enable()
    no_core_dumps()
    forget_celerys(os.environ)
    # It warns of root's rights because of pickled messages, which are never accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    signals.celeryd_after_setup.connect(_silence_advice, weak=False)
    log_to_stderr(
        os.environ.get("NIGHTSHIFT_LOG", "WARNING").strip().upper() or "WARNING",
        "%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Until Celery has its own handlers SIGTERM kills; the next worker here finds what was begun.
    # What a handler raises can get lost in a finalizer, and the signal with it.
    try:
        settings = worker_settings(os.environ)
        service = Service(settings)
        service.start()
    except NightshiftError as error:
        return _tell(error)
    _end_with_parent()
    broker.bend()
    # What Celery says at a shutdown describes its own pools; ours tells by its deeds.
    celery.apps.worker.safe_say = lambda *_, **__: None
    app = make_app(settings)
    register(app, service)
    node = node_name(service.name)
    _guard(Listener(settings.seal, node))
    TaskPool.drain, TaskPool.abort = service.drain, service.abort
    _calm_the_collector()
    log.info("worker %s for %s started", service.name, settings.target.base_url)
    try:
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--without-mingle",
                "--without-gossip",
                "-E",
                "--loglevel",
                os.environ.get("NIGHTSHIFT_LOG", "WARNING"),
                "--hostname",
                node,
            ]
        )
    finally:
        # Celery's own word of the end does not come when it is cut short (SIGQUIT).
        service.stop()
        log.info("worker %s ends", service.name)
    return _tell(service.failure) if service.failure else 0


def _print(message: Message) -> None:
    print(as_relayed(message) if RELAYED in os.environ else message, file=sys.stderr)


def _tell(error: NightshiftError) -> int:
    _print(Message("nightshift worker: {why}", why=error))
    if error.hint:
        _print(Message("  {way}", way=error.hint))
    return error.exit_code
