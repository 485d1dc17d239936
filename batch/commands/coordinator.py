"""nightshift coordinator"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

import click

from batch import embedded
from batch.coordinator import Coordinator
from batch.options import open_home
from batch.post import Post
from batch.sender import Sender
from batch.settings import read_settings
from batch.terminal import say

HELP = """Serve: feed the jobs of this home to the workers and take in their results, until stopped.

One per home. It may be stopped or killed at any moment; the next one goes on.

\b
  NIGHTSHIFT_REDIS_URL=redis://queue:6379/0 nightshift coordinator
"""


class _Stop:
    """Becomes true on SIGINT or SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


@click.command("coordinator", help=HELP, short_help="Serve: feed jobs, take in results.")
def command() -> int:
    """See HELP."""
    logging.basicConfig(
        level=os.environ.get("NIGHTSHIFT_LOG", "INFO"),
        stream=sys.stderr,
        format="%(asctime)s %(message)s",
    )
    settings, home = read_settings(os.environ), open_home()
    stop = _Stop()
    url = settings.redis_url or embedded.start_or_find(home.folder)
    post, sender = Post(url), Sender(url)
    coordinator = Coordinator(home, post, sender)
    say(f"coordinator of {home.folder}; stop with Ctrl-C")
    try:
        post.check()
        coordinator.run(lambda: stop.asked)
    finally:
        coordinator.close()
        post.close()
        sender.close()
        if settings.redis_url is None:
            embedded.leave(url)
    return 0
