"""Options that several commands share, and the spec they make."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from zoneinfo import ZoneInfo

import click
import msgspec
from pydantic import ValidationError

from batch.money.caps import ZONE, check_zone, read_caps, write_caps
from batch.settings import DEFAULT_BASE_URL, read_settings
from batch.store.home import Home
from jobs.deadline import parse_deadline
from jobs.errors import UsageError
from jobs.gateways import GATEWAYS
from jobs.money import parse_amount
from jobs.notify import Notify
from jobs.prices import MOST_RISE
from jobs.priority import NORMAL, parse_share
from jobs.spec import Budget, Limits, Spec
from jobs.window import parse_window

_LONGEST_STEM = 200
"""Bytes of an input's name in the name of its results' folder; file systems allow 255 in all."""

F = TypeVar("F", bound=Callable[..., Any])


def _exact(text: str) -> Decimal | None:
    """An amount with a point or a comma; None for what is none."""
    try:
        return parse_amount(text.replace(",", "."))
    except (ValueError, InvalidOperation):
        return None


class Roubles(click.ParamType[Decimal]):
    """An amount in ₽, exact: `500`, `0.35`."""

    name = "roubles"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount as `Decimal`."""
        if isinstance(value, Decimal):
            return value
        found = _exact(str(value).replace(" ", ""))
        if found is None:
            self.fail(f"{value!r} is not an amount in roubles such as 500 or 0.35", param, ctx)
        return found


class Percent(click.ParamType[Decimal]):
    """Per cent, exact: `20`, `12.5%`."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The figure as `Decimal`."""
        if isinstance(value, Decimal):
            return value
        found = _exact(str(value).replace("%", "").strip())
        if found is None or found > _MOST_PERCENT or found != round(found, 4):
            self.fail(f"{value!r} is no percentage from 0 to {_MOST_PERCENT}", param, ctx)
        return found


_MOST_PERCENT = 1000


def more_than_nothing(
    _: click.Context, param: click.Parameter, value: Decimal | None
) -> Decimal | None:
    """For an amount that nothing could be done with if it were zero."""
    if value is not None and value <= 0:
        raise click.BadParameter("must be more than 0", param=param)
    return value


