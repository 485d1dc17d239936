"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

from batch.dialogue.click_help import Option
from batch.dialogue.parameter_types import (
    Header,
    Packing,
    Percent,
    Roubles,
    Seconds,
    Share,
    Whole,
    model_map,
    more_than_nothing,
    take_headers,
)
from batch.dialogue.terminal import Manners
from batch.money.caps import ZONE, check_zone, read_caps, write_caps
from batch.settings import (
    DEFAULT_BASE_URL,
    INSECURE_REDIS,
    LEAST_PATIENCE_S,
    WORKER_PATIENCE,
    read_settings,
)
from batch.store.home import Home
from jobs.errors import StorageUnavailable
from jobs.gateways import GATEWAYS, RUB, USD
from jobs.prices import MOST_RISE
from jobs.priority import NORMAL

F = TypeVar("F", bound=Callable[..., Any])


COUNT: dict[str, Any] = {"type": Whole(min=1), "metavar": "N"}
FROM_NONE: dict[str, Any] = {"type": Whole(min=0), "metavar": "N"}
ROUBLES: dict[str, Any] = {"type": Roubles(), "metavar": "RUB"}
MORE_THAN_NONE: dict[str, Any] = {**ROUBLES, "callback": more_than_nothing}
PERCENT: dict[str, Any] = {"type": Percent(), "metavar": "PERCENT"}
SHARE: dict[str, Any] = {"type": Share(), "metavar": "high|normal|low|N"}
FILE: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": "FILE"}
WORKERS: dict[str, Any] = {
    "type": Whole(1, 64),
    "default": 1,
    "show_default": True,
    "metavar": "N",
}


def plain_option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that is given each time anew."""
    return click.option(*names, cls=Option, **settings)


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that can also be set as NIGHTSHIFT_<OPTION>."""
    long = next(name for name in names if name.startswith("--"))
    variable = "NIGHTSHIFT_" + long.split("/")[0].lstrip("-").upper().replace("-", "_")
    return plain_option(*names, envvar=variable, **settings)


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
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
    help="Allow a Redis that others may read and write.",
)
"""For every command that uses Redis; what reads the settings finds it in the environment."""


def _be_patient(_context: click.Context, _parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        os.environ[WORKER_PATIENCE] = str(value)


patience_option = option(
    "--worker-patience",
    type=click.IntRange(LEAST_PATIENCE_S, 10**6 - 1),
    metavar="SECONDS",
    expose_value=False,
    callback=_be_patient,
    help="Seconds without a heartbeat after which a worker is considered lost and its"
    " requests are reassigned.  [default: 20]",
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
    help="Color the output: auto, always, never. NO_COLOR is honored.",
)
display_options = _all(
    option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_be_quiet,
        help="Print only errors and what needs your action.",
    ),
    option(
        "--no-progress",
        is_flag=True,
        expose_value=False,
        callback=_no_progress,
        help="Show no progress.",
    ),
    color_option,
)
"""What a command that follows a job says meanwhile."""

notify_options = _all(
    option(
        "--notify-url",
        metavar="URL",
        help="Webhook to notify on completion and problems.  [https; signed, see docs]",
    ),
    option("--notify-telegram", metavar="CHAT", help="Telegram chat to notify."),
    option("--notify-mail", metavar="ADDRESS", help="Email address to notify."),
)
"""Who hears of a job."""

