"""nightshift coordinator"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import closing
from types import FrameType
from typing import Any

import click

from batch import embedded
from batch.coordinator import Coordinator
from batch.language import _
from batch.options import caps_options, open_home, set_caps
from batch.post import Post
from batch.sender import Sender
from batch.settings import log_level, read_settings
from batch.terminal import safe, say

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
@caps_options
def command(**options: Any) -> int:
    """See HELP."""
    logging.basicConfig(
        level=log_level(os.environ, "INFO"),
        stream=sys.stderr,
        format="%(asctime)s %(message)s",
    )
    settings, home = read_settings(os.environ), open_home()
    set_caps(home, options)
    with (
        embedded.server(settings.redis_url, home.folder, say) as url,
        closing(Post(url)) as post,
        closing(Sender(url)) as sender,
        closing(Coordinator(home, post, sender)) as coordinator,
    ):
        stop = _Stop()
        told = _("coordinator of {folder}; stop with Ctrl-C")
        say(told.format(folder=safe(str(home.folder))))
        coordinator.run(lambda: stop.asked)
    return 0