class Share(click.ParamType[float]):
    """A job's share of the pace: `high`, `normal`, `low` or a number."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The share as a number."""
        try:
            return parse_share(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option that can also be set as NIGHTSHIFT_<OPTION>."""
    long = next(name for name in names if name.startswith("--"))
    variable = "NIGHTSHIFT_" + long.split("/")[0].lstrip("-").upper().replace("-", "_")
    return click.option(*names, envvar=variable, **settings)


_NOTIFY = (
    option(
        "--notify-url",
        metavar="URL",
        help="A webhook that hears of the end and of trouble.  [https; signed, see docs]",
    ),
    option("--notify-telegram", metavar="CHAT", help="A chat of Telegram that hears of it, too."),
    option("--notify-mail", metavar="ADDRESS", help="Who gets a mail about it."),
)

_SPEC = (
    option(
        "-o",
        "--output-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where the results go.  [default: <input>.<job>/ beside the input]",
    ),
    option("--model", metavar="NAME", help="For requests that name none."),
    option(
        "--max-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="For requests that do not bound their answer.",
    ),
    option(
        "--base-url",
        metavar="URL",
        default=DEFAULT_BASE_URL,
        show_default=True,
        help="The endpoint.",
    ),
    option(
        "--budget-rub",
        type=Roubles(),
        metavar="RUB",
        help="Never spend more than this. Reserves each call's highest cost before it is sent.",
    ),
    option(
        "--budget-tokens",
        type=click.IntRange(min=0),
        metavar="N",
        help="Never use more tokens than this.",
    ),
    option(
        "--budget-requests",
        type=click.IntRange(min=0),
        metavar="N",
        help="Do no more requests than this; the rest waits for resume.",
    ),
    option(
        "--max-price-rise",
        type=Percent(),
        metavar="PERCENT",
        default=MOST_RISE,
        show_default=True,
        help="Pause when the endpoint asks so much more than at the start. Bounds cover it.",
    ),
    option(
        "--price-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Prices for models that the endpoint lists none for (docs/money.md shows the form).",
    ),
    option(
        "--usd-rate",
        type=Roubles(),
        metavar="RUB",
        help="What a dollar is, for endpoints and price files that count in dollars.",
    ),
    option(
        "--gateway",
        type=click.Choice(list(GATEWAYS)),
        help="How the endpoint tells costs and prices.  [default: by its host]",
    ),
    option(
        "--request-bound-rub",
        type=Roubles(),
        metavar="RUB",
        help="The most that a request may cost whose cost nothing bounds (an image, a search).",
    ),
    option(
        "--rpm",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests per minute, all workers together.",
    ),
    option(
        "--tpm",
        type=click.IntRange(min=1),
        metavar="N",
        help="Tokens per minute, all workers together.",
    ),
    option(
        "--max-in-flight",
        type=click.IntRange(min=1),
        metavar="N",
        help="Calls at once, all workers together.  [default: found out]",
    ),
    option(
        "--rub-per-hour",
        type=Roubles(),
        callback=more_than_nothing,
        metavar="RUB",
        help="Spend about this much an hour at most, all workers together.",
    ),
    option(
        "--priority",
        type=Share(),
        default=NORMAL,
        show_default="normal",
        metavar="high|normal|low|N",
        help="The job's share of the pace against others: 100, 10, 1 or N.",
    ),
    option(
        "--max-refusals",
        type=click.IntRange(min=0),
        default=10,
        show_default=True,
        metavar="N",
        help="Pause after so many refusals in a row that are alike; 0: never.",
    ),
    option(
        "--max-attempts",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        metavar="N",
        help="Calls of a request that meets faults of the endpoint (limits and outages do not "
        "count).",
    ),
    option(
        "--never-pay-twice",
        is_flag=True,
        help="Do not repeat a call that may have been billed; report it as failed.",
    ),
    option(
        "--skip-invalid",
        is_flag=True,
        help="Write faulty lines to errors.jsonl and go on with the others.",
    ),
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
    option(
        "--dedupe",
        is_flag=True,
        help="Buy identical requests once, and write the answer to each of their lines. Not those "
        "with a temperature above 0.",
    ),
    option("--dedupe-all", is_flag=True, help="The same, whatever the temperature is."),
    option("--name", metavar="TEXT", help="What to call the job.  [default: the input's name]"),
    option(
        "--timeout",
        "total_timeout_s",
        type=click.FloatRange(min=1),
        default=900.0,
        show_default=True,
        metavar="S",
        help="The longest that one call may take.",
    ),
    *_NOTIFY,
    option(
        "--chunk-size",
        type=click.IntRange(1, 2000),
        metavar="N",
        hidden=True,
        help="Requests per task.  [default: chosen]",
    ),
)


_CAPS: tuple[dict[str, Any], ...] = (
    {
        "name": "--budget-rub-per-day",
        "type": Roubles(),
        "metavar": "RUB",
        "help": "All jobs of this home together: never more than this in a day.",
    },
    {
        "name": "--budget-rub-per-month",
        "type": Roubles(),
        "metavar": "RUB",
        "help": "And never more than this in a month.",
    },
    {
        "name": "--budget-zone",
        "metavar": "ZONE",
        "help": f"Whose days and months they are.  [at first: {ZONE}]",
    },
)


def caps_options(function: F) -> F:
    """Caps of the home; what is given here is stored there, and holds from then on."""
    for facts in reversed(_CAPS):
        settings = dict(facts)
        function = option(settings.pop("name"), **settings)(function)
    return function


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


def spec_options(function: F) -> F:
    """All options that make a job's spec."""
    for add in reversed(_SPEC):
        function = add(function)
    return function


_CHECKED = (
    "model",
    "max_tokens",
    "base_url",
    "budget_rub",
    "skip_invalid",
    "price_file",
    "usd_rate",
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


def notify_options(function: F) -> F:
    """The options that tell who hears of a job."""
    for add in reversed(_NOTIFY):
        function = add(function)
    return function


def sample_options(function: F) -> F:
    """How the estimate is made."""
    for add in (
        option(
            "--tokenizer",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Estimate by the model's own tokenizer: a tokenizer.json on this machine.",
        ),
        option(
            "--sample",
            type=click.IntRange(1, 500),
            metavar="N",
            help="First buy N answers, spread over the file, and estimate by them. They are kept.",
        ),
    ):
        function = add(function)
    return function


def input_argument(function: F) -> F:
    """The input file, or `-` for standard input."""
    return click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))(function)


def job_argument(function: F) -> F:
    """A job."""
    return click.argument("job", metavar="JOB")(function)