table_options = _all(
    option(
        "--prompt",
        metavar="TEXT",
        help="INPUT is a table (CSV, XLSX, Parquet or JSON Lines records): prompt template"
        " for each row; {{ column }} inserts a cell.",
    ),
    option("--prompt-file", **FILE, help="Same, read from a file."),
    option("--system", metavar="TEXT", help="System message template."),
    option("--system-file", **FILE, help="Same, read from a file."),
    option("--choices", metavar="A,B,…", help="Allowed answers; any other answer is rejected."),
    option("--schema", **FILE, help="Require JSON answers that match this JSON Schema (2020-12)."),
    option(
        "--instructions-in",
        type=click.Choice(["auto", "prompt", "response_format", "both"]),
        metavar="HOW",
        default="auto",
        show_default=True,
        help="Where the model is told what an answer must be: prompt, response_format, both, auto.",
    ),
    option(
        "--repairs",
        type=click.IntRange(0, 10),
        default=1,
        show_default=True,
        metavar="N",
        help="How many times to show the model an invalid answer and ask again.",
    ),
    option("--escalate", metavar="MODEL", help="Model to ask after that."),
    option(
        "--pack",
        type=Packing(),
        default="1",
        metavar="N|auto",
        help="Rows per call; the shared part of the prompt is paid for once. auto: as many as a"
        " sample shows to agree with single calls.",
    ),
    option(
        "--min-agreement",
        type=click.FloatRange(0, 1),
        default=0.98,
        show_default=True,
        metavar="SHARE",
        help="How many answers of a pack must equal those of single calls for --pack auto.",
    ),
    option(
        "--gold",
        **FILE,
        help="Table of known answers: a key column and the answers. These rows are asked first,"
        " and the accuracy is shown.",
    ),
    option(
        "--min-accuracy",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Pause if fewer of the known answers are right.",
    ),
    option(
        "--temperature", type=click.FloatRange(0, 2), metavar="T", help="Temperature for every row."
    ),
    option("--id-column", metavar="NAME", help="Column with a unique id for each row."),
    option(
        "--encoding",
        metavar="NAME",
        help="Encoding of a CSV file, e.g. cp1251.  [default: detected]",
    ),
    option(
        "--delimiter",
        metavar="CHAR",
        help="Delimiter of a CSV file: a character, or tab, comma, semicolon, pipe. "
        " [default: detected]",
    ),
    option("--no-header", is_flag=True, help="The first row is data; columns are column_1, …"),
    option("--sheet", metavar="NAME", help="Sheet of an XLSX file.  [default: the first]"),
    option(
        "--to",
        type=click.Choice(["csv", "xlsx", "parquet", "jsonl"]),
        metavar="KIND",
        help="The answered table: csv, xlsx, parquet or jsonl.  [default: like INPUT]",
    ),
)
"""What is asked of a table's rows."""
HEADER: dict[str, Any] = {
    "type": Header(),
    "metavar": "NAME=VALUE",
    "multiple": True,
    "callback": take_headers,
    "help": "HTTP header for the endpoint; may be repeated. Secrets as NAME=@FILE or"
    " NAME=env:VARIABLE; NAME= removes a header.",
}

endpoint_options = _all(
    option("--header", **HEADER),
    option(
        "--insecure-http",
        is_flag=True,
        help="Allow http:// to a private address; the key crosses that network unencrypted.",
    ),
)
"""How the endpoint is called, beside its address."""


def model_options(kind: Callable[..., Callable[[F], F]]) -> tuple[Callable[[F], F], ...]:
    """Other names for models, as options that the environment may set or not."""
    return (
        kind(
            "--model-map",
            metavar="OLD=NEW",
            multiple=True,
            callback=model_map,
            help="Replace model OLD with NEW in requests; may be repeated.",
        ),
        kind(
            "--override-model",
            metavar="NAME",
            help="Use this model for all requests, whatever they specify.",
        ),
    )


