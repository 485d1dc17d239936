"""nightshift serve"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.cli.click_help import Command
from batch.cli.click_options import UNSET, batch_options
from batch.cli.parameter_types import Whole
from batch.cli.shared_options import (
    PORT,
    WORKERS,
    caps_options,
    insecure_option,
    log_option,
    open_home,
    option,
    patience_option,
    plain_option,
    take_caps,
)
from batch.cli.spec_builder import make_spec
from batch.cli.terminal import say
from batch.language import _
from batch.money.caps import change_caps
from batch.settings import check_key, log_level, read_settings
from batch.submission.submit import new_job_id
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.logs import log_to_stderr
from jobs.message import N_
from jobs.secret import secret

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from batch.store.home import Home

HELP = N_("""\
Serve OpenAI's Files and Batches API: programs run unchanged with another base_url.

Starts everything it needs, as run does. With --api-only it serves the API alone, beside a
coordinator and workers that run already. Every batch is a job: status, resume, cancel and Flower
work for it. The options of a job are defaults for all batches.

It answers this machine alone, and takes any key, until nightshift keys add makes one.

\b
  nightshift serve
  OPENAI_BASE_URL=http://127.0.0.1:5556/v1 OPENAI_API_KEY=any python my_batch.py
  nightshift serve --address 0.0.0.0 --tls-cert server.pem --tls-key server.key
""")

_HERE = frozenset({"127.0.0.1", "::1", "localhost"})


@click.command("serve", cls=Command, help=HELP)
@option("--port", **PORT, default=5556, show_default=True, help=N_("Port to listen on."))
@plain_option("--address", default="127.0.0.1", show_default=True, help=N_("Address to listen on."))
@plain_option(
    "--tls-cert",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=N_("Certificate chain (PEM) for HTTPS."),
)
@plain_option(
    "--tls-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=N_("Its private key (PEM)."),
)
@option("--workers", **WORKERS)
@plain_option(
    "--api-only",
    is_flag=True,
    help=N_("Start neither a coordinator nor workers; they run elsewhere."),
)
@option(
    "--max-upload-mb",
    type=Whole(1, 1024 * 1024),
    default=1024,
    show_default=True,
    metavar="MB",
    help=N_("Largest file that may be uploaded."),
)
@plain_option(
    "--openai-limits",
    is_flag=True,
    help=N_("Enforce OpenAI's limits: 50,000 requests, 200 MB and one model per batch."),
)
@batch_options
@caps_options
@patience_option
@log_option
@insecure_option
def command(
    *,
    port: int,
    address: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    workers: int,
    api_only: bool,
    max_upload_mb: int,
    openai_limits: bool,
    **options: Any,
) -> int:
    """See HELP."""
    # Loads the server; no other command does.
    from batch.api.webhooks import WEBHOOK_SECRET
    from batch.serve_processes import Listening, Team, serve

    log_to_stderr(log_level(os.environ, "INFO"), "%(asctime)s %(message)s")
    home, settings = open_home(), read_settings(os.environ)
    if not api_only:
        check_key(settings)
    if (tls_cert is None) != (tls_key is None):
        raise UsageError(
            N_("--tls-cert and --tls-key go together"), hint=N_("give both or neither")
        )
    _check_address(home, address, tls=tls_cert is not None)
    # A secret that cannot be read is told now, and not when a batch has ended.
    secret(os.environ, WEBHOOK_SECRET)
    new_caps = take_caps(options)
    spec = _template(options)
    from batch.api.job_creation import Setting

    setting = Setting(
        home=str(home.folder),
        files=str(home.folder / "files"),
        batches=str(home.folder / "batches"),
        strict=openai_limits,
        spec=spec.model_dump(mode="json"),
    )
    team = Team(home, settings, spec, 0 if api_only else workers, setting)

    def make(wake: Any, stack: ExitStack) -> ASGIApp:
        change_caps(home.folder, new_caps)
        return _app(home, spec, max_upload_mb * 1024**2, address in _HERE, wake, stack)

    serve(Listening(address, port, tls_cert, tls_key), make, team)
    return 0


def _app(
    home: Home,
    spec: Spec,
    limit: int,
    keyless: bool,  # noqa: FBT001
    wake: Any,
    stack: ExitStack,
) -> ASGIApp:
    from batch.api.app import make_app
    from batch.api.context import Desk, Settings
    from batch.api.housekeeping import Closing
    from batch.api.webhooks import Hooks
    from batch.store.registry import Registry

    hooks = Hooks(home.folder / "batches", Registry(home.folder))
    desk = Desk(home, Settings(spec.base_url, limit, keyless), wake, hooks.tell, hooks.untell)
    stack.enter_context(closing(hooks))
    hooks.start()
    stack.enter_context(closing(Closing(desk)))
    return make_app(desk)


def _template(options: dict[str, Any]) -> Spec:
    """What all batches have in common; where each comes from and goes to is its own."""
    return make_spec(new_job_id(), Path("-"), {**UNSET, **options})


def _check_address(home: Home, address: str, *, tls: bool) -> None:
    """Other machines are served only who they are known by a key."""
    if address in _HERE:
        return
    from batch.store.registry import Registry

    if not Registry(home.folder).keys():
        raise UsageError(
            N_(
                "no API key exists, so {address} would let anybody spend your money",
                address=address,
            ),
            hint=N_("make one for each client: nightshift keys add NAME"),
        )
    if not tls:
        say(_("without --tls-cert keys and prompts cross the network unencrypted"))