def json_option(function: F) -> F:
    """Whether to tell programs, when all is done, how the job stands."""
    told = "For programs: how the job stands when this ends, as status --json tells it."
    return click.option("--json", "as_json", is_flag=True, help=told)(function)


def open_home() -> Home:
    """The home that the environment names."""
    return Home(read_settings(os.environ).home)


def open_source(source: Path) -> Path | BinaryIO:
    """The input: a path, or standard input."""
    return sys.stdin.buffer if str(source) == "-" else source


def _stem(source: Path) -> str:
    """The input's name without its endings."""
    if str(source) == "-":
        return "stdin"
    stem = _text(source.name)
    for ending in (".zst", ".gz", ".jsonl", ".ndjson", ".json"):
        stem = stem.removesuffix(ending)
    return stem


def _beside(source: Path) -> Path:
    return Path.cwd() if str(source) == "-" else source.absolute().parent


def _text(name: str) -> str:
    """A name as text; bytes in it that are none are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _cut(stem: str) -> str:
    """As much of it as leaves room for a job's id in the name of a folder."""
    return stem.encode()[:_LONGEST_STEM].decode(errors="ignore")


def _check_output(folder: Path) -> None:
    try:
        str(folder).encode()
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except UnicodeEncodeError:
        raise UsageError(
            f"the name of the folder {_text(str(folder))} is not UTF-8",
            hint="choose another with --output-dir",
        ) from None
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be the folder for results: {error.strerror}",
            hint="choose another with --output-dir",
        ) from None


def _absolute(path: Path | None) -> str | None:
    return None if path is None else _text(str(path.absolute()))


def notify_of(options: dict[str, Any]) -> Notify:
    """Who is to hear of a job."""
    return Notify(
        url=options["notify_url"] or None,
        telegram=options["notify_telegram"] or None,
        mail=options["notify_mail"] or None,
    )


def _deadline(text: str | None, window: str | None) -> datetime | None:
    return None if text is None else read_deadline(text, window)


def read_deadline(text: str, window: str | None) -> datetime:
    """A deadline by the clock of the job's hours or of this machine; `UsageError` if it is none."""
    now = datetime.now().astimezone()
    zone = now.tzinfo or UTC
    with suppress(ValueError):
        zone = ZoneInfo(parse_window(window).zone) if window else zone
    try:
        return parse_deadline(text, now, zone)
    except ValueError as error:
        raise UsageError(f"--deadline: {error}") from None


def make_spec(job_id: str, source: Path, options: dict[str, Any]) -> Spec:
    """The spec of these options; `UsageError` tells which of them makes no sense."""
    if options["off_peak"] and options["window"]:
        raise UsageError("--off-peak and --window both name hours", hint="choose one of them")
    stem = _stem(source)
    output: Path = options["output_dir"] or _beside(source) / f"{_cut(stem)}.{job_id}"
    _check_output(output.absolute())
    try:
        return Spec(
            name=_text(options["name"] or stem),
            source=_text(str(source)),
            output_dir=str(output.absolute()),
            base_url=options["base_url"],
            model=options["model"],
            max_tokens=options["max_tokens"],
            skip_invalid=options["skip_invalid"],
            limits=Limits(
                rpm=options["rpm"],
                tpm=options["tpm"],
                max_in_flight=options["max_in_flight"],
                rub_per_hour=options["rub_per_hour"],
                refusals=options["max_refusals"],
            ),
            priority=options["priority"],
            budget=Budget(
                rub=options["budget_rub"],
                tokens=options["budget_tokens"],
                requests=options["budget_requests"],
            ),
            window=options["window"],
            off_peak=options["off_peak"],
            deadline=_deadline(options["deadline"], options["window"]),
            dedupe="all" if options["dedupe_all"] else "same" if options["dedupe"] else "",
            max_attempts=options["max_attempts"],
            price_file=_absolute(options["price_file"]),
            usd_rate=options["usd_rate"],
            gateway=options["gateway"],
            request_bound_rub=options["request_bound_rub"],
            max_price_rise=options["max_price_rise"],
            never_pay_twice=options["never_pay_twice"],
            total_timeout_s=options["total_timeout_s"],
            chunk_size=options["chunk_size"],
            notify=notify_of(options),
        )
    except ValidationError as error:
        first = error.errors()[0]
        way = "notify-" if error.title == "Notify" else ""
        where = f"--{way}" + str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