spec_options = _all(
    option(
        "-o",
        "--output-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Directory for the results.  [default: <input>.<job>/ next to the input]",
    ),
    option("--name", metavar="TEXT", help="Job name.  [default: the input's name]"),
    option("--model", metavar="NAME", help="Model for requests that do not specify one."),
    *model_options(option),
    option("--max-tokens", **COUNT, help="max_tokens for requests that do not set it."),
    option(
        "--drop-last-assistant",
        is_flag=True,
        help="Drop a trailing assistant message and ask for a new answer.",
    ),
    option(
        "--max-tokens-field",
        type=click.Choice(["max_tokens", "max_completion_tokens"]),
        metavar="NAME",
        help="Name of that field, if the endpoint accepts only one: max_tokens or"
        " max_completion_tokens.",
    ),
    option(
        "--service-tier",
        type=click.Choice(["flex", "default", "priority"]),
        metavar="TIER",
        help="Service tier for requests that do not specify one: flex is cheaper and slower,"
        " priority faster and more expensive.",
    ),
    option(
        "--base-url",
        metavar="URL",
        default=DEFAULT_BASE_URL,
        show_default=True,
        help="Base URL of the endpoint.",
    ),
    endpoint_options,
    option(
        "--skip-invalid",
        is_flag=True,
        help="Report invalid lines in errors.jsonl and run the others.",
    ),
    option(
        "--budget-rub",
        **ROUBLES,
        help="Never spend more than this. The maximum cost of each call is reserved"
        " before it is sent.",
    ),
    option("--budget-tokens", **FROM_NONE, help="Never use more tokens than this."),
    option(
        "--budget-requests",
        **FROM_NONE,
        help="Run at most this many requests; resume runs the rest.",
    ),
    option(
        "--max-price-rise",
        **PERCENT,
        default=MOST_RISE,
        show_default=True,
        help="Pause if prices rise by more than PERCENT since submission. Cost bounds"
        " allow for it.",
    ),
    option(
        "--price-file",
        **FILE,
        help="Prices of models that the endpoint lists without one (format: docs/money.md).",
    ),
    option(
        "--usd-rate",
        **ROUBLES,
        help="USD/RUB rate, for endpoints and price files in dollars.",
    ),
    option(
        "--currency",
        type=click.Choice([RUB, USD], case_sensitive=False),
        help="Currency of prices and costs of an unknown endpoint; USD requires --usd-rate.",
    ),
    option(
        "--gateway",
        type=click.Choice(list(GATEWAYS)),
        metavar="NAME",
        help=f"How the endpoint reports costs and prices: {', '.join(GATEWAYS)}.  [default:"
        " by its host]",
    ),
    option(
        "--request-bound-rub",
        **ROUBLES,
        help="Maximum cost of a request that has no upper bound otherwise (images, web search).",
    ),
    option("--rpm", **COUNT, help="Maximum requests per minute, all workers together."),
    option("--tpm", **COUNT, help="Maximum tokens per minute, all workers together."),
    option(
        "--max-in-flight",
        **COUNT,
        help="Maximum concurrent calls, all workers together.  [default: adaptive]",
    ),
    option(
        "--rub-per-hour",
        **MORE_THAN_NONE,
        help="Maximum spending per hour (approximate), all workers together.",
    ),
    option(
        "--priority",
        **SHARE,
        default=NORMAL,
        show_default="normal",
        help="Weight of the job against other jobs: 100, 10, 1 or N.",
    ),
    option(
        "--max-refusals",
        **FROM_NONE,
        default=10,
        show_default=True,
        help="Pause after N consecutive identical errors; 0: never.",
    ),
    option(
        "--stop-after",
        "stop_after_s",
        type=Seconds(0, 86_400),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="After the first answer: pause once the key, the account or the model has been"
        " rejected for this long (ten times as long for a wrong address or nothing but"
        " rate limits).",
    ),
    option(
        "--stop-after-rows",
        **COUNT,
        default=5,
        show_default=True,
        help="…and by this many requests in a row; an error of a single request fails"
        " only that request.",
    ),
    option(
        "--max-attempts",
        **COUNT,
        default=5,
        show_default=True,
        help="Maximum attempts per request (rate limits and outages do not count).",
    ),
    option(
        "--timeout",
        "total_timeout_s",
        type=Seconds(min=1),
        default=900.0,
        show_default=True,
        metavar="S",
        help="Timeout of one call in seconds.",
    ),
    option(
        "--never-pay-twice",
        is_flag=True,
        help="Do not retry a call that may have been billed; report it as failed.",
    ),
    option(
        "--dedupe",
        is_flag=True,
        help="Send identical requests once and copy the answer to each line, except with"
        " temperature above 0.",
    ),
    option("--dedupe-all", is_flag=True, help="Same, regardless of temperature."),
    option(
        "--reuse",
        is_flag=True,
        help="Take over answers that earlier jobs got to the same requests, except with temperature"
        " above 0.",
    ),
    option("--reuse-all", is_flag=True, help="Same, regardless of temperature."),
    option(
        "--window",
        metavar="HH:MM-HH:MM[@ZONE]",
        help="Send only during these hours, e.g. 23:00-07:00@Europe/Moscow.",
    ),
    option(
        "--off-peak",
        is_flag=True,
        help="Send only during the endpoint's off-peak hours, as listed in its catalogue.",
    ),
    option(
        "--deadline",
        metavar="HH:MM",
        help="Send nothing after this time; unsent requests are reported. Or a date:"
        " 2026-05-04T07:00.",
    ),
    table_options,
    notify_options,
    option(
        "--chunk-size",
        type=Whole(1, 2000),
        metavar="N",
        hidden=True,
        help="Requests per task.  [default: automatic]",
    ),
)
"""All options that make a job's spec."""

