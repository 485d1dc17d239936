"""nightshift worker"""

from __future__ import annotations

import os
import sys

import click

from batch import embedded
from batch.options import open_home, option
from batch.settings import DEFAULT_BASE_URL, read_settings
from batch.terminal import say

HELP = """Serve: take chunks of requests from the queue and make the calls, until stopped.

Needs Redis (NIGHTSHIFT_REDIS_URL; unset: this home's embedded one), the key and the endpoint, and
a scratch folder (NIGHTSHIFT_SCRATCH). Start as many as you like, on any hosts. SIGTERM lets calls
in flight end; SIGQUIT cuts them.

\b
  NIGHTSHIFT_REDIS_URL=redis://queue:6379/0 nightshift worker
"""


@click.command("worker", help=HELP, short_help="Serve: make the calls.")
@option(
    "--base-url",
    metavar="URL",
    default=DEFAULT_BASE_URL,
    show_default=True,
    help="The endpoint whose jobs to take.",
)
@option(
    "--open-chunks",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    metavar="N",
    help="Chunks in progress at once.",
)
def command(base_url: str, open_chunks: int) -> int:
    """See HELP."""
    settings, home = read_settings(os.environ), open_home()
    url = settings.redis_url or embedded.start_or_find(home.folder)
    say(f"worker for {base_url}; stop with Ctrl-C")
    environ = {
        **os.environ,
        "NIGHTSHIFT_REDIS_URL": url,
        "NIGHTSHIFT_BASE_URL": base_url,
        "NIGHTSHIFT_OPEN_CHUNKS": str(open_chunks),
        "NIGHTSHIFT_HOME": str(home.folder),
    }
    # The worker is a program of its own and takes this process's place.
    os.execve(sys.executable, [sys.executable, "-m", "workers"], environ)  # noqa: S606
