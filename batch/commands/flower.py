"""nightshift flower"""

from __future__ import annotations

import os

import click

from batch import embedded_redis
from batch.child_processes import fork_tied, keep_only_needed, outlive
from batch.cli.click_help import Command
from batch.cli.shared_options import (
    PORT,
    insecure_option,
    log_option,
    open_home,
    option,
    plain_option,
)
from batch.cli.terminal import say
from batch.credentials import key_fingerprint, post_seal
from batch.settings import log_level, read_settings
from jobs.address import DEFAULT_BASE_URL
from jobs.logs import log_to_stderr
from jobs.message import N_
from jobs.secret import secret
from jobs.signing import Target

HELP = N_("""Run the web dashboard for jobs and workers, on this machine and behind a password.

Under "Jobs" each job has a page with charts and can be paused, resumed and cancelled.

The user is "nightshift"; the password is NIGHTSHIFT_FLOWER_PASSWORD, or else a generated one, shown
once. For access from another machine use a tunnel rather than opening the port.

\b
  nightshift flower
  nightshift flower --port 8080 --url-prefix flower
""")


@click.command("flower", cls=Command, help=HELP)
@option(
    "--base-url",
    metavar="URL",
    default=DEFAULT_BASE_URL,
    show_default=True,
    help=N_("Endpoint whose queue to show until a worker connects."),
)
@option("--port", **PORT, default=5555, show_default=True)
@plain_option("--address", default="127.0.0.1", show_default=True, help=N_("Address to listen on."))
@plain_option(
    "--url-prefix", default="", help=N_("Path prefix under which a reverse proxy serves it.")
)
@plain_option(
    "--allow-control/--read-only",
    default=False,
    show_default="--read-only",
    help=N_("Allow stopping workers and revoking tasks from the page."),
)
@plain_option("--look-only", is_flag=True, help=N_("Hide the buttons that control jobs."))
@option(
    "--downloads/--no-downloads",
    default=True,
    show_default="--downloads",
    help=N_("Offer the files of finished jobs for download."),
)
@log_option
@insecure_option
def command(
    base_url: str,
    *,
    port: int,
    address: str,
    url_prefix: str,
    allow_control: bool,
    look_only: bool,
    downloads: bool,
) -> int:
    """See HELP."""
    from batch.flower import PASSWORD_VARIABLE, serve  # loads Celery and Tornado

    # Tornado alone knows of a page that failed.
    level = log_level(os.environ, "WARNING")
    log_to_stderr(level, "%(asctime)s %(message)s", libraries=True)
    settings, home = read_settings(os.environ), open_home()
    seal = post_seal(settings, home.folder)
    target = Target(base_url, key_fingerprint(os.environ))
    password = secret(os.environ, PASSWORD_VARIABLE)
    keep_only_needed("flower")
    with embedded_redis.server(settings.redis_url, home.folder, say) as url:
        # Flower's threads hold connections to their end: who ends the server must outlive them.
        if settings.redis_url is None and (flower := fork_tied()):
            return outlive(flower)
        return serve(
            url,
            target,
            seal,
            password=password or None,
            port=port,
            address=address,
            url_prefix=url_prefix,
            read_only=not allow_control,
            look_only=look_only,
            downloads=downloads,
            home=home,
        )
