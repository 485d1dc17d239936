"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from batch.dialogue.helps import Option
from batch.dialogue.kinds import (
    Header,
    Percent,
    Roubles,
    Seconds,
    Share,
    Whole,
    model_map,
    more_than_nothing,
    take_headers,
)
from batch.money.caps import ZONE, check_zone, read_caps, write_caps
from batch.settings import (
    DEFAULT_BASE_URL,
    INSECURE_REDIS,
    LEAST_PATIENCE_S,
    WORKER_PATIENCE,
    read_settings,
)
from batch.store.home import Home
from jobs.gateways import GATEWAYS, RUB, USD
from jobs.prices import MOST_RISE
from jobs.priority import NORMAL
from jobs.task import MOST_PACKED

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
    help="Use a Redis where others may read and write.",
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
    help="How long a worker may be silent before its requests are given to others.  [default: 20]",
)
"""For every command that coordinates; what a worker that is cut off has answered is bought again
after this.
"""

notify_options = _all(
    option(
        "--notify-url",
        metavar="URL",
        help="A webhook that hears of the end and of trouble.  [https; signed, see docs]",
    ),
    option("--notify-telegram", metavar="CHAT", help="A chat of Telegram that hears of it, too."),
    option("--notify-mail", metavar="ADDRESS", help="Who gets a mail about it."),
)
"""Who hears of a job."""

table_options = _all(
    option(
        "--prompt",
        metavar="TEXT",
        help="INPUT is a table (CSV, XLSX, Parquet, records in JSON Lines): what to ask for each"
        " row, with {{ column }} for its cells.",
    ),
    option("--prompt-file", **FILE, help="The same, from a file."),
    option("--system", metavar="TEXT", help="A system message before it."),
    option("--system-file", **FILE, help="The same, from a file."),
    option("--choices", metavar="A,B,…", help="An answer must be one of these."),
    option(
        "--schema", **FILE, help="An answer must be JSON that matches this JSON Schema (2020-12)."
    ),
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
        help="How often to show the model an answer that does not fit, and ask again.",
    ),
    option("--escalate", metavar="MODEL", help="Whom to ask after that."),
    option(
        "--pack",
        type=click.IntRange(1, MOST_PACKED),
        default=1,
        metavar="N",
        help="Rows in one call: less to pay for what is the same for all.",
    ),
    option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="For every row."),
    option("--id-column", metavar="NAME", help="The column with an id of its own for each row."),
    option("--encoding", metavar="NAME", help="Of a CSV file, e.g. cp1251.  [default: recognized]"),
    option(
        "--delimiter",
        metavar="CHAR",
        help="Of a CSV file: a character, or tab, comma, semicolon, pipe.  [default: recognized]",
    ),
    option("--no-header", is_flag=True, help="The first row is data; columns are column_1, …"),
    option("--sheet", metavar="NAME", help="Of an XLSX file.  [default: the first]"),
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
    "help": "A header for the endpoint; again for each. Secrets as NAME=@FILE or NAME=env:VARIABLE;"
    " NAME= leaves one out.",
}

endpoint_options = _all(
    option("--header", **HEADER),
    option(
        "--insecure-http",
        is_flag=True,
        help="Allow http:// to a private address: the key crosses that network in the clear.",
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
            help="Ask another model where a request names OLD; may be repeated.",
        ),
        kind("--override-model", metavar="NAME", help="Ask this model whatever a request names."),
    )