caps_options = _all(
    option(
        "--budget-rub-per-day",
        **ROUBLES,
        help="Maximum spending per day for all jobs in this data directory.",
    ),
    option("--budget-rub-per-month", **ROUBLES, help="Maximum spending per month for all jobs."),
    option(
        "--budget-zone",
        metavar="ZONE",
        help=f"Time zone of these days and months.  [initially: {ZONE}]",
    ),
)
"""Caps of the home; what is given here is stored there, and holds from then on."""

sample_options = _all(
    option(
        "--sample",
        type=Whole(1, 500),
        metavar="N",
        help="First run N requests spread over the file and estimate from their answers,"
        " which are kept.",
    ),
    option(
        "--tokenizer",
        **FILE,
        help="Estimate with the model's own tokenizer: path to its tokenizer.json.",
    ),
)
"""How the estimate is made."""

json_option = plain_option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the job's final status as JSON, in the format of status --json.",
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
            for word, told in ((job_id, name), (name, job_id)):
                if word.startswith(incomplete) and (incomplete or word is job_id):
                    found.append(CompletionItem(word, help=told))
    return found


_MOST_COMPLETED = 100
"""Jobs that are looked at when a shell asks how a word may go on."""

job_argument = click.argument("job", metavar="[JOB]", default="latest", shell_complete=complete_job)
"""The job that is meant; the latest where none is named."""

named_job_argument = click.argument("job", metavar="JOB", shell_complete=complete_job)
"""The job that is meant, for what cannot be taken back: it has to be named."""


def set_caps(home: Home, options: dict[str, Any]) -> None:
    """Takes the caps out of the options of a command, and stores those that were given."""
    day, month, zone = (
        options.pop(name) for name in ("budget_rub_per_day", "budget_rub_per_month", "budget_zone")
    )
    given = {"rub_per_day": day, "rub_per_month": month, "zone": zone and check_zone(zone)}
    told = {name: value for name, value in given.items() if value is not None}
    if told:
        before = read_caps(home.folder)
        caps = msgspec.structs.replace(before, **told)
        if caps != before:
            write_caps(home.folder, caps)


_CHECKED = (
    "model",
    "model_map",
    "override_model",
    "max_tokens",
    "drop_last_assistant",
    "max_tokens_field",
    "service_tier",
    "base_url",
    "header",
    "insecure_http",
    "budget_rub",
    "skip_invalid",
    "price_file",
    "usd_rate",
    "currency",
    "gateway",
    "off_peak",
    "dedupe",
    "reuse",
    "sample",
    "tokenizer",
    "yes",
    "as_json",
)


def checking(command: click.Command) -> click.Command:
    """A command that takes all options of a job but sends nothing: the help lists those that matter
    to a check.
    """
    for one in command.params:
        if isinstance(one, click.Option):
            one.hidden = one.hidden or one.name not in _CHECKED
    return command


def open_home() -> Home:
    """The home that the environment names."""
    return Home(read_settings(os.environ).home)
