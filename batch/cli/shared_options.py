"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from batch.cli.click_help import LAST_PORT, Option
from batch.cli.parameter_types import PriorityShare, Roubles, Whole
from batch.cli.terminal import Manners, safe
from batch.money.caps import ZONE, NewCaps, check_zone
from batch.settings import (
    INSECURE_REDIS,
    LEAST_PATIENCE_S,
    WORKER_PATIENCE,
    read_settings,
)
from batch.store.home import Home
from jobs.errors import StorageUnavailable
from jobs.logs import FORMAT
from jobs.message import N_
from jobs.option_declaration import ESTIMATE, MONEY, PACE

F = TypeVar("F", bound=Callable[..., Any])


COUNT: dict[str, Any] = {"type": Whole(min=1), "metavar": "N"}
FROM_NONE: dict[str, Any] = {"type": Whole(min=0), "metavar": "N"}
ROUBLES: dict[str, Any] = {"type": Roubles(), "metavar": "RUB"}
SHARE: dict[str, Any] = {"type": PriorityShare(), "metavar": "high|normal|low|N"}
FILE: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": "FILE"}
PORT: dict[str, Any] = {"type": Whole(0, LAST_PORT), "metavar": "PORT"}
WORKERS: dict[str, Any] = {
    "type": Whole(1, 64),
    "default": 1,
    "show_default": True,
    "metavar": "N",
    "section": PACE,
    "help": N_("Worker processes; each handles hundreds of concurrent calls."),
}


def plain_option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that is given each time anew."""
    return click.option(*names, cls=Option, **settings)


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that can also be set as NIGHTSHIFT_<OPTION>."""
    long = next(name for name in names if name.startswith("--"))
    variable = "NIGHTSHIFT_" + long.split("/")[0].lstrip("-").upper().replace("-", "_")
    return plain_option(*names, envvar=variable, **settings)


def all_of(*options: Callable[[F], F]) -> Callable[[F], F]:
    """All these options, in this order."""

    def add(function: F) -> F:
        for each in reversed(options):
            function = each(function)
        return function

    return add


def _allow_insecure(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        os.environ[INSECURE_REDIS] = "1"


insecure_option = option(
    "--insecure-redis",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_allow_insecure,
    help=N_("Allow a Redis that others may read and write."),
)
"""For every command that uses Redis; what reads the settings finds it in the environment."""


def _write_logs(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        os.environ[FORMAT] = value


log_option = option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    expose_value=False,
    is_eager=True,
    callback=_write_logs,
    metavar="FORMAT",
    help=N_("Format of the log: text or json.  [default: text]"),
)
"""For every command that keeps a log; its processes find it in the environment."""


def _be_patient(_context: click.Context, _parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        os.environ[WORKER_PATIENCE] = str(value)


patience_option = option(
    "--worker-patience",
    type=Whole(LEAST_PATIENCE_S, 10**6 - 1),
    metavar="SECONDS",
    expose_value=False,
    callback=_be_patient,
    help=N_(
        "Seconds without a heartbeat after which a worker is considered lost and its"
        " requests are reassigned.  [default: 20]"
    ),
)
"""For every command that coordinates; what a worker that is cut off has answered is bought again
after this.
"""


def _be_quiet(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    Manners.quiet |= value
    Manners.progress &= not value


def _no_progress(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    Manners.progress &= not value


def _color(context: click.Context, _parameter: click.Parameter, value: str) -> None:
    if value != "auto":
        os.environ.pop("NO_COLOR", None)
        context.color = value == "always"
    if value == "never":
        os.environ["NO_COLOR"] = "1"  # also for rich


color_option = option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    metavar="WHEN",
    expose_value=False,
    callback=_color,
    help=N_("Color the output: auto, always, never. NO_COLOR is honored."),
)
display_options = all_of(
    option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_be_quiet,
        help=N_("Print only errors and what needs your action."),
    ),
    option(
        "--no-progress",
        is_flag=True,
        expose_value=False,
        callback=_no_progress,
        help=N_("Show no progress."),
    ),
    color_option,
)
"""What a command that follows a job says meanwhile."""

caps_options = all_of(
    option(
        "--budget-rub-per-day",
        **ROUBLES,
        section=MONEY,
        help=N_("Maximum spending per day for all jobs in this data directory."),
    ),
    option(
        "--budget-rub-per-month",
        **ROUBLES,
        section=MONEY,
        help=N_("Maximum spending per month for all jobs."),
    ),
    option(
        "--budget-zone",
        metavar="ZONE",
        section=MONEY,
        help=N_("Time zone of these days and months.  [initially: {zone}]", zone=ZONE),
    ),
)
"""Caps of the home; what is given here is stored there, and holds from then on."""

sample_options = all_of(
    option(
        "--sample",
        type=Whole(1, 500),
        metavar="N",
        section=ESTIMATE,
        help=N_(
            "First run N requests spread over the file and estimate from their answers,"
            " which are kept."
        ),
    ),
    option(
        "--tokenizer",
        **FILE,
        section=ESTIMATE,
        help=N_("Estimate with the model's own tokenizer: path to its tokenizer.json."),
    ),
)
"""How the estimate is made."""

json_option = plain_option(
    "--json",
    "as_json",
    is_flag=True,
    help=N_("Print the job's final status as JSON, in the format of status --json."),
)

input_argument = click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
"""The input file, or `-` for standard input."""


def complete_job(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Jobs of the home, newest first, by id; what was typed may also begin a job's name."""
    folder = read_settings(os.environ).home
    if not (folder / "jobs").is_dir():
        return []
    home, found = Home(folder), []
    for job_id in reversed(home.job_ids()[-_MOST_COMPLETED:]):
        with suppress(StorageUnavailable), closing(home.open(job_id, read_only=True)) as store:
            name = store.job().spec.name
            words = [(job_id, safe(name))]
            if incomplete and name == safe(name):  # shells print it as it is
                words.append((name, job_id))
            found += [CompletionItem(w, help=told) for w, told in words if w.startswith(incomplete)]
    return found


_MOST_COMPLETED = 100
"""Jobs that are looked at when a shell asks how a word may go on."""

job_argument = click.argument("job", metavar="[JOB]", default="latest", shell_complete=complete_job)
"""The job that is meant; the latest where none is named."""

named_job_argument = click.argument("job", metavar="JOB", shell_complete=complete_job)
"""The job that is meant, for what cannot be taken back: it has to be named."""


def take_caps(options: dict[str, Any]) -> NewCaps:
    """Takes the home's caps out of the options of a command: those that were given, by field."""
    day, month, zone = (
        options.pop(name) for name in ("budget_rub_per_day", "budget_rub_per_month", "budget_zone")
    )
    given = {"rub_per_day": day, "rub_per_month": month, "zone": zone and check_zone(zone)}
    return {name: value for name, value in given.items() if value is not None}


def open_home() -> Home:
    """The home that the environment names."""
    return Home(read_settings(os.environ).home)
