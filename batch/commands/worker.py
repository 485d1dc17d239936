"""nightshift worker"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any, NoReturn

import click

from batch import embedded_redis
from batch.child_processes import environment, program
from batch.cli.click_help import Command
from batch.cli.click_options import endpoint_options
from batch.cli.parameter_types import Whole
from batch.cli.shared_options import insecure_option, log_option, open_home, option
from batch.cli.terminal import say
from batch.credentials import secret_file
from batch.language import _
from batch.local_processes import stopped_by
from batch.settings import check_key, log_level, read_settings
from jobs.address import DEFAULT_BASE_URL
from jobs.message import N_
from jobs.secret import POST_SECRET_FILE

HELP = N_("""\
Run a worker: take chunks of requests from the queue and call the endpoint until stopped.

Needs Redis (NIGHTSHIFT_REDIS_URL; by default the embedded one of this data directory), the key, the
endpoint and a scratch directory (NIGHTSHIFT_SCRATCH). Start as many as you like, on any hosts.
SIGTERM lets calls in flight finish; SIGQUIT aborts them.

\b
  NIGHTSHIFT_REDIS_URL=redis://:password@queue:6379/0 nightshift worker
""")

_PROGRAM = program("workers")


@click.command("worker", cls=Command, help=HELP)
@option(
    "--base-url",
    metavar="URL",
    default=DEFAULT_BASE_URL,
    show_default=True,
    help=N_("Endpoint whose jobs to run."),
)
@endpoint_options
@option(
    "--open-chunks",
    type=Whole(1, 256),
    default=64,
    show_default=True,
    metavar="N",
    help=N_("Chunks processed concurrently."),
)
@log_option
@insecure_option
def command(base_url: str, open_chunks: int, *, insecure_http: bool, **_headers: Any) -> int:
    """See HELP."""
    settings, home = read_settings(os.environ), open_home()
    check_key(settings)
    more = {
        "NIGHTSHIFT_LOG": log_level(os.environ, "INFO"),
        "NIGHTSHIFT_BASE_URL": base_url,
        "NIGHTSHIFT_INSECURE_HTTP": "1" if insecure_http else "",
        "NIGHTSHIFT_OPEN_CHUNKS": str(open_chunks),
        "NIGHTSHIFT_HOME": str(home.folder),
        POST_SECRET_FILE: str(secret_file(settings, home.folder)),
    }
    environ = environment("workers", more)
    if settings.redis_url is None:
        with embedded_redis.server(None, home.folder) as url:
            say(_("worker for {url} is running; press Ctrl-C to stop").format(url=base_url))
            return _as_a_child({**environ, "NIGHTSHIFT_REDIS_URL": url})
    embedded_redis.wait_for(settings.redis_url, say)
    say(_("worker for {url} is running; press Ctrl-C to stop").format(url=base_url))
    return _in_our_place({**environ, "NIGHTSHIFT_REDIS_URL": settings.redis_url})


def _in_our_place(environ: dict[str, str]) -> NoReturn:
    os.execve(sys.executable, _PROGRAM, environ)  # noqa: S606  no shell


def _as_a_child(environ: dict[str, str]) -> int:
    """Runs the worker beside this process, which ends the embedded server after it."""
    process = subprocess.Popen(
        _PROGRAM,
        env={**environ, "NIGHTSHIFT_TIED": "1"},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    signal.signal(signal.SIGQUIT, lambda number, _: process.send_signal(number))
    # At SIGHUP, Celery would start the worker anew.
    with stopped_by(lambda *_: process.terminate()):
        return max(process.wait(), 0)
