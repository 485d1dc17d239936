"""nightshift coordinator"""

from __future__ import annotations

import logging
import os
from contextlib import closing
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from batch import embedded_redis
from batch.child_processes import end_with_parent, keep_only_needed
from batch.cli.click_help import Command
from batch.cli.shared_options import (
    PORT,
    caps_options,
    insecure_option,
    log_option,
    open_home,
    option,
    patience_option,
    plain_option,
    take_caps,
)
from batch.cli.terminal import safe, say
from batch.coordinator.coordinator_service import Coordinator
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.credentials import catalog_url, pass_for, post_seal
from batch.embedded_redis import OwnServer
from batch.language import _
from batch.local_processes import stopped_by
from batch.money.caps import change_caps
from batch.money.spend_tracker import Allowance
from batch.settings import log_level, read_settings, worker_patience
from jobs.logs import log_to_stderr
from jobs.message import N_
from jobs.names import REGISTRY

if TYPE_CHECKING:
    from batch.coordinator.metrics import Metrics
    from batch.store.home import Home

HELP = N_("""\
Run the coordinator: dispatch jobs to workers and collect results until stopped.

One per data directory. It may be stopped or killed at any moment; the next one picks up its work.

\b
  NIGHTSHIFT_REDIS_URL=redis://:password@queue:6379/0 nightshift coordinator
""")


class _Stop:
    """Becomes true on SIGINT or SIGTERM, or when the terminal goes away."""

    def __init__(self) -> None:
        self.asked = False

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


log = logging.getLogger("nightshift.coordinator")


@click.command("coordinator", cls=Command, help=HELP)
@caps_options
@plain_option(
    "--metrics-port",
    **PORT,
    help=N_("Expose Prometheus metrics on this port."),
)
@plain_option(
    "--metrics-address",
    default="127.0.0.1",
    show_default=True,
    help=N_("Address to expose metrics on."),
)
@option(
    "--downloads/--no-downloads",
    default=True,
    show_default="--downloads",
    help=N_("Let Flower's users download the files of finished jobs."),
)
@patience_option
@log_option
@insecure_option
def command(
    *, metrics_port: int | None, metrics_address: str, downloads: bool, **options: Any
) -> int:
    """See HELP."""
    log_to_stderr(log_level(os.environ, "INFO"), "%(asctime)s %(message)s")
    settings, home = read_settings(os.environ), open_home()
    patience_s = worker_patience(os.environ)
    seal = post_seal(settings, home.folder)
    keep_only_needed("coordinator")
    # A secret that cannot be read is told now, and not when the catalogue is due.
    pass_for(catalog_url(os.environ), os.environ)
    new_caps = take_caps(options)
    metrics, stop = _metrics(home, metrics_port, metrics_address), _Stop()
    with (
        embedded_redis.server(settings.redis_url, home.folder, say) as url,
        closing(CoordinatorRedis(url, seal)) as redis,
        closing(Sender(url, seal)) as sender,
        closing(
            Coordinator(
                home,
                redis,
                sender,
                metrics=metrics,
                patience_s=patience_s,
                sends_files=downloads,
            )
        ) as coordinator,
        stopped_by(stop.hear),
    ):
        change_caps(home.folder, new_caps)
        own = OwnServer(settings.redis_url, home.folder, say)
        if not end_with_parent(os.environ):
            told = _("coordinator for {folder} is running; press Ctrl-C to stop")
            say(told.format(folder=safe(str(home.folder))))
        log.info("coordinator for %s started", home.folder)
        while not stop.asked:
            coordinator.step()
            own.tend(coordinator.away_since)
        log.info("coordinator for %s ends", home.folder)
    return 0


def _metrics(home: Home, port: int | None, address: str) -> Metrics | None:
    """What is told to Prometheus, already served; None where nobody asked for it."""
    if port is None:
        return None
    from batch.coordinator.metrics import Metrics  # loads Prometheus's client

    allowance = Allowance(home)
    has_keys = (home.folder / REGISTRY).exists
    metrics = Metrics(lambda: allowance.used_by_keys() if has_keys() else {})
    at = metrics.serve(port, address)
    say(_("metrics: http://{address}:{port}/metrics").format(address=address, port=at))
    return metrics