spec_options = _all(
    option(
        "-o",
        "--output-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where the results go.  [default: <input>.<job>/ beside the input]",
    ),
    option("--name", metavar="TEXT", help="What to call the job.  [default: the input's name]"),
    option("--model", metavar="NAME", help="For requests that name none."),
    *model_options(option),
    option("--max-tokens", **COUNT, help="For requests that do not bound their answer."),
    option(
        "--drop-last-assistant",
        is_flag=True,
        help="Leave out an answer of the assistant that ends the messages, and ask for another.",
    ),
    option(
        "--max-tokens-field",
        type=click.Choice(["max_tokens", "max_completion_tokens"]),
        metavar="NAME",
        help="What the endpoint calls that bound, if it refuses the other: max_tokens or"
        " max_completion_tokens.",
    ),
    option(
        "--service-tier",
        type=click.Choice(["flex", "default", "priority"]),
        metavar="TIER",
        help="The endpoint's own lane for requests that name none: flex is cheaper and slower,"
        " priority dearer and faster.",
    ),
    option(
        "--base-url",
        metavar="URL",
        default=DEFAULT_BASE_URL,
        show_default=True,
        help="The endpoint.",
    ),
    endpoint_options,
    option(
        "--skip-invalid",
        is_flag=True,
        help="Write faulty lines to errors.jsonl and go on with the others.",
    ),
    option(
        "--budget-rub",
        **ROUBLES,
        help="Never spend more than this. Reserves each call's highest cost before it is sent.",
    ),
    option("--budget-tokens", **FROM_NONE, help="Never use more tokens than this."),
    option(
        "--budget-requests",
        **FROM_NONE,
        help="Do no more requests than this; the rest waits for resume.",
    ),
    option(
        "--max-price-rise",
        **PERCENT,
        default=MOST_RISE,
        show_default=True,
        help="Pause when the endpoint asks so much more than at the start. Bounds cover it.",
    ),
    option(
        "--price-file",
        **FILE,
        help="Prices for models that the endpoint lists none for (docs/money.md shows the form).",
    ),
    option(
        "--usd-rate",
        **ROUBLES,
        help="What a dollar is, for endpoints and price files that count in dollars.",
    ),
    option(
        "--currency",
        type=click.Choice([RUB, USD], case_sensitive=False),
        help="In which currency an unknown endpoint tells prices and costs; USD needs --usd-rate.",
    ),
    option(
        "--gateway",
        type=click.Choice(list(GATEWAYS)),
        metavar="NAME",
        help=f"How the endpoint tells costs and prices: {', '.join(GATEWAYS)}.  [default: by its"
        " host]",
    ),
    option(
        "--request-bound-rub",
        **ROUBLES,
        help="The most that a request may cost whose cost nothing bounds (an image, a search).",
    ),
    option("--rpm", **COUNT, help="Requests per minute, all workers together."),
    option("--tpm", **COUNT, help="Tokens per minute, all workers together."),
    option(
        "--max-in-flight",
        **COUNT,
        help="Calls at once, all workers together.  [default: found out]",
    ),
    option(
        "--rub-per-hour",
        **MORE_THAN_NONE,
        help="Spend about this much an hour at most, all workers together.",
    ),
    option(
        "--priority",
        **SHARE,
        default=NORMAL,
        show_default="normal",
        help="The job's share of the pace against others: 100, 10, 1 or N.",
    ),
    option(
        "--max-refusals",
        **FROM_NONE,
        default=10,
        show_default=True,
        help="Pause after so many refusals in a row that are alike; 0: never.",
    ),
    option(
        "--stop-after",
        "stop_after_s",
        type=Seconds(0, 86_400),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Once the endpoint has answered: pause when it rejects the key, the account or the "
        "model for so long (the address, or with rate limits alone, for ten times as long).",
    ),
    option(
        "--stop-after-rows",
        **COUNT,
        default=5,
        show_default=True,
        help="And when so many requests in a row met it; what one request alone meets fails it.",
    ),
    option(
        "--max-attempts",
        **COUNT,
        default=5,
        show_default=True,
        help="Calls of a request that meets faults of the endpoint (limits and outages do not "
        "count).",
    ),
    option(
        "--timeout",
        "total_timeout_s",
        type=Seconds(min=1),
        default=900.0,
        show_default=True,
        metavar="S",
        help="The longest that one call may take.",
    ),
    option(
        "--never-pay-twice",
        is_flag=True,
        help="Do not repeat a call that may have been billed; report it as failed.",
    ),
    option(
        "--dedupe",
        is_flag=True,
        help="Buy identical requests once, and write the answer to each of their lines. Not those "
        "with a temperature above 0.",
    ),
    option("--dedupe-all", is_flag=True, help="The same, whatever the temperature is."),
    option(
        "--window",
        metavar="HH:MM-HH:MM[@ZONE]",
        help="Send only in these hours, e.g. 23:00-07:00@Europe/Moscow.",
    ),
    option(
        "--off-peak",
        is_flag=True,
        help="Send only in the hours in which the endpoint asks less, as its catalogue tells.",
    ),
    option(
        "--deadline",
        metavar="HH:MM",
        help="After this moment nothing new starts; what was not sent is reported. Or a date: "
        "2026-05-04T07:00.",
    ),
    table_options,
    notify_options,
    option(
        "--chunk-size",
        type=Whole(1, 2000),
        metavar="N",
        hidden=True,
        help="Requests per task.  [default: chosen]",
    ),
)
"""All options that make a job's spec."""

caps_options = _all(
    option(
        "--budget-rub-per-day",
        **ROUBLES,
        help="All jobs of this home together: never more than this in a day.",
    ),
    option("--budget-rub-per-month", **ROUBLES, help="And never more than this in a month."),
    option(
        "--budget-zone",
        metavar="ZONE",
        help=f"Whose days and months they are.  [at first: {ZONE}]",
    ),
)
"""Caps of the home; what is given here is stored there, and holds from then on."""

sample_options = _all(
    option(
        "--sample",
        type=Whole(1, 500),
        metavar="N",
        help="First buy N answers, spread over the file, and estimate by them. They are kept.",
    ),
    option(
        "--tokenizer",
        **FILE,
        help="Estimate by the model's own tokenizer: a tokenizer.json on this machine.",
    ),
)
"""How the estimate is made."""

json_option = plain_option(
    "--json",
    "as_json",
    is_flag=True,
    help="For programs: how the job stands when this ends, as status --json tells it.",
)

input_argument = click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
"""The input file, or `-` for standard input."""

job_argument = click.argument("job", metavar="JOB")


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
